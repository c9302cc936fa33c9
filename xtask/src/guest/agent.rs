//! The agent, built to run where there is nothing else: static, small, without the builder's paths in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{cargo, run};
use crate::workspace::Workspace;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);

/// The agent's bytes.
pub(super) fn build(workspace: &Workspace) -> Result<Vec<u8>> {
    let folder = workspace.target.join("guest");
    let mut command = cargo();
    // For the target only: build scripts and macros stay what they are.
    command.env("CARGO_ENCODED_RUSTFLAGS", flags(&folder));
    command.args(["build", "--package", "monopod-guest", "--profile", "guest", "--target", TARGET]);
    run(command.arg("--target-dir").arg(&folder), BUILD_LIMIT).context("failed to build monopod-guest")?;
    let program = folder.join(TARGET).join("guest/monopod-guest");
    fs::read(&program).with_context(|| format!("failed to read {}", program.display()))
}

/// Static linking, and the same text for sources wherever they lie. Those of the workspace are named from its root.
fn flags(target: &Path) -> String {
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or(home);
    let registry = cargo_home.map(|home| home.join("registry/src"));
    for (from, to) in [(registry, "/registry"), (Some(target.to_path_buf()), "/generated")] {
        if let Some(from) = from {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        }
    }
    // Cargo takes flags apart here, so that a path may hold blanks.
    flags.join("\x1f")
}
