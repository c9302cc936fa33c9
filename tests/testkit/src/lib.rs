//! What tests share: fakes behind the seams, images, registries, network namespaces.

pub mod guest;
pub mod images;
pub mod net;
pub mod netns;
pub mod registry;
pub mod vmm;
pub mod wait;
