//! `cargo xtask guards`: switches each guard off, one at a time, and fails unless a test notices.
//!
//! A guard that no test misses may be gone tomorrow without anybody knowing. `guards.toml` names for each guard the
//! text that is it, what the code would be without it, and the test that must fail then.
//!
//! ```text
//! guards.toml --> one guard's file changed --> cargo test: must build, must fail --> the file as it was
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::tools::{cargo, root};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the guards whose name contains this
    filter: Option<String>,
    /// Only print the guards
    #[arg(long)]
    list: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    guard: Vec<Guard>,
}

/// A guard, and how it is switched off.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Guard {
    /// What it guards against, in a few words.
    name: String,
    /// The source file, relative to the workspace.
    file: PathBuf,
    /// The text in it that is the guard; stands there once.
    find: String,
    /// What stands there when it is off.
    off: String,
    /// The arguments of `cargo test` that select the tests which must notice.
    test: String,
}

/// Switches the guards off one after the other. Fails if a test does not notice.
pub(crate) fn guards(args: Args) -> anyhow::Result<()> {
    let filter = args.filter.unwrap_or_default();
    let guards: Vec<Guard> = read()?.into_iter().filter(|guard| guard.name.contains(&filter)).collect();
    ensure!(!guards.is_empty(), "no guard's name contains {filter:?}");
    let mut unnoticed = 0;
    for guard in &guards {
        if args.list {
            println!("{}: {}", guard.name, guard.file.display());
            continue;
        }
        let begin = Instant::now();
        let noticed = guard.is_missed().with_context(|| format!("guard {:?}", guard.name))?;
        unnoticed += usize::from(!noticed);
        let verdict = if noticed { "missed by its test" } else { "NOT MISSED" };
        println!("{}: {verdict}, {:.0} s", guard.name, begin.elapsed().as_secs_f64());
    }
    ensure!(
        unnoticed == 0,
        "{unnoticed} of {} guards can be switched off without a test noticing",
        guards.len()
    );
    Ok(())
}

fn read() -> anyhow::Result<Vec<Guard>> {
    let path = root().join("xtask/guards.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let file: File = toml::from_str(&text).with_context(|| format!("cannot parse {}", path.display()))?;
    Ok(file.guard)
}

impl Guard {
    /// Whether its test fails without it.
    fn is_missed(&self) -> anyhow::Result<bool> {
        self.must_be_committed()?;
        let path = root().join(&self.file);
        let _off = Off::switch(&path, self)?;
        let tests = |more: &[&str]| {
            let mut tests = cargo();
            tests.args(["test", "--locked", "--quiet"]).args(self.test.split_whitespace()).args(more);
            // What fails here is no bug to be remembered.
            tests.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
            tests.stdout(Stdio::null()).stderr(Stdio::null()).status().context("cannot run cargo test")
        };
        ensure!(tests(&["--no-run"])?.success(), "without it, {} does not build", self.file.display());
        Ok(!tests(&[])?.success())
    }

    /// An interrupted run leaves the file changed; what was committed can be had back.
    fn must_be_committed(&self) -> anyhow::Result<()> {
        let mut diff = Command::new("git");
        diff.current_dir(root()).args(["diff", "--quiet", "HEAD", "--"]).arg(&self.file);
        let is_clean = diff.status().context("cannot run git")?.success();
        ensure!(is_clean, "{} has changes: commit them first", self.file.display());
        Ok(())
    }

    /// The source without the guard.
    fn without(&self, source: &str) -> anyhow::Result<String> {
        match source.matches(&self.find).count() {
            1 => Ok(source.replacen(&self.find, &self.off, 1)),
            times => bail!("its text stands {times} times in {}, not once", self.file.display()),
        }
    }
}

/// A file without its guard; dropped, it is as before.
struct Off<'a> {
    path: &'a Path,
    source: String,
}

impl<'a> Off<'a> {
    fn switch(path: &'a Path, guard: &Guard) -> anyhow::Result<Self> {
        let source =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        std::fs::write(path, guard.without(&source)?)?;
        Ok(Self { path, source })
    }
}

impl Drop for Off<'_> {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(self.path, &self.source) {
            eprintln!("{} is still without its guard ({error}): git restore it", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_guard_stands_where_it_is_said_to() {
        let guards = read().unwrap();
        for guard in &guards {
            let source = std::fs::read_to_string(root().join(&guard.file)).unwrap();
            let without = guard.without(&source).unwrap_or_else(|error| panic!("{}: {error}", guard.name));
            assert_ne!(without, source, "{}", guard.name);
        }
        let names: BTreeSet<&str> = guards.iter().map(|guard| &*guard.name).collect();
        assert_eq!(names.len(), guards.len());
    }
}
