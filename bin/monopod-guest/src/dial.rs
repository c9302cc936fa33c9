//! TCP connections to the Pod's loopback, for port-forward.

use monopod_agent_proto::{MAX_CHUNK, v1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use v1::dial_request::Kind as Asked;
use v1::dial_response::Kind as Answer;

use crate::containers::Answers;

/// Messages that may wait for the host. Beyond, the peer in the Pod waits.
const QUEUE: usize = 4;

/// Connects, then carries bytes both ways until both ends are done or the host is gone.
pub(crate) async fn dial(mut requests: Streaming<v1::DialRequest>) -> Result<Answers<v1::DialResponse>, Status> {
    let Some(Asked::Port(port)) = requests.message().await?.and_then(|first| first.kind) else {
        return Err(Status::invalid_argument("the first message of Dial must name the port"));
    };
    let port = u16::try_from(port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Status::invalid_argument(format!("{port} is not a port")))?;
    let stream = connect(port).await.map_err(|error| {
        Status::unavailable(format!("failed to connect to localhost:{port} inside the Pod: {error}"))
    })?;
    let (answers, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(carry(stream, requests, answers));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// 127.0.0.1 first, else ::1; the first error is the one that says more.
async fn connect(port: u16) -> std::io::Result<TcpStream> {
    match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(stream) => Ok(stream),
        Err(first) => TcpStream::connect(("::1", port)).await.map_err(|_| first),
    }
}

type Sender = mpsc::Sender<Result<v1::DialResponse, Status>>;

async fn carry(stream: TcpStream, requests: Streaming<v1::DialRequest>, answers: Sender) {
    let (reader, writer) = stream.into_split();
    if !send(&answers, Answer::Connected(v1::DialConnected {})).await {
        return;
    }
    let outward = outward(reader, answers.clone());
    let inward = inward(writer, requests);
    tokio::select! {
        // The Pod's end decides when it is over; the host's end may be done sending long before.
        () = async { tokio::join!(outward, inward); } => {}
        () = answers.closed() => {}
    }
}

async fn outward(mut reader: tokio::net::tcp::OwnedReadHalf, answers: Sender) {
    let mut buffer = vec![0; MAX_CHUNK];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => {
                if !send(&answers, Answer::Data(buffer[..count].to_vec())).await {
                    return;
                }
            }
            Err(error) => {
                let _ = answers.send(Err(Status::aborted(format!("the connection broke: {error}")))).await;
                return;
            }
        }
    }
    send(&answers, Answer::End(v1::StdinEnd {})).await;
}

async fn inward(mut writer: tokio::net::tcp::OwnedWriteHalf, mut requests: Streaming<v1::DialRequest>) {
    while let Ok(Some(request)) = requests.message().await {
        match request.kind {
            Some(Asked::Data(data)) => {
                if writer.write_all(&data).await.is_err() {
                    return;
                }
            }
            Some(Asked::Port(_) | Asked::End(_)) | None => break,
        }
    }
    // Fails when the peer is gone, which its own direction tells.
    let _ = writer.shutdown().await;
}

/// Whether the host is still there.
async fn send(answers: &Sender, kind: Answer) -> bool {
    answers.send(Ok(v1::DialResponse { kind: Some(kind) })).await.is_ok()
}
