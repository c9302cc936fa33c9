//! A hostile guest at the other end of the agent's stream: whatever it says and when, the client's calls end when the
//! stream does, without a panic.
//!
//! An input is a first byte, odd when the guest answers the handshake, and pieces: two bytes of length, then what the guest
//! says once the client has said all it has to say.

#![no_main]

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use monopod_agent_client::contract::accept;
use monopod_agent_client::v1::{AttachStart, ExecStart, PersonalizeRequest};
use monopod_agent_client::{AgentClient, Deadlines, PipeTransport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::yield_now;

/// Turns that the client's tasks get before the guest goes on: enough to come to rest, as they all wait for the guest.
const TURNS: usize = 40;
/// Messages that are taken from one stream.
const TAKEN: usize = 64;
/// Only a client that hangs takes so long: the stream has ended long before.
const BOUND: Duration = Duration::from_secs(10);

fuzz_target!(|input: &[u8]| {
    let Some((manner, pieces)) = input.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let talk = tokio::time::timeout(BOUND, talk(manner % 2 == 1, pieces.to_vec()));
        talk.await.expect("every call ends with the stream");
    });
});

async fn talk(answers: bool, pieces: Vec<u8>) {
    let (transport, mut streams) = PipeTransport::new();
    let guest = tokio::spawn(async move {
        let stream = streams.recv().await.expect("the client connects");
        // Later connections find nobody.
        drop(streams);
        if answers {
            if let Ok(stream) = accept(stream).await {
                say(stream, &pieces).await;
            }
        } else {
            say(stream, &pieces).await;
        }
    });
    let client = AgentClient::new(transport, Deadlines::default());
    if client.hello().await.is_ok() {
        use_everything(&client).await;
    }
    guest.abort();
}

/// Says one piece after the other, and reads what the client says.
async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, mut pieces: &[u8]) {
    while let [high, low, rest @ ..] = pieces {
        rest_of_the_client(&mut stream).await;
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (piece, others) = rest.split_at(length);
        if stream.write_all(piece).await.is_err() {
            return;
        }
        pieces = others;
    }
    rest_of_the_client(&mut stream).await;
}

async fn rest_of_the_client(stream: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 4096];
    for _ in 0..TURNS {
        let mut read = std::pin::pin!(stream.read(&mut buffer));
        // What is there is read, and nothing is waited for.
        std::future::poll_fn(|context| {
            let _ = read.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
        yield_now().await;
    }
}

async fn use_everything(client: &AgentClient) {
    let watch = async {
        if let Ok(mut states) = client.watch_containers().await {
            for _ in 0..TAKEN {
                if !matches!(states.next().await, Ok(Some(_))) {
                    break;
                }
            }
        }
    };
    let logs = async {
        if let Ok(mut logs) = client.read_logs("a", 0).await {
            for _ in 0..TAKEN {
                let Ok(Some(entry)) = logs.next().await else { break };
                logs.acknowledge(entry.time);
            }
        }
    };
    let exec = async {
        if let Ok(mut process) = client.exec(ExecStart::default()).await {
            while let Ok(Some(_)) = process.output.next().await {}
        }
    };
    let attach = async {
        if let Ok(mut process) = client.attach(AttachStart::default()).await {
            while let Ok(Some(_)) = process.output.next().await {}
        }
    };
    let dial = async {
        if let Ok(mut stream) = client.dial(80).await {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    };
    let calls = async {
        let _ = client.personalize(PersonalizeRequest::default()).await;
        let _ = client.stats(true).await;
    };
    tokio::join!(watch, logs, exec, attach, dial, calls);
}
