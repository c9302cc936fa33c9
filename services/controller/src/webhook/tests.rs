//! Whole reviews, as the API server sends them.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use monopod_api::{FargateProfile, FargateProfileSpec, Selector, Subnet, SubnetSpec};
use monopod_policy::mutation::{self, IdentitySettings};
use monopod_policy::profile::{Profiles, WithoutPhase};
use serde_json::{Value, json};

use super::{Known, ReviewError, answer};

const ROLE: &str = "arn:aws:iam::111122223333:role/s3-reader";

/// Asks with the profile `shop` of namespace `shop`, and the Subnet `private-a`.
fn ask(path: &str, body: &[u8]) -> Result<Vec<u8>, ReviewError> {
    let selectors = vec![Selector { namespace: "shop".to_owned(), ..Selector::default() }];
    let profile = FargateProfile::new("shop", FargateProfileSpec { selectors, ..FargateProfileSpec::default() });
    let profiles = Profiles::compile([&profile], WithoutPhase::Active).unwrap();
    let subnets = [Subnet::new("private-a", subnet_spec("10.0.0.0/16"))];
    let service_account = |namespace: &str, name: &str| {
        let annotations = json!({"annotations": {"eks.amazonaws.com/role-arn": ROLE}});
        let account: ServiceAccount = serde_json::from_value(json!({ "metadata": annotations })).unwrap();
        (namespace == "shop" && name == "reader").then_some(account)
    };
    let identity = IdentitySettings::default();
    let known =
        Known { profiles: &profiles, subnets: &subnets, service_account: &service_account, identity: &identity };
    answer(path, body, known)
}

fn subnet_spec(cidr: &str) -> SubnetSpec {
    SubnetSpec { cidr: cidr.to_owned(), zone: "a".to_owned(), private: true, ..SubnetSpec::default() }
}

fn review(operation: &str, namespace: &str, object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "r-1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "name": "", "namespace": namespace, "operation": operation,
            "userInfo": {"username": "alice"}, "object": object, "dryRun": false,
        },
    })
}

fn response(path: &str, review: &Value) -> Value {
    let answer = ask(path, review.to_string().as_bytes()).unwrap();
    let mut answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["response"]["uid"], "r-1");
    answer["response"].take()
}

/// The patch of an answer that allows; `None` when it changes nothing.
fn patch(response: &Value) -> Option<json_patch::Patch> {
    assert_eq!(response["allowed"], true);
    let bytes = response.get("patch").filter(|patch| !patch.is_null())?;
    let ByteString(bytes) = serde_json::from_value(bytes.clone()).unwrap();
    Some(serde_json::from_slice(&bytes).unwrap())
}

fn pod() -> Value {
    json!({"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "web"}]}})
}

#[test]
fn a_pod_of_a_profile_becomes_ours_by_the_namespace_of_the_request() {
    let pod: Pod = serde_json::from_value(pod()).unwrap();
    let response = response("/mutate/pods", &review("CREATE", "shop", &json!(pod)));
    let changed = mutation::apply(&pod, &patch(&response).unwrap()).unwrap();
    let spec = changed.spec.unwrap();
    assert_eq!(spec.scheduler_name.as_deref(), Some("fargate-scheduler"));
    assert_eq!(spec.priority_class_name.as_deref(), Some("system-node-critical"));
    assert_eq!(changed.metadata.labels.unwrap()["eks.amazonaws.com/fargate-profile"], "shop");
}

#[test]
fn a_pod_of_no_profile_and_one_that_exists_are_left_alone() {
    assert_eq!(patch(&response("/mutate/pods", &review("CREATE", "elsewhere", &pod()))), None);
    assert_eq!(patch(&response("/mutate/pods", &review("UPDATE", "shop", &pod()))), None);
    assert_eq!(patch(&response("/mutate/pods", &review("DELETE", "shop", &Value::Null))), None);
}

#[test]
fn a_pod_gets_the_role_of_its_service_account() {
    let mut pod = pod();
    pod["spec"]["serviceAccountName"] = json!("reader");
    let patch = patch(&response("/mutate/pods", &review("CREATE", "shop", &pod))).unwrap();
    assert!(serde_json::to_string(&patch).unwrap().contains(ROLE));
}

#[test]
fn a_daemon_set_keeps_off_the_nodes_of_microvms() {
    let daemon_set = json!({"metadata": {"name": "agent"}, "spec": {
        "selector": {}, "template": {"spec": {"containers": [{"name": "agent"}]}},
    }});
    let patch = patch(&response("/mutate/daemonsets", &review("CREATE", "kube-system", &daemon_set))).unwrap();
    assert!(serde_json::to_string(&patch).unwrap().contains("NotIn"));
    assert_eq!(self::patch(&response("/mutate/daemonsets", &review("DELETE", "x", &Value::Null))), None);
}

#[test]
fn a_bad_object_is_refused_with_every_problem() {
    let profile = json!({"metadata": {"name": "eks-x"}, "spec": {"selectors": []}});
    let refused = response("/validate/fargateprofiles", &review("CREATE", "", &profile));
    assert_eq!(refused["allowed"], false);
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.contains("reserved prefix: 'eks-'") && message.contains("at least one selector"), "{message}");
}

#[test]
fn a_bad_object_that_is_being_deleted_can_lose_its_finalizer() {
    let mut profile = json!({"metadata": {"name": "eks-x"}, "spec": {"selectors": []}});
    profile["metadata"]["deletionTimestamp"] = json!("2026-11-26T09:00:00Z");
    assert_eq!(response("/validate/fargateprofiles", &review("UPDATE", "", &profile))["allowed"], true);
}

#[test]
fn a_subnet_must_not_overlap_another_but_may_stay_as_it_is() {
    let subnet = |name: &str, cidr: &str| json!({"metadata": {"name": name}, "spec": subnet_spec(cidr)});
    let refused = response("/validate/subnets", &review("CREATE", "", &subnet("private-b", "10.0.8.0/24")));
    assert_eq!(
        refused["status"]["message"],
        "spec.cidr: 10.0.8.0/24 overlaps 10.0.0.0/16 of subnet private-a; choose another range."
    );
    for (name, cidr) in [("private-b", "10.1.0.0/16"), ("private-a", "10.0.0.0/16")] {
        assert_eq!(
            response("/validate/subnets", &review("UPDATE", "", &subnet(name, cidr)))["allowed"],
            true,
            "{name}"
        );
    }
}

#[test]
fn what_is_no_review_is_an_error_with_its_reason() {
    let rows: [(&str, &[u8], &str); 3] = [
        ("/mutate/nodes", b"{}", "UnknownPath"),
        ("/mutate/pods", b"[", "ReviewMalformed"),
        (
            "/mutate/pods",
            br#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}"#,
            "ReviewWithoutRequest",
        ),
    ];
    for (path, body, reason) in rows {
        assert_eq!(ask(path, body).unwrap_err().reason(), reason);
    }
}
