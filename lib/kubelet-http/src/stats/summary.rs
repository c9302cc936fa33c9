//! `/stats/summary`, in the form of kubelet's `stats/v1alpha1`.

use jiff::Timestamp;
use serde::Serialize;

use super::{ContainerStats, FileSystemUsage, NetworkUsage, NodeStats, PodStats, Usage};

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    node: Node,
    pods: Vec<Pod>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    node_name: String,
    start_time: String,
    cpu: Cpu,
    memory: Memory,
    network: Network,
    fs: FileSystem,
    runtime: Runtime,
    rlimit: Empty,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Runtime {
    image_fs: FileSystem,
}

#[derive(Debug, Serialize)]
struct Empty {}

#[derive(Debug, Serialize)]
struct Reference {
    name: String,
    namespace: String,
    uid: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    pod_ref: Reference,
    start_time: String,
    containers: Vec<Container>,
    cpu: Cpu,
    memory: Memory,
    network: Network,
    #[serde(rename = "ephemeral-storage")]
    ephemeral_storage: FileSystem,
    #[serde(rename = "process_stats")]
    process_stats: Processes,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    start_time: String,
    cpu: Cpu,
    memory: Memory,
    rootfs: FileSystem,
    logs: FileSystem,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cpu {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_nano_cores: Option<u64>,
    usage_core_nano_seconds: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    available_bytes: Option<u64>,
    usage_bytes: u64,
    working_set_bytes: u64,
    rss_bytes: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Network {
    time: String,
    name: String,
    rx_bytes: u64,
    tx_bytes: u64,
    interfaces: Vec<Interface>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    name: String,
    rx_bytes: u64,
    tx_bytes: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FileSystem {
    time: String,
    available_bytes: u64,
    capacity_bytes: u64,
    used_bytes: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Processes {
    #[serde(rename = "process_count")]
    count: u64,
}

/// Times of the API have seconds.
fn shown(time: Timestamp) -> String {
    format!("{time:.0}")
}

fn cpu(usage: &Usage) -> Cpu {
    Cpu {
        time: shown(usage.time),
        usage_nano_cores: usage.cpu_nanocores,
        usage_core_nano_seconds: usage.cpu_nanoseconds,
    }
}

fn memory(usage: &Usage) -> Memory {
    Memory {
        time: shown(usage.time),
        available_bytes: usage.memory_available,
        usage_bytes: usage.memory_usage,
        working_set_bytes: usage.memory_working_set,
        rss_bytes: usage.memory_rss,
    }
}

fn network(usage: &NetworkUsage, time: Timestamp) -> Network {
    let NetworkUsage { interface, received_bytes: rx_bytes, sent_bytes: tx_bytes } = usage.clone();
    let only = Interface { name: interface.clone(), rx_bytes, tx_bytes };
    Network { time: shown(time), name: interface, rx_bytes, tx_bytes, interfaces: vec![only] }
}

fn file_system(used: u64, disk: &FileSystemUsage, time: Timestamp) -> FileSystem {
    let available_bytes = disk.capacity.saturating_sub(disk.used);
    FileSystem { time: shown(time), available_bytes, capacity_bytes: disk.capacity, used_bytes: used }
}

fn container(stats: &ContainerStats, disk: &FileSystemUsage) -> Container {
    let time = stats.usage.time;
    Container {
        name: stats.name.clone(),
        start_time: shown(stats.started),
        cpu: cpu(&stats.usage),
        memory: memory(&stats.usage),
        rootfs: file_system(stats.root_used, disk, time),
        logs: file_system(stats.log_used, disk, time),
    }
}

fn pod(stats: &PodStats) -> Pod {
    let time = stats.usage.time;
    let PodStats { name, namespace, uid, .. } = stats.clone();
    Pod {
        pod_ref: Reference { name, namespace, uid },
        start_time: shown(stats.started),
        containers: stats.containers.iter().map(|one| container(one, &stats.disk)).collect(),
        cpu: cpu(&stats.usage),
        memory: memory(&stats.usage),
        network: network(&stats.network, time),
        ephemeral_storage: file_system(stats.disk.used, &stats.disk, time),
        process_stats: Processes { count: stats.usage.processes },
    }
}

/// The summary of a node.
pub(crate) fn summary(name: &str, stats: &NodeStats) -> Summary {
    let time = stats.usage.time;
    let disk = || file_system(stats.disk.used, &stats.disk, time);
    Summary {
        node: Node {
            node_name: name.to_owned(),
            start_time: shown(stats.started),
            cpu: cpu(&stats.usage),
            memory: memory(&stats.usage),
            network: network(&stats.network, time),
            fs: disk(),
            runtime: Runtime { image_fs: disk() },
            rlimit: Empty {},
        },
        pods: stats.pods.iter().map(pod).collect(),
    }
}
