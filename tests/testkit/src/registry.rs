//! A real registry for a test: Debian's `docker-registry`, on a port of the loopback of its own, gone when dropped; in
//! front of it, if wanted, a server that demands logins or spoils answers.

mod front;
mod http;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::images::{Stored, StoredImage};

pub use front::{Asked, Door, Fault, Front, LOGIN};
use http::request;

/// How long a registry may take to answer first.
const START: Duration = Duration::from_secs(30);

/// Certificate and key of a registry, and who may come in.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
    /// Who signs the clients' certificates, if they need one.
    pub clients: Option<PathBuf>,
}

/// A registry that runs.
#[derive(Debug)]
pub struct TestRegistry {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl TestRegistry {
    /// Starts one without TLS.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start() -> Result<Self> {
        Self::start_with(None).await
    }

    /// Starts one, with TLS if wanted.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_with(tls: Option<&Tls>) -> Result<Self> {
        Self::start_over(None, tls).await
    }

    /// Starts one that keeps its images in a folder, where they stay.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_in(data: &Path) -> Result<Self> {
        Self::start_over(Some(data), None).await
    }

    async fn start_over(data: Option<&Path>, tls: Option<&Tls>) -> Result<Self> {
        // Somebody may take the port before the registry does.
        let mut said = String::new();
        for _ in 0..5 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to find a port")?;
            let address = listener.local_addr().context("failed to find a port")?;
            drop(listener);
            let folder = tempfile::tempdir().context("failed to make a folder for a registry")?;
            let own = folder.path().join("data");
            let config = config(data.unwrap_or(&own), &address.to_string(), tls);
            let child = spawn(&folder, &config)?;
            let mut registry = Self { child, address, folder };
            if registry.is_up().await? {
                return Ok(registry);
            }
            said = registry.log();
        }
        bail!("no registry could be started: {said}")
    }

    /// `127.0.0.1:PORT`, as image names have it.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Pushes an image under a repository and a tag.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub async fn push(&self, repository: &str, tag: &str, image: &StoredImage) -> Result<()> {
        for blob in image.layers.iter().chain([&image.config]) {
            self.push_blob(repository, blob).await?;
        }
        self.push_manifest(repository, tag, image.media_type, &image.manifest).await
    }

    /// Pushes a manifest or an index under a tag or its digest.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub async fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &Stored) -> Result<()> {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let answer = request(self.address, "PUT", &path, &[("Content-Type", media_type)], &manifest.bytes).await?;
        ensure!(answer.status == 201, "the registry refused a manifest: {}", answer.text());
        Ok(())
    }

    async fn push_blob(&self, repository: &str, blob: &Stored) -> Result<()> {
        let answer = request(self.address, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[]).await?;
        let location = answer.header("location").with_context(|| format!("no upload: {}", answer.text()))?;
        // It is an absolute URL or a path.
        let path = location.strip_prefix("http://").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
        let path = path.unwrap_or(location);
        let and = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{and}digest={}", blob.digest);
        let kind = [("Content-Type", "application/octet-stream")];
        let answer = request(self.address, "PUT", &path, &kind, &blob.bytes).await?;
        ensure!(answer.status == 201, "the registry refused a blob: {}", answer.text());
        Ok(())
    }

    /// Whether it answers; false when it has ended, since another one has its port.
    async fn is_up(&mut self) -> Result<bool> {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if self.child.try_wait().context("failed to wait for the registry")?.is_some() {
                return Ok(false);
            }
            if tokio::net::TcpStream::connect(self.address).await.is_ok() {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the registry did not answer within {START:?}: {}", self.log())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// The configuration of a registry.
pub(crate) fn config(data: &Path, address: &str, tls: Option<&Tls>) -> String {
    let tls = tls.map_or_else(String::new, |tls| {
        let clients = tls.clients.as_ref().map_or_else(String::new, |file| format!("    clientcas: [{file:?}]\n"));
        format!("  tls:\n    certificate: {:?}\n    key: {:?}\n{clients}", tls.certificate, tls.key)
    });
    format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {data:?}\nhttp:\n  addr: {address}\n{tls}"
    )
}

fn spawn(folder: &TempDir, config: &str) -> Result<Child> {
    let path = |name: &str| folder.path().join(name);
    fs::write(path("config.yml"), config).context("failed to write the registry's configuration")?;
    let log = fs::File::create(path("log")).context("failed to make the registry's log")?;
    // Should the test be killed, the registry goes with it.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "docker-registry", "serve"]).arg(path("config.yml"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().context("failed to start docker-registry (Debian package docker-registry)")
}
