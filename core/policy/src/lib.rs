//! Everything that Monopod decides about a Pod, as pure functions over snapshots: no async, no clock, no I/O.
//!
//! The way of a Pod through the modules:
//!
//! ```text
//! profile (which profile takes it?) ─▶ mutation (what the webhook writes) ─▶ admission (is it supported?)
//!                                          ─▶ sizing (how big is its microVM?) ─▶ placement (where does it run?)
//! ```
//!
//! `record` is what the scheduler writes down of a placement: three objects, from which it can be read back.
//!
//! `defaults` fills in what the API server would, for Pods that it has not seen. `requirements` reads what a Pod asks of the labels of its node, for admission and placement alike. `metering` and
//! `patching` decide about Pods that run. Callers are the webhook, the scheduler, the host daemon and `monopod explain`;
//! all of them get the same answers because they ask here.

pub mod admission;
pub mod binding;
pub mod decision;
pub mod defaults;
pub mod metering;
pub mod mutation;
pub mod patching;
pub mod placement;
pub mod profile;
pub mod record;
pub mod references;
pub mod requirements;
pub mod sizing;
