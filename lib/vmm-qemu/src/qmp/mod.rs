//! QEMU's control channel: JSON objects, one per line, both ways.
//!
//! QEMU has been in the guest's hands once the guest runs, so its words are bounded and distrusted: [`message`] turns one
//! line into a [`Message`] or an error and does nothing else, `client` keeps commands and replies together.

mod client;
pub mod message;

pub(crate) use client::{Client, Shutdown, wait_for};
pub use message::{MAX_LINE, Message, decode};
