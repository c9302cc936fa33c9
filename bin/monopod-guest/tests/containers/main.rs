//! Containers in a real guest, asked for by the real client.

#[path = "../harness/mod.rs"]
mod harness;
mod support;

mod environment;
mod life;
mod processes;
mod streams;
