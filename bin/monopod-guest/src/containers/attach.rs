//! Clients of a container's own input and output.

use std::sync::Arc;

use monopod_agent_proto::v1;
use monopod_agent_proto::v1::attach_response::Kind as Answer;
use monopod_agent_proto::v1::container_state::Phase;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::container::{Container, state_name};
use super::error::ContainerError;
use super::{Answers, Containers};

/// Most messages that wait for the host.
const BACKLOG: usize = 4;

pub(super) async fn run(
    containers: &Containers,
    mut requests: Streaming<v1::AttachRequest>,
) -> Result<Answers<v1::AttachResponse>, Status> {
    let first = requests.message().await?.and_then(|request| request.kind);
    let Some(v1::attach_request::Kind::Start(start)) = first else {
        return Err(Status::invalid_argument("the first message must say what to attach to"));
    };
    let container = containers.get(&start.id)?;
    match container.phase() {
        Phase::Created | Phase::Running => {}
        phase @ (Phase::Exited | Phase::Unknown) => {
            return Err(ContainerError::State { state: state_name(phase) }.into());
        }
    }
    let mut output = container.output.subscribe(start.stdout, start.stderr);
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(feed(requests, container.clone(), start.stdin, sender.clone()));
    tokio::spawn(async move {
        let answer = |kind| sender.send(Ok(v1::AttachResponse { kind: Some(kind) }));
        while let Some(output) = output.recv().await {
            if answer(Answer::Output(output)).await.is_err() {
                return;
            }
        }
        let state = container.ended().await;
        let exit = v1::Exit { code: state.exit_code, timed_out: false, start_error: state.start_error };
        // The client may be gone, and then nobody wants to know.
        let _ = answer(Answer::Exit(exit)).await;
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Gives the container the client's input. The first client that had input to give, and leaves, may end it for good.
async fn feed(
    mut requests: Streaming<v1::AttachRequest>,
    container: Arc<Container>,
    stdin: bool,
    client: mpsc::Sender<Result<v1::AttachResponse, Status>>,
) {
    use v1::attach_request::Kind;

    loop {
        let request = tokio::select! {
            request = requests.message() => request,
            () = client.closed() => break,
        };
        let Ok(Some(request)) = request else { break };
        match request.kind {
            Some(Kind::Stdin(bytes)) if stdin => {
                if let Some(end) = container.stdin()
                    && end.write_all(&bytes).await.is_err()
                {
                    break;
                }
            }
            Some(Kind::StdinEnd(_)) if stdin && container.stdin_once => container.close_stdin(),
            Some(Kind::Resize(size)) => {
                if let Some(terminal) = &container.terminal {
                    terminal.resize(size);
                }
            }
            Some(Kind::Start(_) | Kind::Stdin(_) | Kind::StdinEnd(_)) | None => {}
        }
    }
    if stdin && container.stdin_once {
        container.close_stdin();
    }
}
