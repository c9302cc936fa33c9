//! The objects as the API server sees them: generated files, CEL against Rust, and what Kubernetes itself refuses.

mod agreement;
mod generated;
mod metadata;
