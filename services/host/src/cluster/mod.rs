//! The link to a cluster: with it, the daemon is the kubelet of every Pod that the scheduler has sent to this machine.
//!
//! ```text
//!            ┌ registration: the Host object, its Lease, address blocks
//!            ├ report: what is free of the machine, and what it is short of
//!  Cluster ──┤ certificates: who we are for each node, and for whoever connects to one
//!            ├ peers: routes to the Pods of other hosts
//!            ├ subnets: how Pods reach the outside, and resolve names
//!            └ pods: the watch ──▶ pod: one task per Pod ──▶ Host (runs it)
//!                                    │ sources  ConfigMaps, Secrets, claims, tokens; kept up to date
//!                                    │ node     the Node's status and Lease, the port of its kubelet
//!                                    └ status, events: what the cluster learns of the Pod
//! ```
//! What concerns a node is asked and said as that node, so that Kubernetes itself limits what a stolen machine may read
//! (Node authorizer, NodeRestriction). As the host we only see our Host, the Pods that carry its name, and Services.
//! When the API server is away, Pods go on; what is to be said is said when it is back.

mod certificates;
mod connection;
mod error;
mod events;
mod node;
mod peers;
mod pod;
mod pods;
mod registration;
mod report;
mod resizing;
mod sources;
mod status;
mod subnets;
mod telling;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::Store;
use kube::{Api, Client};
use monopod_api::{Accelerator, HostResources};
use monopod_hostnet::Outside;
use monopod_kubelet_http::Auth;
use monopod_podplan::plan::ClusterDns;
use tokio_util::sync::CancellationToken;

use crate::host::Host;

use certificates::Certificates;
pub use connection::Connection;
pub use error::ClusterError;
use registration::Block;
pub use report::machine_memory;
use subnets::Subnets;

/// The first port of nodes' kubelets: each address has a port of its own, so that it is the same after a restart.
const FIRST_PORT: u16 = 20_000;
/// Ports of nodes' kubelets; as many as a host has addresses at most.
pub const NODE_PORTS: (u16, u16) = (FIRST_PORT, FIRST_PORT + 4095);
/// The Service of the cluster's name servers: every distribution calls it so.
const DNS_SERVICE: (&str, &str) = ("kube-system", "kube-dns");

/// What the daemon is told of its place in a cluster.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// Name of its Host object.
    pub host_name: String,
    /// The failure domain, for a Host object that is made.
    pub zone: String,
    /// What names of nodes end in, where the Subnet says nothing: see [`monopod_policy::record::default_domain`].
    pub region: String,
    /// The address of this machine by which the API server reaches the ports of its nodes.
    pub address: IpAddr,
    /// Where certificates are kept.
    pub folder: PathBuf,
    /// Addresses of the cluster's name servers; found by their Service when empty.
    pub dns: Vec<IpAddr>,
    /// The domain of the cluster's Services.
    pub domain: String,
    /// How many certificates of nodes are made before their Pods come.
    pub certificates_ahead: usize,
    /// Whether Subnets with a NAT gateway have one here.
    pub nat: bool,
    /// What the machine has.
    pub facts: HostFacts,
}

/// What a machine says about itself.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// What it has for microVMs.
    pub capacity: HostResources,
    /// What runs its guests.
    pub accelerator: Option<Accelerator>,
    /// The kernel of new guests.
    pub guest_kernel: String,
}

/// A machine that is a Host of a cluster.
#[derive(Debug)]
pub struct Cluster {
    link: Arc<Link>,
}

/// What all Pods share.
struct Link {
    settings: ClusterSettings,
    /// As the host.
    client: Client,
    certificates: Certificates,
    services: Store<Service>,
    auth: Arc<Auth>,
    blocks: Vec<Block>,
    subnets: Subnets,
}

impl Link {
    /// The port of the kubelet of the node with an address; any for one that is not of this host.
    fn port_of(&self, node: &str) -> u16 {
        let address = monopod_policy::record::address_of(node);
        let mut addresses = self.blocks.iter().flat_map(|block| block.range.hosts());
        let place = addresses.position(|one| Some(IpAddr::from(one)) == address);
        place.and_then(|place| u16::try_from(place).ok()?.checked_add(FIRST_PORT)).unwrap_or(0)
    }

    /// How Pods of this machine reach the outside.
    fn outside(&self) -> Outside {
        let outside = self.subnets.outside(&self.blocks);
        if self.settings.nat { outside } else { Outside { nat: Vec::new(), ..outside } }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Registers the machine, and waits until it has addresses to give.
    ///
    /// # Errors
    /// When the API server refuses us; one that does not answer is waited for.
    pub async fn join(connection: Connection, settings: ClusterSettings) -> Result<Self, ClusterError> {
        let client = connection.client()?;
        let blocks = registration::register(&client, &settings).await?;
        tokio::spawn(registration::keep(client.clone(), settings.clone()));
        let services = sources::all_services(client.clone());
        let certificates = Certificates::open(connection, client.clone(), &settings)?;
        let auth = Arc::new(Auth::new(client.clone()));
        let subnets = Subnets::read(&client).await?;
        Ok(Self { link: Arc::new(Link { settings, client, certificates, services, auth, blocks, subnets }) })
    }

    /// Ranges of the addresses that this machine gives to Pods.
    pub fn blocks(&self) -> Vec<Ipv4Net> {
        self.link.blocks.iter().map(|block| block.range).collect()
    }

    /// The address of this machine, which is that of its nodes.
    pub fn address(&self) -> IpAddr {
        self.link.settings.address
    }

    /// How Pods reach the outside, as their Subnets say.
    pub fn outside(&self) -> Outside {
        self.link.outside()
    }

    /// Name resolution of Pods that use the cluster's.
    pub async fn dns(&self) -> Option<ClusterDns> {
        let settings = &self.link.settings;
        let servers = if settings.dns.is_empty() { self.dns_service().await } else { settings.dns.clone() };
        (!servers.is_empty()).then(|| ClusterDns { servers, domain: settings.domain.clone() })
    }

    async fn dns_service(&self) -> Vec<IpAddr> {
        let (namespace, name) = DNS_SERVICE;
        let service = Api::<Service>::namespaced(self.link.client.clone(), namespace).get_opt(name).await;
        match service {
            Ok(service) => {
                let addresses = service.and_then(|service| service.spec?.cluster_ips).unwrap_or_default();
                addresses.iter().filter_map(|address| address.parse::<Ipv4Addr>().ok()).map(IpAddr::from).collect()
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    error,
                    "the Service {namespace}/{name} cannot be read; Pods resolve names as this machine does"
                );
                Vec::new()
            }
        }
    }

    /// Is the kubelet of this machine's Pods until told to stop. Pods go on then.
    ///
    /// # Errors
    /// When the address blocks have changed, for which the daemon must start anew.
    pub async fn serve(self, host: Arc<Host>, stop: CancellationToken) -> Result<(), ClusterError> {
        let names = registration::node_names(&self.link.client, &self.link.settings).await?;
        let report = report::keep(self.link.client.clone(), self.link.settings.clone(), Arc::clone(&host));
        tokio::select! {
            () = pods::watch(Arc::clone(&self.link), Arc::clone(&host)) => Ok(()),
            () = certificates::keep(Arc::clone(&self.link), names) => Ok(()),
            () = peers::follow(Arc::clone(&self.link), Arc::clone(&host.machine.net)) => Ok(()),
            () = subnets::follow(Arc::clone(&self.link), Arc::clone(&host.machine.net)) => Ok(()),
            () = report => Ok(()),
            changed = registration::blocks_changed(&self.link.client, &self.link.settings, &self.link.blocks) => Err(changed),
            () = stop.cancelled() => Ok(()),
        }
    }
}
