//! `cargo xtask check`: what must hold before anything is run.

use anyhow::Context;

use crate::tools::{cache, cargo, exists, root, run};

/// The version of cargo-deny that `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";

/// Checks format, lints, documentation, and the dependencies' licences and copies.
pub(crate) fn check() -> anyhow::Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"]))?;
    deny()
}

/// Runs cargo-deny, building it first where it is not there yet.
fn deny() -> anyhow::Result<()> {
    let folder = cache()?.join(format!("cargo-deny-{CARGO_DENY}"));
    let binary = folder.join("bin/cargo-deny");
    if !exists(&binary.to_string_lossy(), "--version") {
        let mut install = cargo();
        install
            .args(["install", "cargo-deny", "--locked", "--version", CARGO_DENY, "--root"])
            .arg(&folder)
            // Built once and run for a second: a light build is the faster one in all.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        run(&mut install).context("cargo-deny could not be built")?;
    }
    // Not `advisories`: their database is fetched from a Git server, which a build must not depend on.
    run(std::process::Command::new(binary).current_dir(root()).args(["check", "bans", "licenses", "sources"]))
}
