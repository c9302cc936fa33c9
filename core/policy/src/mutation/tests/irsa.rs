//! IAM roles for service accounts.

use monopod_types::ProfileName;
use serde_json::{Value, json};

use super::super::{IdentitySettings, TokenExpiration, plan, role_arn, service_account_name};
use super::{ROLE, annotated, in_region, mutated, pod, service_account};

const ROLE_ARN: &str = "eks.amazonaws.com/role-arn";
const MOUNT_PATH: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount";

/// Environment of a container as `NAME=value` in its order.
fn env(container: &Value) -> Vec<String> {
    let variables = container["env"].as_array().cloned().unwrap_or_default();
    variables
        .iter()
        .map(|v| format!("{}={}", v["name"].as_str().unwrap(), v["value"].as_str().unwrap_or("-")))
        .collect()
}

/// The first container after the webhook, of a Pod that has only this one and an account with only a role.
fn first_container(container: &Value) -> Value {
    let account = service_account(&[(ROLE_ARN, ROLE)]);
    mutated(&pod(&json!({ "containers": [container] })), Some(&account), &in_region("eu-west-1"))["spec"]["containers"]
        [0]
    .clone()
}

/// The token of a Pod with these annotations, under an account with these.
fn token(of_pod: &[(&str, &str)], of_account: &[(&str, &str)]) -> Value {
    let mut account = vec![(ROLE_ARN, ROLE)];
    account.extend(of_account);
    let bare = pod(&json!({ "containers": [{ "name": "web" }] }));
    let pod = of_pod.iter().fold(bare, |pod, (key, value)| annotated(pod, key, value));
    let after = mutated(&pod, Some(&service_account(&account)), &IdentitySettings::default());
    after["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"].clone()
}

#[test]
fn the_patch_has_variables_mount_and_volume_in_the_references_order() {
    let pod = pod(&json!({ "containers": [{ "name": "web" }], "volumes": [{ "name": "data", "emptyDir": {} }] }));
    let account = service_account(&[(ROLE_ARN, ROLE)]);
    let patch =
        serde_json::to_value(plan(&pod, &ProfileName::new("p"), Some(&account), &in_region("eu-west-1"))).unwrap();
    let token = json!({ "audience": "sts.amazonaws.com", "expirationSeconds": 86_400, "path": "token" });
    assert_eq!(
        patch.as_array().unwrap()[4..],
        [
            json!({ "op": "add", "path": "/spec/containers/0/env", "value": [
                { "name": "AWS_STS_REGIONAL_ENDPOINTS", "value": "regional" },
                { "name": "AWS_DEFAULT_REGION", "value": "eu-west-1" },
                { "name": "AWS_REGION", "value": "eu-west-1" },
                { "name": "AWS_ROLE_ARN", "value": ROLE },
                { "name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": format!("{MOUNT_PATH}/token") },
            ] }),
            json!({ "op": "add", "path": "/spec/containers/0/volumeMounts", "value": [
                { "name": "aws-iam-token", "mountPath": MOUNT_PATH, "readOnly": true },
            ] }),
            json!({ "op": "add", "path": "/spec/volumes/0", "value": {
                "name": "aws-iam-token", "projected": { "sources": [{ "serviceAccountToken": token }] },
            } }),
        ]
    );
}

#[test]
fn every_container_incl_init_is_injected_and_ephemeral_ones_are_not() {
    let spec = json!({
        "initContainers": [{ "name": "init" }, { "name": "sidecar", "restartPolicy": "Always" }],
        "containers": [{ "name": "web" }, { "name": "log" }],
        "ephemeralContainers": [{ "name": "debug" }],
    });
    let after = mutated(&pod(&spec), Some(&service_account(&[(ROLE_ARN, ROLE)])), &in_region("eu-west-1"));
    for (list, index) in [("initContainers", 0), ("initContainers", 1), ("containers", 0), ("containers", 1)] {
        let container = &after["spec"][list][index];
        assert_eq!(env(container).len(), 5, "{list} {index}");
        assert_eq!(container["volumeMounts"][0]["mountPath"], MOUNT_PATH, "{list} {index}");
    }
    assert_eq!(after["spec"]["ephemeralContainers"], json!([{ "name": "debug" }]));
    assert_eq!(after["spec"]["volumes"].as_array().unwrap().len(), 1);
}

#[test]
fn without_a_role_nothing_is_injected() {
    let pod = pod(&json!({ "containers": [{ "name": "web" }] }));
    let untouched = mutated(&pod, None, &in_region("eu-west-1"));
    for (fact, account) in [
        ("no annotation", service_account(&[])),
        ("another annotation", service_account(&[("eks.amazonaws.com/audience", "x")])),
        ("an empty role", service_account(&[(ROLE_ARN, " ")])),
    ] {
        assert_eq!(mutated(&pod, Some(&account), &in_region("eu-west-1")), untouched, "{fact}");
    }
}

#[test]
fn skip_containers_is_a_comma_list_of_init_and_ordinary_containers() {
    let spec = json!({ "initContainers": [{ "name": "init" }], "containers": [{ "name": "web" }, { "name": "log" }] });
    let account = service_account(&[(ROLE_ARN, ROLE)]);
    for (value, injected) in [
        ("init,log", [false, true, false]),
        ("init, web", [false, false, true]),
        ("web", [true, false, true]),
        ("", [true, true, true]),
        ("we", [true, true, true]),
    ] {
        let pod = annotated(pod(&spec), "eks.amazonaws.com/skip-containers", value);
        let after = mutated(&pod, Some(&account), &IdentitySettings::default());
        let has = |list: &str, index: usize| {
            let container = &after["spec"][list][index];
            assert_eq!(container.get("env").is_some(), container.get("volumeMounts").is_some());
            container.get("env").is_some()
        };
        assert_eq!([has("initContainers", 0), has("containers", 0), has("containers", 1)], injected, "`{value}`");
    }
}

#[test]
fn existing_variables_of_the_same_name_are_left_alone() {
    let role = format!("AWS_ROLE_ARN={ROLE}");
    let file = format!("AWS_WEB_IDENTITY_TOKEN_FILE={MOUNT_PATH}/token");
    let (sts, region, default_region) =
        ("AWS_STS_REGIONAL_ENDPOINTS=regional", "AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-1");
    let rows: [(&str, &str, Vec<&str>); 6] = [
        ("AWS_ROLE_ARN", "the pair of role and token is not completed", vec![sts, default_region, region]),
        (
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "the pair of token and role is not completed",
            vec![sts, default_region, region],
        ),
        ("AWS_REGION", "either region variable keeps both out", vec![sts, &role, &file]),
        ("AWS_DEFAULT_REGION", "either region variable keeps both out", vec![sts, &role, &file]),
        ("AWS_STS_REGIONAL_ENDPOINTS", "the choice of endpoint stays", vec![default_region, region, &role, &file]),
        ("HOME", "other variables come first and stay", vec![sts, default_region, region, &role, &file]),
    ];
    for (name, fact, added) in rows {
        let container = first_container(&json!({ "name": "web", "env": [{ "name": name, "value": "mine" }] }));
        let mine = format!("{name}=mine");
        assert_eq!(env(&container), [vec![mine.as_str()], added].concat(), "{fact}: {name}");
    }
}

#[test]
fn a_variable_from_a_secret_counts_as_existing() {
    let source = json!({ "secretKeyRef": { "name": "aws", "key": "region" } });
    let container = first_container(&json!({ "name": "web", "env": [{ "name": "AWS_REGION", "valueFrom": source }] }));
    assert_eq!(env(&container)[0], "AWS_REGION=-");
    assert!(!env(&container).iter().any(|variable| variable.contains("eu-west-1")));
}

#[test]
fn without_a_region_setting_no_region_is_written() {
    let pod = pod(&json!({ "containers": [{ "name": "web" }] }));
    let account = service_account(&[(ROLE_ARN, ROLE)]);
    for settings in [IdentitySettings::default(), in_region("")] {
        let after = mutated(&pod, Some(&account), &settings);
        assert!(!env(&after["spec"]["containers"][0]).iter().any(|variable| variable.contains("_REGION=")));
    }
}

#[test]
fn sts_regional_endpoints_follow_annotation_then_setting_and_default_to_true() {
    let rows = [
        (None, true, true),
        (None, false, false),
        (Some("true"), false, true),
        (Some("false"), true, false),
        (Some("maybe"), true, true),
        (Some("maybe"), false, false),
    ];
    let pod = pod(&json!({ "containers": [{ "name": "web" }] }));
    for (annotation, sts_regional_endpoints, expected) in rows {
        let mut annotations = vec![(ROLE_ARN, ROLE)];
        annotations.extend(annotation.map(|value| ("eks.amazonaws.com/sts-regional-endpoints", value)));
        let settings = IdentitySettings { sts_regional_endpoints, ..IdentitySettings::default() };
        let after = mutated(&pod, Some(&service_account(&annotations)), &settings);
        let regional = env(&after["spec"]["containers"][0]).contains(&"AWS_STS_REGIONAL_ENDPOINTS=regional".to_owned());
        assert_eq!(regional, expected, "annotation {annotation:?}, setting {sts_regional_endpoints}");
    }
    assert!(IdentitySettings::default().sts_regional_endpoints);
}

#[test]
fn the_audience_is_the_annotations_or_sts() {
    assert_eq!(token(&[], &[])["audience"], "sts.amazonaws.com");
    assert_eq!(token(&[], &[("eks.amazonaws.com/audience", "vault")])["audience"], "vault");
    assert_eq!(token(&[], &[("eks.amazonaws.com/audience", "")])["audience"], "sts.amazonaws.com");
}

#[test]
fn token_expiration_is_the_pods_then_the_accounts_then_a_day_and_at_least_600() {
    const KEY: &str = "eks.amazonaws.com/token-expiration";
    let rows: [(&str, Option<&str>, Option<&str>, i64); 10] = [
        ("nobody says", None, None, 86_400),
        ("the account says", None, Some("3600"), 3_600),
        ("the pod says", Some("7200"), None, 7_200),
        ("the pod's wins", Some("7200"), Some("3600"), 7_200),
        ("below 600 is raised", Some("599"), None, 600),
        ("600 is taken", None, Some("600"), 600),
        ("nothing and less is raised", Some("-1"), None, 600),
        ("no number is no word", Some("soon"), Some("3600"), 3_600),
        ("no number anywhere", Some("1h"), Some(""), 86_400),
        ("more than the API server takes is lowered", Some("9000000000"), None, 1 << 32),
    ];
    for (fact, pod, account, expected) in rows {
        let pod: Vec<_> = pod.map(|value| (KEY, value)).into_iter().collect();
        let account: Vec<_> = account.map(|value| (KEY, value)).into_iter().collect();
        assert_eq!(token(&pod, &account)["expirationSeconds"], expected, "{fact}");
    }
}

#[test]
fn the_callers_expiration_holds_where_no_annotation_does() {
    let settings =
        IdentitySettings { token_expiration: TokenExpiration::from_seconds(79_200), ..IdentitySettings::default() };
    let pod = pod(&json!({ "containers": [{ "name": "web" }] }));
    let after = mutated(&pod, Some(&service_account(&[(ROLE_ARN, ROLE)])), &settings);
    let sources = &after["spec"]["volumes"][0]["projected"]["sources"];
    assert_eq!(sources[0]["serviceAccountToken"]["expirationSeconds"], 79_200);
}

#[test]
fn never_two_volumes_or_mounts_of_the_same_name_or_path() {
    let account = service_account(&[(ROLE_ARN, ROLE)]);
    let volume = json!({ "name": "aws-iam-token", "emptyDir": {} });
    let elsewhere = json!({ "name": "aws-iam-token", "mountPath": "/elsewhere" });
    let other = json!({ "name": "own", "mountPath": MOUNT_PATH });
    let slash = json!({ "name": "own", "mountPath": format!("{MOUNT_PATH}/") });
    for (fact, mount) in [("same name", elsewhere), ("same path", other), ("same path with a slash", slash)] {
        let spec = json!({
            "containers": [{ "name": "web", "volumeMounts": [mount] }],
            "volumes": [volume, { "name": "own", "emptyDir": {} }],
        });
        let after = mutated(&pod(&spec), Some(&account), &IdentitySettings::default());
        assert_eq!(after["spec"]["containers"][0]["volumeMounts"], json!([mount]), "{fact}");
        assert_eq!(after["spec"]["volumes"], spec["volumes"], "{fact}");
    }
}

#[test]
fn the_service_account_of_a_pod_is_named_in_either_field_or_is_default() {
    let rows = [
        (json!({ "serviceAccountName": "robot", "serviceAccount": "old", "containers": [] }), "robot"),
        (json!({ "serviceAccount": "old", "containers": [] }), "old"),
        (json!({ "serviceAccountName": "", "serviceAccount": "old", "containers": [] }), "old"),
        (json!({ "serviceAccountName": "", "containers": [] }), "default"),
        (json!({ "containers": [] }), "default"),
    ];
    for (spec, name) in rows {
        assert_eq!(service_account_name(&pod(&spec)), name, "{spec}");
    }
}

#[test]
fn an_empty_role_is_no_role() {
    for (value, role) in [(ROLE, Some(ROLE)), ("", None), ("  ", None)] {
        assert_eq!(role_arn(&service_account(&[(ROLE_ARN, value)])), role, "{value:?}");
    }
    assert_eq!(role_arn(&service_account(&[])), None);
}
