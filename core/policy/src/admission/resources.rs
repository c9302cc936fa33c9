//! Resources that a microVM does not have: GPUs, huge pages, every other extended resource, claimed devices.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::containers::ContainerView;
use super::{Kind, Violation};

/// What every microVM has.
const KNOWN: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Requests and limits of the Pod and of every container, and resource claims.
pub(super) fn check(spec: &PodSpec, found: &mut Vec<Violation>) {
    if let Some(resources) = &spec.resources {
        check_requirements(resources, "the Pod", |field| format!("spec.{field}"), found);
    }
    for container in ContainerView::all(spec) {
        check_container(&container, found);
    }
    for (index, claim) in spec.resource_claims.iter().flatten().enumerate() {
        found.push(Violation {
            kind: Kind::ResourceClaim,
            field: format!("spec.resourceClaims[{index}]"),
            fragment: format!("claim {}", claim.name),
            message: format!("the Pod claims devices as \"{}\"", claim.name),
        });
    }
}

/// Requests and limits of one container.
pub(super) fn check_container(container: &ContainerView<'_>, found: &mut Vec<Violation>) {
    if let Some(resources) = container.resources {
        let who = format_args!("container \"{}\"", container.name);
        check_requirements(resources, who, |field| container.path(field), found);
    }
}

/// One violation per resource: the limit where there is one, because Kubernetes demands that both are equal.
fn check_requirements(
    resources: &ResourceRequirements,
    who: impl std::fmt::Display + Copy,
    path: impl Fn(&str) -> String,
    found: &mut Vec<Violation>,
) {
    let limits = resources.limits.as_ref();
    for name in unknown_names(limits) {
        found.push(violation(name, who, path(&format!("resources.limits[{name}]"))));
    }
    let is_in_limits = |name: &str| limits.is_some_and(|limits| limits.get(name).is_some_and(|limit| !is_zero(limit)));
    for name in unknown_names(resources.requests.as_ref()).filter(|name| !is_in_limits(name)) {
        found.push(violation(name, who, path(&format!("resources.requests[{name}]"))));
    }
}

fn unknown_names(amounts: Option<&BTreeMap<String, Quantity>>) -> impl Iterator<Item = &str> {
    amounts
        .into_iter()
        .flatten()
        .filter(|(name, amount)| !KNOWN.contains(&name.as_str()) && !is_zero(amount))
        .map(|(name, _)| name.as_str())
}

/// Nothing of a resource is asked for, as charts write it for `nvidia.com/gpu: 0`; Kubernetes schedules it anywhere.
fn is_zero(amount: &Quantity) -> bool {
    let digits = amount.0.trim_start_matches(['+', '-']);
    let mantissa = digits.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    mantissa.contains('0') && mantissa.chars().all(|c| c == '0' || c == '.')
}

fn violation(name: &str, who: impl std::fmt::Display, field: String) -> Violation {
    let kind = kind_of(name);
    let message = format!("{who} asks for the resource {name}");
    Violation { kind, field, fragment: name.to_owned(), message }
}

fn kind_of(name: &str) -> Kind {
    let (vendor, device) = name.split_once('/').unwrap_or(("", name));
    if name.starts_with("hugepages-") {
        return Kind::HugePages;
    }
    // Vendors slice their devices under many names (nvidia.com/mig-1g.5gb, gpu.intel.com/i915).
    if vendor == "nvidia.com" || vendor.contains("gpu") || device.contains("gpu") {
        return Kind::Gpu;
    }
    Kind::ExtendedResource
}
