//! Identifiers and quantities that every layer shares: plain data, no behaviour beyond parsing and printing.
//!
//! Called by everyone; depends on nobody.

mod ids;
mod quantity;
mod units;

pub use ids::{HostName, PodUid, ProfileName, SubnetName, Zone};
pub use quantity::{Quantity, QuantityError};
pub use units::{Bytes, GiB, MiB, MilliCpu};
