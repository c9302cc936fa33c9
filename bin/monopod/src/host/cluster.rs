//! What `monopod host` is told of a cluster, and how it joins one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use monopod_api::{AcceleratorKind, HostResources};
use monopod_host::{Cluster, ClusterSettings, Connection, HostFacts, machine_memory};
use monopod_vmm_qemu::{Accelerator, Config};
use nix::sys::statvfs::statvfs;

use super::StartError;
use crate::service;

/// Memory that is left to the machine itself.
const RESERVED_MEMORY: u64 = 512 << 20;
/// Certificates of nodes that are made before their Pods come.
const CERTIFICATES_AHEAD: usize = 32;

/// The place of this machine in a cluster.
#[derive(Clone, Debug, Args)]
#[group(id = "cluster")]
pub(crate) struct ClusterArguments {
    /// Be the kubelet of a cluster's Pods: the kubeconfig of this host.
    #[arg(long, value_name = "FILE", env = "MONOPOD_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Name of the Host object of this machine [default: its host name].
    #[arg(long, value_name = "NAME", env = "MONOPOD_HOST_NAME", requires = "kubeconfig")]
    host_name: Option<String>,
    /// Failure domain of this machine, for the Host object that it makes.
    #[arg(long, env = "MONOPOD_ZONE", default_value = "zone-a")]
    zone: String,
    /// Region, as the controller is told.
    #[arg(long, env = "MONOPOD_REGION", default_value = "local")]
    region: String,
    /// Address of this machine by which the API server reaches the nodes' kubelets.
    #[arg(long, value_name = "ADDRESS", env = "MONOPOD_NODE_ADDRESS", requires = "kubeconfig")]
    node_address: Option<IpAddr>,
    /// Name servers of the cluster [default: the Service kube-system/kube-dns].
    #[arg(long, value_name = "ADDRESS", env = "MONOPOD_CLUSTER_DNS", value_delimiter = ',')]
    cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster's Services.
    #[arg(long, value_name = "DOMAIN", env = "MONOPOD_CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// vCPU for Pods [default: all that the machine has].
    #[arg(long, value_name = "COUNT", env = "MONOPOD_CAPACITY_CPU")]
    capacity_cpu: Option<u32>,
    /// Memory for Pods, such as 64Gi [default: all but 512 MiB].
    #[arg(long, value_name = "QUANTITY", env = "MONOPOD_CAPACITY_MEMORY")]
    capacity_memory: Option<String>,
    /// Disk for Pods and images, such as 500Gi [default: the size of the file system of --root].
    #[arg(long, value_name = "QUANTITY", env = "MONOPOD_CAPACITY_DISK")]
    capacity_disk: Option<String>,
}

impl ClusterArguments {
    /// Joins the cluster, if there is one. `nat` says whether Pods may have this machine's address towards the outside.
    pub(super) async fn join(&self, root: &Path, guests: &Config, nat: bool) -> Result<Option<Cluster>, StartError> {
        let Some(file) = &self.kubeconfig else { return Ok(None) };
        let address = self.node_address.ok_or(StartError::NoAddress)?;
        let config = service::read_kubeconfig(file).await?;
        let settings = ClusterSettings {
            host_name: self.host_name.clone().unwrap_or_else(service::host_name),
            zone: self.zone.clone(),
            region: self.region.clone(),
            address,
            folder: root.join("nodes"),
            dns: self.cluster_dns.clone(),
            domain: self.cluster_domain.clone(),
            certificates_ahead: CERTIFICATES_AHEAD,
            nat,
            facts: self.facts(root, guests),
        };
        let cluster = Cluster::join(Connection::new(config), settings).await?;
        Ok(Some(cluster))
    }

    fn facts(&self, root: &Path, guests: &Config) -> HostFacts {
        let cpu = self.capacity_cpu.map_or_else(
            || std::thread::available_parallelism().map_or(1, std::num::NonZero::get).to_string(),
            |cpu| cpu.to_string(),
        );
        let memory = self.capacity_memory.clone().unwrap_or_else(|| {
            machine_memory("MemTotal").unwrap_or_default().saturating_sub(RESERVED_MEMORY).to_string()
        });
        let disk = self.capacity_disk.clone().unwrap_or_else(|| disk(root).to_string());
        let (kind, proof) = match guests.accelerator {
            Accelerator::Kvm => (AcceleratorKind::Kvm, "a guest was started with it"),
            Accelerator::Tcg => (AcceleratorKind::Tcg, "no guest starts with KVM, or TCG was asked for"),
        };
        let proven_at = Some(Time(Timestamp::now()));
        HostFacts {
            capacity: HostResources { cpu: Quantity(cpu), memory: Quantity(memory), ephemeral_storage: Quantity(disk) },
            accelerator: Some(monopod_api::Accelerator { kind, proof: proof.to_owned(), proven_at }),
            guest_kernel: guests.guest.version.clone(),
        }
    }
}

/// Bytes of the file system of a folder.
fn disk(folder: &Path) -> u64 {
    statvfs(folder).map_or(0, |size| size.blocks().saturating_mul(size.fragment_size()))
}
