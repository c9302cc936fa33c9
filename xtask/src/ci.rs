//! The whole gate, the same for a developer and for CI: every step by name, timed, with a limit; the first that fails
//! ends it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::{cargo, run};
use crate::workspace::Workspace;
use crate::{fuzz, guest, image, kubeplane, tidy, tools};

/// How long any one step may take, caches cold, on two cores.
const STEP_LIMIT: Duration = Duration::from_secs(40 * 60);
/// How long each fuzz target runs: long enough to meet what the table tests forgot, short enough for every commit.
const FUZZ_SECONDS: u32 = 10;

/// Runs every step in order. The test runner comes last, so that its summary line closes the output.
///
/// # Errors
/// The first step that fails, by name.
pub(crate) fn gate(workspace: &Workspace) -> Result<()> {
    let step = |name: &str, arguments: &str| run_step(name, || in_cargo(arguments));
    step("format", "fmt --all --check")?;
    run_step("tidy", || tidy::run(workspace))?;
    step("lints", "clippy --workspace --all-targets --locked -- -D warnings")?;
    run_step("docs", || {
        let mut command = cargo();
        command.args(["doc", "--workspace", "--no-deps", "--document-private-items", "--locked", "--quiet"]);
        run(command.env("RUSTDOCFLAGS", "-D warnings"), STEP_LIMIT)
    })?;
    step("examples in docs", "test --workspace --doc --locked --quiet")?;
    run_step("fuzz", || fuzz::run_all(workspace, FUZZ_SECONDS))?;
    run_step("guest", || guest::build(workspace, false))?;
    run_step("images", || image::write(workspace))?;
    run_step("control plane", || kubeplane::build(workspace))?;
    // No step of its own: the runner's summary is the last line.
    run(tools::nextest()?.args(["run", "--workspace", "--locked", "--profile", "ci"]), STEP_LIMIT)
}

fn run_step(name: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("── {name}");
    let started = Instant::now();
    step().with_context(|| format!("step `{name}` failed"))?;
    println!("── {name}: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn in_cargo(arguments: &str) -> Result<()> {
    run(cargo().args(arguments.split(' ')), STEP_LIMIT)
}
