//! Quality of service of a Pod, and what follows from it for the kernel's choice when memory runs out (kubelet,
//! `qos.GetContainerOOMScoreAdjust`).

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use monopod_types::{Bytes, Quantity};

use super::context::spec;
use super::lookup::{is_sidecar, lasting_containers};
use super::resources::{amount, request};

/// Quality of service class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    /// Every container has limits of CPU and memory, and requests as much.
    Guaranteed,
    /// Some container requests something.
    Burstable,
    /// No container requests anything.
    BestEffort,
}

const GUARANTEED_SCORE: i64 = -997;
const BEST_EFFORT_SCORE: i64 = 1000;
/// The lowest for a burstable container: above what a guaranteed one can reach by its use of memory.
const LEAST_BURSTABLE_SCORE: i64 = 1000 + GUARANTEED_SCORE;
const CLASSIFIED: [&str; 2] = ["cpu", "memory"];

impl QosClass {
    /// As in `status.qosClass`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The class of a Pod: what its status says, or what its resources say.
pub fn qos_class(pod: &Pod) -> QosClass {
    match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        Some("Guaranteed") => return QosClass::Guaranteed,
        Some("Burstable") => return QosClass::Burstable,
        Some("BestEffort") => return QosClass::BestEffort,
        Some(_) | None => {}
    }
    let spec = spec(pod);
    if let Some(resources) = spec.resources.as_ref().filter(|resources| says_anything(resources)) {
        return class_of(Some(resources));
    }
    let mut classes = lasting_containers(spec).map(|container| class_of(container.resources.as_ref()));
    let first = classes.next().unwrap_or(QosClass::BestEffort);
    if classes.all(|class| class == first) { first } else { QosClass::Burstable }
}

fn says_anything(resources: &ResourceRequirements) -> bool {
    let is_stated = |list: &Option<BTreeMap<String, Written>>| list.as_ref().is_some_and(|list| !list.is_empty());
    is_stated(&resources.limits) || is_stated(&resources.requests)
}

fn class_of(resources: Option<&ResourceRequirements>) -> QosClass {
    let limit = |name: &str| resources.and_then(|resources| amount(resources.limits.as_ref(), name));
    let stated = |name: &str| resources.and_then(|resources| request(resources, name));
    let is_guaranteed = |name: &&str| limit(name).is_some() && limit(name) == stated(name);
    if CLASSIFIED.iter().all(is_guaranteed) {
        QosClass::Guaranteed
    } else if CLASSIFIED.iter().any(|name| limit(name).is_some() || stated(name).is_some()) {
        QosClass::Burstable
    } else {
        QosClass::BestEffort
    }
}

/// `oom_score_adj` of a container's processes on a machine with so much memory.
pub(super) fn oom_score_adjustment(pod: &Pod, container: &Container, memory: Bytes) -> i32 {
    let spec = spec(pod);
    let is_critical = spec.priority_class_name.as_deref() == Some("system-node-critical");
    let score = match qos_class(pod) {
        _ if is_critical => GUARANTEED_SCORE,
        QosClass::Guaranteed => GUARANTEED_SCORE,
        QosClass::BestEffort => BEST_EFFORT_SCORE,
        QosClass::Burstable => burstable_score(pod, container, memory),
    };
    i32::try_from(score).expect("scores are between -997 and 1000")
}

/// The more of the machine's memory a container requests, the less it is a target.
fn burstable_score(pod: &Pod, container: &Container, memory: Bytes) -> i64 {
    let share = share_of_pod_request(pod);
    let of_request = |requested: u64| {
        let part = u128::from(requested.saturating_add(share)) * 1000 / u128::from(memory.0.max(1));
        1000_i64.saturating_sub(i64::try_from(part).unwrap_or(i64::MAX))
    };
    let mut score = of_request(memory_request(container));
    if is_sidecar(container) {
        // A sidecar outlives the containers that need it.
        let least = spec(pod).containers.iter().map(memory_request).min().unwrap_or_default();
        score = score.min(of_request(least));
    }
    score.clamp(LEAST_BURSTABLE_SCORE, BEST_EFFORT_SCORE - 1)
}

/// What the Pod as a whole requests beyond its containers, to each of them the same.
fn share_of_pod_request(pod: &Pod) -> u64 {
    let spec = spec(pod);
    let of_pod = spec.resources.as_ref().and_then(|resources| request(resources, "memory"));
    let Some(of_pod) = of_pod.map(Quantity::to_bytes) else { return 0 };
    let init: Vec<&Container> = spec.init_containers.iter().flatten().collect();
    let containers = spec.containers.len() + init.len();
    let running: u64 = spec.containers.iter().map(memory_request).sum();
    let mut sidecars = 0_u64;
    let mut starting = 0_u64;
    for container in init {
        if is_sidecar(container) {
            sidecars = sidecars.saturating_add(memory_request(container));
            starting = starting.max(sidecars);
        } else {
            starting = starting.max(sidecars.saturating_add(memory_request(container)));
        }
    }
    let of_containers = running.saturating_add(sidecars).max(starting);
    of_pod.0.saturating_sub(of_containers) / u64::try_from(containers.max(1)).unwrap_or(u64::MAX)
}

fn memory_request(container: &Container) -> u64 {
    let requested = container.resources.as_ref().and_then(|resources| request(resources, "memory"));
    requested.map_or(0, |amount| amount.to_bytes().0)
}
