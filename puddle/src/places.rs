//! Where things are: pipelines and data sets, from the working folder or the project's own.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Everything that Puddle keeps besides tables lives here.
pub(crate) const STATE_DIR: &str = ".puddle";

/// The topics of the embedded broker.
pub(crate) fn broker_dir() -> PathBuf {
    Path::new(STATE_DIR).join("broker")
}

/// The folders in which `pipelines/` and `data/` are looked for, nearest first: the working folder and those above
/// it, `PUDDLE_HOME`, and where Puddle was built.
pub(crate) fn roots() -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from(".")];
    if let Ok(here) = std::env::current_dir() {
        roots.extend(here.ancestors().skip(1).filter(|dir| is_home(dir)).map(Path::to_owned));
    }
    roots.extend(std::env::var_os("PUDDLE_HOME").map(PathBuf::from));
    roots.extend(
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().filter(|dir| is_home(dir)).map(Path::to_owned),
    );
    let mut seen = HashSet::new();
    roots.retain(|root| seen.insert(root.canonicalize().unwrap_or_else(|_| root.clone())));
    roots
}

/// The pipeline folder that was meant: a path as given, or a name in one of the `pipelines/` folders.
pub(crate) fn pipeline(given: &Path) -> PathBuf {
    std::iter::once(given.to_owned())
        .chain(roots().iter().flat_map(|root| [root.join(given), root.join("pipelines").join(given)]))
        .find(|folder| folder.join(puddle_pipeline::config::PIPELINE_FILE).is_file())
        .unwrap_or_else(|| given.to_owned())
}

fn is_home(dir: &Path) -> bool {
    dir.join("pipelines").is_dir() && dir.join("data").is_dir()
}
