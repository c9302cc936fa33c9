//! What the host and the guest agent say to each other: protobuf messages, the gRPC service, version and limits.
//!
//! gRPC runs over one byte stream (a virtio-serial port) that outlives both the connection and the host daemon. So each
//! side must find the place where a new connection begins in a stream that may hold the rest of an old one:
//!
//! 1. The host writes [`PREAMBLE`] and [`NONCE_LENGTH`] random bytes.
//! 2. The guest, at the end of a connection or at its start, reads on until it has seen the preamble, takes the nonce,
//!    and answers with preamble and nonce.
//! 3. The host reads on until it has seen preamble and its own nonce. From there on both speak HTTP/2, the host as client.

/// Version 1 of the protocol.
#[expect(
    missing_docs,
    unused_qualifications,
    clippy::too_many_lines,
    reason = "generated from a .proto file, which is commented"
)]
pub mod v1 {
    tonic::include_proto!("monopod.agent.v1");
}

/// What `HelloRequest.protocol` and `HelloResponse.protocol` say. A host talks to a guest of the same number only; a
/// released number is never given another meaning.
pub const PROTOCOL_VERSION: u32 = 1;

/// Name of the virtio-serial port, as the guest finds it below /sys/class/virtio-ports.
pub const PORT_NAME: &str = "monopod.agent";

/// Marks the start of a connection. No HTTP/2 frame of either side can begin so: the length would be over the limit.
pub const PREAMBLE: [u8; 8] = *b"\xffMONOPOD";

/// Random bytes after the preamble, which tell one connection from the next.
pub const NONCE_LENGTH: usize = 16;

/// Most bytes in one message from the host to the guest: all files of a volume, with room to spare.
pub const MAX_REQUEST: usize = 16 << 20;

/// Most bytes in one message from the guest to the host.
pub const MAX_RESPONSE: usize = 1 << 20;

/// Most bytes of output or input in one message of a stream.
pub const MAX_CHUNK: usize = 32 << 10;

/// Most bytes in one log entry, as container runtimes cut them.
pub const MAX_LOG_LINE: usize = 16 << 10;
