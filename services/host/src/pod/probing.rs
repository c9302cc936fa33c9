//! Carries out probes and hooks: inside the container through the agent, from outside over the network.

use std::time::Duration;

use monopod_agent_client::{AgentError, Process, ProcessEvent};
use monopod_agent_proto::v1::{ExecStart, Exit};
use monopod_podplan::life::{ContainerId, ContainerName, Event, Handler, Hook, ProbeKind, ProbeOutcome};

use super::Sandbox;
use super::work::{Work, chain};
use crate::probes::{MAX_ANSWER, go_duration};

/// One probe to carry out.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) id: ContainerId,
    pub(super) container: ContainerName,
    pub(super) kind: ProbeKind,
    pub(super) handler: Handler,
    pub(super) timeout: Duration,
}

/// One hook to carry out.
#[derive(Debug)]
pub(super) struct HookRun {
    pub(super) id: ContainerId,
    pub(super) container: ContainerName,
    pub(super) hook: Hook,
    pub(super) handler: Handler,
    pub(super) timeout: Option<Duration>,
}

/// How a program in a container ended.
#[derive(Debug)]
struct Ran {
    output: String,
    exit: Exit,
}

/// How much longer than its time-out an exec is waited for: the guest does the counting.
const SLACK: Duration = Duration::from_secs(5);

/// Probes, and answers the machine.
pub(super) async fn probe(work: &Work, sandbox: &Sandbox, probe: Probe) {
    let Probe { id, container, kind, handler, timeout } = probe;
    let prober = &work.machine.prober;
    let outcome = match handler {
        Handler::Exec { command } => exec_probe(sandbox, &id, command, timeout).await,
        Handler::Http(request) => prober.http(&request, timeout).await,
        Handler::Tcp { host, port } => prober.tcp(&host, port, timeout).await,
        Handler::Grpc { host, port, service } => prober.grpc(&host, port, &service, timeout).await,
        // No question.
        Handler::Sleep { .. } => return,
    };
    let result = match &outcome {
        ProbeOutcome::Success | ProbeOutcome::Warning(_) => "successful",
        ProbeOutcome::Failure(_) => "failed",
        ProbeOutcome::Error(_) => "unknown",
    };
    work.shared.count_probe(container.as_str(), kind.as_str(), result);
    work.tell(Event::ProbeResult { id, kind, outcome }).await;
}

async fn exec_probe(sandbox: &Sandbox, id: &ContainerId, command: Vec<String>, timeout: Duration) -> ProbeOutcome {
    let shown = command.join(" ");
    match run(sandbox, id, command, Some(timeout)).await {
        Err(error) => ProbeOutcome::Error(chain(&error)),
        Ok(Ran { exit, .. }) if exit.timed_out => {
            let after = go_duration(timeout);
            ProbeOutcome::Failure(format!("command timed out: {shown:?} timed out after {after}"))
        }
        Ok(Ran { exit, .. }) if !exit.start_error.is_empty() => ProbeOutcome::Failure(exit.start_error),
        Ok(Ran { exit, .. }) if exit.code == 0 => ProbeOutcome::Success,
        Ok(Ran { output, .. }) => ProbeOutcome::Failure(output),
    }
}

/// Runs a hook, and answers the machine.
pub(super) async fn hook(work: &Work, sandbox: &Sandbox, hook: HookRun) {
    let HookRun { id, container, hook, handler, timeout } = hook;
    let result = match handler {
        Handler::Exec { command } => exec_hook(sandbox, &id, command, timeout).await,
        Handler::Http(request) => work.machine.prober.http_hook(&request, timeout).await,
        Handler::Tcp { host, port } => {
            let timeout = timeout.unwrap_or(Duration::from_secs(30));
            match work.machine.prober.tcp(&host, port, timeout).await {
                ProbeOutcome::Success | ProbeOutcome::Warning(_) => Ok(()),
                ProbeOutcome::Failure(message) | ProbeOutcome::Error(message) => Err(message),
            }
        }
        Handler::Sleep { duration } => {
            tokio::time::sleep(timeout.map_or(duration, |timeout| duration.min(timeout))).await;
            Ok(())
        }
        Handler::Grpc { .. } => return,
    };
    tracing::debug!(pod = %work.shared.name, %container, hook = hook.as_str(), ?result, "hook has ended");
    work.tell(Event::HookDone { id, hook, result }).await;
}

async fn exec_hook(
    sandbox: &Sandbox,
    id: &ContainerId,
    command: Vec<String>,
    timeout: Option<Duration>,
) -> Result<(), String> {
    let shown = command.join(" ");
    let Ran { output, exit } = run(sandbox, id, command, timeout).await.map_err(|error| chain(&error))?;
    if exit.timed_out {
        return Err(format!("command {shown:?} timed out"));
    }
    if !exit.start_error.is_empty() {
        return Err(exit.start_error);
    }
    if exit.code == 0 {
        return Ok(());
    }
    Err(format!("command '{shown}' exited with {}: {output}, message: {output:?}", exit.code))
}

/// Runs a program in a container to its end.
async fn run(
    sandbox: &Sandbox,
    id: &ContainerId,
    args: Vec<String>,
    timeout: Option<Duration>,
) -> Result<Ran, AgentError> {
    let nanoseconds = timeout.map_or(0, |timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
    let start =
        ExecStart { id: id.as_str().to_owned(), args, timeout_nanoseconds: nanoseconds, ..ExecStart::default() };
    let running = async { collect(sandbox.agent.exec(start).await?).await };
    match timeout {
        None => running.await,
        Some(timeout) => match tokio::time::timeout(timeout + SLACK, running).await {
            Ok(ran) => ran,
            // Dropping the call ends the program.
            Err(_) => Ok(Ran { output: String::new(), exit: Exit { timed_out: true, ..Exit::default() } }),
        },
    }
}

async fn collect(process: Process) -> Result<Ran, AgentError> {
    let Process { input, mut output } = process;
    drop(input);
    let mut text = Vec::new();
    let mut exit = None;
    while let Some(event) = output.next().await? {
        match event {
            ProcessEvent::Started => {}
            ProcessEvent::Output { data, .. } => {
                let room = MAX_ANSWER.saturating_sub(text.len());
                text.extend_from_slice(&data[..data.len().min(room)]);
            }
            ProcessEvent::Exited(how) => exit = Some(how),
        }
    }
    let exit = exit.ok_or(AgentError::Misbehaved { call: "Exec", what: "no exit at the end" })?;
    Ok(Ran { output: String::from_utf8_lossy(&text).into_owned(), exit })
}
