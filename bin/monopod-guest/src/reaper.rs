//! Waits for every process that ends, since PID 1 inherits all orphans, and tells those who asked how theirs ended.
//!
//! One task answers SIGCHLD and reaps whatever has ended. Nobody else may wait for a process (no `Child::wait`, no
//! `tokio::process`): whoever starts one, or learns of one that became ours, calls [`Reaper::watch`] with its id, before
//! or after it has ended. Ends that nobody has asked for yet are kept, the latest [`UNCLAIMED`] of them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Ends kept for those who ask late. Process ids go round after 4 million, so an old one cannot be mistaken.
const UNCLAIMED: usize = 1024;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an exit code.
    Exited(i32),
    /// By a signal, by its number.
    Killed(i32),
}

impl Ended {
    /// As shells and container runtimes give it: 128 + signal for one that was killed.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

/// A handle to the one reaper of the process.
#[derive(Clone, Debug, Default)]
pub struct Reaper {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    watched: HashMap<Pid, Vec<oneshot::Sender<Ended>>>,
    unclaimed: VecDeque<(Pid, Ended)>,
}

impl Reaper {
    /// Starts reaping, for as long as the runtime lives.
    ///
    /// # Errors
    /// When the signal cannot be taken.
    pub fn start() -> std::io::Result<Self> {
        let mut signals = signal(SignalKind::child())?;
        let reaper = Self::default();
        let ours = reaper.clone();
        tokio::spawn(async move {
            loop {
                ours.reap();
                if signals.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(reaper)
    }

    /// Resolves when the process has ended, at once if it has already. For a process that is or becomes a child of ours.
    pub fn watch(&self, pid: Pid) -> impl Future<Output = Ended> + Send + use<> {
        let receiver = self.register(pid);
        async move {
            // The sender is dropped only with the reaper, which lives as long as the process does.
            receiver.await.unwrap_or(Ended::Killed(nix::libc::SIGKILL))
        }
    }

    fn register(&self, pid: Pid) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        let mut shared = self.lock();
        match shared.unclaimed.iter().position(|(ended, _)| *ended == pid) {
            Some(place) => {
                let (_, ended) = shared.unclaimed.remove(place).expect("the place was just found");
                // Fails only when the receiver, which is below, is gone.
                let _ = sender.send(ended);
            }
            None => shared.watched.entry(pid).or_default().push(sender),
        }
        receiver
    }

    /// Takes in everything that has ended by now.
    fn reap(&self) {
        loop {
            let ended = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Ended::Exited(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Ended::Killed(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(
                    WaitStatus::Stopped(..)
                    | WaitStatus::Continued(_)
                    | WaitStatus::PtraceEvent(..)
                    | WaitStatus::PtraceSyscall(_),
                )
                | Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "failed to wait for processes");
                    return;
                }
            };
            self.deliver(ended.0, ended.1);
        }
    }

    fn deliver(&self, pid: Pid, ended: Ended) {
        let mut shared = self.lock();
        if let Some(senders) = shared.watched.remove(&pid) {
            for sender in senders {
                // Whoever asked may have lost interest.
                let _ = sender.send(ended);
            }
            return;
        }
        if shared.unclaimed.len() == UNCLAIMED {
            shared.unclaimed.pop_front();
        }
        shared.unclaimed.push_back((pid, ended));
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
