//! Users, groups, capabilities, seccomp and paths.

use monopod_agent_proto::v1::{Seccomp, Security, User};
use serde_json::{Value, json};

use super::support::{World, container_in};

const DEFAULT: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn secured(own: &Value, pod: &Value) -> World {
    container_in(&json!({"securityContext": own}), &json!({"securityContext": pod}))
}

fn security(own: &Value) -> Security {
    secured(own, &json!({})).request().unwrap().security.unwrap()
}

fn capabilities(capabilities: &Value) -> Vec<String> {
    let found = security(&json!({"capabilities": capabilities})).capabilities;
    found.into_iter().map(|name| name.strip_prefix("CAP_").unwrap().to_owned()).collect()
}

#[test]
fn capabilities_are_containerds_fourteen_and_what_the_pod_changes() {
    assert_eq!(capabilities(&json!(null)), DEFAULT);
    assert_eq!(capabilities(&json!({"drop": ["ALL"]})), [""; 0]);
    assert_eq!(
        capabilities(&json!({"drop": ["all"], "add": ["NET_BIND_SERVICE", "CHOWN"]})),
        ["CHOWN", "NET_BIND_SERVICE"]
    );
    let without: Vec<&str> = DEFAULT.into_iter().filter(|name| !["KILL", "MKNOD"].contains(name)).collect();
    assert_eq!(capabilities(&json!({"drop": ["kill", "CAP_MKNOD"]})), without);
    assert_eq!(capabilities(&json!({"add": ["SYS_PTRACE"]})).len(), 15);
    assert_eq!(capabilities(&json!({"add": ["ALL"]})).len(), 41);
    assert_eq!(capabilities(&json!({"add": ["CHOWN"], "drop": ["CHOWN"]})).len(), 13);
}

#[test]
fn seccomp_is_the_containers_then_the_pods_then_the_hosts() {
    let profile = |type_: &str| json!({"seccompProfile": {"type": type_}});
    let none = json!({});
    for (own, pod, default, expected) in [
        (&none, &none, false, Seccomp::Unconfined),
        (&none, &none, true, Seccomp::RuntimeDefault),
        (&none, &profile("RuntimeDefault"), false, Seccomp::RuntimeDefault),
        (&profile("Unconfined"), &profile("RuntimeDefault"), true, Seccomp::Unconfined),
        (&profile("RuntimeDefault"), &profile("Unconfined"), false, Seccomp::RuntimeDefault),
    ] {
        let mut world = secured(own, pod);
        world.settings.seccomp_default = default;
        assert_eq!(world.request().unwrap().security.unwrap().seccomp(), expected, "{own} {pod} {default}");
    }
    let local = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}});
    let error = secured(&local, &json!({})).request().unwrap_err();
    assert_eq!(error.to_string(), "seccomp profile \"p.json\" of the node is not available to a microVM");
}

#[test]
fn no_new_privileges_only_where_escalation_is_forbidden() {
    assert!(!security(&json!({})).no_new_privileges);
    assert!(!security(&json!({"allowPrivilegeEscalation": true})).no_new_privileges);
    assert!(security(&json!({"allowPrivilegeEscalation": false})).no_new_privileges);
}

#[test]
fn paths_are_masked_unless_proc_is_asked_for_unmasked() {
    let masked = security(&json!({"procMount": "Default"}));
    assert_eq!((masked.masked_paths.len(), masked.read_only_paths.len()), (12, 5));
    assert!(masked.masked_paths.contains(&"/proc/kcore".to_owned()));
    assert!(masked.read_only_paths.contains(&"/proc/sys".to_owned()));
    let unmasked = security(&json!({"procMount": "Unmasked"}));
    assert!(unmasked.masked_paths.is_empty() && unmasked.read_only_paths.is_empty());
    assert!(secured(&json!({"readOnlyRootFilesystem": true}), &json!({})).request().unwrap().read_only_root);
}

fn user(own: &Value, pod: &Value, image: &str) -> Result<User, String> {
    let mut world = secured(own, pod);
    image.clone_into(&mut world.image.user);
    Ok(world.request().map_err(|error| error.to_string())?.user.unwrap())
}

#[test]
fn the_user_is_the_containers_then_the_pods_then_the_images_without_its_group() {
    for (own, pod, image, expected) in [
        (json!({}), json!({}), "", ("0", None, None)),
        (json!({}), json!({}), "1000:3000", ("1000", None, None)),
        (json!({}), json!({}), "www-data:staff", ("www-data", None, None)),
        (json!({}), json!({"runAsUser": 5}), "app", ("app", Some(5), None)),
        (json!({"runAsUser": 6}), json!({"runAsUser": 5, "runAsGroup": 7}), "app", ("app", Some(6), Some(7))),
        (json!({"runAsGroup": 8}), json!({"runAsGroup": 7}), "", ("0", None, Some(8))),
    ] {
        let found = user(&own, &pod, image).unwrap();
        assert_eq!((found.image_user.as_str(), found.uid, found.gid), expected, "{own} {pod} {image}");
    }
    let message = "runAsUser must be between 0 and 2147483647, inclusive: -1";
    assert_eq!(user(&json!({"runAsUser": -1}), &json!({}), ""), Err(message.to_owned()));
}

#[test]
fn groups_are_fs_group_supplemental_groups_and_those_of_volumes() {
    let pod = json!({"fsGroup": 2000, "supplementalGroups": [3, 4], "supplementalGroupsPolicy": "Strict"});
    let found = user(&json!({}), &pod, "").unwrap();
    assert_eq!((found.supplemental_groups, found.strict_groups), (vec![2000, 3, 4], true));
    assert!(!user(&json!({}), &json!({"supplementalGroupsPolicy": "Merge"}), "").unwrap().strict_groups);

    let volumes = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}]});
    let claim = json!({"kind": "PersistentVolumeClaim", "metadata": {"name": "claim", "namespace": "shop"},
        "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
    let persistent = json!({"kind": "PersistentVolume",
        "metadata": {"name": "pv", "annotations": {"pv.beta.kubernetes.io/gid": "1234"}}, "spec": {}});
    let request = container_in(&json!({}), &volumes).with(claim).with(persistent).request().unwrap();
    assert_eq!(request.user.unwrap().supplemental_groups, [1234]);
}

#[test]
fn non_root_is_checked_as_the_kubelet_checks_it() {
    let where_ = "(pod: \"web_shop(0001)\", container: c)";
    let refused = |own: Value, pod: Value, image: &str, message: &str| {
        assert_eq!(user(&own, &pod, image), Err(format!("{message} {where_}")), "{own} {pod} {image}");
    };
    let non_root = || json!({"runAsNonRoot": true});
    refused(non_root(), json!({}), "", "container has runAsNonRoot and image will run as root");
    refused(json!({}), non_root(), "0:5", "container has runAsNonRoot and image will run as root");
    refused(
        non_root(),
        json!({}),
        "app:5",
        "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root",
    );
    refused(
        non_root(),
        json!({}),
        "4294967296",
        "container has runAsNonRoot and image has an invalid user id (4294967296). (Must be 1-(2147483647)): must be between 0 \
         and 2147483647, inclusive",
    );
    refused(non_root(), json!({"runAsUser": 0}), "5", "container's runAsUser breaks non-root policy");
    for (own, pod, image) in [
        (non_root(), json!({}), "1000"),
        (non_root(), json!({"runAsUser": 1000}), "root"),
        (json!({"runAsNonRoot": false}), non_root(), ""),
        (json!({"runAsUser": 3}), non_root(), "app"),
    ] {
        assert!(user(&own, &pod, image).is_ok(), "{own} {pod} {image}");
    }
    let mut world = secured(&non_root(), &json!({}));
    world.image.user = "app".to_owned();
    assert_eq!(world.request().unwrap_err().reason(), "CreateContainerConfigError");
}
