//! The Pod's writable disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::mount::{MsFlags, mount};

use super::{PersonalizeError, system};
use crate::disks::find_disk;
use crate::paths::Paths;

/// Mounts the disk with that serial, or memory where there is none, and makes the folders on it.
pub(super) async fn mount_scratch(serial: &str, paths: &Paths) -> Result<(), PersonalizeError> {
    let what = "make the folders of the scratch disk";
    let target = paths.scratch();
    fs::create_dir_all(&target).map_err(system(what))?;
    let mounted = if serial.is_empty() {
        let failed = |source| PersonalizeError::MountScratch { device: "memory".into(), source };
        mount(Some("scratch"), &target, Some("tmpfs"), MsFlags::MS_NOATIME, Some("mode=0755")).map_err(failed)
    } else {
        let device = find_disk(serial).await?;
        // Inode tables are written when they are needed: the disk is a sparse file on the host.
        let options = Some("errors=remount-ro,noinit_itable");
        let outcome = mount(Some(&device), &target, Some("ext4"), MsFlags::MS_NOATIME, options);
        outcome.map_err(|source| PersonalizeError::MountScratch { device, source })
    };
    mounted?;
    for folder in [paths.layers(), paths.scratch_volumes(), paths.volumes(), paths.images(), paths.containers()] {
        fs::create_dir_all(&folder).map_err(system(what))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).map_err(system(what))?;
    }
    Ok(())
}
