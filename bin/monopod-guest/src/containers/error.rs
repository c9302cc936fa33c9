//! Why a container cannot be made or reached.

use std::io;

use nix::errno::Errno;
use tonic::{Code, Status};

use super::lookup::describe;
use super::users::UserError;
use crate::disks::DiskError;

/// What went wrong with a container, before anything of it ran.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// A request that no host of this protocol makes.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
    /// The id is in use.
    #[error("container {id} exists already")]
    Exists {
        /// As asked for.
        id: String,
    },
    /// Nobody knows the id.
    #[error("container {id} is not known")]
    Unknown {
        /// As asked for.
        id: String,
    },
    /// It is not in the state that the call is for.
    #[error("container is in {state} state")]
    State {
        /// In the words of the container runtime interface.
        state: &'static str,
    },
    /// The image does not know the user.
    #[error("failed to create containerd container: {source}")]
    User {
        /// Which user and why.
        source: UserError,
    },
    /// A mount names a volume that the host has not put.
    #[error("volume {volume:?} has not been put")]
    NoVolume {
        /// Its name.
        volume: String,
    },
    /// A part of a volume that is not there, or not within it.
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}")]
    SubPath {
        /// The volume's name.
        volume: String,
        /// The container's name.
        container: String,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The image's disk is not there.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file system cannot be mounted.
    #[error("failed to mount {what}: {}", describe(*error))]
    Mount {
        /// What it is.
        what: &'static str,
        /// What the kernel said.
        error: Errno,
    },
    /// A file or folder cannot be made or read.
    #[error("failed to prepare {what}")]
    Prepare {
        /// What it is.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The spec is incomplete, which would be a mistake of this program.
    #[error("failed to make the runtime's spec")]
    Spec(#[from] oci_spec::OciSpecError),
    /// The helper process did not do its job.
    #[error("failed to run a helper")]
    Helper(#[source] io::Error),
    /// A task of ours was stopped, which happens at shutdown only.
    #[error("the agent is shutting down")]
    Stopped,
}

impl ContainerError {
    /// For events, conditions and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "InvalidContainer",
            Self::Exists { .. } => "ContainerExists",
            Self::Unknown { .. } => "ContainerUnknown",
            Self::State { .. } => "WrongContainerState",
            Self::User { source } => source.reason(),
            Self::NoVolume { .. } => "VolumeMissing",
            Self::SubPath { .. } => "SubPathRefused",
            Self::Disk(_) => "ImageDiskMissing",
            Self::Mount { .. } => "MountFailed",
            Self::Prepare { .. } | Self::Spec(_) => "PreparationFailed",
            Self::Helper(_) => "HelperFailed",
            Self::Stopped => "ShuttingDown",
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Invalid { .. } | Self::User { .. } | Self::NoVolume { .. } | Self::SubPath { .. } => {
                Code::InvalidArgument
            }
            Self::Exists { .. } => Code::AlreadyExists,
            Self::Unknown { .. } | Self::Disk(_) => Code::NotFound,
            Self::State { .. } => Code::FailedPrecondition,
            Self::Mount { .. } | Self::Prepare { .. } | Self::Spec(_) | Self::Helper(_) => Code::Internal,
            Self::Stopped => Code::Unavailable,
        }
    }

    /// For errors of the file system around a container.
    pub(crate) fn prepare(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Prepare { what, source }
    }

    /// For mounts around a container.
    pub(crate) fn mount(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |error| Self::Mount { what, error }
    }
}

impl From<UserError> for ContainerError {
    fn from(source: UserError) -> Self {
        Self::User { source }
    }
}

impl From<ContainerError> for Status {
    fn from(error: ContainerError) -> Self {
        Self::new(error.code(), super::helper::chain(&error))
    }
}
