//! Slips for which the API server refuses an object at once, in its own words.
//!
//! Most of what it validates is not looked at here; these are the slips that people make and that would otherwise pass
//! as a good answer. They are warnings: the decision about the Pod is given all the same.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use monopod_api::is_dns_subdomain;
use monopod_types::Quantity;
use serde_json::Value;

use crate::path::FieldPath;
use crate::workload::WorkloadKind;

/// Characters of a DNS label, such as the name of a namespace or of a container.
const MAX_LABEL: usize = 63;
const NOT_A_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const NOT_A_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";

/// One thing that the API server would refuse.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The field of the object as it was written.
    pub(crate) field: FieldPath,
    /// What the API server says of it.
    pub(crate) message: String,
}

fn refusal(field: &str, message: impl Into<String>) -> Refusal {
    Refusal { field: FieldPath::of(field), message: message.into() }
}

/// The object's name and namespace.
pub(crate) fn of_metadata(metadata: &ObjectMeta) -> Vec<Refusal> {
    let name = metadata.name.as_deref().unwrap_or_default();
    // What is added to a prefix makes an end of it that may be a hyphen a good one.
    let prefix = metadata.generate_name.as_deref().unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let rows = [
        ("metadata.name", name, is_dns_subdomain(name), NOT_A_SUBDOMAIN),
        ("metadata.generateName", prefix, is_dns_subdomain(&format!("{prefix}x")), NOT_A_SUBDOMAIN),
        ("metadata.namespace", namespace, is_dns_label(namespace), NOT_A_LABEL),
    ];
    let bad = rows.into_iter().filter(|(_, value, is_good, _)| !value.is_empty() && !is_good);
    bad.map(|(field, value, _, why)| refusal(field, invalid(value, why))).collect()
}

/// The spec of a Pod, or of the template of its controller.
pub(crate) fn of_pod(kind: WorkloadKind, spec: &PodSpec) -> Vec<Refusal> {
    let path = kind.pod_spec_path();
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    let ordinary = spec.containers.iter().enumerate().map(|(index, container)| ("containers", index, container));
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(index, container)| ("initContainers", index, container));
    for (list, index, container) in ordinary.chain(init) {
        check_container(&format!("{path}.{list}[{index}]"), container, &mut names, &mut found);
    }
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        check_volume(&format!("{path}.volumes[{index}]"), volume, &mut found);
    }
    check_restart_policy(kind, spec.restart_policy.as_deref(), &format!("{path}.restartPolicy"), &mut found);
    found
}

fn check_container<'a>(path: &str, container: &'a Container, names: &mut BTreeSet<&'a str>, found: &mut Vec<Refusal>) {
    let name = container.name.as_str();
    let about_name = if name.is_empty() {
        Some("Required value".to_owned())
    } else if !is_dns_label(name) {
        Some(invalid(name, NOT_A_LABEL))
    } else {
        (!names.insert(name)).then(|| format!("Duplicate value: \"{name}\""))
    };
    found.extend(about_name.map(|message| refusal(&format!("{path}.name"), message)));
    if container.image.as_deref().unwrap_or_default().is_empty() {
        found.push(refusal(&format!("{path}.image"), "Required value"));
    }
    check_requests(path, container, found);
}

/// Requests above the limit of the same resource. What cannot be read is an error elsewhere.
fn check_requests(path: &str, container: &Container, found: &mut Vec<Refusal>) {
    let Some(resources) = &container.resources else { return };
    for (name, request) in resources.requests.iter().flatten() {
        let Some(limit) = resources.limits.as_ref().and_then(|limits| limits.get(name)) else { continue };
        let amounts = (request.0.parse::<Quantity>(), limit.0.parse::<Quantity>());
        if let (Ok(asked), Ok(allowed)) = amounts
            && asked > allowed
        {
            let why = format!("must be less than or equal to {name} limit of {}", limit.0.trim());
            let field = format!("{path}.resources.requests[{name}]");
            found.push(refusal(&field, invalid(request.0.trim(), &why)));
        }
    }
}

fn check_volume(path: &str, volume: &Volume, found: &mut Vec<Refusal>) {
    let Ok(Value::Object(fields)) = serde_json::to_value(volume) else { return };
    for source in fields.keys().filter(|field| *field != "name").skip(1) {
        found.push(refusal(&format!("{path}.{source}"), "Forbidden: may not specify more than 1 volume type"));
    }
}

fn check_restart_policy(kind: WorkloadKind, policy: Option<&str>, field: &str, found: &mut Vec<Refusal>) {
    use WorkloadKind::{CronJob, DaemonSet, Deployment, Job, Pod, ReplicaSet, ReplicationController, StatefulSet};
    let policy = policy.filter(|policy| !policy.is_empty()).unwrap_or("Always");
    let (supported, is_job): (&[&str], bool) = match kind {
        Pod => (&["Always", "OnFailure", "Never"], false),
        Job | CronJob => (&["OnFailure", "Never"], true),
        Deployment | ReplicaSet | StatefulSet | DaemonSet | ReplicationController => (&["Always"], false),
    };
    if supported.contains(&policy) {
        return;
    }
    let values = supported.iter().map(|value| format!("\"{value}\"")).collect::<Vec<_>>().join(", ");
    let message = if is_job {
        format!("Required value: valid values: {values}")
    } else {
        format!("Unsupported value: \"{policy}\": supported values: {values}")
    };
    found.push(refusal(field, message));
}

fn is_dns_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && !text.contains('.') && is_dns_subdomain(text)
}

fn invalid(value: &str, why: &str) -> String {
    format!("Invalid value: \"{value}\": {why}")
}
