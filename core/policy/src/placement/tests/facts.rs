//! Facts of placement, one row each.

use std::collections::BTreeMap;

use monopod_types::{GiB, HostName, MiB, MilliCpu, PodUid};
use serde_json::{Value, json};

use super::fixtures::{block, common, host, pod, profile, request, resources, run, run_on, subnet, two_zones};
use crate::placement::{Cluster, PodRequest, RequestError, Resources};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "monopod.dev/host";

fn anti_affinity(key: &str, app: &str) -> Value {
    json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}},
    ]}}})
}

fn affinity(key: &str, app: &str) -> Value {
    json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}},
    ]}}})
}

fn spread(key: &str, more: &Value) -> Value {
    let mut constraint = json!({"topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}});
    for (field, value) in more.as_object().unwrap() {
        constraint[field] = value.clone();
    }
    json!({"topologySpreadConstraints": [constraint]})
}

/// The hosts that Pods of these specs get, one after the other; `-` for none.
fn hosts(cluster: &mut Cluster, app: &str, specs: &[Value]) -> Vec<String> {
    let place = |(at, spec): (usize, &Value)| {
        let placement = run(cluster, &format!("{app}-{at}"), app, spec);
        placement.map_or_else(|_| "-".to_owned(), |placement| placement.host.to_string())
    };
    specs.iter().enumerate().map(place).collect()
}

fn replicas(cluster: &mut Cluster, spec: &Value, number: usize) -> Vec<String> {
    hosts(cluster, "web", &vec![spec.clone(); number])
}

#[test]
fn pods_of_a_profile_alternate_between_zones_and_take_the_most_free_host() {
    assert_eq!(replicas(&mut two_zones(), &json!({}), 5), ["a1", "b1", "a2", "b2", "a1"]);
}

#[test]
fn even_spread_is_per_profile() {
    let mut cluster = two_zones();
    run_on(&mut cluster, "a1", "mine", "web");
    let mut other = profile(&[]);
    other.name = "bank".into();
    let request = PodRequest::parse(&pod("theirs", "web", &json!({})), other, resources(1, 2)).unwrap();
    assert_eq!(cluster.place(&request).unwrap().host, HostName::from("a2"));
}

#[test]
fn equal_hosts_are_taken_by_name_whatever_the_order_in_which_they_came() {
    let mut cluster = Cluster::new(common());
    cluster.upsert_subnet(subnet("s", "a", "10.0.1.0/24"));
    for (at, name) in ["n3", "n1", "n2"].into_iter().enumerate() {
        cluster.upsert_host(host(name, "a", &["s"]));
        cluster.upsert_block(block(&format!("10.0.1.{}/28", 16 * at), "s", name, 14));
    }
    assert_eq!(replicas(&mut cluster, &json!({}), 4), ["n1", "n2", "n3", "n1"]);
}

#[test]
fn the_scarcest_resource_says_how_free_a_host_is() {
    let mut cluster = two_zones();
    cluster.remove_host(&"b1".into());
    cluster.remove_host(&"b2".into());
    let much_memory = Resources { cpu: MilliCpu(16_000), memory: MiB(1), disk: GiB(1) };
    let pod = pod("lean", "web", &json!({"nodeSelector": {HOST: "a1"}}));
    let request = PodRequest::parse(&pod, profile(&[]), Resources { cpu: MilliCpu(8_000), ..much_memory }).unwrap();
    let placement = cluster.place(&request).unwrap();
    cluster.book(request, placement.booking());
    assert_eq!(run(&mut cluster, "next", "web", &json!({})).unwrap().host, HostName::from("a2"));
}

#[test]
fn only_subnets_of_the_profile_are_used() {
    let cluster = two_zones();
    let request = PodRequest::parse(&pod("p", "web", &json!({})), profile(&["private-b"]), resources(1, 2)).unwrap();
    let placement = cluster.place(&request).unwrap();
    assert_eq!((placement.host.as_str(), placement.subnet.as_str()), ("b1", "private-b"));
}

#[test]
fn the_block_with_the_most_free_addresses_is_taken_and_the_lowest_among_equals() {
    let mut cluster = two_zones();
    cluster.upsert_block(block("10.0.1.64/28", "private-a", "a1", 16));
    cluster.upsert_block(block("10.0.1.48/28", "private-a", "a1", 16));
    let on_a1 = json!({"nodeSelector": {HOST: "a1"}});
    let mut blocks = |name| run(&mut cluster, name, "web", &on_a1).unwrap().block.to_string();
    assert_eq!([blocks("1"), blocks("2"), blocks("3")], ["10.0.1.48/28", "10.0.1.64/28", "10.0.1.48/28"]);
}

#[test]
fn a_block_outside_its_subnet_or_zone_gives_no_address() {
    for strange in [
        block("192.168.0.0/28", "private-a", "a1", 14),
        block("10.0.2.32/28", "private-b", "a1", 14),
        block("10.0.1.32/28", "private-x", "a1", 14),
    ] {
        let mut cluster = Cluster::new(common());
        cluster.upsert_subnet(subnet("private-a", "a", "10.0.1.0/24"));
        cluster.upsert_subnet(subnet("private-b", "b", "10.0.2.0/24"));
        cluster.upsert_host(host("a1", "a", &["private-a", "private-b", "private-x"]));
        cluster.upsert_block(strange);
        assert_eq!(cluster.place(&request(&pod("p", "web", &json!({})))).unwrap_err().reason(), "NoAddress");
    }
}

#[test]
fn a_zone_selector_is_honoured() {
    for selector in [json!({ZONE: "b"}), json!({"failure-domain.beta.kubernetes.io/zone": "b"})] {
        let placement = run(&mut two_zones(), "p", "web", &json!({"nodeSelector": selector})).unwrap();
        assert_eq!(placement.host.as_str(), "b1");
    }
}

#[test]
fn preferred_node_affinity_comes_before_even_spread() {
    let prefer = |key: &str, value: &str| {
        json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}},
        ]}}})
    };
    assert_eq!(replicas(&mut two_zones(), &prefer(ZONE, "b"), 3), ["b1", "b2", "b1"]);
    assert_eq!(replicas(&mut two_zones(), &prefer(HOST, "b2"), 2), ["b2", "b2"]);
}

#[test]
fn required_anti_affinity_keeps_replicas_in_different_domains() {
    let mut by_zone = two_zones();
    assert_eq!(replicas(&mut by_zone, &anti_affinity(ZONE, "web"), 3), ["a1", "b1", "-"]);
    assert!(by_zone.release(&PodUid::new("web-0")));
    assert_eq!(run(&mut by_zone, "web-2", "web", &anti_affinity(ZONE, "web")).unwrap().zone.as_str(), "a");
    assert_eq!(replicas(&mut two_zones(), &anti_affinity(HOST, "web"), 5), ["a1", "b1", "a2", "b2", "-"]);
}

#[test]
fn anti_affinity_of_a_placed_pod_keeps_others_away() {
    let mut cluster = two_zones();
    run(&mut cluster, "shy", "db", &anti_affinity(ZONE, "web")).unwrap();
    assert_eq!(replicas(&mut cluster, &json!({}), 2), ["b1", "b2"]);
}

#[test]
fn anti_affinity_over_hostnames_always_holds_because_every_pod_has_its_own_node() {
    let spec = anti_affinity("kubernetes.io/hostname", "web");
    assert_eq!(replicas(&mut two_zones(), &spec, 5), ["a1", "b1", "a2", "b2", "a1"]);
    assert!(request(&pod("p", "web", &spec)).ignored_topology_keys().is_empty());
}

#[test]
fn other_topology_keys_are_passed_over_and_named() {
    for spec in [anti_affinity("rack", "web"), affinity("rack", "none"), spread("rack", &json!({}))] {
        let request = request(&pod("p", "web", &spec));
        assert!(two_zones().place(&request).is_ok());
        assert_eq!(request.ignored_topology_keys().iter().collect::<Vec<_>>(), ["rack"]);
    }
    let on_hostname = request(&pod("p", "web", &affinity("kubernetes.io/hostname", "none")));
    assert_eq!(on_hostname.ignored_topology_keys().iter().collect::<Vec<_>>(), ["kubernetes.io/hostname"]);
}

#[test]
fn required_affinity_follows_the_matching_pod() {
    for (key, expected) in [(ZONE, "b1"), (HOST, "b2")] {
        let mut cluster = two_zones();
        run_on(&mut cluster, "b2", "cache", "cache");
        assert_eq!(replicas(&mut cluster, &affinity(key, "cache"), 1), [expected], "{key}");
    }
}

#[test]
fn required_affinity_without_company_finds_no_place_unless_the_pod_is_its_own_company() {
    assert_eq!(replicas(&mut two_zones(), &affinity(ZONE, "cache"), 1), ["-"]);
    assert_eq!(replicas(&mut two_zones(), &affinity(ZONE, "web"), 3), ["a1", "a2", "a1"]);
}

#[test]
fn a_term_means_its_own_namespace_unless_it_names_others() {
    let term = |more: Value| {
        let mut term = json!({"topologyKey": ZONE, "labelSelector": {"matchLabels": {"app": "web"}}});
        term.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
    };
    for (more, avoids) in [
        (json!({}), false),
        (json!({"namespaces": ["bank"]}), true),
        (json!({"namespaces": ["shop"]}), false),
        (json!({"namespaceSelector": {}}), true),
        (json!({"namespaceSelector": {"matchLabels": {"team": "red"}}}), true),
        (json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}}), false),
        (json!({"namespaces": ["bank"], "namespaceSelector": {"matchLabels": {"team": "blue"}}}), true),
    ] {
        let mut cluster = two_zones();
        cluster.upsert_namespace("bank", BTreeMap::from([("team".to_owned(), "red".to_owned())]));
        let mut theirs = pod("theirs", "web", &json!({"nodeSelector": {ZONE: "a"}}));
        theirs.metadata.namespace = Some("bank".to_owned());
        let mut other = profile(&[]);
        other.name = "bank".into();
        let request = PodRequest::parse(&theirs, other, resources(1, 2)).unwrap();
        let placement = cluster.place(&request).unwrap();
        cluster.book(request, placement.booking());
        let zone = run(&mut cluster, "mine", "db", &term(more.clone())).unwrap().zone;
        assert_eq!(zone.as_str() == "b", avoids, "{more}");
    }
}

#[test]
fn preferred_anti_affinity_gives_way_when_it_must() {
    let spec = json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 10, "podAffinityTerm": {"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "web"}}}},
    ]}}});
    assert_eq!(replicas(&mut two_zones(), &spec, 5), ["a1", "b1", "a2", "b2", "a1"]);
}

#[test]
fn spread_constraints_are_honoured() {
    let in_a = json!({"nodeSelector": {ZONE: "a"}});
    let with = |spread: Value, more: &Value| {
        let mut spec = spread;
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let only_hosts_of_a = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": HOST, "operator": "NotIn", "values": ["b1", "b2"]}]}],
    }}}});
    // What constraint, and what becomes of three replicas that would rather all be in zone a.
    let prefer_a = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["a"]}]}},
    ]}}});
    for (fact, spec, expected) in [
        ("maxSkew 1 alternates", with(spread(ZONE, &json!({})), &prefer_a), ["a1", "b1", "a2"]),
        ("maxSkew 2 lets two go ahead", with(spread(ZONE, &json!({"maxSkew": 2})), &prefer_a), ["a1", "a2", "b1"]),
        ("zones that the Pod cannot have take no part", with(spread(ZONE, &json!({})), &in_a), ["a1", "a2", "a1"]),
        (
            "unless nodeAffinityPolicy is Ignore",
            with(spread(ZONE, &json!({"nodeAffinityPolicy": "Ignore"})), &in_a),
            ["a1", "-", "-"],
        ),
        (
            "fewer domains than minDomains count as an empty one",
            with(spread(ZONE, &json!({"minDomains": 3})), &prefer_a),
            ["a1", "b1", "-"],
        ),
        (
            "nor zones of which the Pod can have no host",
            with(spread(ZONE, &json!({})), &only_hosts_of_a),
            ["a1", "a2", "a1"],
        ),
        ("hosts are domains too", with(spread(HOST, &json!({})), &prefer_a), ["a1", "a2", "b1"]),
        (
            "ScheduleAnyway is a preference, after preferred affinity",
            with(spread(ZONE, &json!({"whenUnsatisfiable": "ScheduleAnyway"})), &prefer_a),
            ["a1", "a2", "a1"],
        ),
        (
            "a selector that does not match the Pod itself does not hold it back",
            with(spread(ZONE, &json!({"labelSelector": {"matchLabels": {"app": "other"}}})), &prefer_a),
            ["a1", "a2", "a1"],
        ),
        (
            "an absent selector matches no Pod",
            with(spread(ZONE, &json!({"labelSelector": null})), &prefer_a),
            ["a1", "a2", "a1"],
        ),
    ] {
        assert_eq!(replicas(&mut two_zones(), &spec, 3), expected, "{fact}");
    }
}

#[test]
fn spread_over_hosts_starts_over_when_every_host_has_one() {
    assert_eq!(replicas(&mut two_zones(), &spread(HOST, &json!({})), 5), ["a1", "b1", "a2", "b2", "a1"]);
}

#[test]
fn hosts_that_take_no_pods_are_domains_unless_node_taints_policy_is_honor() {
    for (policy, expected) in [("Ignore", ["a1", "-"]), ("Honor", ["a1", "a2"])] {
        let mut cluster = two_zones();
        for name in ["b1", "b2"] {
            cluster.upsert_host(crate::placement::Host { unschedulable: true, ..host(name, "b", &["private-b"]) });
        }
        assert_eq!(replicas(&mut cluster, &spread(ZONE, &json!({"nodeTaintsPolicy": policy})), 2), expected);
    }
}

#[test]
fn match_label_keys_spread_each_revision_on_its_own() {
    let spec = spread(ZONE, &json!({"matchLabelKeys": ["revision"]}));
    let mut cluster = two_zones();
    run_on(&mut cluster, "b1", "old", "web");
    let mut new = pod("new", "web", &spec);
    new.metadata.labels.as_mut().unwrap().insert("revision".to_owned(), "2".to_owned());
    cluster.upsert_host(crate::placement::Host { ready: false, ..host("a1", "a", &["private-a"]) });
    cluster.upsert_host(crate::placement::Host { ready: false, ..host("a2", "a", &["private-a"]) });
    assert_eq!(cluster.place(&request(&new)).unwrap().zone.as_str(), "b");
}

#[test]
fn a_release_gives_back_exactly_what_was_booked() {
    let mut cluster = two_zones();
    let before = cluster.free(&"a1".into()).unwrap();
    let placement = run(&mut cluster, "p", "web", &json!({})).unwrap();
    assert_eq!(placement.host.as_str(), "a1");
    assert_eq!(cluster.free(&"a1".into()).unwrap().cpu, before.cpu - MilliCpu(1000));
    assert_eq!(cluster.free_addresses(&placement.block), Some(13));
    assert_eq!(cluster.booking(&PodUid::new("p")), Some(&placement.booking()));
    assert!(cluster.release(&PodUid::new("p")));
    assert_eq!((cluster.free(&"a1".into()), cluster.free_addresses(&placement.block)), (Some(before), Some(14)));
    assert!(!cluster.release(&PodUid::new("p")));
}

#[test]
fn bookings_outlive_the_absence_of_their_host() {
    let mut cluster = two_zones();
    run_on(&mut cluster, "a1", "p", "web");
    cluster.remove_host(&"a1".into());
    assert_eq!(cluster.free(&"a1".into()), None);
    cluster.upsert_host(host("a1", "a", &["private-a"]));
    assert_eq!(cluster.free(&"a1".into()).unwrap().cpu, MilliCpu(15_000));
}

#[test]
fn a_placement_says_why() {
    let placement = run(&mut two_zones(), "p", "web", &json!({})).unwrap();
    assert_eq!(
        placement.to_string(),
        "host a1 in zone a, block 10.0.1.0/28 of subnet private-a: preference 0, 0 matching pods of soft spread \
         constraints, 0 pods of the profile in the zone, 100.0 % of the host free"
    );
}

#[test]
fn a_pod_without_uid_is_no_request() {
    let mut nameless = pod("p", "web", &json!({}));
    nameless.metadata.uid = None;
    let error = PodRequest::parse(&nameless, profile(&[]), resources(1, 2)).unwrap_err();
    assert_eq!(error, RequestError::NoUid { namespace: "shop".to_owned(), name: "p".to_owned() });
    assert_eq!(error.reason(), "PodWithoutUid");
}
