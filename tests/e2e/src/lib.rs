//! Whole Pods through the host daemon: what its tests share.
//!
//! [`fake`] is a daemon on a machine without guests, for what the daemon itself does right or wrong; [`client`] asks a daemon
//! as the command line does; [`pods`] are what it is asked to run.

pub mod client;
pub mod fake;
pub mod pods;
