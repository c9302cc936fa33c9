//! The three objects as golden values, what is read back from them, and the names of Nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod};
use monopod_api::{Sizing, names};
use monopod_types::{HostName, PodUid, ProfileName};
use proptest::prelude::{any, prop_assert_eq, proptest};
use serde_json::{Value, json};

use super::{NameError, NodeName, ReadError, Record, address_of, default_domain, free_address, read, resources};
use crate::placement::{AddressBlock, Cluster, CommonLabels, Host, PodRequest, ProfileRules, Resources, Subnet};
use crate::sizing::{self, Size, SizingSettings};

fn common() -> CommonLabels {
    CommonLabels { region: "eu-west-1".to_owned(), architecture: "amd64".to_owned() }
}

fn pod() -> Pod {
    let requests = json!({"requests": {"cpu": "200m", "memory": "200Mi"}});
    let pod = json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "u-1"},
        "spec": {"containers": [{"name": "web", "resources": requests}]},
    });
    serde_json::from_value(pod).unwrap()
}

fn size() -> Size {
    sizing::size(&pod(), Sizing::Fargate, &SizingSettings::default()).unwrap()
}

/// A cluster of one host with one block.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new(common());
    let (zone, host): (_, HostName) = ("eu-west-1a".into(), "rack-7".into());
    let subnets = BTreeSet::from(["private-a".into()]);
    let total = Resources {
        cpu: monopod_types::MilliCpu(8000),
        memory: monopod_types::MiB(16384),
        disk: monopod_types::GiB(200),
    };
    cluster.upsert_subnet(Subnet { name: "private-a".into(), zone: "eu-west-1a".into(), cidr: net("10.0.0.0/16") });
    cluster.upsert_host(Host { name: host.clone(), zone, subnets, unschedulable: false, ready: true, total });
    let network = net("10.0.1.0/29");
    cluster.upsert_block(AddressBlock { network, subnet: "private-a".into(), host, addresses: 6 });
    cluster
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn request(size: Resources) -> PodRequest {
    let profile = ProfileRules { name: "shop".into(), subnets: BTreeSet::new() };
    PodRequest::parse(&pod(), profile, size).unwrap()
}

fn record() -> Record {
    let size = resources(&size());
    let at = cluster().place(&request(size)).unwrap();
    let address = free_address(&at.block, &BTreeSet::new()).unwrap();
    let profile = ProfileName::new("shop");
    Record::new(&pod(), &profile, size, &at, address, &default_domain("eu-west-1")).unwrap()
}

#[test]
fn the_pod_gets_its_size_and_its_host() {
    let expected = json!({"metadata": {
        "uid": "u-1",
        "annotations": {"CapacityProvisioned": "0.25vCPU 0.5GB"},
        "labels": {"monopod.dev/host": "rack-7", "eks.amazonaws.com/fargate-profile": "shop"},
    }});
    assert_eq!(record().pod_patch(&size()), expected);
}

#[test]
fn the_node_is_that_of_the_reference() {
    let mut node = serde_json::to_value(record().node(&common())).unwrap();
    let microvm = node["metadata"]["annotations"][names::MICROVM_ANNOTATION].take();
    let amounts = json!({"cpu": "250m", "memory": "512Mi", "ephemeral-storage": "20Gi", "pods": "1"});
    let hostname = "ip-10-0-1-1.eu-west-1.compute.internal";
    let expected = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": "fargate-ip-10-0-1-1.eu-west-1.compute.internal",
            "labels": {
                "eks.amazonaws.com/compute-type": "fargate",
                "monopod.dev/host": "rack-7",
                "kubernetes.io/arch": "amd64", "beta.kubernetes.io/arch": "amd64",
                "kubernetes.io/os": "linux", "beta.kubernetes.io/os": "linux",
                "kubernetes.io/hostname": hostname,
                "topology.kubernetes.io/region": "eu-west-1",
                "failure-domain.beta.kubernetes.io/region": "eu-west-1",
                "topology.kubernetes.io/zone": "eu-west-1a",
                "failure-domain.beta.kubernetes.io/zone": "eu-west-1a",
            },
            "annotations": {
                "monopod.dev/microvm": null,
                "node.alpha.kubernetes.io/ttl": "0",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
        },
        "spec": {"providerID": "monopod:///eu-west-1a/rack-7/u-1", "taints": [{"key": "eks.amazonaws.com/compute-type", "value": "fargate", "effect": "NoSchedule"}]},
        "status": {"capacity": amounts, "allocatable": amounts},
    });
    assert_eq!(node, expected);
    let microvm: Value = serde_json::from_str(microvm.as_str().unwrap()).unwrap();
    let expected = json!({
        "pod": {"namespace": "shop", "name": "web", "uid": "u-1", "profile": "shop"},
        "host": "rack-7", "subnet": "private-a", "block": "10.0.1.0/29", "address": "10.0.1.1",
        "milliCpu": 250, "memoryMib": 512, "diskGib": 20,
    });
    assert_eq!(microvm, expected);
}

#[test]
fn the_binding_names_the_node_and_only_this_pod() {
    let expected = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": "shop", "name": "web", "uid": "u-1"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "fargate-ip-10-0-1-1.eu-west-1.compute.internal"},
    });
    assert_eq!(serde_json::to_value(record().binding()).unwrap(), expected);
    assert_eq!(record().message(), "Successfully assigned shop/web to fargate-ip-10-0-1-1.eu-west-1.compute.internal");
}

/// The Node alone is enough for a scheduler that starts anew.
#[test]
fn a_node_gives_back_the_booking_that_it_records() {
    let record = record();
    let taken = read(&record.node(&common())).unwrap();
    assert_eq!((taken.address, taken.size), (record.address, record.size));
    let mut restarted = cluster();
    restarted.book(request(taken.size), taken.booking);
    let mut before = cluster();
    let at = before.place(&request(record.size)).unwrap().booking();
    before.book(request(record.size), at);
    assert_eq!(restarted.booking(&PodUid::new("u-1")), before.booking(&PodUid::new("u-1")));
    assert_eq!(restarted.free(&record.host), before.free(&record.host));
    assert_eq!(restarted.free_addresses(&record.block), Some(5));
}

#[test]
fn a_node_of_others_and_a_changed_one_are_told_apart() {
    assert!(matches!(read(&Node::default()), Err(ReadError::NotOurs { .. })));
    let mut node = record().node(&common());
    node.metadata.annotations.as_mut().unwrap().insert(names::MICROVM_ANNOTATION.to_owned(), "{}".to_owned());
    assert!(matches!(read(&node), Err(ReadError::Malformed { .. })));
}

#[test]
fn the_lowest_free_address_is_taken_until_none_is_left() {
    let block = net("10.0.1.0/30");
    let mut taken = BTreeSet::new();
    let mut given = Vec::new();
    while let Some(address) = free_address(&block, &taken) {
        taken.insert(address);
        given.push(address.to_string());
    }
    assert_eq!(given, ["10.0.1.1", "10.0.1.2"]);
    taken.remove(&"10.0.1.1".parse::<IpAddr>().unwrap());
    assert_eq!(free_address(&block, &taken), "10.0.1.1".parse().ok());
}

#[test]
fn names_follow_the_reference_and_are_refused_where_they_are_none() {
    assert_eq!(default_domain("us-east-1"), "ec2.internal");
    let name = NodeName::new("fd00:1::5".parse().unwrap(), "pods.example").unwrap();
    assert_eq!(name.as_str(), "fargate-ip-fd00-1-0-0-0-0-0-5.pods.example");
    let long = format!("{}.example", "d".repeat(60));
    let name = NodeName::new("10.0.1.2".parse().unwrap(), &long).unwrap();
    assert_eq!(name.hostname_label(), "ip-10-0-1-2");
    for domain in ["", "No.Such", "ends-", &"d.".repeat(130)] {
        let refused = NodeName::new("10.0.1.2".parse().unwrap(), domain);
        assert!(matches!(refused, Err(NameError::BadDomain { .. })), "{domain}");
    }
}

#[test]
fn a_name_that_is_not_ours_has_no_address() {
    for name in [
        "ip-10-0-1-2.eu-west-1.compute.internal",
        "fargate-ip-10-0-1.eu-west-1.compute.internal",
        "fargate-ip-010-0-1-2.eu-west-1.compute.internal",
        "fargate-ip-10-0-1-256.eu-west-1.compute.internal",
        "fargate-ip-fd00-1-0-0-0-0-0-05.x",
        "fargate-ip-10-0-1-2",
        "fargate-ip-10-0-1-2.",
    ] {
        assert_eq!(address_of(name), None, "{name}");
    }
}

proptest! {
    /// The approver of certificates relies on it: a name tells the address that it was made from.
    #[test]
    fn a_name_gives_back_its_address(address in any::<IpAddr>()) {
        let name = NodeName::new(address, "eu-west-1.compute.internal").unwrap();
        prop_assert_eq!(address_of(name.as_str()), Some(address));
    }
}
