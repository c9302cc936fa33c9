//! Runs the fuzz targets of fuzz/ on the pinned stable toolchain.
//!
//! `cargo fuzz` wants a nightly compiler for its sanitizers. Our targets look for panics and broken properties in safe
//! Rust, for which libFuzzer's coverage feedback is enough, and the flags for that are stable.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{cache_folder, cargo, run};
use crate::workspace::Workspace;

/// Coverage instrumentation that libFuzzer reads. How far the code is optimised stands in fuzz/Cargo.toml.
const RUSTFLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// With an explicit target, build scripts and macros are left without instrumentation.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Building the targets and their dependencies from nothing.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How long a run may take beyond its time: reading the corpus, and one input that hangs.
const RUN_GRACE: Duration = Duration::from_secs(120);
/// Inputs in a corpus before it is reduced to those that together reach as much.
const CORPUS_LIMIT: usize = 2_000;
/// Words before the number of inputs that a run has tried, in libFuzzer's report.
const EXECUTIONS: &str = "stat::number_of_executed_units:";

/// One fuzz target, built.
struct Target {
    name: String,
    program: PathBuf,
    /// Inputs that the authors chose.
    seeds: PathBuf,
    /// Inputs that earlier runs found worth keeping.
    corpus: PathBuf,
    /// Inputs that were findings. Each run begins with them, so that a finding stays one until it is mended.
    findings: PathBuf,
    /// What libFuzzer said last.
    log: PathBuf,
}

/// Builds every target and runs each for `seconds`, from its seeds, its findings and the corpus of earlier runs.
///
/// The build and the corpora lie in the user's cache and outlive the work tree. Trees may share them: cargo tells our
/// crates apart by their absolute paths, since they lie outside the workspace of fuzz/.
///
/// # Errors
/// When a target does not build or finds something; libFuzzer's report and the place of the input are printed.
pub(crate) fn run_all(workspace: &Workspace, seconds: u32) -> Result<()> {
    let folder = workspace.root.join("fuzz");
    let cache = cache_folder()?.join("fuzz");
    let programs = build(&folder, &cache.join("target"))?;
    let names = target_names(&folder)?;
    if names.is_empty() {
        bail!("no fuzz target in {}", folder.display());
    }
    for name in names {
        Target::new(name, &programs, &folder, &cache)?.run(seconds)?;
    }
    Ok(())
}

/// Builds all targets and returns the folder of their programs.
fn build(folder: &Path, target: &Path) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--quiet", "--target", TARGET, "--manifest-path"]);
    build.arg(folder.join("Cargo.toml")).env("RUSTFLAGS", RUSTFLAGS.join(" ")).env("CARGO_TARGET_DIR", target);
    run(&mut build, BUILD_LIMIT)?;
    Ok(target.join(TARGET).join("release"))
}

/// The targets are the files of fuzz/fuzz_targets.
fn target_names(folder: &Path) -> Result<Vec<String>> {
    let targets = files_in(&folder.join("fuzz_targets"))?;
    let names = targets.iter().filter_map(|path| path.file_stem());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

impl Target {
    fn new(name: String, programs: &Path, folder: &Path, cache: &Path) -> Result<Self> {
        let kept = |what: &str| cache.join(what).join(&name);
        let target = Self {
            program: programs.join(&name),
            seeds: folder.join("seeds").join(&name),
            corpus: kept("corpus"),
            findings: kept("findings"),
            log: kept("log"),
            name,
        };
        let log_folder = cache.join("log");
        for made in [&target.corpus, &target.findings, &log_folder] {
            std::fs::create_dir_all(made).with_context(|| format!("failed to make {}", made.display()))?;
        }
        Ok(target)
    }

    fn run(&self, seconds: u32) -> Result<()> {
        self.reduce_corpus()?;
        let mut command = Command::new(&self.program);
        command.args([&self.corpus, &self.seeds, &self.findings]);
        command.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", self.findings.display()));
        command.args(["-verbosity=0", "-print_final_stats=1", "-timeout=20", "-rss_limit_mb=2048"]);
        self.run_logged(&mut command, Duration::from_secs(u64::from(seconds)) + RUN_GRACE)?;
        // What was a finding once is none now.
        for mended in files_in(&self.findings)? {
            std::fs::remove_file(&mended).with_context(|| format!("failed to remove {}", mended.display()))?;
        }
        let executions = self.executions()?;
        let inputs = files_in(&self.corpus)?.len();
        println!("fuzz {}: {executions} executions in {seconds} s, {inputs} inputs in the corpus", self.name);
        if executions == 0 {
            bail!("fuzz target {} was built but tried no input", self.name);
        }
        Ok(())
    }

    /// Keeps the corpus from growing over the years: a corpus over the limit gives way to the smallest of its inputs
    /// that reach all that it reaches.
    fn reduce_corpus(&self) -> Result<()> {
        if files_in(&self.corpus)?.len() <= CORPUS_LIMIT {
            return Ok(());
        }
        let reduced = self.corpus.with_extension("reduced");
        // An earlier attempt may have been interrupted.
        if reduced.exists() {
            std::fs::remove_dir_all(&reduced).with_context(|| format!("failed to remove {}", reduced.display()))?;
        }
        std::fs::create_dir(&reduced).with_context(|| format!("failed to make {}", reduced.display()))?;
        let mut command = Command::new(&self.program);
        command.arg("-merge=1").args([&reduced, &self.corpus]);
        self.run_logged(&mut command, RUN_GRACE)?;
        std::fs::remove_dir_all(&self.corpus).with_context(|| format!("failed to clear {}", self.corpus.display()))?;
        std::fs::rename(&reduced, &self.corpus).with_context(|| format!("failed to replace {}", self.corpus.display()))
    }

    /// Runs libFuzzer, which says much, and shows what it said only when it fails.
    fn run_logged(&self, command: &mut Command, limit: Duration) -> Result<()> {
        let log = File::create(&self.log).with_context(|| format!("failed to make {}", self.log.display()))?;
        command.stdout(log.try_clone().context("failed to share the log")?).stderr(log);
        run(command, limit).inspect_err(|_| println!("{}", self.said().unwrap_or_default())).with_context(|| {
            format!("fuzz target {} failed; what it found lies in {}", self.name, self.findings.display())
        })
    }

    fn said(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log).with_context(|| format!("failed to read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// How many inputs the last run has tried.
    fn executions(&self) -> Result<u64> {
        let said = self.said()?;
        let number = said.lines().find_map(|line| line.strip_prefix(EXECUTIONS));
        let number = number.with_context(|| format!("no number of executions in {}", self.log.display()))?;
        number.trim().parse().with_context(|| format!("executions are no number: {number}"))
    }
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = || format!("failed to list {}", folder.display());
    let entries = std::fs::read_dir(folder).with_context(failed)?;
    entries.map(|entry| Ok(entry.with_context(failed)?.path())).collect()
}
