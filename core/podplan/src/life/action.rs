//! What the machine asks for: plain data, carried out by the host, which answers with events.

use std::time::Duration;

use super::names::{ContainerId, ContainerName, Signal};

/// One thing to do. Those of one answer are to be begun in order; none has to be waited for before the next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Start the microVM and its network; answer `SandboxReady` or `SandboxFailed`.
    StartVm,
    /// Make all volumes that are not there yet; answer `VolumesReady` or `VolumeFailed`.
    MountVolumes,
    /// See that an image is there, by its pull policy; answer `ImagePulling` (when it is one), then `ImageReady` or
    /// `ImageFailed`.
    PullImage {
        /// Whose image.
        container: ContainerName,
        /// As written in the Pod.
        image: String,
        /// `Always`, `IfNotPresent` or `Never`.
        policy: PullPolicy,
    },
    /// Make a container and start it; answer `ContainerCreated` and `ContainerStarted`, or `ContainerStartFailed`.
    CreateAndStart {
        /// Which container of the Pod.
        container: ContainerName,
        /// What the new instance is to be called; unique in the life of the Pod.
        id: ContainerId,
        /// How often it was restarted before; names its log file.
        attempt: u32,
        /// The image found by `PullImage`.
        image_id: String,
    },
    /// Send a signal to the first process of a container.
    Signal {
        /// Which instance.
        id: ContainerId,
        /// Which signal.
        signal: Signal,
    },
    /// Kill all processes of a container. The exit is reported as any other.
    Kill {
        /// Which instance.
        id: ContainerId,
    },
    /// Run a hook; answer `HookDone`.
    RunHook {
        /// In or for which instance.
        id: ContainerId,
        /// Of which container.
        container: ContainerName,
        /// Which hook.
        hook: Hook,
        /// What to do.
        handler: Handler,
        /// Give up after this time; never when not set.
        timeout: Option<Duration>,
    },
    /// Probe a container once; answer `ProbeResult`.
    RunProbe {
        /// Which instance.
        id: ContainerId,
        /// Of which container.
        container: ContainerName,
        /// Which probe.
        kind: ProbeKind,
        /// What to do.
        handler: Handler,
        /// No answer within this time is a failure.
        timeout: Duration,
    },
    /// Remove an ended instance with its writable layer and its log; the last ended one of each container is kept.
    RemoveContainer {
        /// Which instance.
        id: ContainerId,
        /// Of which container.
        container: ContainerName,
        /// Names its log file.
        attempt: u32,
    },
    /// Tell people.
    Emit(Notice),
    /// Power the microVM off; answer `VmStopped`.
    StopVm,
    /// The status has changed; see [`PodLife::status`](super::PodLife::status).
    TellStatus,
}

/// When to pull an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time a container starts.
    Always,
    /// When it is not there.
    IfNotPresent,
    /// Not at all.
    Never,
}

/// The two moments at which a container may have something done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Right after its start.
    PostStart,
    /// Before it is stopped.
    PreStop,
}

/// The three questions about a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Has it started up? Until then the other two wait.
    Startup,
    /// Does it live? If not it is restarted.
    Liveness,
    /// Can it serve?
    Readiness,
}

/// What a probe or hook does, with ports, hosts and headers resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// Run a program in the container.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// Ask by HTTP.
    Http(HttpRequest),
    /// Connect to a port.
    Tcp {
        /// Name or address; that of the Pod unless the Pod names another.
        host: String,
        /// Port number.
        port: u16,
    },
    /// Ask gRPC's health service.
    Grpc {
        /// Address of the Pod.
        host: String,
        /// Port number.
        port: u16,
        /// Name of the service; empty for the server as a whole.
        service: String,
    },
    /// Wait.
    Sleep {
        /// How long.
        duration: Duration,
    },
}

/// An HTTP GET of a probe or hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// Whether TLS is used; certificates are not verified.
    pub is_https: bool,
    /// Name or address to connect to.
    pub host: String,
    /// Port number.
    pub port: u16,
    /// Path with query, beginning with a slash.
    pub path: String,
    /// Complete headers, in order; `Host` among them when the Pod sets it.
    pub headers: Vec<(String, String)>,
}

/// What people are told, as an event object of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether it is bad.
    pub severity: Severity,
    /// As the kubelet says it.
    pub reason: &'static str,
    /// As the kubelet says it.
    pub message: String,
    /// Such as `spec.containers{web}`; empty for the Pod as a whole.
    pub field_path: String,
}

/// Type of an event object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

impl Severity {
    /// As event objects write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

impl ProbeKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// As the kubelet's messages write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

impl Hook {
    /// As the kubelet's messages write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PostStart => "PostStart",
            Self::PreStop => "PreStop",
        }
    }
}
