//! Writes the images that examples and the demo run, as archives in the user's cache.

use std::time::Duration;

use anyhow::Result;

use crate::process::{cache_folder, cargo, run};
use crate::workspace::Workspace;

/// Building the program that writes them, from nothing.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Writes `busybox.tar` and `web.tar` into `~/.cache/monopod/images`. Their names lead to files that are named by content, so
/// that an archive that somebody reads never changes.
///
/// # Errors
/// When the machine has no static busybox, or the archives cannot be written.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    let folder = cache_folder()?.join("images");
    let mut command = cargo();
    command.args(["run", "--quiet", "--locked", "-p", "monopod-testkit", "--example", "images", "--"]);
    run(command.arg(folder).current_dir(&workspace.root), LIMIT)
}
