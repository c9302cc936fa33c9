//! Where the agent keeps things. Everything is below one tmpfs, but for what lies on the Pod's scratch disk.

use std::path::{Path, PathBuf};

/// The machine id, which is the Pod's own.
pub(crate) const MACHINE_ID: &str = "/etc/machine-id";

/// The folders of one guest. Those of the machine itself are constant; tests use others.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The folders of the real guest.
    #[must_use]
    pub fn system() -> Self {
        Self::below("/run/monopod")
    }

    /// The same folders below another one.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The tmpfs or folder that holds all of them.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The Pod's writable disk; without one a folder in memory.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Writable layers, a folder for each container.
    #[must_use]
    pub fn layers(&self) -> PathBuf {
        self.scratch().join("containers")
    }

    /// The contents of emptyDirs that are on disk.
    #[must_use]
    pub fn scratch_volumes(&self) -> PathBuf {
        self.scratch().join("volumes")
    }

    /// Mount points and folders of volumes that are not on the scratch disk.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Mount points of image disks.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// State of the container runtime and whatever else `containers` keeps.
    #[must_use]
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// The /dev/shm that all containers share.
    #[must_use]
    pub fn shm(&self) -> PathBuf {
        self.root.join("shm")
    }

    /// The Pod's /etc/hosts. Rewritten in place, since containers have it bound.
    #[must_use]
    pub fn hosts(&self) -> PathBuf {
        self.root.join("pod/hosts")
    }

    /// The Pod's /etc/resolv.conf. Rewritten in place.
    #[must_use]
    pub fn resolv_conf(&self) -> PathBuf {
        self.root.join("pod/resolv.conf")
    }

    /// The Pod's /etc/hostname.
    #[must_use]
    pub fn hostname(&self) -> PathBuf {
        self.root.join("pod/hostname")
    }
}
