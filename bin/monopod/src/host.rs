//! `monopod host`: the daemon that runs the Pods of this machine.

mod cluster;
mod ready;
mod resolver;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use ipnet::Ipv4Net;
use monopod_host::{Cluster, ClusterError, Host, HostError, NODE_PORTS, Parts, Settings, Socket, SocketError};
use monopod_host_proto::v1::InfoRequest;
use monopod_hostnet::{NetConfig, NetError, Outside, RoutedNet};
use monopod_images::{ImageError, Images, Registries};
use monopod_types::GiB;
use monopod_vmm::VmError;
use monopod_vmm_qemu::{Accelerator, Config, Guest, JailCommand, QemuVmm, Users, probe};
use monopod_volumes::{Owner, ScratchConfig, ScratchDisks, ScratchError};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Exit;
use crate::daemon::Folders;
use crate::service::{self, KubeconfigUnusable};

use cluster::ClusterArguments;
use ready::Greeting;

/// Between two looks whether there is a Pod.
const IDLE_LOOK: Duration = Duration::from_secs(5);
/// Where the guest image is looked for when nothing is said, below the home folder and on the machine.
const GUEST_PLACES: [&str; 2] = ["/usr/lib/monopod/guest", "/usr/local/lib/monopod/guest"];

/// Run the host daemon: the kubelet of the Pods of this machine.
///
/// It ends orderly at SIGTERM or Ctrl-C. Pods do not end with it: their microVMs go on, and the next daemon adopts them.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    folders: Folders,
    #[command(flatten)]
    guests: Guests,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Addresses that Pods get, as a block. In a cluster the controller decides.
    #[arg(long, value_name = "CIDR", env = "MONOPOD_POD_CIDR", default_value_t = default_block())]
    pod_cidr: Ipv4Net,
    /// Do not let Pods reach the outside under this machine's address.
    #[arg(long)]
    no_egress: bool,
    /// How registries are reached: mirrors, TLS, see docs/images.md.
    #[arg(long, value_name = "FILE", env = "MONOPOD_REGISTRIES")]
    registries: Option<PathBuf>,
    /// The name servers of Pods [default: /etc/resolv.conf, or what systemd-resolved asks]. Those on the loopback are left out.
    #[arg(long, value_name = "FILE", env = "MONOPOD_RESOLV_CONF")]
    resolv_conf: Option<PathBuf>,
    /// Where /livez, /readyz and /metrics are; nowhere if not given.
    #[arg(long, value_name = "ADDRESS", env = "MONOPOD_STATUS_LISTEN")]
    status_listen: Option<SocketAddr>,
    /// End after so many seconds without a running Pod.
    #[arg(long, value_name = "SECONDS")]
    exit_when_idle: Option<u64>,
}

/// What guests are started with.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Guests {
    /// Folder with the guest image [default: /usr/lib/monopod/guest, else ~/.cache/monopod/guest/current].
    #[arg(long, value_name = "DIR", env = "MONOPOD_GUEST")]
    guest: Option<PathBuf>,
    /// The QEMU program.
    #[arg(long, value_name = "FILE", env = "MONOPOD_QEMU", default_value = "/usr/bin/qemu-system-x86_64")]
    qemu: PathBuf,
    /// What runs guests; auto takes KVM where it proves to work.
    #[arg(long, value_enum, env = "MONOPOD_ACCELERATOR", default_value_t = AcceleratorChoice::Auto)]
    accelerator: AcceleratorChoice,
    /// How many VMM processes wait with a template loaded; each makes one start quicker and costs about 35 MiB.
    #[arg(long, value_name = "COUNT", env = "MONOPOD_SPARES", default_value_t = 1)]
    spares: usize,
    /// Boot every guest, instead of restoring it from a template; starts take several times as long.
    #[arg(long, env = "MONOPOD_NO_TEMPLATES")]
    no_templates: bool,
}

/// A choice of what runs guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcceleratorChoice {
    /// What a probe finds: it starts a guest.
    Auto,
    /// The machine's own virtualization.
    Kvm,
    /// Translation by QEMU.
    Tcg,
}

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("there is no guest image in {}; make one with `cargo xtask guest`, or name its folder with --guest", shown(.0))]
    NoGuest(Vec<PathBuf>),
    #[error(transparent)]
    Vmm(#[from] VmError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Images(#[from] ImageError),
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigUnusable),
    #[error("with --kubeconfig, --node-address is needed: the address by which the API server reaches this machine")]
    NoAddress,
    #[error("{action}")]
    Io { action: String, source: std::io::Error },
}

fn default_block() -> Ipv4Net {
    NetConfig::default().blocks.first().copied().unwrap_or_else(|| Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0))
}

fn shown(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(" or ")
}

/// Runs the subcommand, until it is told to end.
pub(crate) async fn run(arguments: Arguments) -> Exit {
    service::start_log();
    match serve(arguments).await {
        Ok(()) => Exit::Success,
        Err(error) => {
            crate::terminal::error(&error);
            Exit::Failed
        }
    }
}

async fn serve(arguments: Arguments) -> Result<(), StartError> {
    let Folders { root, run } = arguments.folders.clone();
    for folder in [&root, &run] {
        make_folder(folder)?;
    }
    // First, so that a second daemon ends before it touches anything of the first.
    let socket = Socket::bind(&run).await?;
    let config = arguments.guests.config(&root, &run).await?;
    let owner = Owner { uid: config.users.first, gid: config.users.first };
    let cluster = arguments.cluster.join(&root, &config, !arguments.no_egress).await?;
    let net = arguments.network(cluster.as_ref());
    let mut images = monopod_images::Config::new(root.join("images"));
    if let Some(file) = &arguments.registries {
        images.registries = Registries::read(file)?;
    }
    let mut settings = Settings::new(&root, &run);
    settings.plan.dns.host = Some(resolver::read(arguments.resolv_conf.as_deref())?);
    if let Some(cluster) = &cluster {
        settings.plan.dns.cluster = cluster.dns().await;
        settings.node_addresses = vec![cluster.address()];
    }
    let vmm = Arc::new(QemuVmm::new(config).await?);
    let parts = Parts {
        settings,
        vmm: Arc::<QemuVmm>::clone(&vmm),
        net: Arc::new(RoutedNet::open(net).await?),
        images: Images::open(images)?,
        disks: ScratchDisks::open(ScratchConfig {
            reserve: GiB(1).into(),
            ..ScratchConfig::new(root.join("scratch"))
        })?,
        disk_owner: owner,
    };
    let host = Host::open(parts).await?;
    let stop = CancellationToken::new();
    tokio::spawn(service::until_told(stop.clone()));
    if let Some(address) = arguments.status_listen {
        let failed = |source| StartError::Io { action: format!("failed to listen on {address}"), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        tokio::spawn(monopod_host::serve_status(Arc::clone(&host), listener, stop.clone()));
    }
    if let Some(seconds) = arguments.exit_when_idle {
        tokio::spawn(until_idle(arguments.folders, Duration::from_secs(seconds), stop.clone()));
    }
    tracing::info!(root = %root.display(), "the host daemon is ready");
    let of_cluster = async {
        let Some(cluster) = cluster else { return Ok(()) };
        let served = cluster.serve(Arc::clone(&host), stop.clone()).await;
        stop.cancel();
        served
    };
    let (served, of_cluster) = tokio::join!(socket.serve(Arc::clone(&host), stop.clone()), of_cluster);
    host.close().await;
    vmm.close().await;
    served?;
    Ok(of_cluster?)
}

impl Arguments {
    /// Addresses of Pods and how they reach others.
    fn network(&self, cluster: Option<&Cluster>) -> NetConfig {
        let Some(cluster) = cluster else {
            let nobody = Outside { nat: Vec::new(), direct: Vec::new() };
            let outside = if self.no_egress { nobody } else { Outside::default() };
            return NetConfig { blocks: vec![self.pod_cidr], outside, ..NetConfig::default() };
        };
        NetConfig {
            blocks: cluster.blocks(),
            outside: cluster.outside(),
            inbound: true,
            host_ports: Some(NODE_PORTS),
            ..NetConfig::default()
        }
    }
}

fn make_folder(folder: &Path) -> Result<(), StartError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| StartError::Io { action: format!("failed to make {}", folder.display()), source })
}

impl Guests {
    /// What the VMM has to be told; the accelerator is found out.
    pub(crate) async fn config(&self, root: &Path, run: &Path) -> Result<Config, StartError> {
        let mut config = self.prepared(root, run)?;
        config.accelerator = match self.asked() {
            Some(accelerator) => accelerator,
            None => probe::probe(&config, false).await?.accelerator()?,
        };
        Ok(config)
    }

    /// The accelerator that the user insists on.
    pub(crate) fn asked(&self) -> Option<Accelerator> {
        match self.accelerator {
            AcceleratorChoice::Auto => None,
            AcceleratorChoice::Kvm => Some(Accelerator::Kvm),
            AcceleratorChoice::Tcg => Some(Accelerator::Tcg),
        }
    }

    /// What the VMM has to be told, but for the accelerator.
    pub(crate) fn prepared(&self, root: &Path, run: &Path) -> Result<Config, StartError> {
        let program = std::env::current_exe()
            .map_err(|source| StartError::Io { action: "failed to find our own program".to_owned(), source })?;
        Ok(Config {
            qemu: self.qemu.clone(),
            guest: Guest::read(&self.guest_folder()?)?,
            accelerator: Accelerator::Tcg,
            state: root.to_path_buf(),
            run: run.join("vms"),
            cgroup: control_group(run),
            jail: JailCommand { program, arguments: vec![crate::JAIL_COMMAND.to_owned()] },
            users: Users::default(),
            templates: !self.no_templates,
            keep_templates: 16,
            spares: self.spares,
            allowance: monopod_vmm_qemu::Allowance::default(),
            limits: monopod_vmm_qemu::Limits::default(),
            ready: Arc::new(Greeting),
        })
    }

    fn guest_folder(&self) -> Result<PathBuf, StartError> {
        if let Some(folder) = &self.guest {
            return Ok(folder.clone());
        }
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
        let places: Vec<PathBuf> = GUEST_PLACES
            .iter()
            .map(PathBuf::from)
            .chain(cache.map(|cache| cache.join("monopod/guest/current")))
            .collect();
        let found = places.iter().find(|place| place.join("guest.json").is_file()).cloned();
        found.ok_or(StartError::NoGuest(places))
    }
}

/// Name of the control group of all microVMs; daemons with other folders have other groups.
fn control_group(run: &Path) -> String {
    let parts: Vec<_> = run.iter().skip(1).map(|part| part.to_string_lossy()).filter(|part| part != "run").collect();
    if parts.is_empty() { "monopod".to_owned() } else { parts.join("-") }
}

/// Asks for the end once no Pod has run for a while.
async fn until_idle(folders: Folders, limit: Duration, stop: CancellationToken) {
    let mut busy = Instant::now();
    while busy.elapsed() < limit {
        tokio::time::sleep(IDLE_LOOK.min(limit)).await;
        let Ok(mut client) = folders.connect().await else { continue };
        match client.info(InfoRequest {}).await {
            Ok(info) if info.get_ref().running == 0 => {}
            Ok(_) | Err(_) => busy = Instant::now(),
        }
    }
    tracing::info!("no Pod has run for a while; the daemon ends, and the next command starts another");
    stop.cancel();
}
