//! An NFS server beside a control plane, for volumes.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, sleep};

use super::Cluster;
use super::inside::bound;
use super::parts::API_ADDRESS;
use super::process::Process;
use crate::nfs;

const PORT: u16 = 2049;
/// How long it may take to answer first.
const START: Duration = Duration::from_secs(30);

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
        let address = SocketAddr::from(SocketAddrV4::new(API_ADDRESS, PORT));
        let deadline = Instant::now() + START;
        while let Err(error) = self.connect(address).await {
            let runs = server.process.ended()?.is_none() && Instant::now() < deadline;
            ensure!(runs, "the NFS server does not answer: {error:#}; it said:\n{}", server.process.last_words());
            sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }
}
