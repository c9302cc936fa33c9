//! `monopod stop`, `rm`, `inspect` and `apply`: short questions to the daemon.

use std::path::PathBuf;

use clap::ValueEnum;
use monopod_host_proto::v1::{
    ApplyObjectsRequest, InspectPodRequest, InspectPodResponse, RemovePodRequest, StopPodRequest,
};
use serde_json::{Value, json};

use crate::Exit;
use crate::daemon::Folders;
use crate::failure::Failure;
use crate::pods::PodArgument;
use crate::terminal;

/// Stop a Pod orderly and wait for its end. Its logs stay until it is removed.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArguments {
    #[command(flatten)]
    pod: PodArgument,
    /// Seconds that it may take, instead of the Pod's own terminationGracePeriodSeconds.
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u32>,
    #[command(flatten)]
    folders: Folders,
}

/// Remove a Pod that has ended, with its logs.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArguments {
    #[command(flatten)]
    pod: PodArgument,
    /// Stop it first when it runs, without grace.
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    folders: Folders,
}

/// Print all there is to know of a Pod: the object with its status, its microVM, the stages of its start, its events.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArguments {
    #[command(flatten)]
    pod: PodArgument,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    output: Output,
    #[command(flatten)]
    folders: Folders,
}

/// Give new ConfigMaps and Secrets to the Pods that use them, and change Pods that run.
///
/// Volumes follow their objects. Of a Pod that runs, labels, annotations, images and activeDeadlineSeconds may change, and
/// new ephemeral containers be added: what the API server of a cluster lets people change.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArguments {
    /// The manifest: a file, or - for standard input.
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    #[command(flatten)]
    folders: Folders,
}

/// A form of the answer.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Json,
    Yaml,
}

/// Runs `stop`.
pub(crate) async fn stop(arguments: StopArguments) -> Result<Exit, Failure> {
    let mut client = arguments.folders.connect().await?;
    let pod = arguments.pod.to_proto();
    let shown = crate::pods::shown(&pod);
    client.stop_pod(StopPodRequest { pod: Some(pod), grace_seconds: arguments.grace_period }).await?;
    terminal::print_line(&shown)?;
    Ok(Exit::Success)
}

/// Runs `rm`.
pub(crate) async fn remove(arguments: RemoveArguments) -> Result<Exit, Failure> {
    let mut client = arguments.folders.connect().await?;
    let pod = arguments.pod.to_proto();
    let shown = crate::pods::shown(&pod);
    client.remove_pod(RemovePodRequest { pod: Some(pod), force: arguments.force }).await?;
    terminal::print_line(&shown)?;
    Ok(Exit::Success)
}

/// Runs `inspect`.
pub(crate) async fn inspect(arguments: InspectArguments) -> Result<Exit, Failure> {
    let mut client = arguments.folders.connect().await?;
    let request = InspectPodRequest { pod: Some(arguments.pod.to_proto()) };
    let answer = shown(client.inspect_pod(request).await?.into_inner())?;
    match arguments.output {
        Output::Json => terminal::print_line(&serde_json::to_string_pretty(&answer)?)?,
        Output::Yaml => {
            let text =
                serde_saphyr::to_string(&answer).map_err(|_| Failure::Answer("a value that YAML cannot hold"))?;
            terminal::print_text(&text)?;
        }
    }
    Ok(Exit::Success)
}

/// Runs `apply`.
pub(crate) async fn apply(arguments: ApplyArguments) -> Result<Exit, Failure> {
    let read = crate::run::input::read_objects(&arguments.file)?;
    let (objects, pods) = (crate::run::input::as_json(&read)?, crate::run::input::pods_as_json(&read)?);
    if objects.is_empty() && pods.is_empty() {
        let file = arguments.file.display();
        return Err(Failure::Input(format!("{file} holds no Pod, and nothing that a Pod can refer to")));
    }
    let (count, changed) = (objects.len(), pods.len());
    let mut client = arguments.folders.connect().await?;
    let request = ApplyObjectsRequest { objects_json: objects, pods_json: pods };
    let users = client.apply_objects(request).await?.into_inner().pods;
    if changed > 0 {
        terminal::print_line(&format!("{changed} Pods applied"))?;
    }
    if count > 0 {
        terminal::print_line(&format!("{count} objects applied, used by {users} running Pods"))?;
    }
    Ok(Exit::Success)
}

fn shown(answer: InspectPodResponse) -> Result<Value, Failure> {
    let pod: Value = serde_json::from_slice(&answer.pod_json)?;
    let vm = answer.micro_vm.unwrap_or_default();
    let size = vm.size.unwrap_or_default();
    let micros = |nanoseconds: u64| nanoseconds / 1_000;
    let stages = answer.stages.iter().map(|stage| {
        json!({"name": stage.name, "microseconds": micros(stage.nanoseconds), "atMicroseconds": micros(stage.since_start_nanoseconds)})
    });
    let events = answer.events.iter().filter_map(|timed| {
        let event = timed.event.as_ref()?;
        Some(json!({
            "type": event.r#type, "reason": event.reason, "message": event.message, "fieldPath": event.field_path,
            "count": event.count, "firstSeen": time(timed.first_seen), "lastSeen": time(timed.last_seen),
        }))
    });
    let ports = answer.published_ports.iter().map(|port| {
        json!({"hostAddress": crate::ports::shown_address(&port.host_address), "hostPort": port.host_port, "podPort": port.pod_port})
    });
    Ok(json!({
        "pod": pod,
        "microVM": {
            "running": vm.running, "cpuMillis": size.cpu_millis, "memoryBytes": size.memory,
            "scratchBytes": size.scratch, "address": vm.address, "mac": vm.mac, "accelerator": vm.accelerator,
            "guestVersion": vm.guest_version, "guestKernel": vm.guest_kernel, "bootID": vm.boot_id,
            "overheadBytes": vm.overhead,
        },
        "stages": stages.collect::<Vec<_>>(),
        "events": events.collect::<Vec<_>>(),
        "publishedPorts": ports.collect::<Vec<_>>(),
    }))
}

fn time(nanoseconds: u64) -> String {
    jiff::Timestamp::from_nanosecond(nanoseconds.into()).map(|time| time.to_string()).unwrap_or_default()
}
