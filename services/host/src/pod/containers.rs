//! Makes, starts, signals and removes instances of containers, and watches what becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use monopod_agent_client::AgentError;
use monopod_agent_proto::v1::container_state::Phase;
use monopod_agent_proto::v1::{ContainerState, SignalContainerRequest};
use monopod_images::Image;
use monopod_podplan::life::{ContainerId, ContainerName, Event, Exit, Signal, StartStage};
use monopod_podplan::plan::{ContainerInstance, EnvironmentFiles, ImageConfig, container_request, find_container};

use super::Sandbox;
use super::log_pump::{self, Source};
use super::task::Note;
use super::work::{Work, chain};

/// What is to be made.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) id: ContainerId,
    pub(super) container: ContainerName,
    pub(super) attempt: u32,
    /// Whose processes it shares.
    pub(super) target: Option<ContainerId>,
}

/// Between attempts to watch a guest that does not answer.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a guest may take to tell of a container that it should have.
const OBSERVE_PATIENCE: Duration = Duration::from_secs(3);
/// How long the end of a log is waited for that is to become a termination message.
const LOG_PATIENCE: Duration = Duration::from_secs(5);
/// What the kubelet takes of a log as termination message.
const TAIL_LINES: u64 = 80;
const TAIL_BYTES: usize = 2048;

/// A container that did not come to run.
struct Failure {
    stage: StartStage,
    reason: &'static str,
    message: String,
}

/// Makes and starts an instance, and answers the machine.
pub(super) async fn create_and_start(work: &Work, sandbox: &Arc<Sandbox>, image: Option<Image>, instance: Instance) {
    if let Err(failure) = try_start(work, sandbox, image, &instance).await {
        let Failure { stage, reason, message } = failure;
        let event = Event::ContainerStartFailed { id: instance.id, stage, reason: reason.to_owned(), message };
        work.tell(event).await;
    }
}

async fn try_start(
    work: &Work,
    sandbox: &Arc<Sandbox>,
    image: Option<Image>,
    instance: &Instance,
) -> Result<(), Failure> {
    let create = |reason, message| Failure { stage: StartStage::Create, reason, message };
    let image = image.ok_or_else(|| create("ImageInspectError", "the image is not held".to_owned()))?;
    let attached = sandbox.attach_image(&image).await;
    attached.map_err(|error| create("CreateContainerError", chain(&error)))?;
    let config = plan_image(&image);
    let planned = work.with_context(&sandbox.facts.addresses, |context| {
        let asked = ContainerInstance {
            container: instance.container.as_str(),
            id: instance.id.as_str(),
            image: &config,
            image_serial: &image.serial,
            target: instance.target.as_ref().map(ContainerId::as_str),
            environment_files: &EnvironmentFiles::default(),
        };
        container_request(context, &asked)
    });
    let request = planned.map_err(|error| create(error.reason(), error.to_string()))?;
    let created = sandbox.agent.create_container(request).await;
    created.map_err(|error| create("CreateContainerError", words(&error)))?;
    work.tell(Event::ContainerCreated { id: instance.id.clone(), user: None }).await;
    spawn_pump(work, sandbox, instance);
    monopod_faults::point("host/created");
    let started = sandbox.agent.start_container(instance.id.as_str()).await;
    started.map_err(|error| {
        let message = words(&error);
        Failure { stage: StartStage::Start, reason: "RunContainerError", message }
    })
}

/// What the guest said, without our own words around it: it speaks as container runtimes do.
fn words(error: &AgentError) -> String {
    if let AgentError::Refused { message, .. } = error { message.clone() } else { chain(error) }
}

/// What a plan needs of an image.
fn plan_image(image: &Image) -> ImageConfig {
    let config = image.config.clone();
    ImageConfig {
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        env: config.env,
        user: config.user,
        working_dir: config.working_dir,
        stop_signal: config.stop_signal.unwrap_or_default(),
    }
}

/// Carries the instance's output from now on, beside the task of the Pod.
pub(super) fn spawn_pump(work: &Work, sandbox: &Arc<Sandbox>, instance: &Instance) {
    let (work, sandbox) = (work.clone(), Arc::clone(sandbox));
    let source = Source {
        id: instance.id.as_str().to_owned(),
        container: instance.container.as_str().to_owned(),
        attempt: instance.attempt,
    };
    tokio::spawn(async move {
        let limits = work.machine.settings.log_limits();
        log_pump::pump(&work.shared, &sandbox.agent, &source, limits, &sandbox.gone).await;
        work.note(Note::LogComplete { id: source.id }).await;
    });
}

/// Tells the task of every change of a container, for as long as the microVM runs.
pub(super) async fn watch(work: Work, sandbox: Arc<Sandbox>) {
    let watching = async {
        loop {
            let error = match watch_once(&work, &sandbox).await {
                Ok(()) => continue,
                Err(error) => error,
            };
            tracing::debug!(pod = %work.shared.name, error = &error as &dyn std::error::Error, "containers are not seen for a moment");
            tokio::time::sleep(PAUSE).await;
        }
    };
    let _: Option<()> = sandbox.gone.run_until_cancelled(watching).await;
}

async fn watch_once(work: &Work, sandbox: &Sandbox) -> Result<(), AgentError> {
    let mut states = sandbox.agent.watch_containers().await?;
    while let Some(state) = states.next().await? {
        work.note(Note::Container(Box::new(state))).await;
    }
    Ok(())
}

/// The states of all containers that a guest has, as of now. `expected` are those that it should have, one of which may
/// never have been made.
pub(super) async fn observe(
    sandbox: &Sandbox,
    expected: impl Iterator<Item = String>,
) -> Result<BTreeMap<String, ContainerState>, AgentError> {
    let mut states = sandbox.agent.watch_containers().await?;
    let statistics = sandbox.agent.stats(false).await?;
    let known: BTreeSet<String> = statistics.containers.into_iter().map(|container| container.id).collect();
    let mut missing: BTreeSet<String> = expected.chain(known).collect();
    let mut observed = BTreeMap::new();
    let seeing = async {
        while !missing.is_empty() {
            let Some(state) = states.next().await? else { break };
            missing.remove(&state.id);
            observed.insert(state.id.clone(), state);
        }
        Ok(())
    };
    match tokio::time::timeout(OBSERVE_PATIENCE, seeing).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) | Err(_) => Ok(observed),
    }
}

/// What the machine is to know of a container's state.
pub(super) fn event(state: &ContainerState) -> Option<Event> {
    let id = ContainerId::new(state.id.clone());
    match state.phase() {
        Phase::Unknown | Phase::Created => None,
        Phase::Running => {
            Some(Event::ContainerStarted { id, at: time(state.started_at).unwrap_or_else(Timestamp::now) })
        }
        Phase::Exited if !state.start_error.is_empty() => Some(Event::ContainerStartFailed {
            id,
            stage: StartStage::Start,
            reason: "RunContainerError".to_owned(),
            message: state.start_error.clone(),
        }),
        Phase::Exited => Some(Event::ContainerExited { id, exit: exit(state) }),
    }
}

/// How a container ended.
pub(super) fn exit(state: &ContainerState) -> Exit {
    Exit {
        exit_code: state.exit_code,
        signal: (state.signal != 0).then_some(state.signal),
        oom_killed: state.oom_killed,
        termination_message: String::from_utf8_lossy(&state.termination_message).into_owned(),
        log_tail: String::new(),
        started_at: time(state.started_at),
        finished_at: time(state.finished_at),
    }
}

fn time(nanoseconds: u64) -> Option<Timestamp> {
    if nanoseconds == 0 { None } else { Timestamp::from_nanosecond(i128::from(nanoseconds)).ok() }
}

/// Tells of an end; with the end of the log, where that is the message.
pub(super) async fn tell_exit(work: &Work, instance: Instance, mut event: Event) {
    if let Event::ContainerExited { exit, .. } = &mut event
        && exit.exit_code != 0
        && exit.termination_message.is_empty()
        && falls_back_to_logs(work, &instance)
    {
        exit.log_tail = log_tail(work, &instance).await;
    }
    work.tell(event).await;
}

fn falls_back_to_logs(work: &Work, instance: &Instance) -> bool {
    let container = find_container(&work.pod, instance.container.as_str());
    container.is_some_and(|container| container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"))
}

async fn log_tail(work: &Work, instance: &Instance) -> String {
    let container = instance.container.as_str();
    let found = work.shared.logs.find(container, false).ok().flatten();
    if let Some(mut progress) = found.and_then(|found| found.progress) {
        let ended = progress.wait_for(|progress| progress.ended);
        let _ = tokio::time::timeout(LOG_PATIENCE, ended).await;
    }
    let tail = work.shared.logs.of(container).tail(instance.attempt, TAIL_LINES, TAIL_BYTES);
    String::from_utf8_lossy(&tail.unwrap_or_default()).into_owned()
}

/// Sends a signal. A container that has ended needs none.
pub(super) async fn signal(work: &Work, sandbox: &Sandbox, id: &ContainerId, signal: Signal) {
    let request = SignalContainerRequest { id: id.as_str().to_owned(), signal: signal.number(), all_processes: false };
    if let Err(error) = sandbox.agent.signal_container(request).await {
        tracing::warn!(pod = %work.shared.name, container = id.as_str(), error = &error as &dyn std::error::Error, "signal did not arrive");
    }
}

/// Kills a container. A guest that does not take the order within its patience counts as lost, and the Pod with it:
/// nothing but the end of its microVM ends what runs there.
pub(super) async fn kill(work: &Work, sandbox: &Sandbox, id: &ContainerId) {
    let patience = work.machine.settings.kill_order_patience;
    let kill =
        SignalContainerRequest { id: id.as_str().to_owned(), signal: Signal::KILL.number(), all_processes: true };
    let ordering = async {
        loop {
            match sandbox.agent.signal_container(kill.clone()).await {
                // One that refuses has no such container any more.
                Ok(()) | Err(AgentError::Refused { .. }) => return,
                Err(error) => {
                    tracing::warn!(pod = %work.shared.name, container = id.as_str(), error = &error as &dyn std::error::Error, "kill did not arrive");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let ordering = sandbox.gone.run_until_cancelled(ordering);
    if tokio::time::timeout(patience, ordering).await.is_err() {
        let message = format!("the guest agent did not take the order to kill container {id} within {patience:?}");
        work.tell(Event::VmGone { reason: "GuestUnresponsive".to_owned(), message }).await;
    }
}

/// Removes an instance with its log.
pub(super) async fn remove(work: &Work, sandbox: Option<Arc<Sandbox>>, instance: Instance) {
    if let Some(sandbox) = sandbox
        && let Err(error) = sandbox.agent.remove_container(instance.id.as_str()).await
    {
        tracing::warn!(pod = %work.shared.name, container = instance.id.as_str(), error = &error as &dyn std::error::Error, "container is left behind");
    }
    let logs = work.shared.logs.of(instance.container.as_str());
    if let Err(error) = logs.remove(instance.attempt) {
        tracing::warn!(pod = %work.shared.name, container = instance.id.as_str(), error = &error as &dyn std::error::Error, "log is left behind");
    }
}
