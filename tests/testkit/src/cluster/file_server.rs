//! An NFS server beside a control plane, for volumes.

use std::net::SocketAddrV4;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::Cluster;
use super::inside::bound;
use super::parts::API_ADDRESS;
use super::process::Process;
use crate::nfs;

const PORT: u16 = 2049;

/// An NFS server in a cluster's network, which exports `/export`. Gone when dropped.
#[derive(Debug)]
pub struct FileServer {
    process: Process,
    folder: PathBuf,
}

impl FileServer {
    /// What it exports.
    pub fn export(&self) -> PathBuf {
        self.folder.join("export")
    }
}

impl Cluster {
    /// Starts one at the address of the API server.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn serve_files(&self) -> Result<FileServer> {
        let folder = self.folder().join("files");
        std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let mut command = bound("unshare".as_ref());
        command.args(["--mount", "sh", "-c", &nfs::server(&folder)?]);
        let mut server = FileServer { process: self.run_beside("nfs", command)?, folder };
        let address = SocketAddrV4::new(API_ADDRESS, PORT).into();
        self.wait_answers("the NFS server", address, &mut server.process).await?;
        Ok(server)
    }
}
