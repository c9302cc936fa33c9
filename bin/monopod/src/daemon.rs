//! The way to the host daemon: where it is, connecting, and starting it where none answers.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use monopod_host_proto::v1::host_client::HostClient;
use monopod_host_proto::{MAX_MESSAGE, SOCKET_NAME};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::failure::Failure;

/// How long a daemon may take to answer after its start: it proves the accelerator by starting a guest, which takes a
/// while where there is no KVM.
const START_LIMIT: Duration = Duration::from_secs(180);
/// Between two looks whether it answers.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a daemon that a command has started stays without a Pod.
const IDLE_LIMIT: &str = "600";
/// Lines of its log that are shown when it does not start.
const LOG_LINES: usize = 8;

/// Speaks to the daemon.
pub(crate) type Client = HostClient<Channel>;

/// Where the daemon keeps things.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Folders {
    /// Folder of images, disks, templates, logs and records of Pods.
    #[arg(long, value_name = "DIR", env = "MONOPOD_ROOT", default_value = "/var/lib/monopod", global = true)]
    pub(crate) root: PathBuf,
    /// Folder of sockets and of what does not outlive the machine's next boot.
    #[arg(long, value_name = "DIR", env = "MONOPOD_RUN", default_value = "/run/monopod", global = true)]
    pub(crate) run: PathBuf,
}

impl Folders {
    fn socket(&self) -> PathBuf {
        self.run.join(SOCKET_NAME)
    }

    fn log(&self) -> PathBuf {
        self.run.join("host.log")
    }

    /// Connects to the daemon that is there.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let socket = self.socket();
        connect(&socket).await.map_err(|source| Failure::NoDaemon { socket, source })
    }

    /// Connects to the daemon; starts it first where none answers.
    pub(crate) async fn connect_or_start(&self) -> Result<Client, Failure> {
        match self.connect().await {
            Ok(client) => Ok(client),
            Err(_) => self.start().await,
        }
    }

    async fn start(&self) -> Result<Client, Failure> {
        let log = self.log();
        let start_failure =
            |source| Failure::Io { action: format!("failed to start the daemon (log {})", log.display()), source };
        std::fs::create_dir_all(&self.run).map_err(start_failure)?;
        let written = File::create(&log).map_err(start_failure)?;
        let mut child = self.spawn(written).map_err(start_failure)?;
        crate::terminal::note(&format!(
            "started the host daemon, process {}; its log is {}",
            child.id(),
            log.display()
        ));
        let started = Instant::now();
        loop {
            if let Ok(client) = self.connect().await {
                return Ok(client);
            }
            let ended = child.try_wait().map_err(start_failure)?;
            if ended.is_some() || started.elapsed() > START_LIMIT {
                return Err(Failure::DaemonEnded { log: log.clone(), words: last_lines(&log) });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// A daemon of its own process group, so that a Ctrl-C meant for us does not reach it.
    fn spawn(&self, log: File) -> io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("host")
            .args(["--exit-when-idle", IDLE_LIMIT])
            .arg("--root")
            .arg(&self.root)
            .arg("--run")
            .arg(&self.run);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
        command.process_group(0).spawn()
    }
}

async fn connect(socket: &Path) -> io::Result<Client> {
    let path = socket.to_path_buf();
    // The authority means nothing on a Unix socket, but HTTP wants one.
    let endpoint = Endpoint::from_static("http://host.monopod.invalid");
    let connector = service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // First by hand, for an error that says what the system said.
    UnixStream::connect(socket).await?;
    let channel = endpoint.connect_with_connector(connector).await.map_err(io::Error::other)?;
    Ok(HostClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
