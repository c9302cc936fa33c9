//! Monopod on a cluster: its objects and rights, a controller, and hosts on machines of their own.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::inside::bound;
use super::parts::{API_ADDRESS, DNS_SERVICE};
use super::process::Process;
use super::{BRIDGE, Cluster, ImageServer, Machine, keys};
use crate::netns::Namespace;
use crate::remains::{Remains, remove_at_end};

/// How long processes that were killed may hold their control group.
const GROUP_LIMIT: Duration = Duration::from_secs(10);
/// Where the controller's webhooks are, on the control plane's address.
const WEBHOOK_PORT: u16 = 9443;
/// Where it says how it fares.
pub const CONTROLLER_STATUS: SocketAddrV4 = SocketAddrV4::new(API_ADDRESS, 9440);
/// Where a host says how it fares, on its machine's address.
pub const HOST_STATUS_PORT: u16 = 9441;
/// The ServiceAccount that the controller runs under.
const CONTROLLER: &str = "system:serviceaccount:monopod-system:monopod-controller";

/// A host of a cluster: a machine, and the daemon on it. When it is dropped, its microVMs end, too.
#[derive(Debug)]
pub struct HostMachine {
    daemon: Option<Process>,
    name: String,
    zone: String,
    program: PathBuf,
    kubeconfig: PathBuf,
    registries: PathBuf,
    machine: Machine,
    root: Root,
    run: TempDir,
}

/// Where a host keeps things.
#[derive(Debug)]
enum Root {
    Own(TempDir),
    Kept(PathBuf),
}

impl Root {
    fn path(&self) -> &Path {
        match self {
            Self::Own(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }
}

/// What a host has for Pods, whatever the machine beneath really has.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// vCPU.
    pub cpu: u32,
    /// Memory in GiB.
    pub memory_gib: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { cpu: 8, memory_gib: 16 }
    }
}

impl Cluster {
    /// Applies what `deploy` has: kinds, namespace, rights.
    ///
    /// # Errors
    /// When the API server refuses something.
    pub async fn install_monopod(&self, deploy: &Path) -> Result<()> {
        let deploy = deploy.to_str().context("the path of deploy is text")?;
        self.kubectl(&["apply", "-k", deploy]).await?;
        let kinds = ["crd/fargateprofiles.monopod.dev", "crd/hosts.monopod.dev", "crd/subnets.monopod.dev"];
        self.kubectl(&[&["wait", "--for=condition=Established", "--timeout=60s"][..], &kinds].concat()).await?;
        Ok(())
    }

    /// Starts a controller beside the control plane, with the rights of its ServiceAccount.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_controller(&self, program: &Path, identity: &str) -> Result<Process> {
        self.start_controller_with(program, identity, &[])
    }

    /// The same with variables for its environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_controller_with(
        &self,
        program: &Path,
        identity: &str,
        environment: &[(&str, &str)],
    ) -> Result<Process> {
        let mut command = self.controller(program, identity, API_ADDRESS)?;
        let webhooks = SocketAddrV4::new(API_ADDRESS, WEBHOOK_PORT);
        command.args(["--webhook-url", &format!("https://{webhooks}")]).envs(environment.iter().copied());
        self.run_beside(&format!("controller-{identity}"), command)
    }

    /// Starts one of several replicas of the controller, with an address of its own. The API server finds them by the Service
    /// `monopod-webhook`, which is the caller's to make.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_replica(&self, program: &Path, identity: &str, address: Ipv4Addr) -> Result<Process> {
        // An address that is there already is the last replica's.
        let _ = self.namespace.run("ip", &["addr", "add", &format!("{address}/32"), "dev", BRIDGE]);
        let command = self.controller(program, identity, address)?;
        self.run_beside(&format!("controller-{identity}"), command)
    }

    fn controller(&self, program: &Path, identity: &str, address: Ipv4Addr) -> Result<Command> {
        let groups = ["system:serviceaccounts", "system:serviceaccounts:monopod-system"];
        let kubeconfig = self.kubeconfig_of(CONTROLLER, &groups)?;
        let mut command = bound(program);
        command.args(["controller", "--identity", identity]).arg("--kubeconfig").arg(kubeconfig);
        command.args(["--webhook-listen", &SocketAddrV4::new(address, WEBHOOK_PORT).to_string()]);
        command.args(["--status-listen", &SocketAddrV4::new(address, CONTROLLER_STATUS.port()).to_string()]);
        Ok(command)
    }

    /// Joins a machine and starts the host daemon on it. `number` is the end of the machine's address.
    ///
    /// # Errors
    /// When this machine does not let us.
    pub fn start_host(
        &self,
        program: &Path,
        number: u8,
        zone: &str,
        images: &ImageServer,
        capacity: Capacity,
    ) -> Result<HostMachine> {
        self.start_host_in(program, number, zone, images, capacity, None)
    }

    /// The same with a folder that keeps images and templates for the next time.
    ///
    /// # Errors
    /// When this machine does not let us.
    pub fn start_host_in(
        &self,
        program: &Path,
        number: u8,
        zone: &str,
        images: &ImageServer,
        capacity: Capacity,
        kept: Option<PathBuf>,
    ) -> Result<HostMachine> {
        let machine = self.join(number)?;
        let name = format!("host-{number}");
        let kubeconfig = self.kubeconfig_of(&format!("monopod:host:{name}"), &["monopod:hosts"])?;
        let registries = self.folder().join("keys/registries.yaml");
        keys::write(&registries, &images.settings())?;
        let root = match kept {
            Some(folder) => Root::Kept(folder),
            None => Root::Own(tempfile::Builder::new().prefix("monopod-host-").tempdir()?),
        };
        let run = tempfile::Builder::new().prefix("monopod-host-").tempdir_in("/run")?;
        // In this order: folders go when nobody works in them any more.
        remove_at_end(Remains::Group(&run.path().file_name().unwrap_or_default().to_string_lossy()))?;
        remove_at_end(Remains::Folder(run.path()))?;
        if let Root::Own(root) = &root {
            remove_at_end(Remains::Folder(root.path()))?;
        }
        let (zone, program) = (zone.to_owned(), program.to_owned());
        let mut host = HostMachine { daemon: None, name, zone, program, kubeconfig, registries, machine, root, run };
        host.start_daemon(self, capacity)?;
        Ok(host)
    }
}

/// The cluster's name server, as a Deployment of `kube-system` with its Service.
pub const COREDNS: &str = include_str!("manifests/coredns.yaml");
/// What `kubectl top` and autoscalers ask, as a Deployment of `kube-system` with its API.
pub const METRICS_SERVER: &str = include_str!("manifests/metrics-server.yaml");

impl HostMachine {
    /// Starts the daemon; one that was killed has left its folders and microVMs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_daemon(&mut self, cluster: &Cluster, capacity: Capacity) -> Result<()> {
        self.start_daemon_with(cluster, capacity, &[])
    }

    /// The same with variables for its environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_daemon_with(
        &mut self,
        cluster: &Cluster,
        capacity: Capacity,
        environment: &[(&str, &str)],
    ) -> Result<()> {
        let mut command = bound(&self.program);
        command.arg("host").arg("--kubeconfig").arg(&self.kubeconfig);
        command.args(["--host-name", &self.name, "--zone", &self.zone]);
        command.args(["--node-address", &self.machine.address().to_string()]);
        command.args(["--capacity-cpu", &capacity.cpu.to_string()]);
        command.args(["--capacity-memory", &format!("{}Gi", capacity.memory_gib), "--capacity-disk", "4000Gi"]);
        command.args(["--cluster-dns", DNS_SERVICE]);
        command.args(["--status-listen", &SocketAddrV4::new(self.machine.address(), HOST_STATUS_PORT).to_string()]);
        command.arg("--registries").arg(&self.registries);
        command.env("MONOPOD_ROOT", self.root.path()).env("MONOPOD_RUN", self.run.path()).env("NO_COLOR", "1");
        command.envs(environment.iter().copied());
        self.daemon = Some(self.machine.run(cluster, &self.name, command)?);
        Ok(())
    }

    /// Kills the daemon. Its microVMs go on.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill_daemon(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), |daemon| daemon.signal(Signal::SIGKILL))
    }

    /// Ends the daemon and all microVMs at once, as when the machine loses its power. It can be started again.
    pub fn lose_power(&mut self) {
        drop(self.daemon.take());
        // MicroVMs go on without their daemon. Each lies below the control group that is named after the run folder.
        let mark = format!("/{}/", self.run.path().file_name().unwrap_or_default().to_string_lossy());
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        for number in numbers {
            let cgroup = std::fs::read_to_string(format!("/proc/{number}/cgroup")).unwrap_or_default();
            if cgroup.contains(&mark) {
                // One that has ended meanwhile is gone, too.
                let _ = kill(Pid::from_raw(number), Signal::SIGKILL);
            }
        }
    }

    /// The daemon, while it runs.
    pub fn daemon(&mut self) -> Option<&mut Process> {
        self.daemon.as_mut()
    }

    /// The name of its Host object.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address of its machine.
    pub fn address(&self) -> Ipv4Addr {
        self.machine.address()
    }

    /// Its machine.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Gives the machine Services. kube-proxy works for a Node, so there is one for the machine that runs no Pods.
    ///
    /// # Errors
    /// When kube-proxy does not start.
    pub async fn give_services(&mut self, cluster: &Cluster) -> Result<()> {
        let node = format!("machine-of-{}", self.name);
        cluster.add_plain_node(&node, self.machine.address()).await?;
        cluster.start_proxy(&mut self.machine, &node).await
    }

    /// The network namespace of its machine.
    pub fn namespace(&self) -> &Namespace {
        self.machine.namespace()
    }

    /// The command line of this host, which asks its daemon.
    pub fn monopod(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("MONOPOD_ROOT", self.root.path()).env("MONOPOD_RUN", self.run.path());
        command.env("NO_COLOR", "1");
        command
    }
}

impl Drop for HostMachine {
    fn drop(&mut self) {
        self.lose_power();
        remove_groups(self.run.path());
    }
}

/// Removes the control groups of a daemon, once their processes are gone.
fn remove_groups(run: &Path) {
    let name = run.file_name().unwrap_or_default();
    let deadline = Instant::now() + GROUP_LIMIT;
    for controller in ["", "cpu", "memory", "cpu,cpuacct"] {
        let group = Path::new("/sys/fs/cgroup").join(controller).join(name);
        for group in std::fs::read_dir(&group).into_iter().flatten().flatten().map(|entry| entry.path()).chain([group])
        {
            while std::fs::remove_dir(&group).is_err_and(|error| error.raw_os_error() == Some(nix::libc::EBUSY))
                && Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
