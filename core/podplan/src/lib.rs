//! The kubelet's decisions about one Pod: run plan, volumes, restarts, probes, status.
//!
//! [`plan`] turns a Pod and the objects that it refers to into what the guest agent is asked to do; [`life`] decides when.
//! Both are pure: whoever calls (the host daemon) brings time and objects, and carries the answers out.

pub mod life;
pub mod plan;
