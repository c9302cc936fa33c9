//! Volumes that begin empty: a folder on the scratch disk, or memory.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use monopod_agent_proto::v1;
use nix::mount::{MsFlags, mount};

/// Makes the folder, and mounts a tmpfs on it where it is to lie in memory. Everybody may write, as in a kubelet's.
pub(super) fn make(root: &Path, wanted: &v1::EmptyDir) -> io::Result<()> {
    fs::create_dir_all(root)?;
    if wanted.in_memory {
        let options = match wanted.size_limit {
            0 => "mode=0777".to_owned(),
            limit => format!("mode=0777,size={limit}"),
        };
        mount(Some("tmpfs"), root, Some("tmpfs"), MsFlags::MS_NOATIME, Some(options.as_str()))?;
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o777))
}
