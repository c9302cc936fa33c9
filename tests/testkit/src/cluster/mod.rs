//! A real Kubernetes control plane for tests and the demo: etcd, kube-apiserver, kube-controller-manager and
//! kube-scheduler, in a network namespace and a folder of their own.
//!
//! It is set up as clusters are: everybody has a certificate of their own, authorization is by Node and RBAC,
//! NodeRestriction is on, nobody is anonymous, kubelets are verified, APIs can be aggregated, and certificate requests are
//! signed. What is missing are kubelets: [`Cluster::join`] connects the namespace of a machine, [`Cluster::start_proxy`]
//! gives it Services, and [`Cluster::plain_nodes`] plays nodes that run nothing.
//!
//! When a [`Cluster`] is dropped, or its process dies, everything is gone. [`with_cluster`] says what the parts logged when
//! a test fails.

mod access;
mod file_server;
mod image_server;
mod inside;
mod keys;
mod monopod;
mod nodes;
mod parts;
mod process;
mod programs;
mod status;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;
use kube::Client;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::netns::Namespace;
use crate::remains::{Remains, remove_at_end};

pub use file_server::FileServer;
pub use image_server::ImageServer;
use inside::{Inside, bound};
pub use monopod::{CONTROLLER_STATUS, COREDNS, Capacity, HOST_STATUS_PORT, HostMachine, METRICS_SERVER};
pub use nodes::{Machine, PlainNodes};
pub use parts::{API_ADDRESS, API_PORT, API_SERVICE, CLUSTER_DOMAIN, DNS_SERVICE, Part, SERVICE_RANGE};
use parts::{KUBELET_CLIENT, Keys, arguments};
pub use process::Process;
pub use programs::program;

/// Prefix length of the network that machines are attached to.
const MACHINES_PREFIX: u8 = 16;
/// The bridge by which they are attached.
const BRIDGE: &str = "machines";

/// How long a server beside it may take to answer first.
const SERVER_START: Duration = Duration::from_secs(30);

/// How a cluster is to be.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether etcd waits until its data is on the disk.
    pub fsync: bool,
    /// Where keys, data and logs are put; in a folder of `/tmp`, removed at the end, if not given.
    pub folder: Option<PathBuf>,
    /// Whether every request to the API server is written to [`Cluster::audit_log`], without bodies.
    pub audit: bool,
    /// Further arguments of parts.
    pub arguments: Vec<(Part, String)>,
}

/// A control plane that runs.
pub struct Cluster {
    // Dropped in this order: first what runs, then where it ran.
    parts: BTreeMap<Part, Process>,
    inside: Inside,
    namespace: Namespace,
    client: Client,
    keys: Keys,
    admin: PathBuf,
    options: Options,
    folder: Folder,
}

#[derive(Debug)]
enum Folder {
    Given(PathBuf),
    Own(TempDir),
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let namespace = self.namespace.name();
        f.debug_struct("Cluster").field("namespace", &namespace).field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Own(folder) => folder.path(),
        }
    }
}

impl Cluster {
    /// Starts a control plane and waits until Pods can be made.
    ///
    /// # Errors
    /// When a part is not built, does not start, or does not become ready; what it said stands in the error.
    pub async fn start(options: Options) -> Result<Self> {
        let folder = match &options.folder {
            Some(path) => Folder::Given(path.clone()),
            None => {
                let folder = tempfile::Builder::new().prefix("monopod-cluster-").tempdir()?;
                remove_at_end(Remains::Folder(folder.path()))?;
                Folder::Own(folder)
            }
        };
        for name in ["keys", "data", "logs", "home"] {
            let path = folder.path().join(name);
            fs::create_dir_all(&path).with_context(|| format!("failed to make {}", path.display()))?;
        }
        let namespace = Namespace::new()?;
        let (address, bridge) = (format!("{API_ADDRESS}/{MACHINES_PREFIX}"), BRIDGE);
        for arguments in [
            &["link", "add", bridge, "type", "bridge"][..],
            &["addr", "add", &address, "dev", bridge],
            &["link", "set", bridge, "up"],
        ] {
            namespace.run("ip", arguments)?;
        }
        let inside = Inside::enter(namespace.name())?;
        let keys = Keys::write(&folder.path().join("keys"))?;
        let admin = keys.kubeconfig("admin", "kubernetes-admin", &["system:masters"])?;
        let client = access::client(&inside, &admin).await?;
        let parts = BTreeMap::new();
        let mut cluster = Self { parts, inside, namespace, client, keys, admin, options, folder };
        cluster.boot().await?;
        Ok(cluster)
    }

    async fn boot(&mut self) -> Result<()> {
        if self.options.audit {
            let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n";
            keys::write(&self.audit_policy(), policy)?;
        }
        self.spawn(Part::Etcd)?;
        self.spawn(Part::ApiServer)?;
        self.wait_ready().await?;
        self.spawn(Part::ControllerManager)?;
        self.spawn(Part::Scheduler)?;
        status::let_api_server_ask_kubelets(&self.client, KUBELET_CLIENT).await?;
        self.wait_for("Pods can be made", status::pods_can_be_made).await
    }

    /// A client of an administrator; it connects from inside the cluster's network, so it works in any thread.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The same of another user, authenticated by a certificate.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub async fn client_of(&self, user: &str, groups: &[&str]) -> Result<Client> {
        self.client_from(&self.kubeconfig_of(user, groups)?).await
    }

    /// The same of the user whom a kubeconfig names.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client_from(&self, kubeconfig: &Path) -> Result<Client> {
        access::client(&self.inside, kubeconfig).await
    }

    /// A kubeconfig of an administrator. Its server is reached from the cluster's namespace and from machines that joined.
    pub fn kubeconfig(&self) -> &Path {
        &self.admin
    }

    /// A kubeconfig of any user, with a new certificate.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn kubeconfig_of(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        self.keys.kubeconfig(&user.replace([':', '/'], "-"), user, groups)
    }

    /// The certificate of who signs everybody's certificates, as PEM.
    pub fn authority(&self) -> &str {
        self.keys.cluster.certificate()
    }

    /// Where the control plane runs.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The folder of keys, data and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One line of JSON for each stage of each request to the API server; needs [`Options::audit`].
    pub fn audit_log(&self) -> PathBuf {
        self.folder().join("logs/audit.log")
    }

    /// Connects to an address as seen from the control plane.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        self.inside.connect(address).await
    }

    /// What a plain HTTP server has at a path, as seen from the control plane: code and text.
    ///
    /// # Errors
    /// When nobody answers, or not in HTTP.
    pub async fn page(&self, server: SocketAddr, path: &str) -> Result<(u16, String)> {
        let mut stream = self.connect(server).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, text) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
        let code = head.split(' ').nth(1).context("an answer has a code")?;
        Ok((code.parse()?, text.to_owned()))
    }

    /// Runs kubectl as an administrator; its output.
    ///
    /// # Errors
    /// When it fails.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with(arguments, "").await
    }

    /// The same with an input, such as a manifest.
    ///
    /// # Errors
    /// When it fails.
    pub async fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.kubectl_output(&self.admin, arguments, input).await?;
        access::checked(&format!("kubectl {}", arguments.join(" ")), &output)
    }

    /// Runs kubectl as the user of a kubeconfig to its end, however that is.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn kubectl_output(&self, kubeconfig: &Path, arguments: &[&str], input: &str) -> Result<Output> {
        let command = access::piped(self.kubectl_command(kubeconfig, arguments)?);
        access::finish(self.inside.spawn(command)?, input).await
    }

    /// Starts kubectl and lets it run, such as `logs --follow`; its output is in the log `NAME`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn kubectl_running(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        self.run_beside(name, self.kubectl_command(&self.admin, arguments)?)
    }

    fn kubectl_command(&self, kubeconfig: &Path, arguments: &[&str]) -> Result<Command> {
        let mut command = bound(&program("kubeplane", "kubectl")?);
        command.env("KUBECONFIG", kubeconfig).env("HOME", self.folder().join("home")).args(arguments);
        Ok(command)
    }

    /// Starts a program in the cluster's namespace. It ends with the returned value, or with the cluster's process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run_beside(&self, name: &str, command: Command) -> Result<Process> {
        Process::start(&self.inside, name, command, &self.logs())
    }

    /// Waits until a server that was started beside the cluster takes connections.
    async fn wait_answers(&self, name: &str, address: SocketAddr, server: &mut Process) -> Result<()> {
        let deadline = Instant::now() + SERVER_START;
        while let Err(error) = self.connect(address).await {
            let runs = server.ended()?.is_none() && Instant::now() < deadline;
            ensure!(runs, "{name} does not answer: {error:#}; it said:\n{}", server.last_words());
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The process of a part; none while it is stopped.
    pub fn part(&self, part: Part) -> Option<&Process> {
        self.parts.get(&part)
    }

    /// Ends a part in good order.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&mut self, part: Part) -> Result<()> {
        match self.parts.remove(&part) {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// Ends a part without giving it time.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&mut self, part: Part) -> Result<()> {
        self.parts.remove(&part).map_or(Ok(()), |process| process.signal(Signal::SIGKILL))
    }

    /// Starts a part that was stopped or killed. Who needs it ready waits, for instance by [`Self::wait_ready`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&mut self, part: Part) -> Result<()> {
        let mut command = bound(&program("kubeplane", part.program())?);
        command.args(arguments(part, &self.keys, &self.folder().join("data"), self.options.fsync));
        if part == Part::ApiServer && self.options.audit {
            command.arg(format!("--audit-policy-file={}", self.audit_policy().display()));
            command.arg(format!("--audit-log-path={}", self.audit_log().display()));
        }
        command.args(self.options.arguments.iter().filter(|(of, _)| *of == part).map(|(_, argument)| argument));
        let process = self.run_beside(part.program(), command)?;
        self.parts.insert(part, process);
        Ok(())
    }

    /// Waits until the API server says that it is ready.
    ///
    /// # Errors
    /// When it does not, or a part ends; what it said stands in the error.
    pub async fn wait_ready(&mut self) -> Result<()> {
        self.wait_for("the API server is ready", status::is_ready).await
    }

    async fn wait_for<F>(&mut self, what: &str, condition: impl Fn(Client) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        let client = self.client.clone();
        status::wait_for(what, &mut self.parts, || condition(client.clone())).await
    }

    /// Memory of all parts, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.parts.values().map(Process::resident_kib).sum()
    }

    fn logs(&self) -> PathBuf {
        self.folder().join("logs")
    }

    fn audit_policy(&self) -> PathBuf {
        self.folder().join("keys/audit.yaml")
    }

    /// Routes of a machine's Pods, for who calls them from the control plane: webhooks, kubelets, aggregated APIs.
    ///
    /// # Errors
    /// When the machine does not let us.
    pub fn route(&self, range: Ipv4Net, machine: Ipv4Addr) -> Result<()> {
        self.namespace.run("ip", &["route", "replace", &range.to_string(), "via", &machine.to_string()])?;
        Ok(())
    }
}

/// Runs a test with a cluster. When it fails, by an error or a panic, the last words of all parts are told.
///
/// # Errors
/// When the cluster does not start, or the test says so.
pub async fn with_cluster<T>(options: Options, test: impl AsyncFnOnce(&mut Cluster) -> Result<T>) -> Result<T> {
    let mut cluster = Cluster::start(options).await?;
    let words = status::LastWords::of(&cluster.logs());
    let result = test(&mut cluster).await;
    if result.is_ok() {
        words.forget();
    }
    result
}
