//! Why something about a VM failed.

use std::io;
use std::time::Duration;

use crate::VmId;

/// Why something about a VM failed.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The caller asked for what cannot be.
    #[error("cannot make a microVM with {what}")]
    InvalidSpec {
        /// The part of it.
        what: String,
    },
    /// The name is taken by a VM that runs, starts or ends.
    #[error("microVM {id} exists already")]
    Exists {
        /// The name.
        id: VmId,
    },
    /// No guest can be started on this machine.
    #[error("no accelerator starts guests on this machine: {why}")]
    NoAccelerator {
        /// What was tried, with the outcome.
        why: String,
    },
    /// All places for VMs are taken.
    #[error("all {places} places for microVMs are taken")]
    Full {
        /// How many there are.
        places: u32,
    },
    /// Something that a VM needs on the host could not be made, opened or removed.
    #[error("failed to {what}")]
    Host {
        /// Such as `open disk /x`.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The process could not be put into its jail.
    #[error("failed to jail the microVM's process: {what}")]
    Jail {
        /// The step, and what the system said.
        what: String,
    },
    /// The process ended before the VM ran.
    #[error("the microVM's process ended during its start: {how}")]
    Died {
        /// Its exit code or signal and last words.
        how: String,
    },
    /// One step took too long.
    #[error("{what} took longer than {limit:?}")]
    TimedOut {
        /// The step.
        what: String,
        /// How long it may take.
        limit: Duration,
    },
    /// The VMM did not accept a command.
    #[error("the VMM refused {command}: {message}")]
    Refused {
        /// The command's name.
        command: String,
        /// What it said.
        message: String,
    },
    /// The VMM said what it may not say, or nothing more.
    #[error("the VMM's control channel failed: {what}")]
    Control {
        /// What was wrong.
        what: String,
    },
    /// The guest came up, but its agent did not answer as it must.
    #[error("the guest's agent is not ready: {what}")]
    NotReady {
        /// What was wrong.
        what: String,
    },
    /// There is no such disk.
    #[error("the microVM has no disk {serial}")]
    NoDisk {
        /// Its serial.
        serial: String,
    },
    /// Its start was given up because somebody wanted it gone.
    #[error("microVM {id} was ended while it was started")]
    Cancelled {
        /// Its name.
        id: VmId,
    },
    /// It has ended.
    #[error("microVM {id} has ended")]
    Gone {
        /// Its name.
        id: VmId,
    },
    /// A defect of ours; only this VM suffers.
    #[error("the task of microVM {id} failed")]
    Bug {
        /// Its name.
        id: VmId,
    },
}

/// Whether trying again has a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same would fail again.
    Never,
    /// It may go well later.
    After(Duration),
}

impl VmError {
    /// For events, conditions and metric labels.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidSpec { .. } => "InvalidVmSpec",
            Self::Exists { .. } => "VmExists",
            Self::NoAccelerator { .. } => "NoAccelerator",
            Self::Full { .. } => "NoVmPlace",
            Self::Host { .. } => "VmHostFailed",
            Self::Jail { .. } => "VmJailFailed",
            Self::Died { .. } => "VmDied",
            Self::TimedOut { .. } => "VmTimedOut",
            Self::Refused { .. } => "VmmRefused",
            Self::Control { .. } => "VmmControlFailed",
            Self::NotReady { .. } => "AgentNotReady",
            Self::NoDisk { .. } => "NoSuchDisk",
            Self::Cancelled { .. } => "VmStartCancelled",
            Self::Gone { .. } => "VmGone",
            Self::Bug { .. } => "VmTaskFailed",
        }
    }

    /// Whether trying again has a point.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::InvalidSpec { .. }
            | Self::Exists { .. }
            | Self::NoAccelerator { .. }
            | Self::NoDisk { .. }
            | Self::Cancelled { .. }
            | Self::Gone { .. } => Retry::Never,
            Self::Full { .. } => Retry::After(Duration::from_secs(30)),
            Self::Host { .. }
            | Self::Jail { .. }
            | Self::Died { .. }
            | Self::TimedOut { .. }
            | Self::Refused { .. }
            | Self::Control { .. }
            | Self::NotReady { .. }
            | Self::Bug { .. } => Retry::After(Duration::from_secs(5)),
        }
    }

    /// Makes an error of the system into one that says what failed.
    pub fn host(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Host { what, source }
    }
}
