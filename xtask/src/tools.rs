//! Running other programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// What tests fetch once and keep: `$PUDDLE_CACHE`, or `puddle` in the user's cache folder.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let folder = match (std::env::var_os("PUDDLE_CACHE"), std::env::var_os("HOME")) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, Some(home)) => Path::new(&home).join(".cache/puddle"),
        (None, None) => {
            anyhow::bail!("neither PUDDLE_CACHE nor HOME is set: where may fetched tools be kept?")
        }
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The checkout's commit, and whether the checkout differs from it.
pub(crate) fn commit() -> String {
    let describe = ["describe", "--always", "--abbrev=9", "--exclude", "*", "--dirty=, changed"];
    match Command::new("git").current_dir(root()).args(describe).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// `cargo`, as the one that runs us, in the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The binary that `cargo build` made, which lies beside our own.
pub(crate) fn puddle() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let binary = own.with_file_name("puddle");
    anyhow::ensure!(binary.is_file(), "there is no {} after building it", binary.display());
    Ok(binary)
}

/// Runs a program to its end; a failure is an error that shows the command.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    ensure!(status.success(), "{} ended with {status}", shown(command));
    Ok(())
}

/// Whether the program can be started at all.
pub(crate) fn exists(program: &str, argument: &str) -> bool {
    Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success())
}

fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
