//! Kafka's jars: fetched once with Maven into a cache folder, shared by every checkout of this user.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Error, find_program, io};

const POM: &str = include_str!("../../kafka/pom.xml");

/// The class path with Kafka's server and tools; fetches the jars if they are not there yet.
///
/// Safe to call from many processes at once: the first one fetches, the others wait for it.
pub(super) fn classpath() -> Result<String, Error> {
    super::server::java()?;
    let cache = cache_folder()?;
    let home = cache.join(format!("kafka-{}", version()));
    if !is_complete(&home) {
        fs::create_dir_all(&cache).map_err(io(format!("create {}", cache.display())))?;
        let lock = cache.join(format!("kafka-{}.lock", version()));
        let file = File::create(&lock).map_err(io(format!("create {}", lock.display())))?;
        file.lock().map_err(io(format!("lock {}", lock.display())))?;
        if !is_complete(&home) {
            fetch(&home)?;
        }
    }
    Ok(home.join("jars/*").display().to_string())
}

/// `PUDDLE_CACHE`, else the user's cache folder as the XDG base directory specification has it.
fn cache_folder() -> Result<PathBuf, Error> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("PUDDLE_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("puddle")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/puddle")))
        .ok_or(Error::NoCache)
}

fn version() -> &'static str {
    let (_, rest) = POM.split_once("<kafka.version>").expect("the pom names Kafka's version");
    rest.split_once('<').expect("the pom is XML").0
}

/// The pom is copied in last, so a folder with the same pom has all its jars.
fn is_complete(home: &Path) -> bool {
    fs::read_to_string(home.join("pom.xml")).is_ok_and(|pom| pom == POM)
}

fn fetch(home: &Path) -> Result<(), Error> {
    let maven = find_program("mvn", "apt-get install maven")?;
    if home.exists() {
        fs::remove_dir_all(home).map_err(io(format!("remove {}", home.display())))?;
    }
    fs::create_dir_all(home).map_err(io(format!("create {}", home.display())))?;
    let staged = home.join("pom.xml.part");
    fs::write(&staged, POM).map_err(io(format!("write {}", staged.display())))?;

    let output = Command::new(maven)
        .args(["--batch-mode", "--quiet", "--file"])
        .arg(&staged)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", home.join("jars").display()))
        .stdin(Stdio::null())
        .output()
        .map_err(io("run mvn"))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        return Err(Error::Fetch { output: String::from_utf8_lossy(&text).into_owned() });
    }
    fs::rename(&staged, home.join("pom.xml")).map_err(io(format!("write {}", home.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pom_names_one_4_x_version() {
        assert!(version().starts_with("4."), "{}", version());
        assert_eq!(POM.matches(version()).count(), 1);
    }

    #[test]
    fn a_folder_is_complete_only_with_this_pom() {
        let home = tempfile::tempdir().unwrap();
        assert!(!is_complete(home.path()));
        fs::write(home.path().join("pom.xml"), POM.replace(version(), "3.0.0")).unwrap();
        assert!(!is_complete(home.path()));
        fs::write(home.path().join("pom.xml"), POM).unwrap();
        assert!(is_complete(home.path()));
    }
}
