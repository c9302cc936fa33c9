//! The Node of a microVM: the port of its kubelet, its status and its Lease.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use monopod_kubelet_http::{DECLARED_FEATURE, Limits, NodeConfig, NodeHandle, NodeServer};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::registration::renew;
use super::sources::patiently;
use super::{ClusterError, Link};
use crate::host::Host;
use crate::identity::PodName;
use crate::kubelet_api::NodeBackend;

/// The version of Kubernetes whose kubelet we stand for.
const KUBERNETES: &str = "v1.37.2";
/// Where the Leases of nodes are.
const LEASES: &str = "kube-node-lease";
/// Between renewals of a Lease; the kubelet's.
const RENEWAL: Duration = Duration::from_secs(10);
/// Between attempts at what failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves the port of a Pod's node, says that the node is ready, and renews its Lease, until it is dropped.
pub(super) async fn keep(link: Arc<Link>, client: Client, pod: Arc<Pod>, node: String, host: Arc<Host>) {
    let metadata = &pod.metadata;
    let name = PodName {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    };
    let uid = metadata.uid.clone().unwrap_or_default();
    let mut serving = loop {
        match serve(&link, &node, NodeBackend::new(Arc::clone(&host), name.clone(), uid.clone())).await {
            Ok(served) => break served,
            Err(error) => {
                tracing::warn!(node, error = &*error, "the port of a node is not served yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    let nodes = Api::<Node>::all(client.clone());
    let facts = NodeFacts {
        name: &node,
        address: link.settings.address,
        port: serving.port,
        guest_kernel: &link.settings.facts.guest_kernel,
        uid: &uid,
    };
    let said = loop {
        match say(&nodes, &facts).await {
            Ok(said) => break said,
            Err(error) => {
                tracing::warn!(node, error = &error as &dyn std::error::Error, "a node is not ready yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    let leases = Api::<Lease>::namespaced(client, LEASES);
    let mut ticks = tokio::time::interval(RENEWAL);
    // The node has just been heard of, so the first is not needed before its start is over.
    ticks.reset();
    loop {
        tokio::select! {
            _ = ticks.tick() => if let Err(error) = renew(&leases, &node, &node, Some(owner(&said))).await {
                tracing::warn!(node, error = &error as &dyn std::error::Error, "the Lease of a node was not renewed");
            },
            Ok(()) = serving.tls.changed() => serving.handle.set_tls(Arc::clone(&serving.tls.borrow_and_update())),
        }
    }
}

/// A node's port, which is served until this is dropped.
struct Serving {
    port: u16,
    handle: NodeHandle,
    tls: watch::Receiver<Arc<ServerConfig>>,
    _stop: DropGuard,
}

async fn serve(
    link: &Link,
    node: &str,
    backend: NodeBackend,
) -> Result<Serving, Box<dyn std::error::Error + Send + Sync>> {
    let mut tls = link.certificates.serving(node).await?;
    let listen = SocketAddr::new(link.settings.address, link.port_of(node));
    let first = Arc::clone(&tls.borrow_and_update());
    let config = NodeConfig { name: node.to_owned(), listen, tls: first, limits: Limits::default() };
    let server = NodeServer::bind(config, Arc::clone(&link.auth), Arc::new(backend)).await?;
    let (port, handle, stop) = (server.address().port(), server.handle(), CancellationToken::new());
    tokio::spawn(server.run(stop.clone()));
    Ok(Serving { port, handle, tls, _stop: stop.drop_guard() })
}

async fn say(nodes: &Api<Node>, facts: &NodeFacts<'_>) -> Result<Node, ClusterError> {
    let status = Patch::Strategic(facts.status(Timestamp::now()));
    let params = PatchParams::default();
    let said = patiently(|| nodes.patch_status(facts.name, &params, &status)).await;
    said.map_err(ClusterError::asking(format!("write the status of Node {}", facts.name)))
}

/// What there is to say of a node.
#[derive(Clone, Debug)]
struct NodeFacts<'a> {
    /// Its name.
    name: &'a str,
    /// The address of its kubelet.
    address: IpAddr,
    /// The port of its kubelet.
    port: u16,
    /// The kernel of guests.
    guest_kernel: &'a str,
    /// The Pod's uid, which the machine is known by.
    uid: &'a str,
}

impl NodeFacts<'_> {
    /// The patch of its status.
    fn status(&self, now: Timestamp) -> Value {
        let hostname = self.name.strip_prefix(monopod_api::names::NODE_NAME_PREFIX).unwrap_or(self.name);
        let version = format!("{KUBERNETES}-monopod-{}", env!("CARGO_PKG_VERSION"));
        json!({"status": {
            "addresses": [
                {"type": "InternalIP", "address": self.address},
                {"type": "Hostname", "address": hostname},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
            "declaredFeatures": [DECLARED_FEATURE],
            "nodeInfo": {
                "architecture": architecture(),
                "bootID": "",
                "containerRuntimeVersion": format!("monopod://{}", env!("CARGO_PKG_VERSION")),
                "kernelVersion": self.guest_kernel,
                "kubeProxyVersion": "",
                "kubeletVersion": version,
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "Monopod microVM",
                "systemUUID": self.uid,
            },
            "conditions": [
                condition("MemoryPressure", false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available", now),
                condition("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure", now),
                condition("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available", now),
                condition("Ready", true, "KubeletReady", "kubelet is posting ready status", now),
            ],
        }})
    }
}

/// The name of this machine's processor, as Kubernetes has it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn condition(kind: &str, is_true: bool, reason: &str, message: &str, now: Timestamp) -> Value {
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
    json!({
        "type": kind, "status": if is_true { "True" } else { "False" }, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    })
}

/// By which the Lease of a node goes with it.
fn owner(node: &Node) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.name_any(),
        uid: node.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }
}
