//! Runs other programs, with a time limit on each.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs a command to its end, its output going to ours.
///
/// # Errors
/// When it cannot be started, ends with a failure, or is still running after `limit` (then it is killed).
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<()> {
    let shown = display(command);
    let started = Instant::now();
    // A group of its own, so that what it started ends with it.
    let mut child = command.process_group(0).spawn().with_context(|| format!("failed to start {shown}"))?;
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("failed to wait for {shown}"))? {
            if status.success() {
                return Ok(());
            }
            bail!("{shown} failed with {status}");
        }
        if started.elapsed() > limit {
            let group = format!("-{}", child.id());
            Command::new("kill").args(["-KILL", "--", &group]).status().context("failed to run kill")?;
            child.wait().with_context(|| format!("failed to wait for {shown}"))?;
            bail!("{shown} was still running after {} s and was killed", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a command and returns what it wrote to standard output.
///
/// # Errors
/// When it cannot be started, fails, or writes what is not UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = display(command);
    let output =
        command.stderr(std::process::Stdio::inherit()).output().with_context(|| format!("failed to start {shown}"))?;
    if !output.status.success() {
        bail!("{shown} failed with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{shown} wrote what is not text"))
}

/// The cargo that runs us, without what it tells us of our own package: build scripts that look at such variables would run
/// anew whenever somebody calls cargo by hand in between, and half of all crates with them.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let is_ours = |prefix: &str| name.to_string_lossy().starts_with(prefix);
        if is_ours("CARGO_PKG_") || is_ours("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// `$XDG_CACHE_HOME/monopod` or `~/.cache/monopod`: everything that outlives a work tree.
///
/// # Errors
/// When neither variable is set.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    if let Some(cache) = std::env::var_os("XDG_CACHE_HOME") {
        return Ok(Path::new(&cache).join("monopod"));
    }
    let home = std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set; set one of them")?;
    Ok(Path::new(&home).join(".cache/monopod"))
}

fn display(command: &Command) -> String {
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
