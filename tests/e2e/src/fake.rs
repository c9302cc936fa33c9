//! A daemon on a machine without guests. It runs in a runtime of its own, so that it can be killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use monopod_host::{Host, Parts, Settings, Socket};
use monopod_images::{Config, Images};
use monopod_testkit::disk;
use monopod_testkit::guest::FakeGuest;
use monopod_testkit::images::busybox;
use monopod_testkit::net::FakeNet;
use monopod_testkit::vmm::{FakeMachine, FakeVmm};
use monopod_vmm::VmId;
use monopod_volumes::{Owner, ScratchConfig, ScratchDisks};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Run};

/// A machine without guests, on which daemons come and go.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
    /// The VMs.
    pub machine: FakeMachine,
    /// An archive with the image `monopod.local/busybox:1`.
    pub archive: PathBuf,
    /// The network.
    pub net: FakeNet,
    /// Changes settings before a daemon starts.
    pub tune: fn(&mut Settings),
    /// The same for its images.
    pub tune_images: fn(&mut Config),
}

/// A daemon.
#[derive(Debug)]
pub struct Daemon {
    runtime: Option<Runtime>,
    stop: CancellationToken,
    /// Asks it.
    pub client: Client,
    /// Its network.
    pub net: Arc<FakeNet>,
}

impl Stage {
    /// An empty machine.
    ///
    /// # Errors
    /// When the image cannot be made.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let archive = folder.path().join("busybox.tar");
        std::fs::write(&archive, busybox()?.docker_archive()?)?;
        let (machine, net) = (FakeMachine::default(), FakeNet::new(100));
        Ok(Self { folder, machine, archive, net, tune: |_| {}, tune_images: |_| {} })
    }

    /// Folder for what outlives a daemon: `pods`, `logs`, `images`, `disks`.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Names of what lies in a folder below the root; none when there is no such folder.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.root().join(folder)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// What it takes to run a Pod of the archive's image.
    pub fn run(&self, pod: Value) -> Run {
        Run { pod, archives: vec![self.archive.clone()], ..Run::default() }
    }

    /// The guest of a Pod, also before it runs.
    pub fn guest(&self, uid: &str) -> FakeGuest {
        self.machine.guest(&VmId::new(uid).expect("tests give Pods proper UIDs"))
    }

    /// Starts a daemon.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn daemon(&self) -> Result<Daemon> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (root, run) = (self.root(), self.folder.path().join("run"));
        let net = Arc::new(self.net.clone());
        let mut settings = Settings::new(&root, &run);
        settings.shutdown_patience = Duration::from_secs(20);
        (self.tune)(&mut settings);
        let mut images = Config::new(root.join("images"));
        (self.tune_images)(&mut images);
        let parts = Parts {
            settings,
            vmm: Arc::new(FakeVmm::on(&self.machine)),
            net: Arc::<FakeNet>::clone(&net),
            images: Images::open(images)?,
            disks: ScratchDisks::open(ScratchConfig::new(root.join("disks")))?,
            disk_owner: Owner { uid: 0, gid: 0 },
        };
        let stop = CancellationToken::new();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let (folder, stopped) = (run.clone(), stop.clone());
        runtime.spawn(async move {
            let host = Host::open(parts).await.expect("the daemon opens");
            // A killed daemon's socket may still answer for a moment.
            let socket = loop {
                match Socket::bind(&folder).await {
                    Ok(socket) => break socket,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            let _ = ready.send(());
            let _ = socket.serve(host, stopped).await;
        });
        is_ready.await?;
        let client = Client::connect(&run).await?;
        Ok(Daemon { runtime: Some(runtime), stop, client, net })
    }
}

/// Runs a test on one thread, with its own view of mounts.
///
/// # Errors
/// The test's.
pub fn with_disks<F: Future<Output = Result<()>>>(test: impl FnOnce() -> F + Send) -> Result<()> {
    disk::with_mounts_of_its_own(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test())
    })
}

impl Daemon {
    /// How many tasks it is made of at present.
    pub fn tasks(&self) -> usize {
        self.runtime.as_ref().map_or(0, |runtime| runtime.metrics().num_alive_tasks())
    }

    /// Ends it as kill -9 would: nothing of it runs on, and it has no time to tidy up.
    pub fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
