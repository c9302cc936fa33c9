//! The control group of one VM: limits of CPU time and memory, and who is in it. Both versions of control groups.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use monopod_types::{MiB, MilliCpu};
use monopod_vmm::VmError;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

/// Over which time CPU time is counted, in microseconds.
const PERIOD: u64 = 100_000;

/// How long ended processes may take to leave a group.
const LEAVING: Duration = Duration::from_secs(10);

/// Where control groups are on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// A tree for each controller.
    One,
    /// One tree.
    Two,
}

/// The control group of one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroup {
    version: Version,
    /// Its folder for each controller of version one (first `cpu`, then `memory`), the one of version two.
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// The group of a name below that of all VMs, whether it is there or not.
    pub(crate) fn named(parent: &str, name: &str) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        if root.join("cgroup.controllers").is_file() {
            return Self { version: Version::Two, folders: vec![root.join(parent).join(name)] };
        }
        let folder = |controller| root.join(controller).join(parent).join(name);
        Self { version: Version::One, folders: vec![folder("cpu"), folder("memory")] }
    }

    /// Takes the group of all VMs away, unless there is a VM in it.
    pub(crate) fn remove_parent(parent: &str) {
        for folder in Self::named(parent, "none").folders.iter().filter_map(|folder| folder.parent()) {
            // The system refuses while there are groups below.
            let _ = fs::remove_dir(folder);
        }
    }

    /// Makes it.
    pub(crate) fn create(&self, memory: MiB) -> Result<(), VmError> {
        for folder in &self.folders {
            let name = format!("make control group {}", folder.display());
            if self.version == Version::Two {
                self.delegate().map_err(VmError::host(name.clone()))?;
            }
            fs::create_dir_all(folder).map_err(VmError::host(name))?;
        }
        let (file, bytes) = match self.version {
            Version::One => ("memory.limit_in_bytes", memory.0 << 20),
            Version::Two => ("memory.max", memory.0 << 20),
        };
        self.write(self.folders.last(), file, &bytes.to_string())
    }

    /// In version two a group's children have the controllers that it passes on.
    fn delegate(&self) -> io::Result<()> {
        let Some(parent) = self.folders.first().and_then(|folder| folder.parent()) else { return Ok(()) };
        fs::create_dir_all(parent)?;
        for folder in [parent.parent().unwrap_or(parent), parent] {
            fs::write(folder.join("cgroup.subtree_control"), "+cpu +memory")?;
        }
        Ok(())
    }

    /// Caps its CPU time from now on.
    pub(crate) fn cap_cpu(&self, cpu: MilliCpu) -> Result<(), VmError> {
        let quota = (cpu.0.saturating_mul(PERIOD) / 1000).max(1000);
        match self.version {
            Version::One => {
                self.write(self.folders.first(), "cpu.cfs_period_us", &PERIOD.to_string())?;
                self.write(self.folders.first(), "cpu.cfs_quota_us", &quota.to_string())
            }
            Version::Two => self.write(self.folders.first(), "cpu.max", &format!("{quota} {PERIOD}")),
        }
    }

    fn write(&self, folder: Option<&PathBuf>, file: &str, value: &str) -> Result<(), VmError> {
        let Some(folder) = folder else { return Ok(()) };
        let path = folder.join(file);
        fs::write(&path, value).map_err(VmError::host(format!("write {value} to {}", path.display())))
    }

    /// The files to which a process writes `0` to join it.
    pub(crate) fn entrances(&self) -> Vec<PathBuf> {
        self.folders.iter().map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// Who is in it.
    fn members(&self) -> Vec<Pid> {
        let mut members = Vec::new();
        for entrance in self.entrances() {
            let text = fs::read_to_string(entrance).unwrap_or_default();
            members.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).map(Pid::from_raw));
        }
        members
    }

    /// Kills who is in it and takes it away. Bounded: what does not leave stays, and is told.
    pub(crate) async fn remove(&self) -> Result<(), VmError> {
        let give_up = Instant::now() + LEAVING;
        loop {
            for member in self.members() {
                // It may have ended by itself in between.
                let _ = kill(member, Signal::SIGKILL);
            }
            let Some((folder, error)) = self.remove_empty() else { return Ok(()) };
            if Instant::now() >= give_up {
                return Err(VmError::host(format!("remove control group {}", folder.display()))(error));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The first folder that cannot be removed now.
    fn remove_empty(&self) -> Option<(&PathBuf, io::Error)> {
        self.folders.iter().find_map(|folder| match fs::remove_dir(folder) {
            Ok(()) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some((folder, error)),
        })
    }
}
