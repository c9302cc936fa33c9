//! The guest agent over a byte stream, with deadlines.
//!
//! The host daemon is the caller. The guest is hostile ground: whatever it sends or fails to send, a call ends within its
//! deadline, memory stays bounded, and the error says which of the two it was.
//!
//! One [`AgentClient`] belongs to one microVM and holds at most one connection, over what its [`AgentTransport`] gives.
//! A connection begins as `contracts/agent-proto` says: preamble and nonce, then HTTP/2 and `Hello`. When it breaks,
//! every call and stream on it fails with [`AgentError::Unreachable`]; the next call connects anew, and calls that may be
//! repeated are repeated once on their own.

mod client;
mod connection;
#[cfg(feature = "contract")]
pub mod contract;
mod deadlines;
mod dial;
mod error;
mod handshake;
mod link;
mod messages;
mod meter;
mod process;
mod transport;

pub use client::AgentClient;
pub use deadlines::Deadlines;
pub use dial::DialStream;
pub use error::{AgentError, Retry};
pub use messages::{LogReader, Messages};
pub use monopod_agent_proto::v1;
pub use process::{Process, ProcessEvent, ProcessInput, ProcessOutput};
pub use tonic::Code;
pub use transport::{AgentTransport, ByteStream, FnTransport, PipeTransport, SocketTransport};
