//! Whether a Pod uses more disk than it may.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use monopod_agent_proto::v1::{Filesystem, GetStatsResponse};
use monopod_podplan::life::Event;
use monopod_types::Quantity as Exact;

use super::Sandbox;
use super::work::Work;

/// Holds disk usage against limits for as long as the microVM runs. A Pod without limits is never measured.
pub(super) async fn watch(work: Work, sandbox: std::sync::Arc<Sandbox>) {
    if !has_limits(&work.pod) {
        return;
    }
    let mut due = tokio::time::interval(work.machine.settings.eviction_period.max(Duration::from_millis(100)));
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let watching = async {
        loop {
            due.tick().await;
            let Ok(usage) = sandbox.agent.stats(true).await else { continue };
            let logs = |container: &str| work.shared.logs.size(container);
            if let Some(message) = broken_limit(&work.pod, &usage, &logs) {
                tracing::info!(pod = %work.shared.name, message, "evicted");
                work.tell(Event::Evict { reason: "Evicted".to_owned(), message }).await;
                return;
            }
        }
    };
    let _: Option<()> = sandbox.gone.run_until_cancelled(watching).await;
}

/// The kubelet's words about the first limit that is broken: volumes, then the Pod, then containers.
fn broken_limit(pod: &Pod, usage: &GetStatsResponse, logs: &dyn Fn(&str) -> u64) -> Option<String> {
    let used_by = |filesystem: Option<&Filesystem>| filesystem.map_or(0, |filesystem| filesystem.used);
    let spec = pod.spec.as_ref()?;
    for volume in spec.volumes.iter().flatten() {
        let Some(limit) = volume.empty_dir.as_ref().and_then(|source| source.size_limit.as_ref()) else { continue };
        let used = usage.volumes.iter().find(|used| used.name == volume.name).and_then(|used| used.usage.as_ref());
        if is_over(used_by(used), limit) {
            let (name, limit) = (&volume.name, &limit.0);
            return Some(format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{limit}\". "));
        }
    }
    let of_container = |container: &Container| {
        let own = usage.containers.iter().filter(|used| used.name == container.name);
        own.map(|used| used_by(used.root.as_ref())).sum::<u64>() + logs(&container.name)
    };
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let limits: Vec<_> = spec.containers.iter().filter_map(limit).collect();
    // Only when each container has a limit is there one for the Pod.
    if !limits.is_empty() && limits.len() == spec.containers.len() {
        let total: u64 = limits.iter().filter_map(|limit| bytes(limit)).sum();
        let on_disk = |name: &str| {
            let volume = spec.volumes.iter().flatten().find(|volume| volume.name == name);
            volume
                .and_then(|volume| volume.empty_dir.as_ref())
                .is_some_and(|dir| dir.medium.as_deref() != Some("Memory"))
        };
        let volumes = usage.volumes.iter().filter(|volume| on_disk(&volume.name));
        let used = volumes.map(|volume| used_by(volume.usage.as_ref())).sum::<u64>()
            + containers().map(of_container).sum::<u64>();
        if used > total {
            let shown = shown_bytes(total);
            return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {shown}. "));
        }
    }
    containers().find_map(|container| {
        let limit = limit(container)?;
        let (name, shown) = (&container.name, &limit.0);
        is_over(of_container(container), limit)
            .then(|| format!("Container {name} exceeded its local ephemeral storage limit \"{shown}\". "))
    })
}

fn has_limits(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let limited_volume = spec
        .volumes
        .iter()
        .flatten()
        .any(|volume| volume.empty_dir.as_ref().is_some_and(|source| source.size_limit.is_some()));
    limited_volume || spec.init_containers.iter().flatten().chain(&spec.containers).any(|one| limit(one).is_some())
}

fn limit(container: &Container) -> Option<&Quantity> {
    container.resources.as_ref()?.limits.as_ref()?.get("ephemeral-storage")
}

fn bytes(quantity: &Quantity) -> Option<u64> {
    quantity.0.parse::<Exact>().ok().map(|exact| exact.to_bytes().0)
}

/// A limit of zero is none.
fn is_over(used: u64, limit: &Quantity) -> bool {
    bytes(limit).is_some_and(|limit| limit > 0 && used > limit)
}

/// An amount as a quantity in its shortest form.
fn shown_bytes(amount: u64) -> String {
    let units = [(1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    let unit = units.into_iter().find(|(unit, _)| amount >= *unit && amount.is_multiple_of(*unit));
    unit.map_or_else(|| amount.to_string(), |(unit, name)| format!("{}{name}", amount / unit))
}

#[cfg(test)]
mod tests {
    use monopod_agent_proto::v1::{ContainerStats, Filesystem, GetStatsResponse, VolumeStats};
    use serde_json::json;

    use super::{Pod, broken_limit, has_limits};

    const MIB: u64 = 1 << 20;

    fn pod() -> Pod {
        serde_json::from_value(json!({"spec": {
            "containers": [
                {"name": "web", "resources": {"limits": {"ephemeral-storage": "10Mi"}}},
                {"name": "side", "resources": {"limits": {"ephemeral-storage": "20Mi"}}}],
            "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "15Mi"}}, {"name": "free", "emptyDir": {}}]}}))
        .unwrap()
    }

    fn check(web: u64, cache: u64, free: u64, expected: Option<&str>) {
        let usage = |used| Some(Filesystem { used, ..Filesystem::default() });
        let volume = |name: &str, used| VolumeStats { name: name.to_owned(), usage: usage(used) };
        let container = ContainerStats { name: "web".to_owned(), root: usage(web), ..ContainerStats::default() };
        let stats = GetStatsResponse {
            containers: vec![container],
            volumes: vec![volume("cache", cache), volume("free", free)],
            ..GetStatsResponse::default()
        };
        assert_eq!(broken_limit(&pod(), &stats, &|_| MIB).as_deref(), expected);
    }

    #[test]
    fn each_limit_has_the_kubelets_words() {
        check(MIB, 15 * MIB, 0, None);
        check(MIB, 15 * MIB + 1, 0, Some("Usage of EmptyDir volume \"cache\" exceeds the limit \"15Mi\". "));
        let pod = "Pod ephemeral local storage usage exceeds the total limit of containers 30Mi. ";
        check(MIB, 15 * MIB, 13 * MIB, Some(pod));
        check(10 * MIB, 0, 0, Some("Container web exceeded its local ephemeral storage limit \"10Mi\". "));
    }

    #[test]
    fn a_pod_without_limits_is_not_measured() {
        assert!(has_limits(&pod()));
        let plain = json!({"spec": {"containers": [{"name": "web"}], "volumes": [{"name": "x", "emptyDir": {}}]}});
        assert!(!has_limits(&serde_json::from_value(plain).unwrap()));
    }
}
