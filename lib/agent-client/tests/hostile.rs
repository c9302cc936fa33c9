//! Guests that do not answer, break off, flood, or speak nonsense: every call ends in time, and memory stays bounded.

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use monopod_agent_client::contract::{Accepted, accept};
use monopod_agent_client::v1::{self as proto, ExecStart};
use monopod_agent_client::{AgentClient, AgentError, FnTransport, PipeTransport};
use monopod_testkit::guest::{FakeGuest, Manner};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use world::{SHORT, connected, personal, pipe, start};

/// Longest time that a call may take with the short deadlines, on a busy machine.
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_manner_of_not_being_an_agent_is_an_error_in_time() {
    let rows = [
        (Manner::Silent, "AgentTimeout"),
        (Manner::Hanging, "AgentTimeout"),
        (Manner::Garbage, "AgentTimeout"),
        (Manner::GarbageAfterHandshake, "AgentUnreachable"),
    ];
    for (manner, reason) in rows {
        let (guest, transport) = pipe(FakeGuest::new());
        guest.set_manner(manner);
        let client = AgentClient::new(transport, SHORT);
        let begin = Instant::now();
        let error = client.hello().await.unwrap_err();
        assert!(begin.elapsed() < BOUND, "{manner:?} took {:?}", begin.elapsed());
        // Garbage may be read up before the time is over.
        let read_up = manner == Manner::Garbage && error.reason() == "AgentConnectFailed";
        assert!(error.reason() == reason || read_up, "{manner:?}: {error:?}");
        // It comes to its senses.
        guest.set_manner(Manner::Sane);
        client.hello().await.unwrap_or_else(|error| panic!("{manner:?}: {error:?}"));
    }
}

#[tokio::test]
async fn an_agent_that_stops_answering_fails_calls_and_then_all_streams() {
    let (transport, mut streams) = PipeTransport::new();
    let guest = FakeGuest::new();
    let serving = guest.clone();
    // The test stands between the two, and stops passing bytes on.
    let stop = Arc::new(tokio::sync::Notify::new());
    let stopping = Arc::clone(&stop);
    tokio::spawn(async move {
        let mut outer = streams.recv().await.unwrap();
        let (mut inner, theirs) = duplex(1 << 16);
        tokio::spawn(async move { serving.serve(theirs).await });
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut outer, &mut inner) => {}
            () = stopping.notified() => std::future::pending().await,
        }
    });
    let client = AgentClient::new(transport, SHORT);
    client.personalize(personal()).await.unwrap();
    let mut states = client.watch_containers().await.unwrap();
    stop.notify_one();
    let begin = Instant::now();
    let error = client.stats(false).await.unwrap_err();
    assert!(matches!(error.reason(), "AgentTimeout" | "AgentUnreachable" | "AgentConnectFailed"), "{error:?}");
    assert_eq!(states.next().await.unwrap_err().reason(), "AgentUnreachable");
    assert!(begin.elapsed() < BOUND, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn calls_that_may_be_repeated_survive_a_broken_connection_and_others_tell_of_it() {
    let (transport, mut streams) = PipeTransport::new();
    let guest = FakeGuest::new();
    let serving = guest.clone();
    // Connections live until the test cuts them.
    let cut = Arc::new(tokio::sync::Notify::new());
    let cutting = Arc::clone(&cut);
    tokio::spawn(async move {
        while let Some(mut outer) = streams.recv().await {
            let (mut inner, theirs) = duplex(1 << 16);
            let guest = serving.clone();
            tokio::spawn(async move { guest.serve(theirs).await });
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut outer, &mut inner) => {}
                () = cutting.notified() => {}
            }
        }
    });
    let client = AgentClient::new(transport, SHORT);
    client.personalize(personal()).await.unwrap();
    guest.set_manner(Manner::Hanging);
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.stats(false).await }
    });
    monopod_testkit::wait::wait_until("the call is under way", || guest.calls().contains(&"GetStats".to_owned())).await;
    guest.set_manner(Manner::Sane);
    cut.notify_one();
    asking.await.unwrap().unwrap();
    assert_eq!(guest.calls().iter().filter(|call| *call == "GetStats").count(), 2);

    guest.set_manner(Manner::Hanging);
    let starting = tokio::spawn({
        let client = client.clone();
        async move { client.start_container("web-0").await }
    });
    let under_way = || guest.calls().contains(&"StartContainer web-0".to_owned());
    monopod_testkit::wait::wait_until("the call is under way", under_way).await;
    guest.set_manner(Manner::Sane);
    cut.notify_one();
    let error = starting.await.unwrap().unwrap_err();
    assert_eq!((error.reason(), error.retry()), ("AgentUnreachable", monopod_agent_client::Retry::Now));
    assert_eq!(guest.calls().iter().filter(|call| *call == "StartContainer web-0").count(), 1);
    client.stats(false).await.unwrap();
}

/// A client whose guest is a function of the accepted stream.
fn hostile<F>(guest: impl Fn(Accepted<DuplexStream>) -> F + Send + Sync + 'static) -> AgentClient
where
    F: Future<Output = ()> + Send + 'static,
{
    let guest = Arc::new(guest);
    let open = move || -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<DuplexStream>> + Send>> {
        let (ours, theirs) = duplex(1 << 16);
        let guest = Arc::clone(&guest);
        tokio::spawn(async move {
            if let Ok(stream) = accept(theirs).await {
                guest(stream).await;
            }
        });
        Box::pin(async move { Ok(ours) })
    };
    AgentClient::new(FnTransport::new(open), SHORT)
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short frames");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

#[tokio::test]
async fn a_flood_of_frames_is_cut_off() {
    let settings = frame(4, 0, 0, &[]);
    let floods = [
        ("pings", frame(6, 0, 0, &[0; 8])),
        ("settings", frame(4, 0, 0, &[])),
        ("empty data", frame(0, 0, 1, &[])),
        // `:status: 103`, never indexed: an interim response, which the HTTP library keeps.
        ("interim responses", frame(1, 4, 1, &[0x08, 0x03, b'1', b'0', b'3'])),
        ("window updates", frame(8, 0, 0, &[0, 0, 0, 1])),
    ];
    for (name, flood) in floods {
        let taken = Arc::new(AtomicUsize::new(0));
        let (counter, begin) = (Arc::clone(&taken), [settings.clone(), flood.clone()].concat());
        let client = hostile(move |mut stream| {
            let (counter, begin, flood) = (Arc::clone(&counter), begin.clone(), flood.repeat(100));
            async move {
                // After the host's preface and first call.
                let mut request = [0; 24];
                drop(stream.read_exact(&mut request).await);
                drop(stream.write_all(&begin).await);
                while stream.write_all(&flood).await.is_ok() {
                    counter.fetch_add(100, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            }
        });
        let begin = Instant::now();
        let error = client.hello().await.unwrap_err();
        assert!(begin.elapsed() < BOUND, "{name}: {:?}", begin.elapsed());
        let cut = matches!(error, AgentError::Misbehaved { .. } | AgentError::Unreachable { .. });
        assert!(cut, "{name}: {error:?}");
        // What is in the pipe counts as taken, too.
        assert!(taken.load(Ordering::Relaxed) < 30_000, "{name}: {} frames", taken.load(Ordering::Relaxed));
    }
}

#[tokio::test]
async fn a_message_that_says_it_is_large_is_refused_before_it_comes() {
    let (guest, client) = connected();
    client.personalize(personal()).await.unwrap();
    let volume = proto::VolumeStats { name: "x".repeat(2 << 20), usage: None };
    guest.set_stats(proto::GetStatsResponse { volumes: vec![volume], ..Default::default() });
    let error = client.stats(false).await.unwrap_err();
    assert_eq!(error.reason(), "AgentMessageTooLarge");
    guest.set_stats(proto::GetStatsResponse::default());
    client.stats(false).await.unwrap();
}

#[tokio::test]
async fn another_protocol_is_named() {
    let (guest, client) = connected();
    guest.speak_protocol(999);
    let error = client.hello().await.unwrap_err();
    assert_eq!(error.to_string(), "guest agent speaks protocol 999, the host speaks 1");
    assert_eq!(error.reason(), "AgentVersionMismatch");
}

#[tokio::test]
async fn a_caller_that_does_not_read_stops_the_guest_and_nothing_else() {
    let (guest, client) = connected();
    client.personalize(personal()).await.unwrap();
    start(&client, "web-0", "web").await;
    let stdin = ExecStart { id: "web-0".to_owned(), args: vec!["cat".to_owned()], stdin: true, ..Default::default() };
    let process = client.exec(stdin).await.unwrap();
    let input = process.input.clone();
    // More than all windows hold, echoed to an output that nobody reads.
    let writer = tokio::spawn(async move {
        let mut written = 0_usize;
        while tokio::time::timeout(Duration::from_millis(500), input.write(&[7; 32 << 10])).await.is_ok() {
            written += 32 << 10;
        }
        written
    });
    assert!(writer.await.unwrap() < 4 << 20);
    client.stats(false).await.unwrap();
    assert!(guest.calls().contains(&"GetStats".to_owned()));
}
