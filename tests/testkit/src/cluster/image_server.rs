//! The registry of a cluster's images: Debian's `docker-registry` over the folder that `cargo xtask kubeplane` filled.

use std::net::{SocketAddr, SocketAddrV4};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::inside::bound;
use super::parts::API_ADDRESS;
use super::process::Process;
use super::programs::cache_folder;
use super::{Cluster, keys};
use crate::registry::config;

const PORT: u16 = 5000;

/// A registry in a cluster's network, without TLS, to which nothing can be pushed. Gone when dropped.
#[derive(Debug)]
pub struct ImageServer {
    process: Process,
}

impl ImageServer {
    /// Where it listens, for the cluster and its machines.
    pub fn address(&self) -> SocketAddr {
        SocketAddrV4::new(API_ADDRESS, PORT).into()
    }

    /// Settings of the host daemon's images with which the names `monopod.local/…` are found here.
    pub fn settings(&self) -> String {
        format!(
            "registries:\n  monopod.local:\n    mirrors:\n      - url: http://{}\n    mirrorsOnly: true\n",
            self.address()
        )
    }
}

impl Cluster {
    /// Serves the images that clusters run: busybox, web, agnhost, coredns, metrics-server and python.
    ///
    /// # Errors
    /// When they are not there, or the registry does not start.
    pub async fn serve_images(&self) -> Result<ImageServer> {
        let images = cache_folder()?.join("images/registry");
        let missing = || format!("there is no {}; run `cargo xtask kubeplane`", images.display());
        let images = images.canonicalize().with_context(missing)?;
        let path = self.folder().join("keys/registry.yml");
        let address = format!("{API_ADDRESS}:{PORT}");
        keys::write(&path, &config(&images, &address, None))?;
        let mut command: Command = bound("docker-registry".as_ref());
        command.arg("serve").arg(&path).env("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{enabled: true}");
        let mut server = ImageServer { process: self.run_beside("registry", command)? };
        let address = server.address();
        self.wait_answers("the registry", address, &mut server.process).await?;
        Ok(server)
    }
}
