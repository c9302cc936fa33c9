//! What the command line and the host daemon of one machine say to each other, as gRPC over a Unix socket.

/// Version 1 of the protocol.
#[expect(
    missing_docs,
    unused_qualifications,
    clippy::too_many_lines,
    reason = "generated from a .proto file, which is commented"
)]
pub mod v1 {
    tonic::include_proto!("monopod.host.v1");
}

/// Name of the daemon's socket in its run folder.
pub const SOCKET_NAME: &str = "host.sock";

/// Metadata key of an error's machine-readable reason.
pub const REASON_METADATA: &str = "monopod-reason";

/// Most bytes in one message either way: a Pod with all that stood beside it.
pub const MAX_MESSAGE: usize = 32 << 20;

/// Most bytes of input, output or log text in one message of a stream.
pub const MAX_CHUNK: usize = 64 << 10;
