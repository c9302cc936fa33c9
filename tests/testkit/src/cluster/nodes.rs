//! What is beside a control plane: machines attached to its network, and nodes that run nothing.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tokio::net::TcpStream;

use super::inside::{Inside, bound};
use super::parts::{API_ADDRESS, SERVICE_RANGE};
use super::process::Process;
use super::{BRIDGE, Cluster, MACHINES_PREFIX, keys, program};
use crate::netns::Namespace;

/// The network namespace of a machine on the cluster's network. It must not outlive the cluster, which holds the bridge.
#[derive(Debug)]
pub struct Machine {
    proxy: Option<Process>,
    inside: Inside,
    namespace: Namespace,
    address: Ipv4Addr,
}

/// Nodes without machines, which say of every Pod that it runs: KWOK. Gone when dropped.
#[derive(Debug)]
pub struct PlainNodes {
    process: Process,
}

impl Machine {
    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Connects to an address as seen from the machine.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        self.inside.connect(address).await
    }

    /// Starts a program on the machine, its log beside those of the cluster.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, cluster: &Cluster, name: &str, command: std::process::Command) -> Result<Process> {
        Process::start(&self.inside, name, command, &cluster.logs())
    }
}

impl PlainNodes {
    /// What KWOK said last.
    pub fn last_words(&self) -> String {
        self.process.last_words()
    }
}

impl Cluster {
    /// Makes the namespace of a machine and attaches it. `number` is the end of its address, from 2 on.
    ///
    /// # Errors
    /// When this machine does not let us.
    pub fn join(&self, number: u8) -> Result<Machine> {
        let namespace = Namespace::new()?;
        let [a, b, c, _] = API_ADDRESS.octets();
        let address = Ipv4Addr::new(a, b, c, number);
        let (port, with_prefix) = (format!("machine{number}"), format!("{address}/{MACHINES_PREFIX}"));
        let peer = ["peer", "name", "eth0", "netns", namespace.name()];
        self.namespace.run("ip", &[&["link", "add", &*port, "type", "veth"][..], &peer].concat())?;
        self.namespace.run("ip", &["link", "set", &port, "master", BRIDGE, "up"])?;
        namespace.run("ip", &["addr", "add", &with_prefix, "dev", "eth0"])?;
        namespace.run("ip", &["link", "set", "eth0", "up"])?;
        namespace.run("ip", &["route", "add", "default", "via", &API_ADDRESS.to_string()])?;
        namespace.run("sysctl", &["-q", "-w", "net.ipv4.ip_forward=1"])?;
        let inside = Inside::enter(namespace.name())?;
        Ok(Machine { proxy: None, inside, namespace, address })
    }

    /// Gives a machine Services, by a kube-proxy with nftables, and waits until it says that it is healthy. `node` is the
    /// Node for which it works; while that does not exist or has no address, kube-proxy waits half a minute for it.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_proxy(&self, machine: &mut Machine, node: &str) -> Result<()> {
        let kubeconfig = self.kubeconfig_of("system:kube-proxy", &["system:node-proxier"])?;
        let mut command = bound(&program("kubeplane", "kube-proxy")?);
        command.arg(format!("--kubeconfig={}", kubeconfig.display()));
        command.arg(format!("--hostname-override={node}"));
        command.arg(format!("--nodeport-addresses={}/32", machine.address));
        command.args([
            "--proxy-mode=nftables",
            "--detect-local-mode=InterfaceNamePrefix",
            "--pod-interface-name-prefix=mp",
        ]);
        // The kernel's table of connections is the whole machine's, not the namespace's.
        command.args(["--conntrack-max-per-core=0", "--conntrack-min=0", "--conntrack-tcp-timeout-established=0s"]);
        command.args(["--conntrack-tcp-timeout-close-wait=0s", "--metrics-bind-address=127.0.0.1:10249"]);
        command.args(["--healthz-bind-address=127.0.0.1:10256"]);
        let name = format!("kube-proxy-{}", machine.address);
        let mut process = machine.run(self, &name, command)?;
        let deadline = tokio::time::Instant::now() + super::status::PATIENCE;
        while !has_services(&machine.namespace) {
            if let Some(how) = process.ended()? {
                anyhow::bail!("kube-proxy ended with {how}; it said:\n{}", process.last_words());
            }
            let late = tokio::time::Instant::now() > deadline;
            anyhow::ensure!(!late, "kube-proxy wrote no rules; it said:\n{}", process.last_words());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        machine.proxy = Some(process);
        Ok(())
    }

    /// Plays plain nodes, so that other Pods have somewhere to run: every Node that carries the annotation
    /// `kwok.x-k8s.io/node` is Ready, and so is every Pod on it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn plain_nodes(&self) -> Result<PlainNodes> {
        let stages = self.folder().join("keys/plain-nodes.yaml");
        keys::write(&stages, include_str!("plain-nodes.yaml"))?;
        let mut command = bound(&program("kwok", "kwok")?);
        command.arg(format!("--config={}", stages.display()));
        command.arg(format!("--kubeconfig={}", self.kubeconfig().display()));
        command.args(["--manage-all-nodes=false", "--node-lease-duration-seconds=40"]);
        command.arg("--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake");
        command.env("HOME", self.folder().join("home"));
        Ok(PlainNodes { process: self.run_beside("kwok", command).context("failed to start KWOK")? })
    }
}

impl Cluster {
    /// Makes a Node that [`Self::plain_nodes`] plays.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn add_plain_node(&self, name: &str, address: Ipv4Addr) -> Result<()> {
        let resources = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
        let node: Node = serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
            },
            "status": {
                "addresses": [{"type": "InternalIP", "address": address}],
                "allocatable": resources,
                "capacity": resources,
            },
        }))?;
        let made = Api::all(self.client()).create(&PostParams::default(), &node).await;
        made.map(drop).with_context(|| format!("failed to make the Node {name}"))
    }
}

/// Whether kube-proxy has written the rules of the Service `kubernetes`.
fn has_services(namespace: &Namespace) -> bool {
    let rules = namespace.run("nft", &["list", "table", "ip", "kube-proxy"]).unwrap_or_default();
    rules.contains(super::API_SERVICE) && rules.contains(SERVICE_RANGE)
}
