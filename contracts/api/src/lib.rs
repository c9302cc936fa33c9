//! The Kubernetes objects of Monopod (`monopod.dev/v1`) and every name that it shares with the cluster.
//!
//! Called by all layers above. The CRD YAML in deploy/crds is generated from here by `cargo xtask codegen`.

pub mod names;
mod profile;

pub use profile::{FargateProfile, FargateProfileSpec, FargateProfileStatus, ProfilePhase, Selector, Sizing};
