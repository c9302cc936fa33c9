//! Which host and address block a Pod gets, and if none, why.
//!
//! The scheduler keeps a [`Cluster`], tells it of every change, and asks it with a [`PodRequest`]. First come the rules
//! that must hold, asked in this order (a refused Pod is told the first that each host fails):
//!
//! 1. the profile's subnets, of which the host must serve one (none named means all);
//! 2. `nodeSelector` and required node affinity, against the labels that the Pod's node will have;
//! 3. the host is schedulable and ready;
//! 4. free CPU, memory and disk;
//! 5. a free address in a block of an allowed subnet;
//! 6. required Pod affinity and anti-affinity, required anti-affinity of Pods already there, and `DoNotSchedule` spread
//!    constraints, over zones and over hosts.
//!
//! Then comes the order among hosts that pass, [`Score`]: preferences, even spread over zones, the most free host, the
//! first by name. Within the host the block with the most free addresses is taken, the lowest among equals.
//!
//! Topology rules mean what they mean to kube-scheduler, with these differences. Domains are zones
//! (`topology.kubernetes.io/zone`) and hosts (`monopod.dev/host`); rules about `kubernetes.io/hostname` hold by
//! themselves where they keep Pods apart, because every Pod has a node of its own; rules about other keys are passed
//! over, see [`PodRequest::ignored_topology_keys`]. A domain counts all its Pods until they are released, terminating
//! ones too; the policies of a spread constraint decide only which domains take part, and a host that serves no subnet
//! of the profile never does. Preferences of Pods already placed do not weigh on a new one.
//!
//! ```text
//! hosts, subnets, blocks ─▶ classes: hosts of one zone with addresses in the same subnets, ranked by what is free
//! bookings               ─▶ counts:  Pods per zone and host, for every filter that a Pod in the cluster uses
//! request + both         ─▶ per class the best host that fits; the best of those ─▶ Placement, or Refusal
//! ```
//!
//! A placement costs a look at each class. Hosts are gone through one by one only for what singles out hosts: rules that
//! name them, preferences that count Pods on them once no other host fits, and the text of a refusal.

mod cluster;
mod counts;
mod error;
mod ranking;
mod refusal;
mod request;
mod resources;
mod rules;
mod search;
mod selector;
#[cfg(test)]
mod tests;

pub use cluster::{AddressBlock, Booking, Cluster, CommonLabels, Host, Subnet};
pub use error::RequestError;
pub use refusal::{Cause, Causes, Refusal, Trigger};
pub use request::{PodRequest, ProfileRules, Topology};
pub use resources::{Headroom, Resources};
pub use rules::Score;
pub use search::Placement;
