//! Claims about plans: each names a behaviour of the kubelet 1.37 or of containerd.

mod containers;
mod environment;
mod files;
mod golden;
mod limits;
mod network;
mod properties;
mod security;
mod support;
mod volumes;
