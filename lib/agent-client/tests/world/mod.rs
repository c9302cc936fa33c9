//! A guest at the other end of a pipe.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::time::Duration;

use monopod_agent_client::v1::{CreateContainerRequest, PersonalizeRequest};
use monopod_agent_client::{AgentClient, Deadlines, PipeTransport};
use monopod_testkit::guest::FakeGuest;

/// Short for guests that do not answer, long enough for those that do.
pub(crate) const SHORT: Deadlines = Deadlines {
    connect: Duration::from_secs(2),
    call: Duration::from_secs(2),
    long_call: Duration::from_secs(2),
    silence: Duration::from_secs(1),
    sign_of_life: Duration::from_secs(1),
};

/// A transport to a guest, which serves one connection after the other.
pub(crate) fn pipe(guest: FakeGuest) -> (FakeGuest, PipeTransport) {
    let (transport, mut streams) = PipeTransport::new();
    let serving = guest.clone();
    tokio::spawn(async move {
        while let Some(stream) = streams.recv().await {
            serving.serve(stream).await;
        }
    });
    (guest, transport)
}

pub(crate) fn connected() -> (FakeGuest, AgentClient) {
    let (guest, transport) = pipe(FakeGuest::new());
    (guest, AgentClient::new(transport, Deadlines::default()))
}

pub(crate) fn personal() -> PersonalizeRequest {
    PersonalizeRequest { pod_uid: "uid".to_owned(), entropy: vec![7; 32], ..Default::default() }
}

pub(crate) async fn start(client: &AgentClient, id: &str, name: &str) {
    let request = CreateContainerRequest { id: id.to_owned(), name: name.to_owned(), ..Default::default() };
    client.create_container(request).await.expect("it can be made");
    client.start_container(id).await.expect("it can be started");
}
