//! A real NFS server, nfs-ganesha, over a folder.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Prepares a server that exports the folder `export` below `folder` as `/export`; the shell script that becomes it. It wants a mount
/// namespace of its own, since it keeps its state in `/var/lib/nfs`.
///
/// # Errors
/// When files cannot be written.
pub fn server(folder: &Path) -> Result<String> {
    let export = folder.join("export");
    fs::create_dir_all(&export).with_context(|| format!("failed to make {}", export.display()))?;
    let configuration = format!(
        "NFS_CORE_PARAM {{ Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; }}\n\
         NFSV4 {{ Graceless = true; Minor_Versions = 1, 2; }}\n\
         EXPORT {{ Export_Id = 1; Path = {export}; Pseudo = /export; Access_Type = RW; Squash = None; SecType = sys; \
         Protocols = 4; Transports = TCP; FSAL {{ Name = VFS; }} }}\n",
        export = export.display(),
    );
    let file = folder.join("server.conf");
    fs::write(&file, configuration).with_context(|| format!("failed to write {}", file.display()))?;
    Ok(format!(
        "mount -t tmpfs state /var/lib/nfs && mkdir /var/lib/nfs/ganesha && \
         exec ganesha.nfsd -F -f {0}/server.conf -L {0}/log -p {0}/pid",
        folder.display(),
    ))
}
