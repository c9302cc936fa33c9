//! Tools that the gate needs and that Debian does not package: built by cargo once per version, kept in the cache.

use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{cache_folder, cargo, run};

/// The test runner, pinned.
const NEXTEST: &str = "0.9.151";
/// Building it from nothing on two cores takes about ten minutes.
const INSTALL_LIMIT: Duration = Duration::from_secs(30 * 60);

/// `cargo nextest`, installed on first use.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn nextest() -> Result<Command> {
    let folder = cache_folder()?.join("tools").join(format!("cargo-nextest-{NEXTEST}"));
    let programs = folder.join("bin");
    if !programs.join("cargo-nextest").is_file() {
        println!("installing cargo-nextest {NEXTEST} (once)");
        let mut install = cargo();
        install.args(["install", "cargo-nextest", "--locked", "--quiet", "--version", NEXTEST, "--root"]).arg(&folder);
        run(&mut install, INSTALL_LIMIT).context("failed to install cargo-nextest")?;
    }
    let mut path = OsString::from(&programs);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = cargo();
    command.arg("nextest").env("PATH", path);
    Ok(command)
}
