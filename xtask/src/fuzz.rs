//! Runs the fuzz targets of fuzz/ on the pinned stable toolchain.
//!
//! `cargo fuzz` wants a nightly compiler for its sanitizers. Our targets look for panics and broken properties in safe
//! Rust, for which libFuzzer's coverage feedback is enough, and the flags for that are stable.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{cache_folder, cargo, run};
use crate::workspace::Workspace;

/// Coverage instrumentation that libFuzzer reads; optimised code with the debug build's checks.
const RUSTFLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Ccodegen-units=1",
];
/// Building the targets and their dependencies from nothing.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Builds every target and runs each for `seconds`, from its seeds and the corpus of earlier runs.
///
/// # Errors
/// When a target does not build or finds something; libFuzzer prints the input and where it is kept.
pub(crate) fn run_all(workspace: &Workspace, seconds: u32) -> Result<()> {
    let folder = workspace.root.join("fuzz");
    let cache = cache_folder()?.join("fuzz");
    let target = cache.join("target");
    let mut build = cargo();
    build.args([
        "build",
        "--release",
        "--locked",
        "--quiet",
        "--target",
        "x86_64-unknown-linux-gnu",
        "--manifest-path",
    ]);
    build.arg(folder.join("Cargo.toml")).env("RUSTFLAGS", RUSTFLAGS.join(" ")).env("CARGO_TARGET_DIR", &target);
    run(&mut build, BUILD_LIMIT)?;
    let names = target_names(&folder)?;
    if names.is_empty() {
        bail!("no fuzz target in {}", folder.display());
    }
    for name in names {
        let program = target.join("x86_64-unknown-linux-gnu/release").join(&name);
        let corpus = cache.join("corpus").join(&name);
        let artifacts = cache.join("artifacts").join(&name);
        for made in [&corpus, &artifacts] {
            std::fs::create_dir_all(made).with_context(|| format!("failed to make {}", made.display()))?;
        }
        let mut command = Command::new(program);
        command.arg(&corpus).arg(folder.join("seeds").join(&name));
        command.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", artifacts.display()));
        command.args(["-verbosity=0", "-print_final_stats=1", "-timeout=5", "-rss_limit_mb=2048"]);
        println!("fuzz target {name}, {seconds} s");
        run(&mut command, Duration::from_secs(u64::from(seconds) + 120))?;
    }
    Ok(())
}

/// The targets are the files of fuzz/fuzz_targets.
fn target_names(folder: &Path) -> Result<Vec<String>> {
    let targets = folder.join("fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&targets).with_context(|| format!("failed to list {}", targets.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}
