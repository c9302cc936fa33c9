//! How long one placement takes among 10,000 hosts in 20 zones, half of the cluster in use.

use divan::Bencher;
use k8s_openapi::api::core::v1::Pod;
use monopod_policy::placement::{
    AddressBlock, Cluster, CommonLabels, Host, PodRequest, ProfileRules, Resources, Subnet,
};
use monopod_types::{GiB, HostName, MiB, MilliCpu, ProfileName, SubnetName, Zone};
use serde_json::{Value, json};

const ZONES: usize = 20;
const HOSTS_PER_ZONE: usize = 500;
/// Pods of other workloads that run already.
const BACKGROUND_PODS: usize = 20_000;
/// Replicas of the measured workload that run already.
const REPLICAS: usize = 1_000;

fn main() {
    divan::main();
}

fn request(name: &str, app: &str, spec: &Value, vcpu: u64) -> PodRequest {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": app}},
        "spec": spec,
    }))
    .expect("the fixture is a Pod");
    let profile = ProfileRules { name: ProfileName::from("shop"), subnets: std::collections::BTreeSet::new() };
    let size = Resources { cpu: MilliCpu(vcpu * 1000), memory: MiB(2048 * vcpu), disk: GiB(20) };
    PodRequest::parse(&pod, profile, size).expect("the fixture has no invalid rule")
}

fn run(cluster: &mut Cluster, request: PodRequest) {
    let placement = cluster.place(&request).expect("the fixture has room");
    cluster.book(request, placement.booking());
}

/// 10,000 hosts of 16 vCPU with 14 addresses each.
fn empty_cluster() -> Cluster {
    let common = CommonLabels { region: "north".to_owned(), architecture: "amd64".to_owned() };
    let mut cluster = Cluster::new(common);
    for zone in 0..ZONES {
        let (name, subnet) = (format!("zone-{zone:02}"), SubnetName::new(format!("private-{zone:02}")));
        let cidr = format!("10.{zone}.0.0/16").parse().expect("a network");
        cluster.upsert_subnet(Subnet { name: subnet.clone(), zone: Zone::new(&name), cidr });
        for number in 0..HOSTS_PER_ZONE {
            let host = HostName::new(format!("host-{zone:02}-{number:03}"));
            let network = format!("10.{zone}.{}.{}/28", number / 16, number % 16 * 16).parse().expect("a network");
            cluster.upsert_host(Host {
                name: host.clone(),
                zone: Zone::new(&name),
                subnets: [subnet.clone()].into(),
                unschedulable: false,
                ready: true,
                total: Resources { cpu: MilliCpu(16_000), memory: MiB(65_536), disk: GiB(1000) },
            });
            cluster.upsert_block(AddressBlock { network, subnet: subnet.clone(), host, addresses: 14 });
        }
    }
    cluster
}

/// The cluster with other workloads, and with replicas of one whose Pods have `spec`.
fn cluster_with_replicas(spec: &Value) -> Cluster {
    let mut cluster = empty_cluster();
    for number in 0..BACKGROUND_PODS {
        let app = format!("app-{}", number % 200);
        run(&mut cluster, request(&format!("background-{number}"), &app, &json!({}), 1 + number as u64 % 4));
    }
    for number in 0..REPLICAS {
        run(&mut cluster, request(&format!("web-{number}"), "web", spec, 1));
    }
    cluster
}

fn constraint(key: &str, when: &str) -> Value {
    json!({"topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"app": "web"}}})
}

fn anti_affinity(key: &str) -> Value {
    json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": key, "labelSelector": {"matchLabels": {"app": "web"}}},
    ]}}})
}

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "monopod.dev/host";

fn place(bencher: Bencher<'_, '_>, spec: &Value) {
    let cluster = cluster_with_replicas(spec);
    let next = request("next", "web", spec, 1);
    bencher.bench(|| cluster.place(divan::black_box(&next)));
}

#[divan::bench]
fn plain_pod(bencher: Bencher<'_, '_>) {
    place(bencher, &json!({}));
}

#[divan::bench]
fn spread_over_zones(bencher: Bencher<'_, '_>) {
    place(bencher, &json!({"topologySpreadConstraints": [constraint(ZONE, "DoNotSchedule")]}));
}

#[divan::bench]
fn spread_over_zones_and_hosts(bencher: Bencher<'_, '_>) {
    let both = [constraint(ZONE, "DoNotSchedule"), constraint(HOST, "ScheduleAnyway")];
    place(bencher, &json!({"topologySpreadConstraints": both}));
}

#[divan::bench]
fn anti_affinity_over_hosts(bencher: Bencher<'_, '_>) {
    place(bencher, &anti_affinity(HOST));
}

/// A placement with its booking and release.
#[divan::bench]
fn spread_over_zones_booked_and_released(bencher: Bencher<'_, '_>) {
    let spec = json!({"topologySpreadConstraints": [constraint(ZONE, "DoNotSchedule")]});
    let mut cluster = cluster_with_replicas(&spec);
    let next = request("next", "web", &spec, 1);
    bencher.bench_local(|| {
        let placement = cluster.place(&next).expect("the fixture has room");
        cluster.book(next.clone(), placement.booking());
        cluster.release(next.uid())
    });
}

/// The text for a Pod that fits nowhere goes through all hosts.
#[divan::bench]
fn refusal(bencher: Bencher<'_, '_>) {
    let cluster = cluster_with_replicas(&json!({}));
    let giant = request("giant", "web", &json!({}), 64);
    bencher.bench(|| cluster.place(divan::black_box(&giant)));
}
