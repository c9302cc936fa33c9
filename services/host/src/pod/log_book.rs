//! Which logs a Pod has, and which of them still grow.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::logs::{ContainerLogs, Progress};

/// The logs of one Pod.
#[derive(Debug)]
pub(crate) struct LogBook {
    folder: PathBuf,
    growing: Mutex<BTreeMap<(String, u32), watch::Receiver<Progress>>>,
}

/// A log to read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) logs: ContainerLogs,
    pub(crate) attempt: u32,
    /// Set while it may grow.
    pub(crate) progress: Option<watch::Receiver<Progress>>,
}

impl LogBook {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, growing: Mutex::default() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn of(&self, container: &str) -> ContainerLogs {
        ContainerLogs::new(&self.folder, container)
    }

    /// Begins the log of an instance, or goes on with it; its writer tells how far it is.
    pub(crate) fn begin(&self, container: &str, attempt: u32) -> watch::Sender<Progress> {
        let (tell, progress) = watch::channel(Progress::default());
        self.lock().insert((container.to_owned(), attempt), progress);
        tell
    }

    /// Nothing will be written to it any more.
    pub(crate) fn end(&self, container: &str, attempt: u32) {
        self.lock().remove(&(container.to_owned(), attempt));
    }

    /// The log of the last attempt of a container, or of the one before.
    pub(crate) fn find(&self, container: &str, previous: bool) -> std::io::Result<Option<Found>> {
        let mut attempts = self.of(container).attempts()?;
        let growing = self.lock();
        attempts.extend(growing.keys().filter(|(name, _)| name == container).map(|(_, attempt)| *attempt));
        let mut latest_first = attempts.into_iter().rev();
        let attempt = if previous { latest_first.nth(1) } else { latest_first.next() };
        let Some(attempt) = attempt else { return Ok(None) };
        let progress = growing.get(&(container.to_owned(), attempt)).cloned();
        Ok(Some(Found { logs: self.of(container), attempt, progress }))
    }

    /// Waits until no log grows any more.
    pub(crate) async fn wait_ended(&self) {
        let growing: Vec<_> = self.lock().values().cloned().collect();
        for mut progress in growing {
            // A writer that is gone has ended, too.
            let _ = progress.wait_for(|progress| progress.ended).await;
        }
    }

    /// Bytes in all logs of a container.
    pub(crate) fn size(&self, container: &str) -> u64 {
        let Ok(entries) = std::fs::read_dir(self.folder.join(container)) else { return 0 };
        entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, u32), watch::Receiver<Progress>>> {
        self.growing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
