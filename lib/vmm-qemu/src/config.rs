//! What a [`QemuVmm`](crate::QemuVmm) has to be told.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use monopod_types::{MiB, MilliCpu};
use monopod_vmm::{ByteStream, VmError};

use crate::guest::Guest;

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Accelerator {
    /// The machine's own virtualization.
    Kvm,
    /// Translation in the VMM; works everywhere and is slower.
    Tcg,
}

/// What a [`QemuVmm`](crate::QemuVmm) has to be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The QEMU program.
    pub qemu: PathBuf,
    /// What guests are booted from.
    pub guest: Guest,
    /// What runs guests; see [`probe`](crate::probe).
    pub accelerator: Accelerator,
    /// Folder that survives a restart of the machine: templates.
    pub state: PathBuf,
    /// Folder that does not: one folder per VM. A tmpfs, such as below /run.
    pub run: PathBuf,
    /// Name of the control group below which each VM has one.
    pub cgroup: String,
    /// How the jail is entered.
    pub jail: JailCommand,
    /// The users that VMs run as.
    pub users: Users,
    /// Restore VMs from templates, instead of booting each.
    pub templates: bool,
    /// How many templates are kept; the one longest unused goes first.
    pub keep_templates: usize,
    /// How many processes are kept waiting with a template loaded, for the shapes used last. Each costs the VMM's own
    /// memory and makes one start quicker.
    pub spares: usize,
    /// What a VM may use beyond what the guest was sold.
    pub allowance: Allowance,
    /// How long things may take.
    pub limits: Limits,
    /// Says whether a guest that was booted to become a template has come up.
    pub ready: Arc<dyn Ready>,
}

/// The program that calls [`jail::main`](crate::jail::main) when it is started with these arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JailCommand {
    /// The program, as a rule our own.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// The users that VMs run as, one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Users {
    /// The first one's number, for user and group alike.
    pub first: u32,
    /// How many there are, and so how many VMs at once.
    pub places: u32,
}

/// What a VM may use beyond what the guest was sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Memory of the VMM process.
    pub memory: MiB,
    /// CPU time of the VMM process, for the devices.
    pub cpu: MilliCpu,
    /// For so long after its first instruction a VM may use whole CPUs, before its CPU time is capped: what a guest does
    /// then is mostly the start of its agent and containers, which a cap of a fraction would make several times longer.
    pub start: Duration,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The start of a VM, with the making of its template.
    pub start: Duration,
    /// A guest's boot until its agent answers.
    pub boot: Duration,
    /// One command to the VMM.
    pub command: Duration,
    /// Saving or loading a template.
    pub transfer: Duration,
    /// A guest's consent to a disk being taken away.
    pub detach: Duration,
}

/// Says whether a guest has come up: talks to the agent over its channel.
#[async_trait]
pub trait Ready: fmt::Debug + Send + Sync + 'static {
    /// Returns once the agent has answered.
    ///
    /// # Errors
    /// [`VmError::NotReady`] when it answers something wrong. Time is the caller's business.
    async fn ready(&self, stream: Box<dyn ByteStream>) -> Result<(), VmError>;
}

impl Accelerator {
    /// As QEMU calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Default for Users {
    fn default() -> Self {
        Self { first: 20_000_000, places: 4096 }
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Self { memory: MiB(256), cpu: MilliCpu(20), start: Duration::from_secs(2) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(300),
            boot: Duration::from_secs(180),
            command: Duration::from_secs(30),
            transfer: Duration::from_secs(60),
            detach: Duration::from_secs(10),
        }
    }
}
