//! What a person reads when nothing fits, and what is waited for.

use serde_json::json;

use super::fixtures::{block, common, host, pod, profile, request, resources, run, subnet, two_zones};
use crate::placement::Trigger::{AddressFreed, HostChange, NamespaceChange, PodGone, PodPlaced, ProfileChange};
use crate::placement::{Cluster, Host, PodRequest, Refusal};

const ZONE: &str = "topology.kubernetes.io/zone";

fn refusal(cluster: &Cluster, spec: &serde_json::Value) -> Refusal {
    cluster.place(&request(&pod("p", "web", spec))).unwrap_err()
}

fn set(cluster: &mut Cluster, names: [&str; 2], change: impl Fn(&mut Host)) {
    for name in names {
        let zone = &name[..1];
        let mut changed = host(name, zone, &[&format!("private-{zone}")]);
        change(&mut changed);
        cluster.upsert_host(changed);
    }
}

#[test]
fn one_line_counts_the_hosts_by_cause_the_most_frequent_first() {
    let mut cluster = Cluster::new(common());
    for (name, zone, cidr) in [("private-a", "a", "10.0.1.0/24"), ("private-b", "b", "10.0.2.0/24")] {
        cluster.upsert_subnet(subnet(name, zone, cidr));
    }
    let small = |name: &str| Host { total: resources(1, 64), ..host(name, "a", &["private-a"]) };
    ["b1", "b2", "b3", "b4", "b5"].iter().for_each(|name| cluster.upsert_host(host(name, "b", &["private-b"])));
    ["a1", "a2", "a3", "a4"].iter().for_each(|name| cluster.upsert_host(small(name)));
    ["a5", "a6"].iter().for_each(|name| cluster.upsert_host(Host { unschedulable: true, ..small(name) }));
    cluster.upsert_host(host("a7", "a", &["private-a"]));
    let request = PodRequest::parse(&pod("p", "web", &json!({})), profile(&["private-a"]), resources(2, 4)).unwrap();
    let refusal = cluster.place(&request).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "0/12 hosts fit: 5 are in zones outside the profile's subnets, 4 have less than 2 vCPU free, \
         2 are unschedulable, 1 has no free address in subnet private-a"
    );
    assert_eq!(refusal.reason(), "NoAddress");
    assert_eq!(refusal.retry_after(), [HostChange, AddressFreed, PodGone, ProfileChange].into());
}

#[test]
fn without_hosts_there_is_nothing_to_fit() {
    let refusal = refusal(&Cluster::new(common()), &json!({}));
    assert_eq!(refusal.to_string(), "no host has joined the cluster, start `monopod host` on a machine");
    assert_eq!((refusal.reason(), refusal.retry_after()), ("NoHosts", [HostChange].into()));
}

#[test]
fn a_full_cluster_says_the_words_of_the_reference() {
    let mut cluster = two_zones();
    set(&mut cluster, ["a1", "a2"], |host| host.total.memory.0 = 1024);
    set(&mut cluster, ["b1", "b2"], |host| host.ready = false);
    let refusal = refusal(&cluster, &json!({}));
    assert_eq!(
        refusal.to_string(),
        "Fargate capacity is unavailable at this time. Please try again later or in a different availability zone \
         (0/4 hosts fit: 2 are not ready, or short of memory or disk, 2 have less than 2048 MiB of memory free)"
    );
    assert_eq!((refusal.reason(), refusal.retry_after()), ("NoCapacity", [HostChange, PodGone].into()));
}

#[test]
fn a_zone_that_the_cluster_does_not_have_is_told_in_the_words_of_the_reference() {
    let refusal = refusal(&two_zones(), &json!({"nodeSelector": {ZONE: "ca-central-1d"}}));
    assert_eq!(refusal.to_string(), "Fargate is not supported in the requested availability zone: ca-central-1d");
    assert_eq!((refusal.reason(), refusal.retry_after()), ("UnsupportedAvailabilityZone", [HostChange].into()));
}

#[test]
fn a_selector_that_no_host_meets_is_told_in_the_words_of_the_reference() {
    let refusal = refusal(&two_zones(), &json!({"nodeSelector": {"disk": "ssd"}}));
    assert_eq!(
        refusal.to_string(),
        "MatchNodeSelector failed: Fargate profile shop cannot satisfy pod's node selector/affinity requirements \
         (0/4 hosts fit: 4 do not match the pod's node selector/affinity)"
    );
    assert_eq!(refusal.reason(), "MatchNodeSelector");
}

#[test]
fn a_profile_whose_subnets_no_host_serves_is_named_as_the_cause() {
    let mut cluster = two_zones();
    cluster.upsert_subnet(subnet("new-a", "a", "10.0.9.0/24"));
    let request = PodRequest::parse(&pod("p", "web", &json!({})), profile(&["new-a"]), resources(1, 2)).unwrap();
    let refusal = cluster.place(&request).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "no host serves a subnet of the Fargate profile (0/4 hosts fit: 2 are in zones outside the profile's subnets, \
         2 serve none of the profile's subnets)"
    );
    assert_eq!((refusal.reason(), refusal.retry_after()), ("NoSubnet", [HostChange, ProfileChange].into()));
}

#[test]
fn broken_topology_rules_are_told_apart() {
    let required = |kind: &str, app: &str| {
        json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": ZONE, "labelSelector": {"matchLabels": {"app": app}}},
        ]}}})
    };
    let spread = json!({"topologySpreadConstraints": [{"topologyKey": ZONE, "maxSkew": 1, "minDomains": 3,
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]});
    for (placed, spec, text, triggers) in [
        (
            json!({}),
            required("podAffinity", "cache"),
            "0/4 hosts fit: 4 have no pod in the same zone that the pod's affinity asks for",
            [HostChange, PodPlaced, NamespaceChange].to_vec(),
        ),
        (
            json!({}),
            required("podAntiAffinity", "web"),
            "0/4 hosts fit: 4 have pods in the same zone that the pod's anti-affinity avoids",
            [HostChange, PodGone, NamespaceChange].to_vec(),
        ),
        (
            required("podAntiAffinity", "web"),
            json!({}),
            "0/4 hosts fit: 4 have pods in the same zone whose anti-affinity avoids the pod",
            [HostChange, PodGone, NamespaceChange].to_vec(),
        ),
        (
            json!({}),
            spread,
            "0/4 hosts fit: 4 would break the pod's spread over zones (maxSkew 1)",
            [HostChange, PodGone, PodPlaced].to_vec(),
        ),
    ] {
        let mut cluster = two_zones();
        run(&mut cluster, "1", "web", &placed).unwrap();
        run(&mut cluster, "2", "web", &placed).unwrap();
        let refusal = refusal(&cluster, &spec);
        assert_eq!((refusal.to_string().as_str(), refusal.reason()), (text, "TopologyConstraints"));
        assert_eq!(refusal.retry_after(), triggers.into_iter().collect());
    }
}

#[test]
fn an_address_given_back_makes_room() {
    let mut cluster = two_zones();
    for name in ["a2", "b1", "b2"] {
        cluster.remove_host(&name.into());
    }
    cluster.upsert_block(block("10.0.1.0/28", "private-a", "a1", 1));
    run(&mut cluster, "first", "web", &json!({})).unwrap();
    assert!(refusal(&cluster, &json!({})).retry_after().contains(&AddressFreed));
    cluster.release(&"first".into());
    run(&mut cluster, "second", "web", &json!({})).unwrap();
}
