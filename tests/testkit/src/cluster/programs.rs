//! Where the programs of other projects are that clusters are made of: `cargo xtask kubeplane` puts them into the cache.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// A program of a module below tools/, such as `kubectl` of `kubeplane`.
///
/// # Errors
/// When it is not there.
pub fn program(module: &str, name: &str) -> Result<PathBuf> {
    // The link may lead elsewhere tomorrow; who runs keeps what it began with.
    let folder = cache_folder()?.join("tools").join(module);
    let folder = folder.canonicalize().with_context(|| missing(&folder.join(name)))?;
    let program = folder.join(name);
    anyhow::ensure!(program.exists(), "{}", missing(&program));
    Ok(program)
}

fn missing(path: &std::path::Path) -> String {
    format!("there is no {}; run `cargo xtask kubeplane`", path.display())
}

/// `$XDG_CACHE_HOME/monopod` or `~/.cache/monopod`.
pub(super) fn cache_folder() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(cache.context("neither XDG_CACHE_HOME nor HOME is set; set one of them")?.join("monopod"))
}
