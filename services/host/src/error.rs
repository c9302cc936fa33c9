//! Why the daemon cannot do what it is asked.

use monopod_agent_client::AgentError;
use monopod_hostnet::NetError;
use monopod_images::ImageError;
use monopod_vmm::VmError;
use monopod_volumes::ScratchError;

use crate::admission::AdmissionError;
use crate::identity::PodName;
use crate::journal::JournalError;
use crate::objects::ObjectError;
use crate::probes::ProberError;

/// Why the daemon cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The Pod is not taken.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// Something beside the Pod cannot be read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The request itself makes no sense.
    #[error("{what}")]
    Request {
        /// What is wrong with it.
        what: String,
    },
    /// There is a Pod of that name.
    #[error("pods {:?} already exists", .0.name)]
    Exists(PodName),
    /// There is no Pod of that name.
    #[error("pods {:?} not found", .0.name)]
    NotFound(PodName),
    /// It runs, and must not.
    #[error("pod {0} is still running")]
    Running(PodName),
    /// It does not run, and must.
    #[error("pod {0} is not running")]
    NotRunning(PodName),
    /// There is no such container, or none that runs.
    #[error("{what}")]
    Container {
        /// In the kubelet's words.
        what: String,
    },
    /// An image could not be had, loaded or removed.
    #[error("failed to get image")]
    Image(#[from] ImageError),
    /// The guest did not do it.
    #[error("failed to ask the guest agent")]
    Agent(#[from] AgentError),
    /// A port of this machine cannot be taken.
    #[error("failed to listen on {address}")]
    Port {
        /// Address and port.
        address: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The journal cannot be written or read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A log cannot be read.
    #[error("failed to read the log of container {container}")]
    Log {
        /// Which container.
        container: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// MicroVMs of a former daemon cannot be found.
    #[error("failed to adopt microVMs")]
    Vmm(#[from] VmError),
    /// The network cannot be set up.
    #[error("failed to set up the network")]
    Net(#[from] NetError),
    /// Disks of a former daemon cannot be found.
    #[error("failed to adopt scratch disks")]
    Scratch(#[from] ScratchError),
    /// Probes cannot be set up.
    #[error(transparent)]
    Prober(#[from] ProberError),
    /// The operating system failed at something that always works.
    #[error("failed to {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl HostError {
    /// Event reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Admission(error) => error.reason(),
            Self::Object(error) => error.reason(),
            Self::Request { .. } => "InvalidRequest",
            Self::Exists(_) => "AlreadyExists",
            Self::NotFound(_) => "NotFound",
            Self::Running(_) => "PodRunning",
            Self::NotRunning(_) => "PodNotRunning",
            Self::Container { .. } => "ContainerNotAvailable",
            Self::Image(error) => error.reason(),
            Self::Agent(error) => error.reason(),
            Self::Port { .. } => "PortNotPublished",
            Self::Journal(error) => error.reason(),
            Self::Log { .. } => "LogNotRead",
            Self::Vmm(error) => error.reason(),
            Self::Net(error) => error.reason(),
            Self::Scratch(error) => error.reason(),
            Self::Prober(error) => error.reason(),
            Self::System { .. } => "SystemFailed",
        }
    }
}
