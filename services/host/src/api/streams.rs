//! Exec, attach and port-forward: two directions each, carried between the caller and the guest agent.

use std::sync::Arc;

use monopod_agent_client::{AgentError, Process, ProcessEvent, ProcessInput, ProcessOutput};
use monopod_agent_proto::v1 as agent;
use monopod_host_proto::MAX_CHUNK;
use monopod_host_proto::v1::{self as proto, attach_request, attach_response, exec_request, exec_response};
use monopod_host_proto::v1::{port_forward_request, port_forward_response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::Answers;
use super::convert::{self, status};
use super::logs::container;
use crate::error::HostError;
use crate::host::Host;
use crate::pod::{PodHandle, Sandbox};

/// Answers that may wait for a slow caller.
const QUEUE: usize = 4;

type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// What a caller sends to a program.
enum Input {
    Data(Vec<u8>),
    End,
    Resize(agent::TerminalSize),
}

pub(super) async fn exec(
    host: &Host,
    mut requests: Streaming<proto::ExecRequest>,
) -> Result<Answers<proto::ExecResponse>, Status> {
    let first = requests.message().await?.and_then(|request| request.kind);
    let Some(exec_request::Kind::Start(start)) = first else { return Err(no_start()) };
    let handle = host.pod(&convert::pod_name(start.pod)?).map_err(status)?;
    let (sandbox, id) = running(&handle, &start.container).map_err(status)?;
    let (tty, stdin) = (start.tty, start.stdin);
    let start =
        agent::ExecStart { id, args: start.args, tty, stdin, size: start.size.map(size), timeout_nanoseconds: 0 };
    let Process { input, output } = sandbox.agent.exec(start).await.map_err(|error| status(error.into()))?;
    let (to, answers) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let feeding = feed(stdin.then_some(input), &mut requests, |request: proto::ExecRequest| match request.kind? {
            exec_request::Kind::Stdin(data) => Some(Input::Data(data)),
            exec_request::Kind::StdinEnd(_) => Some(Input::End),
            exec_request::Kind::Resize(to) => Some(Input::Resize(size(to))),
            exec_request::Kind::Start(_) => None,
        });
        let showing = show(output, &to, exec_answer);
        both(feeding, showing, &to).await;
    });
    Ok(Box::pin(ReceiverStream::new(answers)))
}

fn exec_answer(event: ProcessEvent) -> proto::ExecResponse {
    use exec_response::Kind;
    let kind = match event {
        ProcessEvent::Started => Kind::Started(proto::Closed {}),
        ProcessEvent::Output { stream: agent::OutputStream::Stdout, data } => Kind::Stdout(data.into()),
        ProcessEvent::Output { stream: agent::OutputStream::Stderr, data } => Kind::Stderr(data.into()),
        ProcessEvent::Exited(exit) => Kind::Exit(exited(exit)),
    };
    proto::ExecResponse { kind: Some(kind) }
}

pub(super) async fn attach(
    host: &Host,
    mut requests: Streaming<proto::AttachRequest>,
) -> Result<Answers<proto::AttachResponse>, Status> {
    let first = requests.message().await?.and_then(|request| request.kind);
    let Some(attach_request::Kind::Start(start)) = first else { return Err(no_start()) };
    let handle = host.pod(&convert::pod_name(start.pod)?).map_err(status)?;
    let name = container(&handle, &start.container).map_err(status)?;
    let (sandbox, id) = running(&handle, &name).map_err(status)?;
    let asked = agent::AttachStart { id, stdin: start.stdin, stdout: true, stderr: true };
    let Process { input, output } = sandbox.agent.attach(asked).await.map_err(|error| status(error.into()))?;
    let (to, answers) = mpsc::channel(QUEUE);
    let started = proto::AttachStarted { tty: has_terminal(&handle, &name) };
    let started = proto::AttachResponse { kind: Some(attach_response::Kind::Started(started)) };
    let stdin = start.stdin;
    tokio::spawn(async move {
        let _ = to.send(Ok(started)).await;
        let feeding =
            feed(stdin.then_some(input), &mut requests, |request: proto::AttachRequest| match request.kind? {
                attach_request::Kind::Stdin(data) => Some(Input::Data(data)),
                attach_request::Kind::StdinEnd(_) => Some(Input::End),
                attach_request::Kind::Resize(to) => Some(Input::Resize(size(to))),
                attach_request::Kind::Start(_) => None,
            });
        let showing = show(output, &to, attach_answer);
        both(feeding, showing, &to).await;
    });
    Ok(Box::pin(ReceiverStream::new(answers)))
}

fn attach_answer(event: ProcessEvent) -> proto::AttachResponse {
    use attach_response::Kind;
    let kind = match event {
        ProcessEvent::Started => None,
        ProcessEvent::Output { stream: agent::OutputStream::Stdout, data } => Some(Kind::Stdout(data.into())),
        ProcessEvent::Output { stream: agent::OutputStream::Stderr, data } => Some(Kind::Stderr(data.into())),
        ProcessEvent::Exited(exit) => Some(Kind::Exit(exited(exit))),
    };
    proto::AttachResponse { kind }
}

fn exited(exit: agent::Exit) -> proto::Exit {
    proto::Exit { code: exit.code, error: exit.start_error }
}

fn has_terminal(handle: &PodHandle, name: &str) -> bool {
    let pod = handle.shared.news.pod();
    let found = pod.and_then(|pod| monopod_podplan::plan::find_container(&pod, name).map(|one| one.tty == Some(true)));
    found.unwrap_or(false)
}

/// Carries input until the caller hangs up, which is when the answer is false.
async fn feed<T>(input: Option<ProcessInput>, requests: &mut Streaming<T>, read: impl Fn(T) -> Option<Input>) -> bool {
    loop {
        let request = match requests.message().await {
            Ok(Some(request)) => request,
            // The caller says nothing more, and may still listen.
            Ok(None) => return true,
            Err(_) => return false,
        };
        let (Some(input), Some(news)) = (&input, read(request)) else { continue };
        let fed = match news {
            Input::Data(data) => input.write(&data).await,
            Input::End => input.end().await,
            Input::Resize(to) => input.resize(to).await,
        };
        if fed.is_err() {
            // The program has ended; its output says how.
            return true;
        }
    }
}

async fn show<T>(
    mut output: ProcessOutput,
    to: &Sender<T>,
    answer: impl Fn(ProcessEvent) -> T,
) -> Result<(), AgentError> {
    while let Some(event) = output.next().await? {
        if to.send(Ok(answer(event))).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Runs both directions until the program has ended or the caller has gone.
async fn both<T>(
    feeding: impl Future<Output = bool>,
    showing: impl Future<Output = Result<(), AgentError>>,
    to: &Sender<T>,
) {
    tokio::pin!(feeding, showing);
    let mut is_fed = false;
    let shown = loop {
        tokio::select! {
            shown = &mut showing => break shown,
            is_there = &mut feeding, if !is_fed => {
                if !is_there {
                    return;
                }
                is_fed = true;
            }
            () = to.closed() => return,
        }
    };
    if let Err(error) = shown {
        let _ = to.send(Err(status(error.into()))).await;
    }
}

pub(super) async fn port_forward(
    host: &Host,
    mut requests: Streaming<proto::PortForwardRequest>,
) -> Result<Answers<proto::PortForwardResponse>, Status> {
    use port_forward_response::Kind;
    let first = requests.message().await?.and_then(|request| request.kind);
    let Some(port_forward_request::Kind::Start(start)) = first else { return Err(no_start()) };
    let handle = host.pod(&convert::pod_name(start.pod)?).map_err(status)?;
    let sandbox = handle.shared.sandbox();
    let sandbox = sandbox.ok_or_else(|| status(HostError::NotRunning(handle.shared.name.clone())))?;
    let port = u16::try_from(start.port).map_err(|_| Status::invalid_argument("no such port"))?;
    let stream = sandbox.agent.dial(port).await.map_err(|error| status(error.into()))?;
    let (mut read, mut write) = tokio::io::split(stream);
    let (to, answers) = mpsc::channel::<Result<proto::PortForwardResponse, Status>>(QUEUE);
    let answer = |kind| Ok(proto::PortForwardResponse { kind: Some(kind) });
    let back = to.clone();
    let upward = async move {
        while let Ok(Some(request)) = requests.message().await {
            let done = match request.kind {
                Some(port_forward_request::Kind::Data(data)) => write.write_all(&data).await,
                Some(port_forward_request::Kind::End(_)) => write.shutdown().await,
                Some(port_forward_request::Kind::Start(_)) | None => Ok(()),
            };
            if done.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
        // The other direction decides when it is over.
        std::future::pending::<()>().await;
    };
    let downward = async move {
        let mut buffer = vec![0; MAX_CHUNK / 2];
        let _ = to.send(answer(Kind::Connected(proto::Closed {}))).await;
        while let Ok(length) = read.read(&mut buffer).await {
            let Some(data) = buffer.get(..length).filter(|data| !data.is_empty()) else { break };
            if to.send(answer(Kind::Data(data.to_vec()))).await.is_err() {
                return;
            }
        }
        let _ = to.send(answer(Kind::End(proto::Closed {}))).await;
    };
    tokio::spawn(async move {
        tokio::select! {
            () = upward => {}
            () = downward => {}
            () = back.closed() => {}
        }
    });
    Ok(Box::pin(ReceiverStream::new(answers)))
}

/// The microVM and the running instance of a container.
pub(crate) fn running(handle: &PodHandle, wanted: &str) -> Result<(Arc<Sandbox>, String), HostError> {
    let name = container(handle, wanted)?;
    let pod = &handle.shared.name;
    let sandbox = handle.shared.sandbox().ok_or_else(|| HostError::NotRunning(pod.clone()))?;
    let id = handle.shared.running(&name);
    let id = id.ok_or_else(|| HostError::Container { what: format!("container not found (\"{name}\")") })?;
    Ok((sandbox, id.as_str().to_owned()))
}

fn size(size: proto::TerminalSize) -> agent::TerminalSize {
    agent::TerminalSize { columns: size.columns, rows: size.rows }
}

fn no_start() -> Status {
    Status::invalid_argument("the first message says what is to be started")
}
