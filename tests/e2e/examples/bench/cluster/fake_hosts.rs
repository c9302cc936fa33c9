//! Hosts of a cluster in one process: all real but for their VMM, network and guests.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use monopod_api::HostResources;
use monopod_host::{Cluster, ClusterSettings, Connection, Host, HostFacts, Parts, Settings};
use monopod_images::Images;
use monopod_testkit::net::FakeNet;
use monopod_testkit::vmm::FakeVmm;
use monopod_volumes::{Owner, ScratchConfig, ScratchDisks};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::scale::certificates_ahead;

/// Runs a host for each kubeconfig until it is killed.
pub(crate) async fn run(folder: &Path, kubeconfigs: Vec<PathBuf>) -> Result<()> {
    let images = Images::open(monopod_images::Config::new(folder.join("images")))?;
    images.import_archive(&folder.join("busybox.tar"), |_| {}).await?;
    let mut hosts = JoinSet::new();
    for (number, kubeconfig) in (1..).zip(kubeconfigs) {
        hosts.spawn(host(number, folder.to_owned(), kubeconfig, images.clone()));
    }
    let ended = hosts.join_next().await.context("there are hosts")?;
    ended?.context("a host ended")
}

async fn host(number: u8, folder: PathBuf, kubeconfig: PathBuf, images: Images) -> Result<()> {
    let name = format!("fake-{number}");
    let root = folder.join(&name);
    std::fs::create_dir_all(&root)?;
    let address = IpAddr::from(Ipv4Addr::new(10, 95, 0, number));
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let cluster = Cluster::join(Connection::new(config), settings(name, address, &root)).await?;
    let block = *cluster.blocks().first().context("a host has a block")?;
    let mut settings = Settings::new(&root, root.join("run"));
    settings.node_addresses = vec![address];
    let parts = Parts {
        settings,
        vmm: Arc::new(FakeVmm::new()),
        net: Arc::new(FakeNet::in_block(block)),
        images,
        disks: ScratchDisks::open(ScratchConfig::new(root.join("disks")))?,
        disk_owner: Owner { uid: 0, gid: 0 },
    };
    let host = Host::open(parts).await?;
    Ok(cluster.serve(host, CancellationToken::new()).await?)
}

fn settings(host_name: String, address: IpAddr, root: &Path) -> ClusterSettings {
    let amount = |text: &str| Quantity(text.to_owned());
    ClusterSettings {
        host_name,
        zone: "zone-a".to_owned(),
        region: "local".to_owned(),
        address,
        folder: root.join("nodes"),
        dns: vec![IpAddr::from(Ipv4Addr::new(10, 96, 0, 10))],
        domain: "cluster.local".to_owned(),
        certificates_ahead: certificates_ahead(),
        nat: true,
        facts: HostFacts {
            capacity: HostResources { cpu: amount("64"), memory: amount("256Gi"), ephemeral_storage: amount("8000Gi") },
            accelerator: None,
            guest_kernel: "none".to_owned(),
        },
    }
}
