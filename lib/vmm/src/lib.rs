//! The seam behind which microVMs are made: the [`Vmm`] trait, what a VM is asked to be, and the handle of one.
//!
//! `lib/vmm-qemu` is the implementation for machines, the fake of `tests/testkit` the one for tests without guests.
//! The host daemon is the caller. One task owns each VM and steps `core/vmstate`; a [`Vm`] is a handle that sends to it.

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use monopod_types::{MiB, MilliCpu};
use tokio::io::{AsyncRead, AsyncWrite};

/// Name of a VM on its host: the UID of its Pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VmId(String);

/// What a VM is asked to be.
#[derive(Debug)]
pub struct VmSpec {
    /// Its name.
    pub id: VmId,
    /// CPU time it may use; the guest has this many CPUs, rounded up.
    pub cpu: MilliCpu,
    /// Memory of the guest.
    pub memory: MiB,
    /// The open tap of its network card; without one it has a card without a cable.
    pub tap: Option<OwnedFd>,
    /// Disks that it has from its first instruction on.
    pub disks: Vec<Disk>,
}

/// A block device of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// By which the guest finds it; unique in the VM; at most 36 letters, digits and `-`.
    pub serial: String,
    /// A raw image.
    pub path: PathBuf,
    /// The guest cannot write to it; such a file may be shared by many VMs.
    pub read_only: bool,
}

/// How long one part of a start took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Such as `process`, `load`, `disks`.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
}

/// Makes VMs.
#[async_trait]
pub trait Vmm: Debug + Send + Sync + 'static {
    /// Starts a VM; returns when its agent's channel can be connected to.
    ///
    /// # Errors
    /// When it cannot be started; nothing of it is left then.
    async fn start(&self, spec: VmSpec) -> Result<Arc<dyn Vm>, VmError>;

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
    async fn connect(&self) -> Result<Box<dyn ByteStream>, VmError>;
    /// Adds a disk.
    async fn attach(&self, disk: Disk) -> Result<(), VmError>;
    /// Takes a disk away, after the guest has let go of it.
    async fn detach(&self, serial: &str) -> Result<(), VmError>;
    /// Ends it at once; returns when nothing is left of it. Not an error when it has ended already.
    async fn kill(&self) -> Result<(), VmError>;
    /// Waits for its end, however it comes; returns at once, and the same, ever after.
    async fn wait(&self) -> VmExit;
    /// Memory that it costs this machine beyond the guest's own.
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

/// Why something about a VM failed.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    // The implementation of lib/vmm replaces this sketch.
}
