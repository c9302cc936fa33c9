//! What the node and its Pods use, and the three forms in which the API shows it.

mod metrics;
mod summary;

use jiff::Timestamp;

pub(crate) use metrics::{cadvisor_metrics, resource_metrics};
pub(crate) use summary::summary;

/// What is used of processor and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// When it was measured.
    pub time: Timestamp,
    /// Processor time since the start.
    pub cpu_nanoseconds: u64,
    /// Processor time per second, where it was measured twice.
    pub cpu_nanocores: Option<u64>,
    /// Memory, with what could be given back.
    pub memory_usage: u64,
    /// Memory without that, which is what limits and autoscaling look at.
    pub memory_working_set: u64,
    /// Memory of processes.
    pub memory_rss: u64,
    /// Memory that is left up to the limit, where there is one.
    pub memory_available: Option<u64>,
    /// Processes.
    pub processes: u64,
}

/// What is used of the network since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkUsage {
    /// The interface.
    pub interface: String,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
}

/// What is used of a file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSystemUsage {
    /// Bytes used.
    pub used: u64,
    /// Bytes in all.
    pub capacity: u64,
}

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerStats {
    /// Its name.
    pub name: String,
    /// The reference of its image.
    pub image: String,
    /// When it started.
    pub started: Timestamp,
    /// Processor and memory.
    pub usage: Usage,
    /// Bytes that it wrote to its root.
    pub root_used: u64,
    /// Bytes of its log on the host.
    pub log_used: u64,
}

/// One Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodStats {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// When it started.
    pub started: Timestamp,
    /// Processor and memory of all of it.
    pub usage: Usage,
    /// Network.
    pub network: NetworkUsage,
    /// Its scratch disk.
    pub disk: FileSystemUsage,
    /// Its containers.
    pub containers: Vec<ContainerStats>,
}

/// The node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// When it started.
    pub started: Timestamp,
    /// Processor and memory of all of it.
    pub usage: Usage,
    /// Network.
    pub network: NetworkUsage,
    /// Where Pods write.
    pub disk: FileSystemUsage,
    /// Processors.
    pub cores: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Its Pods.
    pub pods: Vec<PodStats>,
}
