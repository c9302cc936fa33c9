//! The Kubernetes objects of Monopod (`monopod.dev/v1`) and every name that it shares with the cluster.
//!
//! Called by all layers above. The CRD YAML in deploy/crds is generated from here by `cargo xtask codegen`.

mod condition;
mod crd;
#[expect(unreachable_pub, clippy::duplicated_attributes, reason = "the derives of kube copy structs and repeat keys")]
mod host;
mod microvm;
pub mod names;
mod problem;
#[expect(unreachable_pub, clippy::duplicated_attributes, reason = "the derives of kube copy structs and repeat keys")]
mod profile;
#[expect(unreachable_pub, clippy::duplicated_attributes, reason = "the derives of kube copy structs and repeat keys")]
mod subnet;
#[cfg(test)]
mod tests;

pub use condition::Verdict;
pub use crd::{CrdFile, crd_yaml, crds};
pub use host::{Accelerator, AcceleratorKind, AddressBlock, Host, HostResources, HostSpec, HostStatus};
pub use microvm::{Microvm, MicrovmPod};
pub use problem::{FieldProblem, is_dns_subdomain};
pub use profile::{
    FargateProfile, FargateProfileSpec, FargateProfileStatus, MAX_LABEL_PAIRS, MAX_SELECTORS, ProfilePhase, Rejection,
    Selector, Sizing, WaitingPods,
};
pub use subnet::{HandedOutBlock, Subnet, SubnetDns, SubnetOverlap, SubnetSpec, SubnetStatus, overlaps};
