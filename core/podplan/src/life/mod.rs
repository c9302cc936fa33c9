//! Life of one Pod, as the kubelet would live it: which container starts, is probed, restarted or stopped when, and what
//! the Pod's status says at each moment.
//!
//! [`PodLife`] is one deterministic machine: [`Event`]s and the time go in, [`Action`]s come out. The task that owns the
//! Pod on its host carries the actions out and answers with events; it sends [`Event::Tick`] at [`PodLife::wake_at`].

mod action;
mod event;
mod names;
mod settings;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

pub use action::{Action, Handler, Hook, HttpRequest, Notice, ProbeKind, PullPolicy, Severity};
pub use event::{Event, Exit, ImageFacts, ProbeOutcome, Pulled, Sandbox, SandboxFailure, StartStage, Stop};
pub use names::{ContainerId, ContainerName, Signal};
pub use settings::{BackOffSettings, LifeSettings};

/// The machine. Not shared: one task owns it.
#[derive(Clone, Debug)]
pub struct PodLife {
    pod: Pod,
}

/// How a Pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For whoever ran the Pod from a terminal: 0 when all went well, else that of the first container that failed.
    pub exit_code: i32,
    /// Whether the Pod's phase is `Succeeded`.
    pub has_succeeded: bool,
}

/// A container instance that a microVM reported after a restart of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Which instance.
    pub id: ContainerId,
    /// Of which container.
    pub container: ContainerName,
    /// What it does.
    pub state: ObservedState,
}

/// What a reported instance does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObservedState {
    /// Its program was not started.
    Created,
    /// Its program runs.
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// Its program has ended.
    Exited(Exit),
}

impl PodLife {
    /// The life of a Pod that has not begun; [`Event::Begin`] begins it.
    pub fn new(pod: &Pod, _settings: LifeSettings) -> Self {
        Self { pod: pod.clone() }
    }

    /// Goes on with a Pod that a former daemon ran: its last status and what its microVM reports. Nothing is restarted that
    /// runs.
    pub fn adopt(
        pod: &Pod,
        settings: LifeSettings,
        _last: &PodStatus,
        _observed: &[Observed],
        _now: Timestamp,
    ) -> (Self, Vec<Action>) {
        (Self::new(pod, settings), Vec::new())
    }

    /// Takes news in and says what is to be done.
    pub fn handle(&mut self, _event: Event, _now: Timestamp) -> Vec<Action> {
        Vec::new()
    }

    /// When time alone changes something; send [`Event::Tick`] then.
    pub fn wake_at(&self) -> Option<Timestamp> {
        None
    }

    /// The Pod's status, complete.
    pub fn status(&self) -> PodStatus {
        self.pod.status.clone().unwrap_or_default()
    }

    /// Set when the Pod has ended for good and nothing of it is needed any more.
    pub fn is_finished(&self) -> Option<Outcome> {
        None
    }
}
