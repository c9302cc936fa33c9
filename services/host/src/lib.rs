//! The kubelet of the microVMs of one machine.
//!
//! [`Host`] is the daemon: it takes Pods, runs each in a microVM of its own, keeps them as the kubelet would, and tells
//! about them. [`Socket`] serves it to the command line of the same machine.

mod admission;
mod api;
mod change;
mod cluster;
mod error;
mod host;
mod housekeeping;
mod identity;
mod journal;
mod kubelet_api;
mod logs;
mod machine;
mod metrics;
mod news;
mod objects;
mod pod;
mod ports;
mod probes;
mod settings;

pub use admission::{AdmissionError, Refusal, RefusedFor};
pub use api::{Socket, SocketError};
pub use cluster::{Cluster, ClusterError, ClusterSettings, Connection, HostFacts, NODE_PORTS, machine_memory};
pub use error::HostError;
pub use host::{Host, Parts};
pub use identity::PodName;
pub use journal::JournalError;
pub use metrics::serve_status;
pub use objects::ObjectError;
pub use probes::ProberError;
pub use settings::Settings;
