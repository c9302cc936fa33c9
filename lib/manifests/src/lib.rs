//! Reads Kubernetes manifests from files, directories and standard input into one snapshot, and can say of
//! everything in it where it came from.
//!
//! Called by `monopod explain` and `monopod run`. The way of a text: [`source`](Source) → documents → trees that know
//! their lines → typed objects → [`Objects`]. Every error names file, line, document and field, and all errors of an
//! input are reported at once.

mod document;
mod error;
mod kinds;
mod nulls;
mod objects;
mod origin;
mod path;
mod reader;
mod sanity;
mod secret;
mod source;
#[cfg(test)]
mod tests;
mod tree;
mod typed;
mod workload;

pub use error::{ManifestError, ManifestErrors, printable};
pub use objects::{IgnoredObject, Located, Objects, Purpose, Warning, parse};
pub use origin::{Fields, Origin};
pub use source::{Input, MAX_SOURCE_BYTES, Source, read};
pub use workload::{Workload, WorkloadKind};
