//! The downward API: fields and resources of a Pod as text (kubelet, `podFieldSelectorRuntimeValue`, `fieldpath` and
//! `resource`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};
use monopod_types::{Bytes, Quantity};

use super::context::{PodContext, name, namespace};
use super::error::PlanError;
use super::lookup::lasting_containers;
use super::resources::{amount, request};

/// What stands in for a limit that is not stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitDefault {
    /// The Pod's limit, else what the machine has: for variables.
    PodThenMachine,
    /// What the machine has: for volumes.
    Machine,
}

/// A field of the Pod for a variable.
pub(super) fn variable(context: &PodContext<'_>, selector: &ObjectFieldSelector) -> Result<String, PlanError> {
    let (pod, facts) = (context.pod, context.facts);
    let version = selector.api_version.as_deref().filter(|version| !version.is_empty()).unwrap_or("v1");
    if version != "v1" {
        return Err(PlanError::PodVersion { version: version.to_owned() });
    }
    let join = |addresses: &[std::net::IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let path = selector.field_path.as_str();
    if let Some((field, _)) = subscripted(path) {
        return match field {
            "metadata.annotations" | "metadata.labels" => file(pod, path),
            _ => Err(PlanError::FieldSubscript { path: path.to_owned() }),
        };
    }
    match path {
        "spec.nodeName" | "spec.host" => Ok(node_name(context).to_owned()),
        "spec.serviceAccountName" => Ok(service_account(context).to_owned()),
        "status.hostIP" => Ok(join(facts.host_ips.get(..1).unwrap_or_default())),
        "status.hostIPs" => Ok(join(&facts.host_ips)),
        "status.podIP" => Ok(join(facts.pod_ips.get(..1).unwrap_or_default())),
        "status.podIPs" => Ok(join(&facts.pod_ips)),
        "metadata.annotations"
        | "metadata.labels"
        | "metadata.name"
        | "metadata.namespace"
        | "metadata.uid"
        | "spec.restartPolicy"
        | "spec.schedulerName"
        | "status.phase" => file(pod, path),
        _ => Err(PlanError::FieldLabel { path: path.to_owned() }),
    }
}

fn node_name<'a>(context: &PodContext<'a>) -> &'a str {
    let stated = context.spec().node_name.as_deref().filter(|name| !name.is_empty());
    stated.unwrap_or(&context.facts.node_name)
}

/// The service account, which is `default` where the Pod names none.
fn service_account<'a>(context: &PodContext<'a>) -> &'a str {
    let spec = context.spec();
    let stated = spec.service_account_name.as_deref().filter(|name| !name.is_empty());
    let old = || spec.service_account.as_deref().filter(|name| !name.is_empty());
    stated.or_else(old).unwrap_or("default")
}

/// A field of the Pod for a file of a volume: of its metadata only.
pub(super) fn file(pod: &Pod, path: &str) -> Result<String, PlanError> {
    let metadata = &pod.metadata;
    let one = |map: Option<&BTreeMap<String, String>>, key: &str| map.and_then(|map| map.get(key)).cloned();
    match subscripted(path) {
        Some(("metadata.annotations", key)) => {
            return Ok(one(metadata.annotations.as_ref(), key).unwrap_or_default());
        }
        Some(("metadata.labels", key)) => return Ok(one(metadata.labels.as_ref(), key).unwrap_or_default()),
        Some(_) => return Err(PlanError::FieldSubscript { path: path.to_owned() }),
        None => {}
    }
    match path {
        "metadata.annotations" => Ok(lines(metadata.annotations.as_ref())),
        "metadata.labels" => Ok(lines(metadata.labels.as_ref())),
        "metadata.name" => Ok(name(pod).to_owned()),
        "metadata.namespace" => Ok(namespace(pod).to_owned()),
        "metadata.uid" => Ok(metadata.uid.clone().unwrap_or_default()),
        _ => Err(PlanError::FieldPath { path: path.to_owned() }),
    }
}

/// Path and key of `metadata.labels['key']`.
fn subscripted(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['").filter(|(path, _)| !path.is_empty())
}

/// One `key="value"` a line, sorted, without an end of line at the end.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// In quotes as Go writes them.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            _ if is_printable(character) => quoted.push(character),
            _ => push_escape(&mut quoted, character),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether the standard library too would show it as it is. A mark that joins what is before it counts as printable
/// only when something is, as here.
fn is_printable(character: char) -> bool {
    let text: String = ['a', character].iter().collect();
    text.escape_debug().skip(1).eq([character]) || character == '\''
}

fn push_escape(quoted: &mut String, character: char) {
    let code = u32::from(character);
    let written = match code {
        0..=0x7f => write!(quoted, "\\x{code:02x}"),
        0x80..=0xffff => write!(quoted, "\\u{code:04x}"),
        _ => write!(quoted, "\\U{code:08x}"),
    };
    written.expect("a string takes all that is written");
}

/// A request or limit in units of the divisor, rounded up. It is the named container's, else that of `own`.
pub(super) fn resource(
    context: &PodContext<'_>,
    selector: &ResourceFieldSelector,
    own: Option<&Container>,
    default: LimitDefault,
) -> Result<String, PlanError> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match (named, own) {
        (None, Some(own)) => own,
        (named, _) => {
            let name = named.unwrap_or_default();
            let found = lasting_containers(context.spec()).find(|container| container.name == name);
            found.ok_or_else(|| PlanError::ContainerNotFound { name: name.to_owned() })?
        }
    };
    let unknown = || PlanError::ContainerResource { resource: selector.resource.clone() };
    let (kind, resource) = selector.resource.split_once('.').ok_or_else(unknown)?;
    if !matches!(resource, "cpu" | "memory" | "ephemeral-storage") && !resource.starts_with("hugepages-") {
        return Err(unknown());
    }
    let resources = container.resources.as_ref();
    let value = match kind {
        "requests" => resources.and_then(|resources| request(resources, resource)),
        "limits" => resources
            .and_then(|resources| amount(resources.limits.as_ref(), resource))
            .or_else(|| limit_default(context, resource, default)),
        _ => return Err(unknown()),
    };
    let divisor = selector.divisor.as_ref().and_then(|divisor| divisor.0.parse::<Quantity>().ok());
    let divisor = divisor.filter(|divisor| *divisor > Quantity::ZERO).unwrap_or_else(one);
    let value = value.unwrap_or(Quantity::ZERO);
    let units = if resource == "cpu" {
        value.to_milli_cpu().0.div_ceil(divisor.to_milli_cpu().0.max(1))
    } else {
        value.to_bytes().0.div_ceil(divisor.to_bytes().0.max(1))
    };
    Ok(units.to_string())
}

fn one() -> Quantity {
    "1".parse().expect("one is a quantity")
}

fn limit_default(context: &PodContext<'_>, resource: &str, default: LimitDefault) -> Option<Quantity> {
    let of_pod = || amount(context.spec().resources.as_ref()?.limits.as_ref(), resource);
    let of_machine = || {
        let machine = context.facts.machine;
        let text = match resource {
            "cpu" => format!("{}m", machine.cpu.0),
            "memory" => format!("{}Mi", machine.memory.0),
            "ephemeral-storage" => Bytes::from(machine.scratch).0.to_string(),
            _ => return None,
        };
        text.parse().ok()
    };
    match default {
        LimitDefault::PodThenMachine => of_pod().or_else(of_machine),
        LimitDefault::Machine => of_machine(),
    }
}
