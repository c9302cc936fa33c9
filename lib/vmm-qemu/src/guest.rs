//! The guest image on disk: a folder with kernel, initial file system and what they are.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use monopod_vmm::VmError;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// What guests are booted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial file system.
    pub initrd: PathBuf,
    /// Version of both, as it is shown on the node.
    pub version: String,
    /// What the kernel is told.
    pub kernel_parameters: String,
}

/// Quiet but for a panic, upon which it restarts at once, which ends it. The timer check fails at times when the machine
/// is busy.
const KERNEL_PARAMETERS: &str = "console=hvc0 quiet panic=-1 no_timer_check";

/// The part of guest.json that matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    version: String,
    kernel_command_line: Option<String>,
}

impl Guest {
    /// Reads a folder as `cargo xtask guest` makes it: `vmlinuz`, `initrd` and `guest.json`.
    ///
    /// # Errors
    /// When the description cannot be read.
    pub fn read(folder: &Path) -> Result<Self, VmError> {
        // What the folder's name leads to now; a newer image may take that name later.
        let name = format!("read the guest image {}", folder.display());
        let folder = fs::canonicalize(folder).map_err(VmError::host(name.clone()))?;
        let text = fs::read(folder.join("guest.json")).map_err(VmError::host(name.clone()))?;
        let description: Description =
            serde_json::from_slice(&text).map_err(|error| VmError::host(name)(io::Error::from(error)))?;
        let (kernel, initrd) = (folder.join("vmlinuz"), folder.join("initrd"));
        let kernel_parameters = description.kernel_command_line.unwrap_or_else(|| KERNEL_PARAMETERS.to_owned());
        Ok(Self { kernel, initrd, version: description.version, kernel_parameters })
    }

    /// Tells one guest from every other: its version, and which files it is made of.
    pub(crate) fn fingerprint(&self) -> Result<String, VmError> {
        let mut hash = Sha256::new();
        hash.update(&self.version);
        for path in [&self.kernel, &self.initrd] {
            let about = fs::metadata(path).map_err(VmError::host(format!("find {}", path.display())))?;
            hash.update(format!("\n{} {} {}", about.len(), about.mtime(), about.mtime_nsec()));
        }
        Ok(hex::encode(hash.finalize()))
    }
}
