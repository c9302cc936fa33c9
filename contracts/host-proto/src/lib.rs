//! What the command line and the host daemon of one machine say to each other, as gRPC over a Unix socket.

/// Version 1 of the protocol.
#[expect(missing_docs, unused_qualifications, reason = "generated from a .proto file, which is commented")]
pub mod v1 {
    tonic::include_proto!("monopod.host.v1");
}
