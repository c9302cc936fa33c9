//! What can happen to a Pod: everything that the machine learns from outside, each with the facts that came with it.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerUser, Pod};

use super::action::{Hook, ProbeKind};
use super::names::{ContainerId, ContainerName};

/// News for [`PodLife::handle`](super::PodLife::handle). Late or repeated news does no harm.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The Pod is taken on. The first event of every life; an adopted one needs none.
    Begin,
    /// The microVM runs, has its addresses and answers.
    SandboxReady(Sandbox),
    /// The microVM could not be started.
    SandboxFailed(SandboxFailure),
    /// All volumes are there.
    VolumesReady,
    /// A volume cannot be made (yet); it is asked for again after a while.
    VolumeFailed {
        /// As the kubelet says it in `FailedMount`.
        message: String,
    },
    /// An image is really being pulled, since it was not there or its policy is `Always`.
    ImagePulling {
        /// Whose image.
        container: ContainerName,
    },
    /// The image of a container is on this machine.
    ImageReady {
        /// Whose image.
        container: ContainerName,
        /// What there is.
        image: ImageFacts,
    },
    /// The image of a container cannot be had (for now).
    ImageFailed {
        /// Whose image.
        container: ContainerName,
        /// `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`, `ImageInspectError`, ...
        reason: String,
        /// What went wrong, for the status.
        message: String,
    },
    /// A container exists, and its program does not run yet.
    ContainerCreated {
        /// Which instance.
        id: ContainerId,
        /// Users and groups of its first process, when they are known.
        user: Option<ContainerUser>,
    },
    /// The first program of a container runs.
    ContainerStarted {
        /// Which instance.
        id: ContainerId,
        /// Since when.
        at: Timestamp,
    },
    /// A container could not be made or started.
    ContainerStartFailed {
        /// Which instance.
        id: ContainerId,
        /// How far it came.
        stage: StartStage,
        /// The waiting reason: `CreateContainerConfigError`, `CreateContainerError`, `RunContainerError`.
        reason: String,
        /// What went wrong.
        message: String,
    },
    /// The first program of a container has ended.
    ContainerExited {
        /// Which instance.
        id: ContainerId,
        /// How.
        exit: Exit,
    },
    /// A probe has an answer.
    ProbeResult {
        /// Which instance was probed; an answer about an earlier one is dropped.
        id: ContainerId,
        /// Which probe.
        kind: ProbeKind,
        /// The answer.
        outcome: ProbeOutcome,
    },
    /// A hook has ended.
    HookDone {
        /// Whose hook.
        id: ContainerId,
        /// Which hook.
        hook: Hook,
        /// `Err` has what went wrong; for a program with its output, as `{error}, message: "{output}"`.
        result: Result<(), String>,
    },
    /// The Pod is to end: deleted, or stopped by a person.
    StopAsked(Stop),
    /// The Pod's object has changed: labels, ephemeral containers, a shorter deadline.
    PodChanged(Box<Pod>),
    /// The microVM has ended without having been asked to.
    VmGone {
        /// CamelCase, becomes the Pod's reason.
        reason: String,
        /// For people.
        message: String,
    },
    /// The microVM that was to stop is gone, with everything in it.
    VmStopped,
    /// The Pod has to leave: it broke a limit.
    Evict {
        /// Normally `Evicted`.
        reason: String,
        /// For people.
        message: String,
    },
    /// Nothing but time has passed; see [`PodLife::wake_at`](super::PodLife::wake_at).
    Tick,
}

/// A running microVM as its Pod sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Addresses of the Pod, the main one first.
    pub pod_ips: Vec<IpAddr>,
    /// Addresses of what stands for its node, the main one first.
    pub host_ips: Vec<IpAddr>,
}

/// Why a microVM did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxFailure {
    /// CamelCase, becomes the Pod's reason when it is final.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Whether trying again is in vain: the Pod fails then.
    pub is_final: bool,
}

/// An image that is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// The name to show in the status.
    pub image: String,
    /// Name with digest, the status's `imageID`.
    pub image_id: String,
    /// Signal that the image wants to be stopped with, as it is written there.
    pub stop_signal: Option<String>,
    /// Set when it was pulled just now, else it was there.
    pub pulled: Option<Pulled>,
}

/// What pulling an image took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Time for the pull itself.
    pub took: Duration,
    /// The same with the time that it waited for others.
    pub took_with_waiting: Duration,
    /// Size of the image.
    pub bytes: u64,
}

/// How far a container came that could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartStage {
    /// Nothing of it exists.
    Create,
    /// It exists and never ran.
    Start,
}

/// How the first program of a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// 128 + signal when a signal ended it.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed it for memory.
    pub oom_killed: bool,
    /// Contents of the termination message file.
    pub termination_message: String,
    /// End of its output, for `FallbackToLogsOnError`: at most 80 lines and 2048 bytes.
    pub log_tail: String,
    /// When it had started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// What a probe said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// Well.
    Success,
    /// Well, with something to say: an HTTP redirect to another host.
    Warning(String),
    /// Not well, with the reason.
    Failure(String),
    /// The probe itself did not work; says nothing about the container.
    Error(String),
}

/// A request to end the Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// Time for its programs to end by themselves; the Pod's own `terminationGracePeriodSeconds` when not said.
    pub grace: Option<Duration>,
    /// The Pod's reason afterwards, where it is not a plain deletion.
    pub reason: Option<String>,
    /// The Pod's message afterwards.
    pub message: Option<String>,
}
