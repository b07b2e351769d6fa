//! A Python environment with what the notebooks and the readers' test need, made once for each state of
//! their requirements.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::tools::{cache, exists, root, run};

const REQUIREMENTS: &str = "notebooks/requirements.txt";

/// Whether Python can make environments here, or the line that gets it.
pub(crate) fn available() -> Result<(), &'static str> {
    if exists("python3", "--version")
        && Command::new("python3")
            .args(["-c", "import ensurepip, venv"])
            .output()
            .is_ok_and(|o| o.status.success())
    {
        Ok(())
    } else {
        Err("Python 3 with venv is missing: sudo apt-get install -y python3 python3-venv")
    }
}

/// The interpreter of an environment in which [`REQUIREMENTS`] are installed.
pub(crate) fn interpreter() -> anyhow::Result<PathBuf> {
    let requirements = root().join(REQUIREMENTS);
    let wanted =
        std::fs::read_to_string(&requirements).with_context(|| format!("cannot read {REQUIREMENTS}"))?;
    let folder = cache()?.join("python");
    let python = folder.join("bin/python");
    let done = folder.join("installed-requirements.txt");
    let installed = std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted);
    if installed && exists(&python.to_string_lossy(), "--version") {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements))?;
    std::fs::write(&done, wanted)?;
    Ok(python)
}

/// Runs a script of the project.
pub(crate) fn script(python: &Path, script: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(root().join(script)).current_dir(root());
    command
}
