//! What a contender needs, in a folder of its own in the cache; made once for each state of its requirements.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

use super::contender::Contender;
use crate::tools::{cache, exists};

/// Where a contender's things are.
pub(super) struct Installed {
    /// The interpreter of its own environment, if it has one.
    pub(super) python: Option<PathBuf>,
    /// The folder of its jars, if it has any.
    pub(super) jars: Option<PathBuf>,
}

/// Installs it, unless that was done before.
///
/// # Errors
/// When a package or a jar cannot be had, with the last words of pip or Maven.
pub(super) fn install(contender: &Contender) -> anyhow::Result<Installed> {
    let home = cache()?.join("bench").join(&contender.name);
    let pom = contender.pom.as_ref().map(|pom| contender.folder.join(pom));
    let pom_text = pom.as_ref().map(fs::read_to_string).transpose().context("cannot read its pom")?;
    let wanted = format!("{}\n{}", contender.python.join("\n"), pom_text.unwrap_or_default());
    let installed = Installed {
        python: (!contender.python.is_empty()).then(|| home.join("venv/bin/python")),
        jars: pom.is_some().then(|| home.join("jars")),
    };
    // Written last, so whoever has it has all.
    let done = home.join("installed");
    let is_done = fs::read_to_string(&done).is_ok_and(|installed| installed == wanted);
    if is_done && installed.python.as_ref().is_none_or(|p| exists(&p.to_string_lossy(), "--version")) {
        return Ok(installed);
    }
    eprintln!("{}: installing what it needs", contender.name);
    if home.exists() {
        fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
    }
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    if let Some(python) = &installed.python {
        quietly(Command::new("python3").args(["-m", "venv"]).arg(home.join("venv")))?;
        quietly(Command::new(python).args(["-m", "pip", "install", "--quiet"]).args(&contender.python))?;
    }
    if let (Some(pom), Some(jars)) = (&pom, &installed.jars) {
        let mut maven = Command::new("mvn");
        maven.args(["--batch-mode", "--quiet", "--file"]).arg(pom);
        maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
        quietly(maven.arg(format!("-DoutputDirectory={}", jars.display())))?;
    }
    fs::write(&done, wanted)?;
    Ok(installed)
}

/// Runs a program; what it says is part of the error when it fails, and else nobody's concern.
fn quietly(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{program} failed: {}", tail(&String::from_utf8_lossy(&said), 5));
    Ok(())
}

/// The last lines of a text, in one.
pub(super) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join(" | ")
}
