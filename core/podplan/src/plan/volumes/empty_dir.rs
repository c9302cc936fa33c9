//! emptyDir volumes (kubelet, `calculateEmptyDirMemorySize`).

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource};
use monopod_agent_proto::v1::EmptyDir;
use monopod_types::Bytes;

use super::super::context::PodContext;
use super::super::lookup::is_sidecar;
use super::super::resources::{amount, amount_of};
use super::error::VolumeProblem;

pub(super) fn of(context: &PodContext<'_>, source: &EmptyDirVolumeSource) -> Result<EmptyDir, VolumeProblem> {
    match source.medium.as_deref() {
        None | Some("") => Ok(EmptyDir { in_memory: false, size_limit: 0 }),
        Some("Memory") => {
            let own = source.size_limit.as_ref().and_then(amount_of).map(|limit| limit.to_bytes());
            let bounds = [own, memory_limit(context), Some(context.facts.machine.memory_bytes())];
            let least = bounds.into_iter().flatten().min().unwrap_or_default();
            Ok(EmptyDir { in_memory: true, size_limit: least.0 })
        }
        Some(medium) => Err(VolumeProblem::Medium(medium.to_owned())),
    }
}

/// What the Pod's containers may use together; nothing where one of them has no limit.
fn memory_limit(context: &PodContext<'_>) -> Option<Bytes> {
    let spec = context.spec();
    let of_pod = spec.resources.as_ref().and_then(|resources| amount(resources.limits.as_ref(), "memory"));
    if let Some(limit) = of_pod {
        return Some(limit.to_bytes());
    }
    let (sidecars, starting): (Vec<&Container>, Vec<&Container>) =
        spec.init_containers.iter().flatten().partition(|container| is_sidecar(container));
    let running = spec.containers.iter().chain(sidecars.iter().copied()).map(limit).sum::<Option<u64>>()?;
    let beside = sidecars.into_iter().map(limit).sum::<Option<u64>>()?;
    let starting = starting.into_iter().map(limit).collect::<Option<Vec<u64>>>()?;
    let starting = starting.into_iter().max().map_or(0, |largest| largest.saturating_add(beside));
    Some(Bytes(running.max(starting)))
}

fn limit(container: &Container) -> Option<u64> {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    // Far below overflow: the sum of what fits into a microVM.
    amount(limits, "memory").map(|limit| limit.to_bytes().0.min(1 << 50))
}
