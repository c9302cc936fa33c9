//! What objects say, as placement takes it.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use monopod_api::{FargateProfile, WaitingPods, names};
use monopod_policy::decision::{Decision, Outcome};
use monopod_policy::placement::{AddressBlock, ProfileRules, Resources};
use monopod_types::{GiB, HostName, MiB, MilliCpu, PodUid, ProfileName, Quantity, SubnetName};

use super::world::{Answer, Wake};

pub(super) const NOTHING: Resources = Resources { cpu: MilliCpu(0), memory: MiB(0), disk: GiB(0) };

pub(super) fn uid(pod: &Pod) -> Option<PodUid> {
    pod.metadata.uid.as_deref().map(PodUid::new)
}

/// Whether it is for us to find a place for a Pod.
pub(super) fn waits(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let is_ours = spec.is_some_and(|spec| spec.scheduler_name.as_deref() == Some(names::SCHEDULER_NAME));
    let is_bound = spec.is_some_and(|spec| spec.node_name.is_some());
    let is_gated = spec.is_some_and(|spec| spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()));
    is_ours && !is_bound && !is_gated && !has_ended(pod) && pod.metadata.deletion_timestamp.is_none()
}

pub(super) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

pub(super) fn profile_rules(name: &ProfileName, profiles: &BTreeMap<String, FargateProfile>) -> ProfileRules {
    let subnets = profiles.get(name.as_str()).map(|profile| profile.spec.subnets.clone()).unwrap_or_default();
    ProfileRules { name: name.clone(), subnets: subnets.into_iter().map(SubnetName::new).collect() }
}

/// Whether a Pod was there before the profile that would take it, which wants none of those. The webhook labels the others; who
/// has labelled a Pod themselves is told by its age.
pub(super) fn is_ignored(pod: &Pod, profile: &ProfileName, profiles: &BTreeMap<String, FargateProfile>) -> bool {
    let strict = profiles.get(profile.as_str()).filter(|one| one.spec.waiting_pods == WaitingPods::Ignore);
    strict.is_some_and(|profile| {
        let is_labelled = pod.metadata.labels.iter().any(|labels| labels.contains_key(names::PROFILE_LABEL));
        let is_older = pod.metadata.creation_timestamp < profile.metadata.creation_timestamp;
        !is_labelled || is_older
    })
}

/// What such a Pod is told.
pub(super) fn ignored(profile: &ProfileName) -> Answer {
    let profile = profile.as_str();
    let message = format!(
        "profile {profile} takes only pods that are made after it (waitingPods: Ignore); delete the pod, so that it is made again"
    );
    Answer::Wait { reason: "MadeBeforeProfile".to_owned(), message, wakes: BTreeSet::from([Wake::Profile]) }
}

pub(super) fn waiting(decision: &Decision<'_>) -> Answer {
    let wakes = match decision.outcome() {
        Outcome::NotTaken => BTreeSet::from([Wake::Profile]),
        Outcome::Unsupported if decision.verdict.may_change() => BTreeSet::from([Wake::Storage, Wake::Profile]),
        Outcome::Unsupported | Outcome::NoSize | Outcome::Runs => BTreeSet::from([Wake::Profile]),
    };
    Answer::Wait { reason: decision.reason().to_owned(), message: decision.message(), wakes }
}

pub(super) fn read_block(host: &HostName, block: &monopod_api::AddressBlock) -> Option<AddressBlock> {
    let network: IpNet = block.cidr.parse().ok()?;
    let addresses = u32::try_from(network.hosts().take(1 << 16).count()).unwrap_or(u32::MAX);
    Some(AddressBlock { network, subnet: SubnetName::new(&*block.subnet), host: host.clone(), addresses })
}

/// What a host says it has; an amount that cannot be read is none.
pub(super) fn capacity(has: &monopod_api::HostResources) -> Resources {
    let read = |quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| quantity.0.parse::<Quantity>().ok();
    Resources {
        cpu: read(&has.cpu).map_or(MilliCpu(0), Quantity::to_milli_cpu),
        memory: read(&has.memory).map_or(MiB(0), Quantity::to_mib),
        disk: read(&has.ephemeral_storage).map_or(GiB(0), Quantity::to_gib),
    }
}
