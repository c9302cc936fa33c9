//! One container: what it was made from, its process, its streams, and its state as the host sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use monopod_agent_proto::v1::ContainerState;
use monopod_agent_proto::v1::container_state::Phase;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::sync::watch;

use super::cgroup::Cgroup;
use super::error::ContainerError;
use super::folder::Folder;
use super::logs::LogBuffer;
use super::process::ProcessPlan;
use super::streams::{End, Ends, Fanout};
use crate::reaper::Ended;

/// Exit code of a container that could not be started.
const NOT_STARTED: i32 = 128;

/// One container that was made.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) folder: Folder,
    pub(super) cgroup: Cgroup,
    pub(super) plan: ProcessPlan,
    /// None when it could not be made, which its state says once it is started.
    pub(super) init: Option<Pid>,
    pub(super) logs: Arc<LogBuffer>,
    pub(super) output: Arc<Fanout>,
    pub(super) terminal: Option<Arc<End>>,
    pub(super) stdin_once: bool,
    stdin: Mutex<Option<Arc<End>>>,
    status: Mutex<Status>,
    changes: Changes,
}

#[derive(Debug)]
struct Status {
    state: ContainerState,
    /// When it changed, in the order of all changes.
    version: u64,
    /// Why it cannot be started.
    refusal: Option<String>,
}

/// Numbers the changes of all containers, and tells of them.
#[derive(Clone, Debug)]
pub(super) struct Changes(watch::Sender<u64>);

impl Changes {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    fn next(&self) -> u64 {
        let mut version = 0;
        self.0.send_modify(|count| {
            *count += 1;
            version = *count;
        });
        version
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// What a container is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) folder: Folder,
    pub(super) cgroup: Cgroup,
    pub(super) plan: ProcessPlan,
    /// The process, or why there is none.
    pub(super) init: Result<Pid, String>,
    pub(super) ends: Ends,
    pub(super) stdin_once: bool,
}

impl Container {
    pub(super) fn new(parts: Parts, changes: Changes) -> Self {
        let state = ContainerState {
            id: parts.id.clone(),
            name: parts.name.clone(),
            phase: Phase::Created.into(),
            created_at: super::now(),
            ..ContainerState::default()
        };
        let version = changes.next();
        Self {
            id: parts.id,
            name: parts.name,
            folder: parts.folder,
            cgroup: parts.cgroup,
            plan: parts.plan,
            init: parts.init.as_ref().ok().copied(),
            logs: Arc::new(LogBuffer::new()),
            output: Arc::new(Fanout::new()),
            terminal: parts.ends.terminal,
            stdin_once: parts.stdin_once,
            stdin: Mutex::new(parts.ends.stdin),
            status: Mutex::new(Status { state, version, refusal: parts.init.err() }),
            changes,
        }
    }

    /// Its state, if it has changed after that version, and the version of this one.
    pub(super) fn state_after(&self, version: u64) -> Option<(u64, ContainerState)> {
        let status = self.status();
        (status.version > version).then(|| (status.version, status.state.clone()))
    }

    pub(super) fn phase(&self) -> Phase {
        self.status().state.phase()
    }

    /// The process, while there is one.
    ///
    /// # Errors
    /// When it has not started yet or has ended.
    pub(super) fn running(&self) -> Result<Pid, ContainerError> {
        match (self.phase(), self.init) {
            (Phase::Running, Some(init)) => Ok(init),
            (phase, _) => Err(ContainerError::State { state: state_name(phase) }),
        }
    }

    /// Turns a created container into a running one, or into one that could not be started.
    ///
    /// # Errors
    /// When it is not a created one.
    pub(super) fn begin(&self) -> Result<Begin, ContainerError> {
        let mut status = self.status();
        if status.state.phase() != Phase::Created {
            return Err(ContainerError::State { state: state_name(status.state.phase()) });
        }
        let refusal = status.refusal.clone();
        match &refusal {
            None => {
                status.state.set_phase(Phase::Running);
                status.state.started_at = super::now();
            }
            Some(text) => {
                status.state.set_phase(Phase::Exited);
                status.state.exit_code = NOT_STARTED;
                status.state.finished_at = super::now();
                status.state.start_error.clone_from(text);
            }
        }
        status.version = self.changes.next();
        Ok(if refusal.is_none() { Begin::Go } else { Begin::Refused })
    }

    /// Takes in how its process ended.
    pub(super) fn end(&self, ended: Ended, oom_killed: bool, termination_message: Vec<u8>) {
        self.close_stdin();
        let mut status = self.status();
        status.state.set_phase(Phase::Exited);
        status.state.finished_at = super::now();
        status.state.exit_code = ended.code();
        status.state.signal = match ended {
            Ended::Exited(_) => 0,
            Ended::Killed(signal) => signal,
        };
        status.state.oom_killed = oom_killed;
        status.state.termination_message = termination_message;
        status.version = self.changes.next();
    }

    /// Its state, once it has ended.
    pub(super) async fn ended(&self) -> ContainerState {
        let mut changes = self.changes.subscribe();
        loop {
            let state = self.status().state.clone();
            // The sender is in `self`.
            if state.phase() == Phase::Exited || changes.changed().await.is_err() {
                return state;
            }
        }
    }

    /// Sends a signal. Nothing happens to what has ended.
    ///
    /// # Errors
    /// When there is no such signal.
    pub(super) fn signal(&self, number: i32, all_processes: bool) -> Result<(), ContainerError> {
        let signal = match number {
            32..=64 => None,
            other => Some(
                Signal::try_from(other)
                    .map_err(|_| ContainerError::Invalid { what: format!("there is no signal {number}") })?,
            ),
        };
        if self.phase() == Phase::Exited {
            return Ok(());
        }
        let members = if all_processes { self.cgroup.members() } else { self.init.into_iter().collect() };
        for pid in members {
            match super::sys::kill(pid, signal.map_or(number, |signal| signal as i32)) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => tracing::warn!(%error, container = %self.name, "failed to send a signal"),
            }
        }
        Ok(())
    }

    /// Where its input is written, while it takes any.
    pub(super) fn stdin(&self) -> Option<Arc<End>> {
        self.stdin.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn close_stdin(&self) {
        *self.stdin.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is something to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Go,
    Refused,
}

/// A phase in the words of the container runtime interface.
pub(super) fn state_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Created => "CONTAINER_CREATED",
        Phase::Running => "CONTAINER_RUNNING",
        Phase::Exited => "CONTAINER_EXITED",
        Phase::Unknown => "CONTAINER_UNKNOWN",
    }
}
