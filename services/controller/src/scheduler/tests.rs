//! The world on objects as the API server gives them.

use k8s_openapi::api::core::v1::Pod;
use monopod_api::{FargateProfile, Host, Subnet};
use monopod_policy::placement::CommonLabels;
use monopod_policy::record::Record;
use monopod_types::PodUid;
use serde_json::{Value, json};

use super::watches::{Change, Seen};
use super::world::{Answer, Consequences, Wake, World};

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn host(name: &str, cpu: &str, block: &str) -> Host {
    read(json!({
        "apiVersion": "monopod.dev/v1", "kind": "Host", "metadata": {"name": name}, "spec": {"zone": "a"},
        "status": {
            "capacity": {"cpu": cpu, "memory": "64Gi", "ephemeralStorage": "1000Gi"},
            "addressBlocks": [{"subnet": "private", "cidr": block, "free": 14}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        },
    }))
}

fn pod(name: &str, more: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")},
        "spec": {"schedulerName": "fargate-scheduler", "containers": [{"name": "main", "resources": {"requests": {"cpu": "1"}}}]},
        "status": {"phase": "Pending"},
    });
    for (key, value) in more.as_object().unwrap() {
        for (field, value) in value.as_object().unwrap() {
            pod[key][field] = value.clone();
        }
    }
    read(pod)
}

fn profile() -> FargateProfile {
    read(json!({
        "apiVersion": "monopod.dev/v1", "kind": "FargateProfile", "metadata": {"name": "shop"},
        "spec": {"selectors": [{"namespace": "shop"}]}, "status": {"phase": "ACTIVE", "matched": 0, "running": 0, "rejected": 0},
    }))
}

fn subnet() -> Subnet {
    read(json!({
        "apiVersion": "monopod.dev/v1", "kind": "Subnet", "metadata": {"name": "private"},
        "spec": {"cidr": "10.0.0.0/24", "zone": "a", "private": true},
    }))
}

fn common() -> CommonLabels {
    CommonLabels { region: "local".to_owned(), architecture: "amd64".to_owned() }
}

/// A cluster of one host with two vCPU.
fn world() -> World {
    let mut world = World::new(common());
    world.apply(Change::Profile(Seen::Is(Box::new(profile()))));
    world.apply(Change::Subnet(Seen::Is(Box::new(subnet()))));
    world.apply(Change::Host(Seen::Is(Box::new(host("one", "2", "10.0.0.0/28")))));
    world
}

fn see(world: &mut World, pod: Pod) -> Consequences {
    world.apply(Change::Pod(Seen::Is(Box::new(pod))))
}

fn answer(world: &mut World, name: &str) -> Answer {
    let uid = PodUid::new(format!("uid-{name}"));
    world.answer(&[uid]).pop().unwrap().1
}

fn placed(world: &mut World, name: &str) -> Record {
    match answer(world, name) {
        Answer::Place(record, _) => *record,
        other @ (Answer::Bind(_) | Answer::Wait { .. } | Answer::Nothing) => panic!("{name} has no place: {other:?}"),
    }
}

fn waits(world: &mut World, name: &str) -> (String, String, Vec<Wake>) {
    match answer(world, name) {
        Answer::Wait { reason, message, wakes } => (reason, message, wakes.into_iter().collect()),
        other @ (Answer::Bind(_) | Answer::Place(..) | Answer::Nothing) => panic!("{name} does not wait: {other:?}"),
    }
}

#[test]
fn a_pod_is_placed_once_and_addresses_are_given_in_order() {
    let mut world = world();
    for name in ["a", "b"] {
        let follows = see(&mut world, pod(name, json!({})));
        assert_eq!(follows.look_at.into_iter().collect::<Vec<_>>(), [PodUid::new(format!("uid-{name}"))]);
    }
    let first = placed(&mut world, "a");
    assert_eq!(first.node.as_str(), "fargate-ip-10-0-0-1.local.compute.internal");
    assert!(matches!(answer(&mut world, "a"), Answer::Nothing), "it is being written");
    assert_eq!(placed(&mut world, "b").address.to_string(), "10.0.0.2");
}

#[test]
fn a_full_host_makes_pods_wait_until_one_ends_whose_address_stays_taken() {
    let mut world = world();
    let names = ["a", "b", "c"];
    names.iter().for_each(|name| drop(see(&mut world, pod(name, json!({})))));
    let (a, _) = (placed(&mut world, "a"), placed(&mut world, "b"));
    let (reason, message, wakes) = waits(&mut world, "c");
    assert_eq!(reason, "NoCapacity");
    assert!(message.starts_with("Fargate capacity is unavailable at this time."), "{message}");
    let node = a.node(&common());
    world.apply(Change::Node(Seen::Is(Box::new(node.clone()))));
    let follows =
        see(&mut world, pod("a", json!({"spec": {"nodeName": a.node.as_str()}, "status": {"phase": "Succeeded"}})));
    assert!(wakes.iter().any(|wake| follows.wakes.contains(wake)), "{wakes:?} {follows:?}");
    assert_eq!(placed(&mut world, "c").address.to_string(), "10.0.0.3");
    // With its Node the address is free again.
    world.apply(Change::Node(Seen::Gone(Box::new(node))));
    see(&mut world, pod("d", json!({"spec": {"containers": [{"name": "small"}]}})));
    let (_, message, _) = waits(&mut world, "d");
    assert!(message.contains("less than"), "{message}");
}

#[test]
fn a_restarted_scheduler_goes_on_from_the_nodes() {
    let mut first = world();
    see(&mut first, pod("a", json!({})));
    let record = placed(&mut first, "a");

    let mut second = world();
    second.apply(Change::Node(Seen::Is(Box::new(record.node(&common())))));
    let follows = see(&mut second, pod("a", json!({})));
    assert_eq!(follows.look_at.len(), 1);
    let Answer::Bind(unbound) = answer(&mut second, "a") else { panic!("only the Binding is missing") };
    assert_eq!((&*unbound.namespace, &*unbound.pod, &*unbound.node), ("shop", "a", record.node.as_str()));
    see(&mut second, pod("b", json!({})));
    assert_eq!(placed(&mut second, "b").address.to_string(), "10.0.0.2");
    see(&mut second, pod("c", json!({})));
    assert_eq!(waits(&mut second, "c").0, "NoCapacity");
}

#[test]
fn nodes_without_pods_are_orphans_whichever_comes_first() {
    let mut world = world();
    see(&mut world, pod("a", json!({})));
    let record = placed(&mut world, "a");
    let node = record.node(&common());
    world.apply(Change::Node(Seen::Is(Box::new(node.clone()))));
    let follows = world.apply(Change::Pod(Seen::Gone(Box::new(pod("a", json!({}))))));
    assert_eq!(follows.orphans.iter().map(|orphan| &*orphan.node).collect::<Vec<_>>(), [record.node.as_str()]);
    world.apply(Change::Node(Seen::Gone(Box::new(node.clone()))));
    assert_eq!(world.counts(), (0, 0));
    let follows = world.apply(Change::Node(Seen::Is(Box::new(node))));
    assert_eq!(follows.orphans.len(), 1);
}

#[test]
fn a_pod_that_lost_its_label_gets_it_back() {
    let mut world = world();
    see(&mut world, pod("a", json!({})));
    let record = placed(&mut world, "a");
    world.apply(Change::Node(Seen::Is(Box::new(record.node(&common())))));
    let bound =
        |labels: Value| pod("a", json!({"metadata": {"labels": labels}, "spec": {"nodeName": record.node.as_str()}}));
    assert_eq!(see(&mut world, bound(json!({"monopod.dev/host": "one"}))).unlabelled, []);
    let lost = see(&mut world, bound(json!({}))).unlabelled;
    assert_eq!(lost.iter().map(|one| one.host.as_str()).collect::<Vec<_>>(), ["one"]);
}

#[test]
fn a_node_that_somebody_removed_frees_nothing_while_its_pod_may_run() {
    let mut world = world();
    see(&mut world, pod("a", json!({})));
    let record = placed(&mut world, "a");
    let node = || Box::new(record.node(&common()));
    world.apply(Change::Node(Seen::Is(node())));
    let bound = pod("a", json!({"spec": {"nodeName": record.node.as_str()}, "status": {"phase": "Running"}}));
    see(&mut world, bound.clone());
    assert!(world.apply(Change::Node(Seen::Gone(node()))).wakes.is_empty());
    see(&mut world, pod("b", json!({})));
    assert_eq!(placed(&mut world, "b").address.to_string(), "10.0.0.2");
    let follows = world.apply(Change::Pod(Seen::Gone(Box::new(bound))));
    assert!(follows.orphans.is_empty() && !follows.wakes.is_empty());
    see(&mut world, pod("c", json!({})));
    assert_eq!(placed(&mut world, "c").address, record.address);
}

#[test]
fn the_nodes_of_a_host_that_was_removed_are_orphans() {
    let mut world = world();
    see(&mut world, pod("a", json!({})));
    let record = placed(&mut world, "a");
    world.apply(Change::Node(Seen::Is(Box::new(record.node(&common())))));
    let follows = world.apply(Change::Host(Seen::Gone(Box::new(host("one", "2", "10.0.0.0/28")))));
    assert_eq!(follows.orphans.len(), 1);
}

#[test]
fn what_failed_to_be_written_is_free_again_and_a_foreign_address_is_avoided() {
    let mut world = world();
    see(&mut world, pod("a", json!({})));
    let record = placed(&mut world, "a");
    assert!(!world.give_up(&record.uid).is_empty());
    assert_eq!(placed(&mut world, "a").address, record.address);
    world.give_up(&record.uid);
    world.avoid(record.block, record.address);
    assert_eq!(placed(&mut world, "a").address.to_string(), "10.0.0.2");
}

#[test]
fn a_profile_may_leave_pods_alone_that_were_there_before_it() {
    let mut world = world();
    let mut strict = profile();
    strict.spec.waiting_pods = monopod_api::WaitingPods::Ignore;
    strict.metadata.creation_timestamp = read(json!("2026-01-02T00:00:00Z"));
    world.apply(Change::Profile(Seen::Is(Box::new(strict))));
    see(&mut world, pod("old", json!({})));
    let (reason, message, wakes) = waits(&mut world, "old");
    assert_eq!((&*reason, &*wakes), ("MadeBeforeProfile", &[Wake::Profile][..]));
    assert!(message.contains("delete the pod"), "{message}");
    let labelled = |time| json!({"metadata": {"labels": {"eks.amazonaws.com/fargate-profile": "shop"}, "creationTimestamp": time}});
    see(&mut world, pod("old, labelled", labelled("2026-01-01T00:00:00Z")));
    assert_eq!(waits(&mut world, "old, labelled").0, "MadeBeforeProfile");
    see(&mut world, pod("new", labelled("2026-01-03T00:00:00Z")));
    placed(&mut world, "new");
    world.apply(Change::Profile(Seen::Is(Box::new(profile()))));
    placed(&mut world, "old");
}

#[test]
fn a_refused_pod_says_why_and_waits_for_what_may_help() {
    let mut world = world();
    let claim = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    see(&mut world, pod("a", json!({"spec": {"volumes": claim}})));
    let (reason, message, wakes) = waits(&mut world, "a");
    assert_eq!(reason, "POD_UNSUPPORTED_ON_FARGATE");
    assert!(message.contains(r#"persistentvolumeclaim "data" not found"#), "{message}");
    assert!(wakes.contains(&Wake::Storage));
    see(&mut world, pod("b", json!({"metadata": {"namespace": "other"}})));
    assert!(waits(&mut world, "b").2.contains(&Wake::Profile));
    let gated = pod("c", json!({"spec": {"schedulingGates": [{"name": "later"}]}}));
    assert!(see(&mut world, gated).look_at.is_empty());
}
