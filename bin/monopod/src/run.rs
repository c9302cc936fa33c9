//! `monopod run`: a Pod manifest in a microVM on this machine.

pub(crate) mod input;
mod output;

use std::collections::HashMap;
use std::path::PathBuf;

use clap::ValueEnum;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use monopod_host_proto::v1::pod_event::Kind;
use monopod_host_proto::v1::{
    Finished, InspectPodRequest, PodEvent, PodName, PublishedPort, RemovePodRequest, RunPodRequest, SizingMode,
    StopPodRequest,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tonic::{Code, Status, Streaming};

use crate::Exit;
use crate::daemon::{Client, Folders};
use crate::failure::Failure;
use crate::ports::Publication;

use output::Progress;

/// Run a Pod in a microVM of its own on this machine, with no cluster.
///
/// Reads one Pod (or the first Pod of one controller) and the ConfigMaps, Secrets, PersistentVolumes,
/// PersistentVolumeClaims and Services beside it, starts it through the host daemon, and prints its output until it has
/// ended. Ctrl-C stops the Pod orderly, a second Ctrl-C at once. What a cluster's profile would refuse is refused here,
/// with the same message.
///
/// Exit code: that of the first container that failed, else 0; 1 when the Pod is refused, 2 when the input is bad, 125
/// when it could not be run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The manifest: a file, or - for standard input.
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Leave the Pod running in the background once its containers have started.
    #[arg(short, long)]
    detach: bool,
    /// Make a port of the Pod reachable on this machine; may be given several times.
    #[arg(short, long = "publish", value_name = "[ADDRESS:]HOST:POD")]
    publish: Vec<Publication>,
    /// How the microVM is sized.
    #[arg(long, value_enum, default_value_t = ProfileMode::Fargate)]
    profile_mode: ProfileMode,
    /// Take images from an archive (docker save, OCI layout) before the Pod starts; may be given several times.
    #[arg(long, value_name = "FILE|DIR")]
    image_archive: Vec<PathBuf>,
    /// Remove the Pod with its logs once it has ended.
    #[arg(long, conflicts_with = "detach")]
    rm: bool,
    #[command(flatten)]
    folders: Folders,
}

/// A way to size microVMs.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProfileMode {
    /// By the table of AWS Fargate.
    Fargate,
    /// By what the Pod asks for.
    Exact,
}

/// Runs the subcommand.
pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let request = request(&arguments)?;
    let mut client = arguments.folders.connect_or_start().await?;
    let (pod, events) = start(&mut client, request).await?;
    let mut watch = Watch { client, pod, progress: Progress::new(), logs: JoinSet::new(), seen: HashMap::new() };
    match watch.until_end(events, arguments.detach).await? {
        None => {
            // Standard output carries what a script wants to know.
            crate::terminal::print_line(&crate::pods::shown(&watch.pod))?;
            Ok(Exit::Success)
        }
        Some(finished) => {
            watch.drain_logs().await;
            watch.progress.finished(&finished);
            if arguments.rm {
                watch.client.remove_pod(RemovePodRequest { pod: Some(watch.pod.clone()), force: false }).await?;
            }
            Ok(Exit::of_program(finished.exit_code))
        }
    }
}

fn request(arguments: &Arguments) -> Result<RunPodRequest, Failure> {
    let input::PodInput { pod, objects } = input::read_pod(&arguments.file)?;
    let sizing = match arguments.profile_mode {
        ProfileMode::Fargate => SizingMode::Fargate,
        ProfileMode::Exact => SizingMode::Exact,
    };
    let archives = arguments.image_archive.iter().map(|path| crate::images::absolute(path));
    Ok(RunPodRequest {
        pod_json: serde_json::to_vec(&pod)?,
        objects_json: objects,
        sizing: sizing.into(),
        image_archives: archives.collect::<Result<_, _>>()?,
        published_ports: arguments.publish.iter().map(PublishedPort::from).collect(),
    })
}

/// Asks the daemon to run it. A Pod of the same name that has ended makes room.
async fn start(client: &mut Client, request: RunPodRequest) -> Result<(PodName, Streaming<PodEvent>), Failure> {
    let pod: Pod = serde_json::from_slice(&request.pod_json)?;
    let name =
        PodName { namespace: pod.metadata.namespace.unwrap_or_default(), name: pod.metadata.name.unwrap_or_default() };
    match client.run_pod(request.clone()).await {
        Ok(events) => Ok((name, events.into_inner())),
        Err(status) if status.code() == Code::AlreadyExists && has_ended(client, &name).await? => {
            crate::terminal::note(&format!("an earlier Pod {} has ended and is replaced", crate::pods::shown(&name)));
            client.remove_pod(RemovePodRequest { pod: Some(name.clone()), force: false }).await?;
            Ok((name, client.run_pod(request).await?.into_inner()))
        }
        Err(status) => Err(status.into()),
    }
}

async fn has_ended(client: &mut Client, pod: &PodName) -> Result<bool, Failure> {
    let answer = client.inspect_pod(InspectPodRequest { pod: Some(pod.clone()) }).await?.into_inner();
    let pod: Pod = serde_json::from_slice(&answer.pod_json)?;
    let phase = pod.status.and_then(|status| status.phase);
    Ok(matches!(phase.as_deref(), Some("Succeeded" | "Failed")))
}

/// One Pod being watched.
struct Watch {
    client: Client,
    pod: PodName,
    progress: Progress,
    logs: JoinSet<()>,
    /// How many starts of each container have a reader of their logs.
    seen: HashMap<String, i32>,
}

/// What interrupts us.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

impl Watch {
    /// Follows the Pod to its end, or, detached, until its containers run (`None`).
    async fn until_end(&mut self, mut events: Streaming<PodEvent>, detach: bool) -> Result<Option<Finished>, Failure> {
        let signals = |source| Failure::Io { action: "failed to listen for signals".to_owned(), source };
        let mut interrupts = Interrupts::new().map_err(signals)?;
        let mut stops: JoinSet<Result<(), Status>> = JoinSet::new();
        let mut asked = 0_u32;
        loop {
            tokio::select! {
                event = events.message() => {
                    let event = event?.ok_or(Failure::Answer("a Pod without an end"))?;
                    match event.kind {
                        Some(Kind::Finished(finished)) => return Ok(Some(finished)),
                        Some(Kind::Status(status)) => {
                            let pod: Pod = serde_json::from_slice(&status.pod_json)?;
                            if detach && is_started(&pod) {
                                return Ok(None);
                            }
                            if !detach {
                                self.follow_logs(&pod);
                            }
                        }
                        Some(kind) => self.progress.show(&kind),
                        None => {}
                    }
                }
                () = interrupts.next() => {
                    stops.spawn(stop(self.client.clone(), self.pod.clone(), (asked > 0).then_some(0)));
                    self.progress.stopping(asked > 0);
                    asked += 1;
                }
                Some(stopped) = stops.join_next() => {
                    if let Ok(Err(status)) = stopped {
                        crate::terminal::error(&Failure::from(status));
                    }
                }
            }
        }
    }

    /// Reads the logs of containers that have started since the last look.
    fn follow_logs(&mut self, pod: &Pod) {
        let statuses = statuses(pod);
        let several = statuses.len() > 1;
        for status in statuses {
            let state = status.state.as_ref();
            let has_started = state.is_some_and(|state| state.running.is_some() || state.terminated.is_some());
            let starts = status.restart_count + 1;
            let seen = self.seen.entry(status.name.clone()).or_default();
            if has_started && *seen < starts {
                *seen = starts;
                let prefix = several.then(|| status.name.clone());
                self.logs.spawn(output::follow(self.client.clone(), self.pod.clone(), status.name.clone(), prefix));
            }
        }
    }

    async fn drain_logs(&mut self) {
        while self.logs.join_next().await.is_some() {}
    }
}

async fn stop(mut client: Client, pod: PodName, grace_seconds: Option<u32>) -> Result<(), Status> {
    client.stop_pod(StopPodRequest { pod: Some(pod), grace_seconds }).await.map(drop)
}

fn statuses(pod: &Pod) -> Vec<&ContainerStatus> {
    let Some(status) = &pod.status else { return Vec::new() };
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten()).collect()
}

/// Whether every container that is not for initialisation has started.
fn is_started(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    phase == Some("Running") && statuses.iter().all(|status| status.started == Some(true) || status.restart_count > 0)
}
