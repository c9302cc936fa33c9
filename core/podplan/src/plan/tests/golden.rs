//! One Pod of everything, and the whole of what is asked for it. A change shows as a difference of the golden file.

use serde_json::json;

use super::super::{ClusterDns, personalize};
use super::support::world;

#[test]
fn a_pod_of_everything_is_asked_for_like_this() {
    let spec = json!({
        "hostname": "front", "subdomain": "shops", "enableServiceLinks": false,
        "securityContext": {"runAsUser": 1000, "runAsNonRoot": true, "fsGroup": 2000,
            "seccompProfile": {"type": "RuntimeDefault"}, "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "0"}]},
        "volumes": [
            {"name": "config", "configMap": {"name": "m"}},
            {"name": "cache", "emptyDir": {"medium": "Memory", "sizeLimit": "32Mi"}},
        ],
        "containers": [{
            "name": "c", "image": "web", "command": ["/web"], "args": ["--name=$(NAME)", "--port", "80"],
            "env": [
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "greeting"}}},
            ],
            "resources": {"requests": {"cpu": "250m", "memory": "128Mi"}, "limits": {"cpu": "4", "memory": "256Mi"}},
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}},
            "volumeMounts": [
                {"name": "config", "mountPath": "/etc/web"},
                {"name": "cache", "mountPath": "/var/cache", "subPathExpr": "$(NAME)"},
            ],
        }],
    });
    let mut world = world(&spec).with_config_map("m", &json!({"greeting": "hello"}));
    let servers = vec!["10.1.0.10".parse().unwrap()];
    world.settings.dns.cluster = Some(ClusterDns { servers, domain: "cluster.local".to_owned() });
    world.image.env = vec!["PATH=/usr/bin".to_owned()];
    let mut personal = world.ask(personalize).unwrap();
    let sysctls: std::collections::BTreeMap<String, String> = personal.sysctls.drain().collect();
    let container = world.request().unwrap();
    let plan = format!("{personal:#?}\n{sysctls:#?}\n{:#?}\n{container:#?}\n", world.volumes().unwrap());
    let golden = include_str!("golden/everything.txt");
    assert!(plan == golden, "the plan differs from golden/everything.txt; it is now:\n{plan}");
}
