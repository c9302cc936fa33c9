//! What holds for any Pod, also one on which another webhook, or ours at an earlier time, has been at work.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use monopod_types::ProfileName;
use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::{Value, json};

use super::super::{IdentitySettings, TokenExpiration, apply, plan};
use super::ROLE;

const VARIABLES: [&str; 6] = [
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_STS_REGIONAL_ENDPOINTS",
    "HOME",
];
const MOUNTS: [(&str, &str); 3] =
    [("aws-iam-token", "/elsewhere"), ("own", "/var/run/secrets/eks.amazonaws.com/serviceaccount"), ("data", "/data")];
const VOLUMES: [&str; 3] = ["aws-iam-token", "own", "data"];
const ANNOTATIONS: [(&str, &str); 6] = [
    ("eks.amazonaws.com/role-arn", ROLE),
    ("eks.amazonaws.com/audience", "vault"),
    ("eks.amazonaws.com/sts-regional-endpoints", "false"),
    ("eks.amazonaws.com/token-expiration", "60"),
    ("eks.amazonaws.com/skip-containers", "c1,c2"),
    ("note~with/syntax", "x"),
];

/// The list under `key`: absent when empty, or there and empty.
fn with_list(mut object: Value, key: &str, list: Vec<Value>, written_when_empty: bool) -> Value {
    if written_when_empty || !list.is_empty() {
        object[key] = Value::Array(list);
    }
    object
}

prop_compose! {
    fn unnamed_container()(
        variables in subsequence(&VARIABLES, 0..=6),
        mounts in subsequence(&MOUNTS, 0..=3),
        written in any::<bool>(),
    ) -> Value {
        let env = variables.iter().map(|name| json!({ "name": name, "value": "mine" })).collect();
        let mounts = mounts.iter().map(|(name, path)| json!({ "name": name, "mountPath": path })).collect();
        with_list(with_list(json!({}), "env", env, written), "volumeMounts", mounts, written)
    }
}

prop_compose! {
    fn containers()(mut containers in prop::collection::vec(unnamed_container(), 0..4)) -> Vec<Value> {
        for (index, container) in containers.iter_mut().enumerate() {
            container["name"] = json!(format!("c{index}"));
        }
        containers
    }
}

prop_compose! {
    fn annotations()(chosen in subsequence(&ANNOTATIONS, 0..=6)) -> Value {
        chosen.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect()
    }
}

prop_compose! {
    fn pods()(
        init_containers in containers(),
        containers in containers(),
        volumes in subsequence(&VOLUMES, 0..=3),
        annotations in annotations(),
        labels in prop::sample::select(vec![
            Value::Null,
            json!({}),
            json!({ "app": "web" }),
            json!({ "eks.amazonaws.com/fargate-profile": "p" }),
            json!({ "eks.amazonaws.com/fargate-profile": "q", "app": "web" }),
        ]),
        scheduler in prop::sample::select(vec![Value::Null, json!("default-scheduler"), json!("fargate-scheduler")]),
        class in prop::sample::select(vec![Value::Null, json!(""), json!("own"), json!("system-node-critical")]),
        priority in prop::sample::select(vec![Value::Null, json!(0), json!(2_000_001_000)]),
        preemption in prop::sample::select(vec![Value::Null, json!("Never"), json!("PreemptLowerPriority")]),
        written in any::<bool>(),
    ) -> Pod {
        let spec = json!({
            "schedulerName": scheduler,
            "priorityClassName": class,
            "priority": priority,
            "preemptionPolicy": preemption,
            "hostname": "keep",
        });
        let spec = with_list(spec, "initContainers", init_containers, written);
        let spec = with_list(spec, "containers", containers, true);
        let volumes = volumes.iter().map(|name| json!({ "name": name, "emptyDir": {} })).collect();
        let spec = with_list(spec, "volumes", volumes, written);
        let metadata = json!({ "name": "web", "labels": labels, "annotations": annotations });
        serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
    }
}

prop_compose! {
    fn accounts()(annotations in annotations()) -> ServiceAccount {
        serde_json::from_value(json!({ "metadata": { "annotations": annotations } })).unwrap()
    }
}

prop_compose! {
    fn all_settings()(
        region in prop::option::of(Just("eu-west-1".to_owned())),
        sts_regional_endpoints in any::<bool>(),
        seconds in any::<i64>(),
    ) -> IdentitySettings {
        IdentitySettings { region, sts_regional_endpoints, token_expiration: TokenExpiration::from_seconds(seconds) }
    }
}

/// Values of `key` in the objects of a list that may be absent.
fn column<'a>(object: &'a Value, list: &str, key: &str) -> Vec<&'a str> {
    object[list].as_array().into_iter().flatten().map(|element| element[key].as_str().unwrap()).collect()
}

fn distinct(values: &[&str]) -> bool {
    values.iter().collect::<HashSet<_>>().len() == values.len()
}

/// All that the plan may not touch, by taking away what it may.
fn untouchable(pod: &Pod) -> Value {
    let mut pod = serde_json::to_value(pod).unwrap();
    if let Some(labels) = pod["metadata"]["labels"].as_object_mut() {
        labels.remove("eks.amazonaws.com/fargate-profile");
    }
    if pod["metadata"]["labels"].as_object().is_none_or(serde_json::Map::is_empty) {
        pod["metadata"].as_object_mut().unwrap().remove("labels");
    }
    let spec = pod["spec"].as_object_mut().unwrap();
    for field in ["schedulerName", "priorityClassName", "priority", "preemptionPolicy", "volumes"] {
        spec.remove(field);
    }
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let container = container.as_object_mut().unwrap();
            container.retain(|field, _| field != "env" && field != "volumeMounts");
        }
    }
    pod
}

/// Whether all elements of `before` are in `after`, in their order.
fn keeps(before: &Value, after: &Value) -> bool {
    let mut after = after.as_array().into_iter().flatten();
    before.as_array().into_iter().flatten().all(|element| after.any(|other| other == element))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_second_plan_is_empty(pod in pods(), account in prop::option::of(accounts()), settings in all_settings()) {
        let profile = ProfileName::new("p");
        let once = apply(&pod, &plan(&pod, &profile, account.as_ref(), &settings)).unwrap();
        let again = plan(&once, &profile, account.as_ref(), &settings);
        prop_assert!(again.is_empty(), "{again}");
    }

    #[test]
    fn the_api_server_may_drop_what_is_empty(pod in pods(), account in accounts(), settings in all_settings()) {
        let patch = plan(&pod, &ProfileName::new("p"), Some(&account), &settings);
        let mut bare = serde_json::to_value(&pod).unwrap();
        drop_empty(&mut bare);
        prop_assert!(json_patch::patch(&mut bare, &patch).is_ok(), "{patch} on {bare}");
    }

    #[test]
    fn names_and_paths_stay_unique(pod in pods(), account in accounts(), settings in all_settings()) {
        let patched = apply(&pod, &plan(&pod, &ProfileName::new("p"), Some(&account), &settings)).unwrap();
        let spec = serde_json::to_value(patched.spec).unwrap();
        prop_assert!(distinct(&column(&spec, "volumes", "name")));
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array().into_iter().flatten() {
                prop_assert!(distinct(&column(container, "env", "name")), "{container}");
                prop_assert!(distinct(&column(container, "volumeMounts", "name")), "{container}");
                prop_assert!(distinct(&column(container, "volumeMounts", "mountPath")), "{container}");
            }
        }
    }

    #[test]
    fn whatever_the_user_wrote_elsewhere_stays(pod in pods(), account in accounts(), settings in all_settings()) {
        let patched = apply(&pod, &plan(&pod, &ProfileName::new("p"), Some(&account), &settings)).unwrap();
        prop_assert_eq!(untouchable(&pod), untouchable(&patched));
        let (before, after) = (serde_json::to_value(pod.spec).unwrap(), serde_json::to_value(patched.spec).unwrap());
        prop_assert!(keeps(&before["volumes"], &after["volumes"]));
        for list in ["initContainers", "containers"] {
            for (index, container) in before[list].as_array().into_iter().flatten().enumerate() {
                prop_assert!(keeps(&container["env"], &after[list][index]["env"]));
                prop_assert!(keeps(&container["volumeMounts"], &after[list][index]["volumeMounts"]));
            }
        }
    }
}

/// What Go's `omitempty` does to the objects that the API server sends and patches.
fn drop_empty(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.values_mut().for_each(drop_empty);
        object.retain(|key, value| {
            ["spec", "metadata", "emptyDir", "containers"].contains(&key.as_str()) || !empty(value)
        });
    }
    value.as_array_mut().into_iter().flatten().for_each(drop_empty);
}

fn empty(value: &Value) -> bool {
    ["", "[]", "{}", "0"].contains(&value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str())
}
