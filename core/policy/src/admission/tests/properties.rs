//! What holds for every Pod, whatever it combines.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Kind, Verdict, ephemeral_container_verdict, host_verdict};
use super::{host_verdict_of, kinds, pod, verdict_of};

/// One field or one item of a list in a Pod's spec, and the kind of violation that it is, if any.
#[derive(Clone, Debug)]
struct Feature {
    place: &'static str,
    value: Value,
    kind: Option<Kind>,
}

fn feature(place: &'static str, value: Value, kind: impl Into<Option<Kind>>) -> Feature {
    Feature { place, value, kind: kind.into() }
}

fn containers() -> Vec<Feature> {
    let context = |context: Value| json!({ "name": "c", "securityContext": context });
    let limits = |name: &str| json!({ "name": "c", "resources": { "limits": { name: "1" } } });
    let items = [
        (context(json!({ "privileged": true })), Some(Kind::PrivilegedContainer)),
        (context(json!({ "allowPrivilegeEscalation": true })), Some(Kind::PrivilegeEscalation)),
        (context(json!({ "capabilities": { "add": ["NET_ADMIN"] } })), Some(Kind::AddedCapabilities)),
        (context(json!({ "procMount": "Unmasked" })), Some(Kind::UnmaskedProcMount)),
        (context(json!({ "windowsOptions": {} })), Some(Kind::WindowsPod)),
        (context(json!({ "seccompProfile": { "type": "Localhost" } })), Some(Kind::LocalSeccompProfile)),
        (context(json!({ "appArmorProfile": { "type": "Localhost" } })), Some(Kind::LocalAppArmorProfile)),
        (json!({ "name": "c", "ports": [{ "containerPort": 1, "hostPort": 1 }] }), Some(Kind::HostPort)),
        (json!({ "name": "c", "ports": [{ "containerPort": 1, "hostIP": "10.0.0.1" }] }), Some(Kind::HostPort)),
        (
            json!({ "name": "c", "volumeMounts": [
                { "name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional" }
            ] }),
            Some(Kind::BidirectionalMount),
        ),
        (json!({ "name": "c", "volumeDevices": [{ "name": "d", "devicePath": "/d" }] }), Some(Kind::BlockDevice)),
        (limits("amd.com/gpu"), Some(Kind::Gpu)),
        (limits("example.com/fpga"), Some(Kind::ExtendedResource)),
        (limits("cpu"), None),
        (context(json!({ "runAsUser": 1, "capabilities": { "add": ["KILL"], "drop": ["ALL"] } })), None),
        (json!({ "name": "c", "ports": [{ "containerPort": 1 }] }), None),
    ];
    let places = ["initContainers", "containers", "ephemeralContainers"];
    places.iter().flat_map(|place| items.iter().map(|(value, kind)| feature(place, value.clone(), *kind))).collect()
}

fn whole_pod() -> Vec<Feature> {
    vec![
        feature("hostNetwork", json!(true), Kind::HostNetwork),
        feature("hostPID", json!(true), Kind::HostPID),
        feature("hostUsers", json!(false), Kind::UserNamespace),
        feature("os", json!({ "name": "windows" }), Kind::WindowsPod),
        feature("nodeSelector", json!({ "example.com/disk": "ssd" }), Kind::UnsatisfiableNodeSelector),
        feature(
            "securityContext",
            json!({ "sysctls": [{ "name": "vm.swappiness", "value": "1" }] }),
            Kind::UnsafeSysctl,
        ),
        feature("resources", json!({ "requests": { "hugepages-2Mi": "2Mi" } }), Kind::HugePages),
        feature("nodeName", json!("node-1"), Kind::NodeNameSet),
        feature("resourceClaims", json!({ "name": "r" }), Kind::ResourceClaim),
        feature("volumes", json!({ "name": "v", "hostPath": { "path": "/" } }), Kind::HostPathVolume),
        feature("volumes", json!({ "name": "v", "csi": { "driver": "d" } }), Kind::InlineCsiVolume),
        feature("volumes", json!({ "name": "v", "fc": {} }), Kind::UnsupportedVolumeType),
        feature(
            "volumes",
            json!({ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }),
            Kind::PersistentVolumeClaimNotFound,
        ),
        feature("volumes", json!({ "name": "v", "ephemeral": {} }), Kind::EphemeralVolumeNotBound),
        feature("volumes", json!({ "name": "v", "emptyDir": {} }), None),
        feature("hostIPC", json!(false), None),
        feature("tolerations", json!({ "operator": "Exists" }), None),
        feature("restartPolicy", json!("Never"), None),
    ]
}

/// The parts of a spec that are lists, in which a feature may come several times.
const LISTS: [&str; 6] =
    ["initContainers", "containers", "ephemeralContainers", "volumes", "resourceClaims", "tolerations"];

/// The Pod that has all the features: list items are appended, fields are set.
fn pod_spec(features: &[Feature]) -> Value {
    let mut spec = json!({ "schedulerName": "fargate-scheduler", "containers": [{ "name": "app" }] });
    for feature in features {
        if !LISTS.contains(&feature.place) {
            spec[feature.place] = feature.value.clone();
        } else if let Some(list) = spec[feature.place].as_array_mut() {
            list.push(feature.value.clone());
        } else {
            spec[feature.place] = json!([feature.value]);
        }
    }
    spec
}

/// Features in any number and order, but a field of the Pod once, because it can be set only once.
fn features() -> impl Strategy<Value = Vec<Feature>> {
    let all: Vec<Feature> = containers().into_iter().chain(whole_pod()).collect();
    prop::collection::vec(prop::sample::select(all), 0..10).prop_map(|mut features| {
        let mut seen = Vec::new();
        features.retain(|feature| {
            let is_new = !seen.contains(&feature.place);
            seen.push(feature.place);
            is_new || LISTS.contains(&feature.place)
        });
        features
    })
}

fn found(verdict: &Verdict) -> Vec<(Kind, String)> {
    let mut found: Vec<_> =
        verdict.violations().iter().map(|violation| (violation.kind(), violation.field().to_owned())).collect();
    found.sort();
    found
}

/// Follows a path such as `spec.containers[0].resources.limits[amd.com/gpu]` through a serialised Pod.
fn resolve<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    let mut value = root;
    let mut rest = path;
    while !rest.is_empty() {
        let (key, tail) = match rest.strip_prefix('[') {
            Some(bracket) => bracket.split_once(']')?,
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        value = match key.parse::<usize>() {
            Ok(index) if value.is_array() => value.get(index)?,
            _ => value.get(key)?,
        };
        rest = tail.strip_prefix('.').unwrap_or(tail);
    }
    Some(value)
}

proptest! {
    /// The model: each feature alone decides its kind, so the verdict on all is the sum of the verdicts on each.
    #[test]
    fn every_violation_is_found_and_no_other(features in features()) {
        let mut expected: Vec<Kind> = features.iter().filter_map(|feature| feature.kind).collect();
        expected.sort();
        let verdict = verdict_of(&pod(pod_spec(&features)));
        let mut found = kinds(&verdict);
        found.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn the_field_of_every_violation_exists_in_the_pod(features in features()) {
        let pod = pod(pod_spec(&features));
        let serialised = serde_json::to_value(&pod).unwrap();
        for violation in verdict_of(&pod).violations() {
            let value = resolve(&serialised, violation.field());
            prop_assert!(value.is_some_and(|value| !value.is_null()), "{}", violation.field());
        }
    }

    #[test]
    fn a_message_is_empty_exactly_when_the_pod_is_supported(features in features()) {
        let verdict = verdict_of(&pod(pod_spec(&features)));
        prop_assert_eq!(verdict.message().is_empty(), verdict.is_supported());
        prop_assert_eq!(verdict.is_supported(), verdict.violations().is_empty());
    }

    #[test]
    fn groups_stand_in_a_fixed_order_and_each_at_most_once(features in features()) {
        const ORDER: [&str; 8] = [
            "fields not supported: ", "invalid SecurityContext fields: ", "volumes not supported: ",
            "port contains HostIP or HostPort", "volume devices not supported: ", "resources not supported: ",
            "owners not supported: ", "MatchNodeSelector failed: ",
        ];
        let message = verdict_of(&pod(pod_spec(&features))).message();
        let at: Vec<usize> = ORDER.iter().filter_map(|heading| message.find(heading)).collect();
        prop_assert!(at.is_sorted(), "{message}");
        for heading in ORDER {
            prop_assert!(message.matches(heading).count() <= 1, "{message}");
        }
    }

    #[test]
    fn a_supported_feature_more_never_removes_a_violation(features in features(), more in features()) {
        let before = found(&verdict_of(&pod(pod_spec(&features))));
        let mut all = features;
        all.extend(more.into_iter().filter(|feature| feature.kind.is_none()));
        let after = found(&verdict_of(&pod(pod_spec(&all))));
        prop_assert_eq!(before, after);
    }

    /// The host overlooks nothing that the scheduler refuses, but for what is about placement.
    #[test]
    fn the_second_line_is_as_strict_as_the_first(features in features()) {
        let pod = pod(pod_spec(&features));
        let is_placement = |kind: Kind| matches!(kind, Kind::NodeNameSet | Kind::UnsatisfiableNodeSelector);
        let mut first = found(&verdict_of(&pod));
        first.retain(|(kind, _)| !is_placement(*kind));
        prop_assert_eq!(first, found(&host_verdict_of(&pod)));
    }
}

proptest! {
    /// What the host says of an ephemeral container alone is what it says of it within the Pod.
    #[test]
    fn an_ephemeral_container_alone_is_judged_as_within_the_pod(mut features in features()) {
        for (index, feature) in features.iter_mut().enumerate() {
            if let Some(name) = feature.value.get_mut("name") {
                *name = json!(format!("c{index}"));
            }
        }
        let pod = pod(pod_spec(&features));
        let mut within = found(&host_verdict_of(&pod));
        within.retain(|(_, field)| field.starts_with("spec.ephemeralContainers["));
        let containers = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
        let mut alone: Vec<_> =
            containers.flat_map(|container| found(&ephemeral_container_verdict(&pod, &container.name))).collect();
        alone.sort();
        prop_assert_eq!(alone, within);
    }
}

#[test]
fn a_pod_without_a_spec_has_no_violations() {
    let empty = k8s_openapi::api::core::v1::Pod::default();
    assert!(verdict_of(&empty).is_supported());
    assert!(host_verdict(&empty, &super::Storage::default()).is_supported());
}
