//! SPDY/3.1 as far as the kubelet's API needs it: streams that the peer opens, over one connection.
//!
//! ```text
//! bytes ◀──▶ SpdyCodec ──frames──▶ serve ──SpdyStream──▶ exec, attach, port-forward
//!                 ▲                                             │
//!                 └────────────── writer ◀──frames── SpdyOutput ┘
//! ```
//!
//! The peer is the API server or a client behind it, so who speaks has been authenticated; yet every size is bounded. Like
//! the library that both kubelet and API server use, this neither sends nor heeds windows: a stream whose reader is slow
//! holds up the connection.

mod connection;
mod dictionary;
mod frame;
mod headers;

pub(crate) use connection::{SpdyConnection, SpdyStream, cancel, serve};
pub use frame::{Frame, SpdyCodec};
pub use headers::Headers;

/// What a peer said that is not SPDY/3.1, or more than is taken.
#[derive(Debug, thiserror::Error)]
pub enum SpdyError {
    /// A control frame of another version.
    #[error("SPDY frame of version {version}, expected 3")]
    Version {
        /// The version.
        version: u16,
    },
    /// A control frame that is larger than any that is of use.
    #[error("SPDY control frame of {length} bytes")]
    TooLarge {
        /// Its length.
        length: usize,
    },
    /// A control frame of the wrong length, or on stream 0.
    #[error("malformed SPDY frame of type {kind}")]
    Malformed {
        /// The type.
        kind: u16,
    },
    /// Names and values that do not fill their block, come twice or are not in lower case.
    #[error("malformed SPDY headers")]
    Headers,
    /// More headers than are taken.
    #[error("SPDY headers are too large")]
    HeadersTooLarge,
    /// Headers that cannot be decompressed.
    #[error("SPDY headers cannot be decompressed")]
    Compression,
    /// The connection failed.
    #[error("SPDY connection failed")]
    Connection(#[from] std::io::Error),
}

impl PartialEq for SpdyError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}
