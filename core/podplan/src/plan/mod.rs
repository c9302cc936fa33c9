//! What the guest agent is asked for one Pod: files, volumes and containers, as kubelet and containerd would make them.
//!
//! Called by the host daemon when it makes a Pod's microVM ([`personalize`], [`pod_files()`], [`volumes()`]), before each
//! start of a container ([`container_request`]) and when an object that the Pod refers to has changed
//! ([`volumes()`] again, then [`volume_updates`]). The same inputs always give the same requests, in the same order.
//!
//! The guest knows nothing of Kubernetes, so every rule of the kubelet about names, variables, users, limits and files
//! is applied here. Where the kubelet takes the order from a Go map, which is random, the order here is fixed. Texts of
//! errors are those of the kubelet 1.37, because users search for them.

mod container;
mod context;
mod dns;
mod environment;
mod error;
mod expansion;
mod fields;
mod hostname;
mod lookup;
mod mounts;
mod pod_files;
mod quality;
mod references;
mod resources;
mod security;
mod services;
mod shape;
mod sources;
mod user;
mod volumes;

pub use container::{ContainerInstance, container_request, stop_signal};
pub use context::{ImageConfig, PlanSettings, PodContext, Rlimit, RuntimeFacts};
pub use dns::{ClusterDns, DnsSettings, ResolvConf};
pub use environment::{EnvironmentFile, EnvironmentFiles, environment_files};
pub use error::{PlanError, SandboxError};
pub use expansion::expand_references;
pub use hostname::{Hostname, hostname};
pub use lookup::find_container;
pub use pod_files::{Note, PodFilesPlan, personalize, pod_files};
pub use quality::{QosClass, qos_class};
pub use references::{RequiredObjects, required_objects, required_tokens};
pub use shape::{MachineShape, machine_shape};
pub use sources::{Sources, TokenRequest};
pub use volumes::{
    AccessPoint, FileSystem, FileSystems, VolumeError, VolumeErrors, VolumeProblem, empty_dir_limits, possible_volumes,
    volume_updates, volumes,
};

#[cfg(test)]
mod tests;
