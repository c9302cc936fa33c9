//! What a microVM and its containers use, and what probes have answered.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use monopod_agent_proto::v1 as agent;
use monopod_kubelet_http::{ContainerStats, FileSystemUsage, NetworkUsage, NodeStats, PodStats, Usage};

use crate::pod::{PodHandle, ProbeCounts};

/// The interface of every guest.
const INTERFACE: &str = "eth0";
/// A rate is taken over at least this many nanoseconds; more frequent questions get the last one.
const SHORTEST: u64 = 1_000_000_000;

/// Processor times at two moments, by container; the Pod's own under the empty name.
#[derive(Debug, Default)]
pub(super) struct Samples(BTreeMap<String, Sample>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    time: u64,
    cpu: u64,
    rate: Option<u64>,
}

impl Samples {
    /// Takes a measurement; processor nanoseconds per second since the last one.
    fn rate(&mut self, name: &str, time: u64, cpu: u64) -> Option<u64> {
        let Some(before) = self.0.get_mut(name).filter(|before| before.cpu <= cpu && before.time <= time) else {
            // The first, or the first of a container that was restarted.
            self.0.insert(name.to_owned(), Sample { time, cpu, rate: None });
            return None;
        };
        let passed = time - before.time;
        if passed < SHORTEST {
            return before.rate;
        }
        let rate = u128::from(cpu - before.cpu) * 1_000_000_000 / u128::from(passed);
        *before = Sample { time, cpu, rate: u64::try_from(rate).ok() };
        before.rate
    }
}

/// The node of a Pod, from what its guest says.
pub(super) fn node(handle: &PodHandle, stats: agent::GetStatsResponse, samples: &mut Samples) -> NodeStats {
    let shared = &handle.shared;
    let pod = shared.news.pod();
    let started = started(pod.as_deref()).unwrap_or(shared.admitted_at);
    let mut usage = |name: &str, used: agent::CpuMemory| {
        let nanocores = samples.rate(name, stats.time, used.cpu_nanoseconds);
        as_usage(stats.time, &used, nanocores)
    };
    let containers = stats.containers.iter().map(|container| {
        let status = pod.as_deref().and_then(|pod| container_status(pod, &container.name));
        ContainerStats {
            name: container.name.clone(),
            image: status.map(|status| status.image.clone()).unwrap_or_default(),
            started: status.and_then(container_start).unwrap_or(started),
            usage: usage(&container.name, container.usage.unwrap_or_default()),
            root_used: container.root.as_ref().map_or(0, |root| root.used),
            log_used: shared.logs.size(&container.name),
        }
    });
    let containers: Vec<_> = containers.collect();
    let mut whole = usage("", stats.pod.unwrap_or_default());
    whole.memory_available = Some(stats.memory_available);
    let network = stats.network.unwrap_or_default();
    let network = NetworkUsage {
        interface: INTERFACE.to_owned(),
        received_bytes: network.received_bytes,
        sent_bytes: network.sent_bytes,
    };
    let scratch = stats.scratch.unwrap_or_default();
    let disk = FileSystemUsage { used: scratch.used, capacity: scratch.capacity };
    let pod = PodStats {
        namespace: shared.name.namespace.clone(),
        name: shared.name.name.clone(),
        uid: shared.uid.clone(),
        started,
        usage: whole.clone(),
        network: network.clone(),
        disk: disk.clone(),
        containers,
    };
    NodeStats {
        started: shared.admitted_at,
        usage: whole,
        network,
        disk,
        cores: shared.size.milli_cpu.div_ceil(1000),
        memory: stats.memory_total,
        pods: vec![pod],
    }
}

/// The node of a Pod that does not run.
pub(super) fn idle(handle: &PodHandle) -> NodeStats {
    let shared = &handle.shared;
    NodeStats {
        started: shared.admitted_at,
        usage: Usage { time: Timestamp::now(), cpu_nanocores: Some(0), ..Usage::default() },
        network: NetworkUsage { interface: INTERFACE.to_owned(), ..NetworkUsage::default() },
        cores: shared.size.milli_cpu.div_ceil(1000),
        memory: shared.size.memory_mib << 20,
        ..NodeStats::default()
    }
}

fn as_usage(time: u64, used: &agent::CpuMemory, cpu_nanocores: Option<u64>) -> Usage {
    Usage {
        time: Timestamp::from_nanosecond(i128::from(time)).unwrap_or_else(|_| Timestamp::now()),
        cpu_nanoseconds: used.cpu_nanoseconds,
        cpu_nanocores,
        memory_usage: used.memory_usage,
        memory_working_set: used.memory_working_set,
        memory_rss: used.memory_rss,
        memory_available: None,
        processes: used.processes,
    }
}

fn started(pod: Option<&Pod>) -> Option<Timestamp> {
    Some(pod?.status.as_ref()?.start_time.as_ref()?.0)
}

fn container_status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    all.into_iter().flatten().flatten().find(|one| one.name == name)
}

fn container_start(status: &ContainerStatus) -> Option<Timestamp> {
    Some(status.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0)
}

/// Counts of probes, as the kubelet shows them.
pub(super) fn probes(handle: &PodHandle) -> String {
    let mut text = "# HELP prober_probe_total Cumulative number of a liveness, readiness or startup probe for a \
                    container by result.\n# TYPE prober_probe_total counter\n"
        .to_owned();
    let shared = &handle.shared;
    let ProbeCounts(counts) = shared.probe_counts();
    for ((container, kind, result), count) in counts {
        // Writing to text cannot fail.
        let _ = writeln!(
            text,
            "prober_probe_total{{container=\"{container}\",namespace=\"{}\",pod=\"{}\",pod_uid=\"{}\",probe_type=\"{kind}\",result=\"{result}\"}} {count}",
            shared.name.namespace, shared.name.name, shared.uid
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn a_rate_is_taken_between_two_measurements_at_least_a_second_apart() {
        let (mut samples, second) = (Samples::default(), 1_000_000_000);
        assert_eq!(samples.rate("a", second, 0), None);
        assert_eq!(samples.rate("a", second + 1, 5), None);
        assert_eq!(samples.rate("a", 3 * second, second), Some(second / 2));
        assert_eq!(samples.rate("a", 3 * second + 1, second + 7), Some(second / 2));
        assert_eq!(samples.rate("b", 3 * second, 0), None);
        // It was restarted.
        assert_eq!(samples.rate("a", 5 * second, 0), None);
    }
}
