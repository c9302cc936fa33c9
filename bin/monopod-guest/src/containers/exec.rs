//! Further programs in a container, each with one client.
//!
//! A program that outlives its client goes on: only its streams are gone.

use std::sync::Arc;
use std::time::Duration;

use monopod_agent_proto::v1;
use monopod_agent_proto::v1::exec_response::Kind as Answer;
use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::container::Container;
use super::control::Job;
use super::create::{self, Placed};
use super::error::ContainerError;
use super::process::ProcessPlan;
use super::streams::{self, Ends};
use super::{Answers, Containers, PodContext, blocking, environment, sys};
use crate::reaper::{Ended, Reaper};

/// Exit code of a program that could not be started.
const NOT_STARTED: i32 = 128;
/// What precedes the reason of a program that could not be started, where people know these messages from.
const START_FAILED: &str = "OCI runtime exec failed: exec failed: unable to start container process: ";
/// How long output may be silent after the program has ended, before it is taken for ended too.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
/// Most messages that wait for the host.
const BACKLOG: usize = 4;

type Client = mpsc::Sender<Result<v1::ExecResponse, Status>>;

pub(super) async fn run(
    containers: &Containers,
    mut requests: Streaming<v1::ExecRequest>,
) -> Result<Answers<v1::ExecResponse>, Status> {
    let first = requests.message().await?.and_then(|request| request.kind);
    let Some(v1::exec_request::Kind::Start(start)) = first else {
        return Err(Status::invalid_argument("the first message must start a program"));
    };
    let container = containers.get(&start.id)?;
    let init = container.running()?;
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let context = containers.shared.context.clone();
    tokio::spawn(async move {
        if let Err(status) = session(context, container, init, start, requests, &sender).await {
            // The client may be gone.
            let _ = sender.send(Err(status)).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

async fn session(
    context: PodContext,
    container: Arc<Container>,
    init: Pid,
    start: v1::ExecStart,
    requests: Streaming<v1::ExecRequest>,
    client: &Client,
) -> Result<(), Status> {
    let reaper = context.reaper.clone();
    let (placed, ends) = place(context, &container, init, &start).await?;
    let pid = match placed {
        Ok(pid) => pid,
        Err(text) => {
            let start_error = format!("{START_FAILED}{text}: unknown");
            answer(client, Answer::Exit(v1::Exit { code: NOT_STARTED, timed_out: false, start_error })).await;
            return Ok(());
        }
    };
    if let (Some(terminal), Some(size)) = (&ends.terminal, start.size) {
        terminal.resize(size);
    }
    answer(client, Answer::Started(v1::ExecStarted {})).await;
    let (outputs, mut chunks) = mpsc::channel(BACKLOG);
    let (enders, pumps): (Vec<_>, Vec<_>) = ends
        .outputs
        .iter()
        .map(|(stream, end)| {
            let (ender, ended) = oneshot::channel();
            let pump = streams::forward(*stream, end.clone(), outputs.clone(), ended, DRAIN_PATIENCE);
            (ender, tokio::spawn(pump))
        })
        .unzip();
    drop(outputs);
    let input = tokio::spawn(feed(requests, ends));
    let forwarding = tokio::spawn({
        let client = client.clone();
        async move {
            loop {
                let output = tokio::select! {
                    output = chunks.recv() => output,
                    () = client.closed() => return,
                };
                let Some(output) = output else { return };
                if !answer(&client, Answer::Output(output)).await {
                    return;
                }
            }
        }
    });
    let (ended, timed_out) = wait(&reaper, pid, start.timeout_nanoseconds).await;
    // A pump that has seen the end already does not listen any more.
    for ender in enders {
        let _ = ender.send(());
    }
    for task in pumps.into_iter().chain([forwarding]) {
        let _ = task.await;
    }
    input.abort();
    answer(client, Answer::Exit(v1::Exit { code: ended.code(), timed_out, start_error: String::new() })).await;
    Ok(())
}

/// Starts the program.
async fn place(
    context: PodContext,
    container: &Container,
    init: Pid,
    start: &v1::ExecStart,
) -> Result<Placed, ContainerError> {
    let process = ProcessPlan {
        args: start.args.clone(),
        environment: environment::for_exec(&container.plan.environment, start.tty),
        tty: start.tty,
        limits: container.plan.limits.clone(),
        ..container.plan.clone()
    };
    let job = Job::Exec { init: init.as_raw(), cgroup: container.cgroup.members_file(), process };
    let stdin = start.stdin;
    blocking(move || create::launch(&context, &job, stdin)).await
}

/// How it ended, and whether that was for lack of time.
async fn wait(reaper: &Reaper, pid: Pid, timeout_nanoseconds: u64) -> (Ended, bool) {
    let mut ended = Box::pin(reaper.watch(pid));
    if timeout_nanoseconds == 0 {
        return (ended.await, false);
    }
    if let Ok(ended) = tokio::time::timeout(Duration::from_nanos(timeout_nanoseconds), &mut ended).await {
        return (ended, false);
    }
    match sys::kill(pid, libc::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::warn!(%error, "failed to kill a program after its time"),
    }
    (ended.await, true)
}

/// Gives the program its input, until there is none, or no client.
async fn feed(mut requests: Streaming<v1::ExecRequest>, ends: Ends) {
    use v1::exec_request::Kind;

    let Ends { stdin: mut input, outputs, terminal } = ends;
    // Held by the pumps: here they would keep the pipes open after the client is gone.
    drop(outputs);
    while let Ok(Some(request)) = requests.message().await {
        match request.kind {
            Some(Kind::Stdin(bytes)) => {
                if let Some(end) = &input
                    && end.write_all(&bytes).await.is_err()
                {
                    // The program does not read any more; sizes may still come.
                    input = None;
                }
            }
            Some(Kind::StdinEnd(_)) => input = None,
            Some(Kind::Resize(size)) => {
                if let Some(terminal) = &terminal {
                    terminal.resize(size);
                }
            }
            Some(Kind::Start(_)) | None => {}
        }
    }
}

/// Whether the client is still there.
async fn answer(client: &Client, kind: Answer) -> bool {
    client.send(Ok(v1::ExecResponse { kind: Some(kind) })).await.is_ok()
}
