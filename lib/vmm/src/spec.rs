//! What a VM is asked to be.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use monopod_types::{MiB, MilliCpu, PodUid};

use crate::VmError;

/// Most characters in the serial of a disk.
pub const MAX_SERIAL: usize = 36;

/// Most characters in the name of a VM.
const MAX_ID: usize = 63;

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

impl VmId {
    /// Takes 1 to 63 letters, digits, `-` and `_`, of which the first is a letter or digit: fit for the name of a folder.
    ///
    /// # Errors
    /// When the text is not such a name.
    pub fn new(text: impl Into<String>) -> Result<Self, VmError> {
        let text = text.into();
        let fits = (1..=MAX_ID).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if fits { Ok(Self(text)) } else { Err(VmError::InvalidSpec { what: format!("name {text:?} of a microVM") }) }
    }

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&PodUid> for VmId {
    type Error = VmError;

    fn try_from(uid: &PodUid) -> Result<Self, VmError> {
        Self::new(uid.as_str())
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl VmSpec {
    /// Whether it can be made at all; called by implementations before they begin.
    ///
    /// # Errors
    /// Names the part that cannot be.
    pub fn check(&self) -> Result<(), VmError> {
        let invalid = |what: String| Err(VmError::InvalidSpec { what });
        if self.cpu == MilliCpu::ZERO || self.cpu.0 > 255_000 {
            return invalid(format!("cpu {}", self.cpu));
        }
        if self.memory < MiB(64) || self.memory > MiB(1 << 20) {
            return invalid(format!("memory {}", self.memory));
        }
        for (at, disk) in self.disks.iter().enumerate() {
            disk.check()?;
            if self.disks.iter().take(at).any(|other| other.serial == disk.serial) {
                return invalid(format!("two disks with serial {}", disk.serial));
            }
        }
        Ok(())
    }

    /// How many CPUs the guest sees.
    #[must_use]
    pub fn vcpus(&self) -> u64 {
        self.cpu.0.div_ceil(1000)
    }
}

impl Disk {
    /// Whether its serial can be one.
    ///
    /// # Errors
    /// When it is empty, too long or has other characters than letters, digits and `-`.
    pub fn check(&self) -> Result<(), VmError> {
        let serial = &self.serial;
        let fits = (1..=MAX_SERIAL).contains(&serial.len())
            && serial.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if fits { Ok(()) } else { Err(VmError::InvalidSpec { what: format!("serial {serial:?} of a disk") }) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Disk, MiB, MilliCpu, VmId, VmSpec};

    fn disk(serial: &str) -> Disk {
        Disk { serial: serial.to_owned(), path: "/disk".into(), read_only: true }
    }

    fn spec(milli: u64, disks: Vec<Disk>) -> VmSpec {
        let id = VmId::new("web").unwrap();
        VmSpec { id, cpu: MilliCpu(milli), memory: MiB(512), tap: None, disks }
    }

    #[test]
    fn a_name_is_fit_for_a_folder() {
        for good in ["a", "0c6e6a2e-6f0b-4a0e-9d7e-0f6d2f0f5b1c", "web_1"] {
            assert_eq!(VmId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "-a", "_a", "a b", "ä", &"x".repeat(64)] {
            assert_eq!(VmId::new(bad).unwrap_err().reason(), "InvalidVmSpec", "{bad}");
        }
    }

    #[test]
    fn a_fraction_of_a_cpu_is_a_whole_one_for_the_guest() {
        for (milli, vcpus) in [(1, 1), (250, 1), (1000, 1), (1001, 2), (16_000, 16)] {
            assert_eq!(spec(milli, vec![]).vcpus(), vcpus);
        }
    }

    #[test]
    fn serials_are_unique_and_well_formed() {
        assert!(spec(250, vec![disk("root-1"), disk("root-2")]).check().is_ok());
        for bad in [vec![disk("same"), disk("same")], vec![disk("")], vec![disk("a,b")], vec![disk(&"x".repeat(37))]] {
            assert_eq!(spec(250, bad).check().unwrap_err().reason(), "InvalidVmSpec");
        }
        assert!(spec(0, vec![]).check().is_err());
    }
}
