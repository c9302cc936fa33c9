//! Label, scheduler, priority: the changes that every Pod of a profile gets.

use k8s_openapi::api::core::v1::Pod;
use monopod_types::ProfileName;
use serde_json::{Value, json};

use super::super::{ApplyError, IdentitySettings, apply, plan};
use super::{ROLE, mutated, pod, service_account};

fn patch_of(pod: &Pod) -> Value {
    serde_json::to_value(plan(pod, &ProfileName::new("p"), None, &IdentitySettings::default())).unwrap()
}

#[test]
fn a_matching_pod_gets_scheduler_label_priority_class_and_priority_and_nothing_else() {
    assert_eq!(
        patch_of(&pod(&json!({ "containers": [{ "name": "web" }] }))),
        json!([
            { "op": "add", "path": "/metadata/labels", "value": { "eks.amazonaws.com/fargate-profile": "p" } },
            { "op": "add", "path": "/spec/schedulerName", "value": "fargate-scheduler" },
            { "op": "add", "path": "/spec/priorityClassName", "value": "system-node-critical" },
            { "op": "add", "path": "/spec/priority", "value": 2_000_001_000 },
        ])
    );
}

#[test]
fn what_the_user_or_the_api_server_wrote_there_is_replaced() {
    let spec = json!({
        "schedulerName": "default-scheduler",
        "priorityClassName": "business-hours",
        "priority": 1000,
        "preemptionPolicy": "PreemptLowerPriority",
        "containers": [{ "name": "web" }],
    });
    let mut pod = pod(&spec);
    pod.metadata.labels = Some([("eks.amazonaws.com/fargate-profile".to_owned(), String::new())].into());
    assert_eq!(
        patch_of(&pod),
        json!([
            { "op": "add", "path": "/metadata/labels/eks.amazonaws.com~1fargate-profile", "value": "p" },
            { "op": "add", "path": "/spec/schedulerName", "value": "fargate-scheduler" },
            { "op": "add", "path": "/spec/priorityClassName", "value": "system-node-critical" },
            { "op": "add", "path": "/spec/priority", "value": 2_000_001_000 },
        ])
    );
}

#[test]
fn each_field_is_set_whatever_was_there() {
    let cases = [
        ("schedulerName", json!("default-scheduler"), json!("fargate-scheduler"), "scheduler"),
        ("schedulerName", json!("fargate-scheduler"), json!("fargate-scheduler"), "scheduler that the user named"),
        ("priorityClassName", json!("business-hours"), json!("system-node-critical"), "a user's class is replaced"),
        ("priorityClassName", Value::Null, json!("system-node-critical"), "no class"),
        ("priority", json!(0), json!(2_000_001_000), "the priority of no class"),
        ("priority", Value::Null, json!(2_000_001_000), "no priority yet"),
        ("preemptionPolicy", json!("Never"), json!("PreemptLowerPriority"), "policy of a user's class goes with it"),
        ("preemptionPolicy", Value::Null, Value::Null, "no policy stays so: the API server fills it in"),
    ];
    for (field, before, after, fact) in cases {
        let mut spec = json!({ "containers": [{ "name": "web" }] });
        spec[field] = before;
        assert_eq!(mutated(&pod(&spec), None, &IdentitySettings::default())["spec"][field], after, "{fact}");
    }
}

#[test]
fn other_labels_stay() {
    let mut pod = pod(&json!({ "containers": [{ "name": "web" }] }));
    pod.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
    let labels = &mutated(&pod, None, &IdentitySettings::default())["metadata"]["labels"];
    assert_eq!(labels, &json!({ "app": "web", "eks.amazonaws.com/fargate-profile": "p" }));
}

#[test]
fn no_toleration_no_request_no_limit_no_node_selector_and_no_other_qos_comes_in() {
    let before =
        pod(&json!({ "containers": [{ "name": "web" }], "tolerations": [{ "key": "x", "operator": "Exists" }] }));
    let after = mutated(&before, None, &IdentitySettings::default());
    let before = serde_json::to_value(&before).unwrap();
    for field in ["tolerations", "containers", "nodeSelector", "affinity", "resources", "overhead"] {
        assert_eq!(after["spec"].get(field), before["spec"].get(field), "{field}");
    }
}

#[test]
fn a_profile_name_with_pointer_syntax_is_only_a_value() {
    let pod = pod(&json!({ "containers": [] }));
    let patch = plan(&pod, &ProfileName::new("a~b/c"), None, &IdentitySettings::default());
    let labels = apply(&pod, &patch).unwrap().metadata.labels.unwrap();
    assert_eq!(labels["eks.amazonaws.com/fargate-profile"], "a~b/c");
}

#[test]
fn a_pod_without_spec_is_left_to_the_api_server_to_refuse() {
    let account = service_account(&[("eks.amazonaws.com/role-arn", ROLE)]);
    let patch = plan(&Pod::default(), &ProfileName::new("p"), Some(&account), &IdentitySettings::default());
    assert!(patch.is_empty());
}

#[test]
fn a_patch_for_another_pod_is_refused_and_the_error_names_the_pod() {
    let account = service_account(&[("eks.amazonaws.com/role-arn", ROLE)]);
    let settings = IdentitySettings::default();
    let two = pod(&json!({ "containers": [{ "name": "web" }, { "name": "log" }] }));
    let one = pod(&json!({ "containers": [{ "name": "web" }] }));
    let error = apply(&one, &plan(&two, &ProfileName::new("p"), Some(&account), &settings)).unwrap_err();
    assert!(matches!(error, ApplyError::Misfit { .. }));
    assert_eq!((error.reason(), error.to_string().as_str()), ("PatchMisfit", "patch does not fit pod web"));

    let nonsense = serde_json::from_value(json!([{ "op": "add", "path": "/spec", "value": 1 }])).unwrap();
    assert_eq!(apply(&one, &nonsense).unwrap_err().reason(), "PatchedPodInvalid");
}
