//! The scheduler without an API server, for its benchmark: everything but the watches and the writes.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use monopod_api::{FargateProfile, Host, Subnet};
use monopod_policy::placement::CommonLabels;
use monopod_types::PodUid;
use serde_json::{Value, json};

use super::BATCH;
use super::watches::{Change, Seen};
use super::world::{Answer, World};

/// Answers for `pods` Pods in a cluster of `hosts` hosts in three zones; how many were placed, and how long it took from the
/// first look at a Pod to the last answer, with what its Node then changes.
///
/// # Panics
/// When the objects that it makes are not of their kinds.
pub fn place(hosts: u32, pods: u32) -> (u32, Duration) {
    let common = CommonLabels { region: "local".to_owned(), architecture: "amd64".to_owned() };
    let mut world = World::new(common.clone());
    world.apply(Change::Profile(Seen::Is(Box::new(read::<FargateProfile>(json!({
        "apiVersion": "monopod.dev/v1", "kind": "FargateProfile", "metadata": {"name": "shop"},
        "spec": {"selectors": [{"namespace": "shop"}]}, "status": {"phase": "ACTIVE"},
    }))))));
    for zone in 0..3 {
        world.apply(Change::Subnet(Seen::Is(Box::new(read::<Subnet>(json!({
            "apiVersion": "monopod.dev/v1", "kind": "Subnet", "metadata": {"name": format!("subnet-{zone}")},
            "spec": {"cidr": format!("{}.0.0.0/8", 10 + zone), "zone": format!("zone-{zone}"), "private": true},
        }))))));
    }
    for number in 0..hosts {
        let (zone, within) = (number % 3, number / 3);
        let block = format!("{}.{}.{}.0/24", 10 + zone, within / 256, within % 256);
        world.apply(Change::Host(Seen::Is(Box::new(read::<Host>(json!({
            "apiVersion": "monopod.dev/v1", "kind": "Host", "metadata": {"name": format!("host-{number}")},
            "spec": {"zone": format!("zone-{zone}")},
            "status": {
                "capacity": {"cpu": "64", "memory": "256Gi", "ephemeralStorage": "4000Gi"},
                "addressBlocks": [{"subnet": format!("subnet-{zone}"), "cidr": block, "free": 254}],
                "conditions": [{"type": "Ready", "status": "True", "reason": "", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            },
        }))))));
    }
    let made: Vec<Pod> = (0..pods).map(pod).collect();
    let begun = Instant::now();
    let mut placed = 0;
    for batch in made.chunks(BATCH) {
        let mut uids = Vec::new();
        for pod in batch {
            uids.extend(pod.metadata.uid.as_deref().map(PodUid::new));
            world.apply(Change::Pod(Seen::Is(Box::new(pod.clone()))));
        }
        for (_, answer) in world.answer(&uids) {
            if let Answer::Place(record, _) = answer {
                placed += 1;
                world.apply(Change::Node(Seen::Is(Box::new(record.node(&common)))));
            }
        }
    }
    (placed, begun.elapsed())
}

fn pod(number: u32) -> Pod {
    let constraint = json!({
        "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": format!("app-{}", number % 20)}},
    });
    read(json!({
        "metadata": {
            "name": format!("pod-{number}"), "namespace": "shop", "uid": format!("uid-{number}"),
            "labels": {"app": format!("app-{}", number % 20)},
        },
        "spec": {
            "schedulerName": "fargate-scheduler",
            "topologySpreadConstraints": [constraint],
            "containers": [{"name": "main", "image": "web", "resources": {"requests": {"cpu": "500m", "memory": "900Mi"}}}],
        },
        "status": {"phase": "Pending"},
    }))
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the object is of its kind")
}
