//! What tests share: fakes behind the seams, images, registries, network namespaces.
