//! What Pods use.

use futures_util::future::join_all;
use monopod_agent_proto::v1::{self as agent};
use monopod_host_proto::v1 as proto;
use tonic::Status;

use super::convert::{self, status};
use crate::error::HostError;
use crate::host::Host;
use crate::pod::PodHandle;

pub(super) async fn stats(host: &Host, request: proto::StatsRequest) -> Result<proto::StatsResponse, Status> {
    let disk_usage = request.disk_usage;
    if let Some(name) = request.pod {
        let handle = host.pod(&convert::pod_name(Some(name))?).map_err(status)?;
        let stats = of_pod(&handle, disk_usage).await.map_err(status)?;
        return Ok(proto::StatsResponse { pods: vec![stats] });
    }
    let pods = host.pods();
    let all = join_all(pods.iter().map(|handle| of_pod(handle, disk_usage))).await;
    // A Pod that does not run, or not any more, uses nothing.
    Ok(proto::StatsResponse { pods: all.into_iter().filter_map(Result::ok).collect() })
}

async fn of_pod(handle: &PodHandle, disk_usage: bool) -> Result<proto::PodStats, HostError> {
    let shared = &handle.shared;
    let sandbox = shared.sandbox().ok_or_else(|| HostError::NotRunning(shared.name.clone()))?;
    let stats = sandbox.agent.stats(disk_usage).await?;
    let overhead = sandbox.vm.overhead().await.map_or(0, |overhead| overhead.0 << 20);
    let network = stats.network.unwrap_or_default();
    let scratch = stats.scratch.unwrap_or_default();
    Ok(proto::PodStats {
        name: Some(convert::name(&shared.name)),
        time: stats.time,
        usage: stats.pod.map(usage),
        containers: stats.containers.into_iter().map(container).collect(),
        received_bytes: network.received_bytes,
        sent_bytes: network.sent_bytes,
        size: Some(convert::size(shared.size)),
        disk_used: scratch.used,
        disk_capacity: scratch.capacity,
        overhead,
        agent_memory: stats.agent_memory,
        memory_total: stats.memory_total,
        memory_available: stats.memory_available,
    })
}

fn container(stats: agent::ContainerStats) -> proto::ContainerUsage {
    proto::ContainerUsage {
        name: stats.name,
        usage: stats.usage.map(usage),
        disk_used: stats.root.map_or(0, |root| root.used),
    }
}

fn usage(usage: agent::CpuMemory) -> proto::Usage {
    proto::Usage {
        cpu_nanoseconds: usage.cpu_nanoseconds,
        memory_usage: usage.memory_usage,
        memory_working_set: usage.memory_working_set,
        memory_rss: usage.memory_rss,
        processes: usage.processes,
    }
}
