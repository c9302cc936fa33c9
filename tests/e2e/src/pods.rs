//! Pods for tests, and what their status says.

use k8s_openapi::api::core::v1::{ContainerState, PodStatus};
use serde_json::{Value, json};

/// A Pod with one container `main`; its UID is `uid-` and its name.
pub fn pod(name: &str, restart_policy: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {
            "restartPolicy": restart_policy,
            "containers": [{"name": "main", "image": "monopod.local/busybox:1", "command": ["main"]}],
        },
    })
}

/// The state of a Pod's first container.
pub fn state(status: &PodStatus) -> ContainerState {
    status.container_statuses.iter().flatten().next().and_then(|one| one.state.clone()).unwrap_or_default()
}

/// Why a Pod's first container waits, and the words for it; empty when it does not.
pub fn waiting(status: &PodStatus) -> (String, String) {
    let waiting = state(status).waiting.unwrap_or_default();
    (waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())
}
