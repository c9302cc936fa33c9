//! What a container may use: its own limits, else those of the Pod, never more than the microVM has.
//!
//! A limit above the microVM's size cannot be kept by anyone; it is clamped and no error.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use monopod_agent_proto::v1;
use monopod_policy::sizing::{Limits, effective_limits};
use monopod_types::Quantity;

use super::context::PodContext;
use super::error::PlanError;
use super::quality::oom_score_adjustment;

/// The resources of a container, as the guest enforces them.
pub(super) fn resources(context: &PodContext<'_>, container: &Container) -> Result<v1::Resources, PlanError> {
    let machine = context.facts.machine;
    let limits = effective_limits(context.pod, machine.shape(), machine.scratch)?;
    // Ephemeral containers are not listed and have no limits.
    let own = limits.containers.iter().find(|limits| limits.container == container.name);
    let own = own.map_or_else(Limits::default, |own| own.limits);
    let cpu_limit = own.cpu.or(limits.pod.cpu).map_or(0, |limit| limit.0);
    let requested = container.resources.as_ref().and_then(|resources| amount(resources.requests.as_ref(), "cpu"));
    let cpu_request = requested.map_or(cpu_limit, |requested| requested.to_milli_cpu().0);
    Ok(v1::Resources {
        cpu_request_millis: cpu_request,
        cpu_limit_millis: cpu_limit,
        memory_limit: own.memory.or(limits.pod.memory).map_or(0, |limit| limit.0),
        oom_score_adj: oom_score_adjustment(context.pod, container, machine.memory_bytes()),
    })
}

/// An amount that is stated and more than nothing. One that cannot be read counts as not stated: sizes are checked
/// before a Pod is taken.
pub(super) fn amount(list: Option<&BTreeMap<String, Written>>, name: &str) -> Option<Quantity> {
    amount_of(list?.get(name)?)
}

/// The same of one quantity.
pub(super) fn amount_of(written: &Written) -> Option<Quantity> {
    written.0.parse::<Quantity>().ok().filter(|amount| *amount > Quantity::ZERO)
}

/// A request, for which a limit stands in as in the API server.
pub(super) fn request(resources: &ResourceRequirements, name: &str) -> Option<Quantity> {
    match resources.requests.as_ref().and_then(|requests| requests.get(name)) {
        Some(_) => amount(resources.requests.as_ref(), name),
        None => amount(resources.limits.as_ref(), name),
    }
}
