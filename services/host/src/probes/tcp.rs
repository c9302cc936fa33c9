//! A connection is enough.

use std::time::Duration;

use monopod_podplan::life::ProbeOutcome;
use tokio::net::TcpStream;

use super::{authority, system_words};

pub(super) async fn probe(host: &str, port: u16, timeout: Duration) -> ProbeOutcome {
    let address = authority(host, port);
    match tokio::time::timeout(timeout, TcpStream::connect(&address)).await {
        Ok(Ok(_connection)) => ProbeOutcome::Success,
        Ok(Err(error)) => ProbeOutcome::Failure(format!("dial tcp {address}: {}", system_words(&error))),
        Err(_elapsed) => ProbeOutcome::Failure(format!("dial tcp {address}: i/o timeout")),
    }
}
