//! What tests share: fakes behind the seams, images, registries, network namespaces.

pub mod cluster;
pub mod disk;
pub mod guest;
pub mod image_source;
pub mod images;
pub mod net;
pub mod netns;
pub mod nfs;
pub mod registry;
pub mod remains;
pub mod vmm;
pub mod wait;
