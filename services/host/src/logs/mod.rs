//! Logs of containers, in files of the form that container runtimes write: one entry a line, with time and stream.
//!
//! ```text
//! agent ──▶ Writer ──▶ <logs>/<namespace>_<pod>_<uid>/<container>/<attempt>.log   (+ rotated ones)
//!                          │ Progress (watch)                  │
//!                          └──────────────▶ Follower ◀── Reader┘ ──▶ whoever asked
//! ```
//!
//! The last time in the files is where reading from the agent goes on after a restart of the daemon, so nothing is lost
//! and nothing is there twice.

mod entry;
mod follow;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(crate) use entry::{Entry, Stream, nanoseconds};
pub(crate) use follow::{Progress, follow};
pub(crate) use reader::{Options, Reader};
pub(crate) use writer::{Limits, Writer};

/// Where the logs of one container are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerLogs {
    folder: PathBuf,
}

impl ContainerLogs {
    /// The logs of a container in the folder of its Pod.
    pub(crate) fn new(pod: &Path, container: &str) -> Self {
        Self { folder: pod.join(container) }
    }

    /// All files of one attempt, oldest first.
    fn files(&self, attempt: u32) -> std::io::Result<Vec<PathBuf>> {
        let current = format!("{attempt}.log");
        let rotated = format!("{current}.");
        let mut names = Vec::new();
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let name = entry?.file_name();
            if name.to_str().is_some_and(|name| name == current || name.starts_with(&rotated)) {
                names.push(name);
            }
        }
        // Rotated files carry times of equal length, so they sort by age; the current one is the shortest name.
        names.sort_by_key(|name| (name.len() == current.len(), name.clone()));
        Ok(names.into_iter().map(|name| self.folder.join(name)).collect())
    }

    /// What `choose` makes of the files of one attempt. A rotation gives the name of the current file to another, so
    /// `choose` is asked again when one came between.
    fn settled<T>(&self, attempt: u32, choose: impl Fn(&[PathBuf]) -> std::io::Result<T>) -> std::io::Result<T> {
        loop {
            let files = self.files(attempt)?;
            let chosen = choose(&files);
            if self.files(attempt)? == files {
                return chosen;
            }
        }
    }

    /// The attempts that have files.
    pub(crate) fn attempts(&self) -> std::io::Result<BTreeSet<u32>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(error),
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().unwrap_or_default()));
        let attempts = names.map(|name| Ok(name?.split_once('.').and_then(|(attempt, _)| attempt.parse().ok())));
        attempts.filter_map(Result::transpose).collect()
    }

    fn current(&self, attempt: u32) -> PathBuf {
        self.folder.join(format!("{attempt}.log"))
    }

    /// Removes the files of one attempt.
    pub(crate) fn remove(&self, attempt: u32) -> std::io::Result<()> {
        self.files(attempt)?.into_iter().try_for_each(std::fs::remove_file)
    }

    /// The last lines of an attempt, at most so many lines and bytes: the termination message of a container that
    /// failed without leaving one.
    pub(crate) fn tail(&self, attempt: u32, lines: u64, bytes: usize) -> std::io::Result<Vec<u8>> {
        let options = Options { tail_lines: Some(lines), ..Options::default() };
        let mut reader = Reader::open(self.clone(), attempt, options)?;
        let mut text = Vec::new();
        while let Some(chunk) = reader.next_chunk()? {
            text.extend_from_slice(&chunk);
            let excess = text.len().saturating_sub(bytes);
            text.drain(..excess);
        }
        Ok(text)
    }
}

/// Folder of the logs of one Pod.
pub(crate) fn pod_folder(logs: &Path, namespace: &str, name: &str, uid: &str) -> PathBuf {
    logs.join(format!("{namespace}_{name}_{uid}"))
}
