//! Linux capabilities by name.

use std::collections::HashSet;
use std::str::FromStr;

use caps::{Capability, CapsHashSet};

/// The capabilities of that list. Names that this kernel's headers do not know are passed over, as runtimes do.
pub(crate) fn parse(names: &[String]) -> CapsHashSet {
    names.iter().filter_map(|name| Capability::from_str(name).ok()).collect::<HashSet<_>>()
}
