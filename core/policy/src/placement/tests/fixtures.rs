//! Builders that read as sentences.

use k8s_openapi::api::core::v1::Pod;
use monopod_types::{GiB, HostName, MiB, MilliCpu, ProfileName, SubnetName, Zone};
use serde_json::{Value, json};

use super::model::subnet_names;
use crate::placement::{
    AddressBlock, Cluster, CommonLabels, Host, Placement, PodRequest, ProfileRules, Refusal, Resources, Subnet,
};

pub(super) fn resources(vcpu: u64, gib: u64) -> Resources {
    Resources { cpu: MilliCpu(vcpu * 1000), memory: MiB(gib * 1024), disk: GiB(20) }
}

pub(super) fn common() -> CommonLabels {
    CommonLabels { region: "north".to_owned(), architecture: "amd64".to_owned() }
}

/// A ready host of 16 vCPU, 64 GiB and 1000 GiB of disk.
pub(super) fn host(name: &str, zone: &str, subnets: &[&str]) -> Host {
    Host {
        name: HostName::from(name),
        zone: Zone::from(zone),
        subnets: subnet_names(subnets),
        unschedulable: false,
        ready: true,
        total: Resources { disk: GiB(1000), ..resources(16, 64) },
    }
}

pub(super) fn subnet(name: &str, zone: &str, cidr: &str) -> Subnet {
    Subnet { name: SubnetName::from(name), zone: Zone::from(zone), cidr: cidr.parse().unwrap() }
}

pub(super) fn block(network: &str, subnet: &str, host: &str, addresses: u32) -> AddressBlock {
    let network = network.parse().unwrap();
    AddressBlock { network, subnet: SubnetName::from(subnet), host: HostName::from(host), addresses }
}

pub(super) fn profile(subnets: &[&str]) -> ProfileRules {
    ProfileRules { name: ProfileName::from("shop"), subnets: subnet_names(subnets) }
}

/// Two zones, `a` with hosts a1 and a2, `b` with hosts b1 and b2; a subnet per zone and 14 addresses per host.
pub(super) fn two_zones() -> Cluster {
    let mut cluster = Cluster::new(common());
    cluster.upsert_subnet(subnet("private-a", "a", "10.0.1.0/24"));
    cluster.upsert_subnet(subnet("private-b", "b", "10.0.2.0/24"));
    for (name, zone, network) in [
        ("a1", "a", "10.0.1.0/28"),
        ("a2", "a", "10.0.1.16/28"),
        ("b1", "b", "10.0.2.0/28"),
        ("b2", "b", "10.0.2.16/28"),
    ] {
        let subnet = format!("private-{zone}");
        cluster.upsert_host(host(name, zone, &[&subnet]));
        cluster.upsert_block(block(network, &subnet, name, 14));
    }
    cluster
}

/// A Pod with the label `app`, in namespace `shop`, and the given `spec`.
pub(super) fn pod(name: &str, app: &str, spec: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": app}},
        "spec": spec,
    }))
    .unwrap()
}

/// The Pod as a request of 1 vCPU and 2 GiB for the profile `shop` over all subnets.
pub(super) fn request(pod: &Pod) -> PodRequest {
    PodRequest::parse(pod, profile(&[]), resources(1, 2)).unwrap()
}

/// Places a Pod of `spec` and books it.
pub(super) fn run(cluster: &mut Cluster, name: &str, app: &str, spec: &Value) -> Result<Placement, Refusal> {
    let request = request(&pod(name, app, spec));
    let placement = cluster.place(&request)?;
    cluster.book(request, placement.booking());
    Ok(placement)
}

/// Books a plain Pod on a host that [`two_zones`] has.
pub(super) fn run_on(cluster: &mut Cluster, host: &str, name: &str, app: &str) {
    let placement = run(cluster, name, app, &json!({"nodeSelector": {"monopod.dev/host": host}})).unwrap();
    assert_eq!(placement.host.as_str(), host);
}
