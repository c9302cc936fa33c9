//! Addresses, taps, routes, NAT and filters of the microVMs of one host.
//!
//! The host daemon is the caller: [`attach`](HostNet::attach) before a VM starts, [`detach`](HostNet::detach) when it has
//! ended, [`adopt`](HostNet::adopt) after a restart. [`RoutedNet`] is the real one, the fake is in `tests/testkit`.
//!
//! How a guest is connected: it has one address as a /32 on a tap of its own, no bridge, and a gateway on the link,
//! 169.254.1.1, which every tap of the host carries. The host knows the guest's address by a route and a permanent
//! neighbour entry, so it never asks and never believes an answer. Everything between guests goes through the host's
//! routing and its filters. The tap lives as long as somebody holds it open: taps made ahead vanish with the daemon, a
//! tap in use with its VM. Its alias names the Pod, so that a restarted daemon needs no record of its own.

mod config;
#[cfg(feature = "contract")]
pub mod contract;
mod error;
mod links;
mod plan;
mod routed;
mod rules;
mod settings;
mod tap;
mod types;

use std::net::Ipv4Addr;

use async_trait::async_trait;
use monopod_types::PodUid;

pub use config::{HostService, Nat, NetConfig, Outside, Protocol};
pub use error::{NetError, Retry};
pub use routed::RoutedNet;
pub use types::{Attachment, Lease, Mac, PeerBlock, Traffic};

/// Connects microVMs to the network.
#[async_trait]
pub trait HostNet: std::fmt::Debug + Send + Sync + 'static {
    /// Gives a Pod an address and an open tap: the `wanted` address, or any that is free.
    ///
    /// # Guarantees
    /// No two attached Pods have the same address; where none is wanted, one that was given back is given out again after
    /// all others.
    ///
    /// # Errors
    /// When there is no address left, the wanted one is taken or not of this host, the Pod has one already, or the tap
    /// cannot be made; nothing is left then.
    async fn attach(&self, pod: &PodUid, wanted: Option<Ipv4Addr>) -> Result<Attachment, NetError>;

    /// Takes a Pod's address and tap back. Not an error for a Pod that has none.
    ///
    /// # Errors
    /// When the tap cannot be removed; the address stays taken then, and the call may be repeated.
    async fn detach(&self, pod: &PodUid) -> Result<(), NetError>;

    /// Finds the taps that an earlier life of this daemon left in the hands of VMs that still run, repairs what belongs to
    /// them, and removes all others. A live Pod that is missing in the answer has no tap any more.
    ///
    /// # Assumptions
    /// Every VM on this network is one of a live Pod.
    ///
    /// # Errors
    /// When taps cannot be listed or rules cannot be set.
    async fn adopt(&self, live: &[PodUid]) -> Result<Vec<(PodUid, Lease)>, NetError>;

    /// Sees to it that Pods reach those of other hosts: there is a route for each of these blocks, and none of ours for any
    /// other.
    ///
    /// # Errors
    /// When a route cannot be added or removed.
    async fn route_peers(&self, peers: &[PeerBlock]) -> Result<(), NetError>;

    /// Sets how Pods reach the outside from now on. Open connections stay as they are.
    ///
    /// # Errors
    /// When rules cannot be set.
    async fn set_outside(&self, outside: Outside) -> Result<(), NetError>;

    /// What a Pod has sent and received so far.
    ///
    /// # Errors
    /// When it has no tap.
    async fn stats(&self, pod: &PodUid) -> Result<Traffic, NetError>;

    /// Makes nothing ahead any more and takes back what no Pod uses; without Pods, nothing is left on the machine.
    ///
    /// # Errors
    /// When something cannot be removed.
    async fn close(&self) -> Result<(), NetError>;
}
