//! The objects as the API server sees them: generated files, and CEL against Rust.

mod agreement;
mod generated;
