//! The seam behind which microVMs are made: the [`Vmm`] trait, what a VM is asked to be, and the handle of one.
//!
//! `lib/vmm-qemu` is the implementation for machines, the fake of `tests/testkit` the one for tests without guests.
//! The host daemon is the caller. One task owns each VM and steps `core/vmstate` ([`own`]); it drives a [`Driver`], which
//! is all that an implementation writes. A [`Vm`] is a handle that sends to the task.

#[cfg(feature = "contract")]
pub mod contract;
mod error;
mod spec;
mod task;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use monopod_types::MiB;
use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::error::{Retry, VmError};
pub use crate::spec::{Disk, MAX_SERIAL, Stage, VmId, VmSpec};
pub use crate::task::{Driver, Life, OwnedVm, Starting, own};

/// Makes VMs.
#[async_trait]
pub trait Vmm: Debug + Send + Sync + 'static {
    /// Starts a VM; returns when its agent's channel can be connected to. When the future is dropped before, the VM is
    /// ended and taken away behind the caller's back; [`Vmm::kill`] waits for that.
    ///
    /// # Errors
    /// When it cannot be started; nothing of it is left then.
    async fn start(&self, spec: VmSpec) -> Result<Arc<dyn Vm>, VmError>;

    /// Ends the VM of that name, also one that is being started; returns when nothing is left of it. Not an error when
    /// there is none.
    ///
    /// # Errors
    /// When it could not be ended.
    async fn kill(&self, id: &VmId) -> Result<(), VmError>;

    /// VMs that an earlier life of this daemon left running: handles for those that still do. What is left of VMs that
    /// have ended is removed.
    ///
    /// # Errors
    /// When the run folder cannot be read.
    async fn adopt(&self) -> Result<Vec<Arc<dyn Vm>>, VmError>;

    /// What starts guests here, and how that is known: `kvm` or `tcg`.
    fn accelerator(&self) -> &str;

    /// Version of the guest image that VMs are started from.
    fn guest_version(&self) -> &str;
}

/// One VM. Dropping the handle does nothing to the VM.
#[async_trait]
pub trait Vm: Debug + Send + Sync + 'static {
    /// Its name.
    fn id(&self) -> &VmId;

    /// What its start was made of, in order.
    fn stages(&self) -> Vec<Stage>;

    /// Connects to the byte stream of its agent; an earlier connection must be closed first.
    ///
    /// # Errors
    /// [`VmError::Gone`] when it has ended, else when the channel cannot be opened.
    async fn connect(&self) -> Result<Box<dyn ByteStream>, VmError>;

    /// Adds a disk.
    ///
    /// # Errors
    /// When the disk has no use (its serial is taken or malformed, its file cannot be opened) or the VM has ended.
    async fn attach(&self, disk: Disk) -> Result<(), VmError>;

    /// Takes a disk away, after the guest has let go of it.
    ///
    /// # Errors
    /// When there is no such disk, the guest does not let go of it in time, or the VM has ended.
    async fn detach(&self, serial: &str) -> Result<(), VmError>;

    /// Ends it at once; returns when nothing is left of it. Not an error when it has ended already.
    ///
    /// # Errors
    /// When it could not be ended.
    async fn kill(&self) -> Result<(), VmError>;

    /// Waits for its end, however it comes; returns at once, and the same, ever after.
    async fn wait(&self) -> VmExit;

    /// Memory that it costs this machine beyond the guest's own.
    ///
    /// # Errors
    /// When it has ended, or cannot be asked.
    async fn overhead(&self) -> Result<MiB, VmError>;
}

/// A byte stream both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static> ByteStream for S {}

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmExit {
    /// The guest powered itself off.
    PoweredOff,
    /// We ended it.
    Killed,
    /// The guest's kernel gave up; its last words.
    Panicked(String),
    /// The VMM process ended on its own or was killed by somebody else.
    VmmDied(String),
}

impl VmExit {
    /// For events, conditions and metric labels.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PoweredOff => "PoweredOff",
            Self::Killed => "Killed",
            Self::Panicked(_) => "GuestPanicked",
            Self::VmmDied(_) => "VmmDied",
        }
    }
}

impl std::fmt::Display for VmExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PoweredOff => f.write_str("the microVM powered itself off"),
            Self::Killed => f.write_str("the microVM was ended"),
            Self::Panicked(words) => write!(f, "the microVM's kernel gave up: {words}"),
            Self::VmmDied(how) => write!(f, "the microVM's process ended: {how}"),
        }
    }
}
