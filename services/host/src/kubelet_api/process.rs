//! Carries a program's input and output between the guest agent and whoever called.

use bytes::Bytes;
use monopod_agent_client::{self as client, ProcessEvent};
use monopod_agent_proto::v1 as agent;
use monopod_kubelet_http::{BackendError, BackendErrorKind, Process, ProcessInput, ProcessOutput, TerminalSize};
use tokio::sync::mpsc;

use super::failed;

/// What may wait in either direction.
const QUEUE: usize = 4;

/// A program of the guest, as the API takes it. It is let go when the API drops its ends.
pub(super) fn carried(process: client::Process, stdin: bool) -> Process {
    let (input, mut given) = mpsc::channel(QUEUE);
    let (give, output) = mpsc::channel(QUEUE);
    let client::Process { input: to_guest, output: mut from_guest } = process;
    tokio::spawn(async move {
        let feeding = async {
            while let Some(news) = given.recv().await {
                if feed(&to_guest, news, stdin).await.is_err() {
                    // The program has ended; its output says how.
                    break;
                }
            }
            // The other direction decides when it is over.
            std::future::pending::<()>().await;
        };
        let showing = async {
            loop {
                let news = match from_guest.next().await {
                    Ok(Some(ProcessEvent::Started)) => continue,
                    Ok(Some(event)) => shown(event),
                    Ok(None) => return,
                    Err(error) => Err(failed(&error)),
                };
                let is_last = !matches!(news, Ok(ProcessOutput::Stdout(_) | ProcessOutput::Stderr(_)));
                if give.send(news).await.is_err() || is_last {
                    return;
                }
            }
        };
        tokio::select! {
            () = feeding => {}
            () = showing => {}
            () = give.closed() => {}
        }
    });
    Process { input, output }
}

async fn feed(to: &client::ProcessInput, news: ProcessInput, stdin: bool) -> Result<(), client::AgentError> {
    match news {
        ProcessInput::Stdin(data) if stdin => to.write(&data).await,
        ProcessInput::StdinEnd if stdin => to.end().await,
        ProcessInput::Stdin(_) | ProcessInput::StdinEnd => Ok(()),
        ProcessInput::Resize(TerminalSize { width, height }) => {
            to.resize(agent::TerminalSize { columns: width.into(), rows: height.into() }).await
        }
    }
}

fn shown(event: ProcessEvent) -> Result<ProcessOutput, BackendError> {
    match event {
        ProcessEvent::Started => Ok(ProcessOutput::Stdout(Bytes::new())),
        ProcessEvent::Output { stream: agent::OutputStream::Stdout, data } => Ok(ProcessOutput::Stdout(data)),
        ProcessEvent::Output { stream: agent::OutputStream::Stderr, data } => Ok(ProcessOutput::Stderr(data)),
        ProcessEvent::Exited(exit) if !exit.start_error.is_empty() => {
            Err(BackendError::new(BackendErrorKind::Failed, exit.start_error))
        }
        ProcessEvent::Exited(exit) => Ok(ProcessOutput::Exited { code: exit.code }),
    }
}
