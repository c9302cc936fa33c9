//! Image disks, each mounted once however many containers use it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use tokio::sync::Mutex;

use super::error::ContainerError;
use crate::disks::find_disk;
use crate::paths::Paths;
use crate::safe_path::join_name;

/// How long a disk may take to be ready, and the pause between two tries.
const DISK_PATIENCE: Duration = Duration::from_secs(10);
const DISK_PAUSE: Duration = Duration::from_millis(10);

/// The images that are mounted, by the serial of their disk.
#[derive(Debug)]
pub(super) struct Images {
    paths: Paths,
    mounted: Mutex<BTreeMap<String, PathBuf>>,
}

impl Images {
    pub(super) fn new(paths: Paths) -> Self {
        Self { paths, mounted: Mutex::default() }
    }

    /// Root folder of the image on that disk.
    pub(super) async fn root(&self, serial: &str) -> Result<PathBuf, ContainerError> {
        let mut mounted = self.mounted.lock().await;
        if let Some(root) = mounted.get(serial) {
            return Ok(root.clone());
        }
        let invalid = || ContainerError::Invalid { what: format!("invalid image serial {serial:?}") };
        // The path becomes part of mount options, which have their own ideas of commas and colons.
        if !serial.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return Err(invalid());
        }
        let root = join_name(&self.paths.images(), serial).map_err(|_| invalid())?;
        let disk = find_disk(serial).await?;
        fs::create_dir_all(&root).map_err(ContainerError::prepare("the image's mount point"))?;
        mount_ready(&disk, &root).await.map_err(ContainerError::mount("the image"))?;
        mounted.insert(serial.to_owned(), root.clone());
        Ok(root)
    }
}

/// Mounts an image. A disk that was plugged a moment ago has its file before the kernel knows its size; until then it
/// answers that there is no such device.
async fn mount_ready(disk: &Path, root: &Path) -> nix::Result<()> {
    let (none, begun): (Option<&str>, _) = (None, Instant::now());
    loop {
        match mount(Some(disk), root, Some("erofs"), MsFlags::MS_RDONLY | MsFlags::MS_NODEV, none) {
            Err(nix::errno::Errno::ENXIO) if begun.elapsed() < DISK_PATIENCE => tokio::time::sleep(DISK_PAUSE).await,
            result => return result,
        }
    }
}
