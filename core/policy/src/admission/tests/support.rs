//! What is supported and what is not, feature by feature.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::super::Kind;
use super::{container, kinds, pod, pod_object, verdict_of};

fn assert_supported(name: &str, pod: &Pod) {
    let verdict = verdict_of(pod);
    assert_eq!(verdict.violations(), [], "{name}");
    assert_eq!(verdict.message(), "", "{name}");
}

#[test]
fn every_supported_feature_of_a_container_passes() {
    let rows = [
        ("allowPrivilegeEscalation false", json!({ "securityContext": { "allowPrivilegeEscalation": false } })),
        ("privileged false", json!({ "securityContext": { "privileged": false } })),
        ("capabilities drop", json!({ "securityContext": { "capabilities": { "drop": ["ALL"] } } })),
        (
            "the 14 default capabilities may be added",
            json!({ "securityContext": { "capabilities": { "add": [
                "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
                "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
            ] } } }),
        ),
        (
            "user, group and read-only root",
            json!({ "securityContext": {
                "runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
            } }),
        ),
        (
            "profiles of the runtime",
            json!({ "securityContext": {
                "seccompProfile": { "type": "RuntimeDefault" }, "appArmorProfile": { "type": "RuntimeDefault" },
            } }),
        ),
        ("unconfined seccomp", json!({ "securityContext": { "seccompProfile": { "type": "Unconfined" } } })),
        ("SELinux options", json!({ "securityContext": { "seLinuxOptions": { "type": "spc_t" } } })),
        ("procMount Default", json!({ "securityContext": { "procMount": "Default" } })),
        ("a container port", json!({ "ports": [{ "containerPort": 80, "hostPort": 0, "hostIP": "" }] })),
        (
            "mount propagation from the host",
            json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v", "mountPropagation": "HostToContainer" }] }),
        ),
        (
            "the three resources",
            json!({ "resources": {
                "requests": { "cpu": "1", "memory": "1Gi", "ephemeral-storage": "30Gi" }, "limits": { "cpu": "2" },
            } }),
        ),
        ("no GPU, in figures", json!({ "resources": { "limits": { "nvidia.com/gpu": "0" } } })),
    ];
    for (name, fields) in rows {
        assert_supported(name, &container(fields));
    }
}

#[test]
fn every_supported_feature_of_a_pod_passes() {
    let rows: [(&str, Value); 17] = [
        ("init container", json!({ "initContainers": [{ "name": "setup" }] })),
        ("native sidecar", json!({ "initContainers": [{ "name": "proxy", "restartPolicy": "Always" }] })),
        ("ephemeral container", json!({ "ephemeralContainers": [{ "name": "debug" }] })),
        ("shareProcessNamespace", json!({ "shareProcessNamespace": true })),
        ("host flags off", json!({ "hostNetwork": false, "hostPID": false, "hostIPC": false, "hostUsers": true })),
        ("scheduling gates", json!({ "schedulingGates": [{ "name": "example.com/gate" }] })),
        ("long grace period", json!({ "terminationGracePeriodSeconds": 604_800 })),
        ("runtime class", json!({ "runtimeClassName": "kata", "overhead": { "memory": "120Mi" } })),
        ("Linux", json!({ "os": { "name": "linux" } })),
        ("fsGroup", json!({ "securityContext": { "fsGroup": 1, "supplementalGroups": [2] } })),
        ("resources of the Pod", json!({ "resources": { "requests": { "cpu": "1", "memory": "1Gi" } } })),
        ("pod affinity", json!({ "affinity": { "podAntiAffinity": {} } })),
        ("tolerations", json!({ "tolerations": [{ "operator": "Exists" }] })),
        ("priority class", json!({ "priorityClassName": "system-node-critical", "priority": 2_000_001_000 })),
        ("empty nodeName", json!({ "nodeName": "" })),
        ("projected token", json!({ "volumes": [{ "name": "t", "projected": { "sources": [] } }] })),
        (
            "volumes",
            json!({ "volumes": [
                { "name": "disk", "emptyDir": {} },
                { "name": "memory", "emptyDir": { "medium": "Memory", "sizeLimit": "64Mi" } },
                { "name": "config", "configMap": { "name": "c" } },
                { "name": "secret", "secret": { "secretName": "s" } },
                { "name": "info", "downwardAPI": {} },
                { "name": "share", "nfs": { "server": "10.0.0.9", "path": "/" } },
            ] }),
        ),
    ];
    for (name, spec) in rows {
        assert_supported(name, &pod(spec));
    }
}

#[test]
fn pods_of_every_other_controller_are_supported() {
    for kind in ["ReplicaSet", "StatefulSet", "Job", "ReplicationController"] {
        let owner = json!({ "apiVersion": "apps/v1", "kind": kind, "name": "web", "uid": "u" });
        let pod = pod_object(json!({
            "metadata": { "ownerReferences": [owner] }, "spec": { "containers": [{ "name": "app" }] }
        }));
        assert_supported(kind, &pod);
    }
}

#[test]
fn every_unsupported_feature_of_a_pod_is_refused() {
    let rows = [
        (json!({ "hostUsers": false }), Kind::UserNamespace, "spec.hostUsers"),
        (json!({ "os": { "name": "windows" } }), Kind::WindowsPod, "spec.os.name"),
        (json!({ "os": { "name": "freebsd" } }), Kind::WindowsPod, "spec.os.name"),
        (json!({ "nodeName": "node-1" }), Kind::NodeNameSet, "spec.nodeName"),
        (
            json!({ "securityContext": { "windowsOptions": { "hostProcess": true } } }),
            Kind::WindowsPod,
            "spec.securityContext.windowsOptions",
        ),
        (
            json!({ "securityContext": { "seccompProfile": { "type": "Localhost", "localhostProfile": "p" } } }),
            Kind::LocalSeccompProfile,
            "spec.securityContext.seccompProfile",
        ),
        (
            json!({ "securityContext": { "appArmorProfile": { "type": "Localhost", "localhostProfile": "p" } } }),
            Kind::LocalAppArmorProfile,
            "spec.securityContext.appArmorProfile",
        ),
        (
            json!({ "resources": { "limits": { "hugepages-1Gi": "1Gi" } } }),
            Kind::HugePages,
            "spec.resources.limits[hugepages-1Gi]",
        ),
        (
            json!({ "resourceClaims": [{ "name": "gpu", "resourceClaimName": "g" }] }),
            Kind::ResourceClaim,
            "spec.resourceClaims[0]",
        ),
    ];
    for (spec, kind, field) in rows {
        assert_refused(&pod(spec), kind, field);
    }
}

#[test]
fn every_unsupported_feature_of_a_container_is_refused() {
    let context = |context: Value| json!({ "securityContext": context });
    let rows = [
        (context(json!({ "procMount": "Unmasked" })), Kind::UnmaskedProcMount, "securityContext.procMount"),
        (context(json!({ "windowsOptions": {} })), Kind::WindowsPod, "securityContext.windowsOptions"),
        (
            context(json!({ "seccompProfile": { "type": "Localhost" } })),
            Kind::LocalSeccompProfile,
            "securityContext.seccompProfile",
        ),
        (
            context(json!({ "appArmorProfile": { "type": "Localhost" } })),
            Kind::LocalAppArmorProfile,
            "securityContext.appArmorProfile",
        ),
        (
            json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional" }] }),
            Kind::BidirectionalMount,
            "volumeMounts[0].mountPropagation",
        ),
    ];
    for (fields, kind, field) in rows {
        assert_refused(&container(fields), kind, &format!("spec.containers[0].{field}"));
    }
}

fn assert_refused(pod: &Pod, kind: Kind, field: &str) {
    let verdict = verdict_of(pod);
    assert_eq!(kinds(&verdict), [kind]);
    assert_eq!(verdict.violations()[0].field(), field);
}

#[test]
fn extended_resources_are_told_apart() {
    let rows = [
        ("nvidia.com/gpu", Kind::Gpu),
        ("nvidia.com/mig-1g.5gb", Kind::Gpu),
        ("amd.com/gpu", Kind::Gpu),
        ("gpu.intel.com/i915", Kind::Gpu),
        ("hugepages-2Mi", Kind::HugePages),
        ("aws.amazon.com/neuron", Kind::ExtendedResource),
        ("smarter-devices/fuse", Kind::ExtendedResource),
        ("vpc.amazonaws.com/pod-eni", Kind::ExtendedResource),
    ];
    for (name, kind) in rows {
        let resources = json!({ "resources": { "limits": { name: "1" }, "requests": { name: "1" } } });
        assert_refused(&container(resources), kind, &format!("spec.containers[0].resources.limits[{name}]"));
        let requests = json!({ "resources": { "requests": { name: "1" } } });
        assert_refused(&container(requests), kind, &format!("spec.containers[0].resources.requests[{name}]"));
    }
}

#[test]
fn a_resource_is_named_once_however_many_containers_ask_for_it() {
    let gpu = |name: &str| json!({ "name": name, "resources": { "limits": { "nvidia.com/gpu": 1 } } });
    let verdict = verdict_of(&pod(json!({ "containers": [gpu("a"), gpu("b")] })));
    assert_eq!(verdict.violations().len(), 2);
    assert_eq!(verdict.message(), "Pod not supported on Fargate: resources not supported: nvidia.com/gpu");
}

#[test]
fn safe_sysctls_pass_in_both_spellings_and_unsafe_ones_do_not() {
    const SAFE: [&str; 12] = [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    ];
    let with = |name: &str| pod(json!({ "securityContext": { "sysctls": [{ "name": name, "value": "1" }] } }));
    for name in SAFE {
        assert_supported(name, &with(name));
        assert_supported(name, &with(&name.replace('.', "/")));
    }
    for name in ["kernel.msgmax", "net.core.somaxconn", "net/ipv4.tcp_rmem", "vm.max_map_count", ""] {
        assert_refused(&with(name), Kind::UnsafeSysctl, "spec.securityContext.sysctls[0]");
    }
}

#[test]
fn the_text_of_a_bidirectional_mount_is_left_to_privileged_where_both_are_asked_for() {
    let mounts = json!([{ "name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional" }]);
    let plain = verdict_of(&container(json!({ "volumeMounts": mounts })));
    let expected = "Pod not supported on Fargate: volumes not supported: \
                    v not supported because: mountPropagation is Bidirectional";
    assert_eq!(plain.message(), expected);
    let privileged =
        verdict_of(&container(json!({ "volumeMounts": mounts, "securityContext": { "privileged": true } })));
    assert_eq!(kinds(&privileged), [Kind::PrivilegedContainer, Kind::BidirectionalMount]);
    assert_eq!(privileged.message(), "Pod not supported on Fargate: invalid SecurityContext fields: Privileged");
}
