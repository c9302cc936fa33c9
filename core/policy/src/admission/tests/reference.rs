//! The reference's messages: every cause with its fragment, and whole messages that users have reported.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::super::Kind;
use super::{claim, container, fields, kinds, pod, pod_object, verdict_of, verdict_with, volume};

fn assert_message(name: &str, pod: &Pod, expected: &str) {
    let verdict = verdict_of(pod);
    assert_eq!(verdict.message(), expected, "{name}");
    assert_eq!(verdict.reason(), "POD_UNSUPPORTED_ON_FARGATE", "{name}");
}

#[test]
fn each_field_of_the_host_has_the_references_word() {
    let rows = [
        ("hostNetwork", json!({ "hostNetwork": true }), "HostNetwork"),
        ("hostPID", json!({ "hostPID": true }), "HostPID"),
        ("hostIPC", json!({ "hostIPC": true }), "HostIPC"),
        ("all", json!({ "hostIPC": true, "hostPID": true, "hostNetwork": true }), "HostNetwork, HostPID, HostIPC"),
    ];
    for (name, spec, words) in rows {
        assert_message(name, &pod(spec), &format!("Pod not supported on Fargate: fields not supported: {words}"));
    }
}

#[test]
fn each_security_field_has_the_references_word() {
    let rows = [
        ("privileged", json!({ "privileged": true }), "Privileged"),
        ("escalation", json!({ "allowPrivilegeEscalation": true }), "AllowPrivilegeEscalation"),
        ("one capability", json!({ "capabilities": { "add": ["NET_ADMIN"] } }), "Capabilities added: NET_ADMIN"),
        (
            "several capabilities",
            json!({ "capabilities": { "add": ["NET_ADMIN", "CHOWN", "SYS_PTRACE"] } }),
            "Capabilities added: NET_ADMIN, SYS_PTRACE",
        ),
        (
            "the prefix is not normalised",
            json!({ "capabilities": { "add": ["CAP_CHOWN"] } }),
            "Capabilities added: CAP_CHOWN",
        ),
        ("ALL", json!({ "capabilities": { "add": ["ALL"] } }), "Capabilities added: ALL"),
    ];
    for (name, context, words) in rows {
        let expected = format!("Pod not supported on Fargate: invalid SecurityContext fields: {words}");
        assert_message(name, &container(json!({ "securityContext": context })), &expected);
    }
}

#[test]
fn a_security_field_is_named_once_per_container_and_duplicates_are_kept() {
    let privileged = |name: &str| json!({ "name": name, "securityContext": { "privileged": true } });
    let pod = pod(json!({
        "containers": [privileged("a"), { "name": "b" }, privileged("c")],
        "initContainers": [privileged("setup")],
        "ephemeralContainers": [privileged("debug")],
    }));
    let expected = "Pod not supported on Fargate: invalid SecurityContext fields: \
                    Privileged,Privileged,Privileged,Privileged";
    assert_message("three kinds of containers", &pod, expected);
    let paths = ["initContainers[0]", "containers[0]", "containers[2]", "ephemeralContainers[0]"];
    assert_eq!(fields(&verdict_of(&pod)), paths.map(|path| format!("spec.{path}.securityContext.privileged")));
}

#[test]
fn several_security_fields_of_one_container_stand_side_by_side() {
    let context = json!({
        "privileged": true, "allowPrivilegeEscalation": true, "capabilities": { "add": ["SYS_ADMIN"] }
    });
    let expected = "Pod not supported on Fargate: invalid SecurityContext fields: \
                    Capabilities added: SYS_ADMIN, AllowPrivilegeEscalation, Privileged";
    assert_message("one container", &container(json!({ "securityContext": context })), expected);
}

#[test]
fn every_unsupported_type_of_volume_is_named_alike() {
    let sources = [
        ("hostPath", json!({ "path": "/" }), Kind::HostPathVolume),
        ("csi", json!({ "driver": "secrets-store.csi.k8s.io" }), Kind::InlineCsiVolume),
        ("image", json!({ "reference": "alpine" }), Kind::ImageVolume),
        ("awsElasticBlockStore", json!({ "volumeID": "vol-1" }), Kind::UnsupportedVolumeType),
        ("azureDisk", json!({ "diskName": "d", "diskURI": "u" }), Kind::UnsupportedVolumeType),
        ("azureFile", json!({ "secretName": "s", "shareName": "n" }), Kind::UnsupportedVolumeType),
        ("cephfs", json!({ "monitors": [] }), Kind::UnsupportedVolumeType),
        ("cinder", json!({ "volumeID": "v" }), Kind::UnsupportedVolumeType),
        ("fc", json!({}), Kind::UnsupportedVolumeType),
        ("flexVolume", json!({ "driver": "d" }), Kind::UnsupportedVolumeType),
        ("flocker", json!({}), Kind::UnsupportedVolumeType),
        ("gcePersistentDisk", json!({ "pdName": "p" }), Kind::UnsupportedVolumeType),
        ("gitRepo", json!({ "repository": "r" }), Kind::UnsupportedVolumeType),
        ("glusterfs", json!({ "endpoints": "e", "path": "p" }), Kind::UnsupportedVolumeType),
        ("iscsi", json!({ "iqn": "i", "lun": 0, "targetPortal": "t" }), Kind::UnsupportedVolumeType),
        ("photonPersistentDisk", json!({ "pdID": "p" }), Kind::UnsupportedVolumeType),
        ("portworxVolume", json!({ "volumeID": "v" }), Kind::UnsupportedVolumeType),
        ("quobyte", json!({ "registry": "r", "volume": "v" }), Kind::UnsupportedVolumeType),
        ("rbd", json!({ "image": "i", "monitors": [] }), Kind::UnsupportedVolumeType),
        ("scaleIO", json!({ "gateway": "g", "system": "s", "secretRef": {} }), Kind::UnsupportedVolumeType),
        ("storageos", json!({}), Kind::UnsupportedVolumeType),
        ("vsphereVolume", json!({ "volumePath": "p" }), Kind::UnsupportedVolumeType),
    ];
    for (source, value, kind) in sources {
        let pod = pod(json!({ "volumes": [{ "name": "v", source: value }] }));
        let expected = "Pod not supported on Fargate: volumes not supported: v is of an unsupported volume Type";
        assert_message(source, &pod, expected);
        assert_eq!(kinds(&verdict_of(&pod)), [kind], "{source}");
        assert_eq!(fields(&verdict_of(&pod)), [format!("spec.volumes[0].{source}")]);
    }
}

#[test]
fn a_source_that_is_newer_than_this_program_and_huge_pages_are_unsupported_types() {
    let rows = [
        (json!({ "name": "v", "quantumDisk": {} }), "spec.volumes[0]"),
        (json!({ "name": "v", "emptyDir": { "medium": "HugePages-2Mi" } }), "spec.volumes[0].emptyDir.medium"),
    ];
    for (source, field) in rows {
        let verdict = verdict_of(&pod(json!({ "volumes": [source] })));
        assert_eq!(kinds(&verdict), [Kind::UnsupportedVolumeType]);
        assert_eq!(fields(&verdict), [field]);
    }
}

#[test]
fn each_state_of_a_claim_has_the_references_words() {
    let claims = [
        claim("unbound", "Pending", None),
        claim("disk", "Bound", Some("pv-disk")),
        claim("local", "Bound", Some("pv-local")),
        claim("lost", "Bound", Some("pv-gone")),
    ];
    let volumes = [
        volume("pv-disk", "disk", json!({ "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": "vol-1" } })),
        volume("pv-local", "local", json!({ "local": { "path": "/mnt" } })),
    ];
    let rows = [
        ("unbound", "PVC unbound not bound"),
        ("missing", "persistentvolumeclaim \"missing\" not found"),
        ("disk", "PVC disk bound to invalid PV pv-disk with CSI Driver: ebs.csi.aws.com"),
        ("local", "PVC local bound to invalid PV pv-local that is neither CSI nor NFS"),
        ("lost", "persistentvolume \"pv-gone\" not found"),
    ];
    for (name, words) in rows {
        let source = json!({ "name": "data", "persistentVolumeClaim": { "claimName": name } });
        let pod = pod(json!({ "volumes": [source] }));
        let expected =
            format!("Pod not supported on Fargate: volumes not supported: data not supported because: {words}");
        assert_eq!(verdict_with(&pod, &claims, &volumes).message(), expected, "{name}");
    }
}

#[test]
fn the_port_text_is_said_once_and_names_no_container() {
    let expected = "Pod not supported on Fargate: port contains HostIP or HostPort";
    let ports = json!([
        { "containerPort": 80, "hostPort": 80 }, { "containerPort": 81 }, { "containerPort": 82, "hostIP": "10.0.0.1" }
    ]);
    let pod = pod(json!({ "containers": [{ "name": "a", "ports": ports }, { "name": "b", "ports": ports }] }));
    assert_message("two containers", &pod, expected);
    assert_eq!(verdict_of(&pod).violations().len(), 4);
    assert_eq!(fields(&verdict_of(&pod))[1], "spec.containers[0].ports[2].hostIP");
}

#[test]
fn host_network_alone_does_not_invent_a_host_port() {
    let ports = json!([{ "containerPort": 80 }]);
    let spec = json!({ "hostNetwork": true, "containers": [{ "name": "a", "ports": ports }] });
    assert_eq!(kinds(&verdict_of(&pod(spec))), [Kind::HostNetwork]);
}

#[test]
fn our_own_groups_follow_the_references_groups() {
    let rows = [
        (
            "block device",
            container(json!({ "volumeDevices": [{ "name": "disk", "devicePath": "/dev/xvda" }] })),
            "volume devices not supported: disk",
        ),
        (
            "GPU in limits",
            container(json!({ "resources": { "limits": { "nvidia.com/gpu": "1" } } })),
            "resources not supported: nvidia.com/gpu",
        ),
        (
            "owned by a DaemonSet",
            pod_object(json!({
                "metadata": { "ownerReferences": [
                    { "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": "u", "controller": true }
                ] },
                "spec": { "containers": [{ "name": "app" }] },
            })),
            "owners not supported: DaemonSet agent",
        ),
    ];
    for (name, pod, words) in rows {
        assert_message(name, &pod, &format!("Pod not supported on Fargate: {words}"));
    }
}

#[test]
fn groups_keep_their_order_however_many_there_are() {
    let everything = json!({
        "hostNetwork": true,
        "nodeSelector": { "disktype": "ssd" },
        "volumes": [{ "name": "v", "hostPath": { "path": "/" } }],
        "containers": [{
            "name": "app",
            "securityContext": { "privileged": true },
            "ports": [{ "containerPort": 1, "hostPort": 1 }],
            "volumeDevices": [{ "name": "disk", "devicePath": "/dev/xvda" }],
            "resources": { "requests": { "hugepages-2Mi": "4Mi" } },
        }],
    });
    let expected = "Pod not supported on Fargate: fields not supported: HostNetwork, \
        invalid SecurityContext fields: Privileged, volumes not supported: v is of an unsupported volume Type, \
        port contains HostIP or HostPort, volume devices not supported: disk, \
        resources not supported: hugepages-2Mi, \
        MatchNodeSelector failed: Fargate profile fp cannot satisfy pod's node selector/affinity requirements";
    assert_message("everything", &pod(everything), expected);
}

/// Messages as their users have posted them.
#[test]
fn whole_messages_that_users_have_reported_come_out_verbatim() {
    let rows: [(&str, Value, &str); 3] = [
        (
            "kube-s3",
            json!({
                "volumes": [
                    { "name": "devfuse", "emptyDir": {} }, { "name": "mntdatas3fs", "hostPath": { "path": "/" } },
                ],
                "containers": [{
                    "name": "s3fuse",
                    "securityContext": { "privileged": true },
                    "volumeMounts": [
                        { "name": "mntdatas3fs", "mountPath": "/var/s3fs", "mountPropagation": "Bidirectional" }
                    ],
                }],
            }),
            "Pod not supported on Fargate: invalid SecurityContext fields: Privileged, \
             volumes not supported: mntdatas3fs is of an unsupported volume Type",
        ),
        (
            "containers-roadmap, hostNetwork with the hostPort of the API server",
            json!({
                "hostNetwork": true,
                "containers": [{
                    "name": "driver",
                    "securityContext": { "privileged": true },
                    "ports": [{ "containerPort": 9909, "hostPort": 9909 }],
                }],
            }),
            "Pod not supported on Fargate: fields not supported: HostNetwork, \
             invalid SecurityContext fields: Privileged, port contains HostIP or HostPort",
        ),
        (
            "aws-cdk, three unbound claims",
            json!({ "volumes": [
                { "name": "gitlab-config", "persistentVolumeClaim": { "claimName": "config" } },
                { "name": "gitlab-logs", "persistentVolumeClaim": { "claimName": "logs" } },
                { "name": "gitlab-data", "persistentVolumeClaim": { "claimName": "data" } },
            ] }),
            "Pod not supported on Fargate: volumes not supported: \
             gitlab-config not supported because: PVC config not bound, \
             gitlab-logs not supported because: PVC logs not bound, \
             gitlab-data not supported because: PVC data not bound",
        ),
    ];
    let claims = ["config", "logs", "data"].map(|name| claim(name, "Pending", None));
    for (name, spec, expected) in rows {
        assert_eq!(verdict_with(&pod(spec), &claims, &[]).message(), expected, "{name}");
    }
}
