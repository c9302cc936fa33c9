//! `monopod port-forward`: ports of this machine that lead into a Pod for as long as the command runs.

use std::net::IpAddr;

use futures_util::StreamExt;
use monopod_host_proto::MAX_CHUNK;
use monopod_host_proto::v1::port_forward_request::Kind;
use monopod_host_proto::v1::port_forward_response::Kind as Answer;
use monopod_host_proto::v1::{Closed, PodName, PortForwardRequest, PortForwardStart};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::Exit;
use crate::daemon::{Client, Folders};
use crate::failure::Failure;
use crate::pods::PodArgument;
use crate::ports::PortPair;

/// Make ports of a Pod reachable on this machine, until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pod: PodArgument,
    /// Ports: one number for both sides, or a local one and the Pod's; without a local number a free one is taken.
    #[arg(value_name = "[LOCAL]:POD", required = true)]
    ports: Vec<PortPair>,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    address: IpAddr,
    #[command(flatten)]
    folders: Folders,
}

/// Runs the subcommand.
pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = arguments.folders.connect().await?;
    let pod = arguments.pod.to_proto();
    let mut listeners = JoinSet::new();
    for pair in arguments.ports {
        let failed = |source| Failure::Io {
            action: format!("failed to listen on {}, port {}", arguments.address, pair.local),
            source,
        };
        let listener = TcpListener::bind((arguments.address, pair.local)).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        crate::terminal::print_line(&format!("Forwarding from {local} -> {}", pair.pod))?;
        listeners.spawn(accept(listener, client.clone(), pod.clone(), pair.pod));
    }
    let interrupted = tokio::signal::ctrl_c().await;
    interrupted.map_err(|source| Failure::Io { action: "failed to wait for Ctrl-C".to_owned(), source })?;
    Ok(Exit::Success)
}

/// Takes connections until the task is dropped, its connections with it.
async fn accept(listener: TcpListener, client: Client, pod: PodName, port: u16) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(forward(stream, client.clone(), pod.clone(), port))),
                Err(source) => {
                    crate::terminal::error(&Failure::Io { action: "failed to take a connection".to_owned(), source });
                    return;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Ok(Err(error)) = ended {
                    crate::terminal::error(&error);
                }
            }
        }
    }
}

async fn forward(stream: TcpStream, mut client: Client, pod: PodName, port: u16) -> Result<(), Failure> {
    let (reader, writer) = stream.into_split();
    let (sender, receiver) = mpsc::channel(4);
    let start = Kind::Start(PortForwardStart { pod: Some(pod), port: port.into() });
    let requests = futures_util::stream::iter([start]).chain(ReceiverStream::new(receiver));
    let answers = client.port_forward(requests.map(|kind| PortForwardRequest { kind: Some(kind) })).await?;
    // The connection is over when the Pod's side is; what we still send then has no reader.
    let up = tokio::spawn(send(reader, sender));
    let received = receive(answers.into_inner(), writer).await;
    up.abort();
    received
}

async fn send(mut reader: OwnedReadHalf, sender: mpsc::Sender<Kind>) {
    let mut buffer = vec![0; MAX_CHUNK / 2];
    loop {
        let read = reader.read(&mut buffer).await.unwrap_or(0);
        let message = if read == 0 { Kind::End(Closed {}) } else { Kind::Data(buffer[..read].to_vec()) };
        if sender.send(message).await.is_err() {
            return;
        }
        if read == 0 {
            // The stream stays open for what is still to come.
            return sender.closed().await;
        }
    }
}

async fn receive(
    mut answers: Streaming<monopod_host_proto::v1::PortForwardResponse>,
    mut writer: OwnedWriteHalf,
) -> Result<(), Failure> {
    while let Some(answer) = answers.message().await? {
        match answer.kind {
            Some(Answer::Data(data)) => {
                if writer.write_all(&data).await.is_err() {
                    return Ok(());
                }
            }
            Some(Answer::End(Closed {})) => break,
            Some(Answer::Connected(Closed {})) | None => {}
        }
    }
    let _ = writer.shutdown().await;
    Ok(())
}
