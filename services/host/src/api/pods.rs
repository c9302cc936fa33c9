//! Calls about Pods as a whole.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use monopod_api::Sizing;
use monopod_host_proto::v1 as proto;
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;

use super::Answers;
use super::convert::{self, status};
use super::shown::shown;
use crate::error::HostError;
use crate::host::{Host, LOOPBACK, RunRequest};
use crate::journal::PortRecord;
use crate::news::{Item, TimedItem};
use crate::objects::Objects;
use crate::pod::PodHandle;

pub(super) fn info(host: &Host) -> proto::InfoResponse {
    let pods = host.pods();
    let running = pods.iter().filter(|pod| pod.shared.sandbox().is_some()).count();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    proto::InfoResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        accelerator: host.machine.vmm.accelerator().to_owned(),
        guest_version: host.machine.vmm.guest_version().to_owned(),
        pods: count(pods.len()),
        running: count(running),
        memory: resident_memory(),
        started_at: convert::nanoseconds(host.started_at),
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        root: host.machine.settings.root.display().to_string(),
    }
}

/// Bytes of this process that are in memory; 0 where the system does not tell.
fn resident_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) << 10
}

pub(super) async fn run(host: &Arc<Host>, request: proto::RunPodRequest) -> Result<PodHandle, Status> {
    let sizing = match request.sizing() {
        proto::SizingMode::Fargate => Sizing::Fargate,
        proto::SizingMode::Exact => Sizing::Exact,
    };
    let ports: Result<_, _> = request.published_ports.iter().map(wanted_port).collect();
    let request = RunRequest {
        ports: ports.map_err(status)?,
        pod: request.pod_json,
        objects: request.objects_json,
        sizing,
        archives: request.image_archives.into_iter().map(Into::into).collect(),
    };
    host.run(request).await.map_err(status)
}

fn wanted_port(port: &proto::PublishedPort) -> Result<PortRecord, HostError> {
    let invalid = |what: String| HostError::Request { what };
    let number = |number: u32| u16::try_from(number).map_err(|_| invalid(format!("{number} is no port")));
    let host_address = match port.host_address.as_str() {
        "" => LOOPBACK,
        text => text.parse().map_err(|_| invalid(format!("{text:?} is no address to listen on")))?,
    };
    let (host_port, pod_port) = (number(port.host_port)?, number(port.pod_port)?);
    if pod_port == 0 {
        return Err(invalid("0 is no port of a Pod".to_owned()));
    }
    Ok(PortRecord { host_address, host_port, pod_port })
}

/// All news of a Pod: what was told, then what comes, until it has ended.
pub(super) fn news(handle: &PodHandle) -> Answers<proto::PodEvent> {
    let (told, receiver) = handle.shared.news.listen();
    let has_ended = told.finished.is_some();
    let news = handle.shared.news.clone();
    let past = stream::iter(told.into_items());
    let coming = stream::unfold(Some((receiver, news)), |state| async move {
        let (mut receiver, news) = state?;
        loop {
            match receiver.recv().await {
                Ok(item) => {
                    let is_last = matches!(item.item, Item::Finished(_));
                    return Some((item, (!is_last).then_some((receiver, news))));
                }
                // Whoever is too slow gets the present state, and misses only what it replaces.
                Err(RecvError::Lagged(_)) => {
                    let told = news.told();
                    if let Some((time, end)) = told.finished {
                        return Some((TimedItem { time, item: Item::Finished(end) }, None));
                    }
                    if let Some((time, pod)) = told.status {
                        return Some((TimedItem { time, item: Item::Status(pod) }, Some((receiver, news))));
                    }
                }
                Err(RecvError::Closed) => return None,
            }
        }
    });
    let coming = if has_ended { coming.take(0).left_stream() } else { coming.right_stream() };
    Box::pin(past.chain(coming).map(|item| Ok(convert::news(item))))
}

pub(super) fn list(host: &Host, namespace: &str) -> proto::ListPodsResponse {
    let pods = host.pods();
    let wanted = pods.iter().filter(|pod| namespace.is_empty() || pod.shared.name.namespace == namespace);
    proto::ListPodsResponse { pods: wanted.map(summary).collect() }
}

fn summary(handle: &PodHandle) -> proto::PodSummary {
    let shared = &handle.shared;
    let told = shared.news.told();
    let pod = told.status.map(|(_, pod)| pod).unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let shown = shown(&pod);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    proto::PodSummary {
        name: Some(convert::name(&shared.name)),
        uid: shared.uid.clone(),
        shown_status: shown.status,
        ready: count(shown.ready),
        containers: count(shown.containers),
        restarts: shown.restarts,
        created_at: convert::nanoseconds(shared.admitted_at),
        address: status.pod_ip.unwrap_or_default(),
        phase: status.phase.unwrap_or_default(),
        size: Some(convert::size(shared.size)),
        published_ports: told.published.iter().map(|(_, port)| convert::port(port)).collect(),
    }
}

pub(super) async fn inspect(
    host: &Host,
    request: proto::InspectPodRequest,
) -> Result<proto::InspectPodResponse, Status> {
    let handle = host.pod(&convert::pod_name(request.pod)?).map_err(status)?;
    let told = handle.shared.news.told();
    let pod = told.status.map(|(_, pod)| pod).unwrap_or_default();
    let sandbox = handle.shared.sandbox();
    let facts = sandbox.as_ref().map(|sandbox| sandbox.facts.clone()).unwrap_or_default();
    let overhead = match &sandbox {
        Some(sandbox) => sandbox.vm.overhead().await.map_or(0, |overhead| overhead.0 << 20),
        None => 0,
    };
    let micro_vm = proto::MicroVm {
        size: Some(convert::size(handle.shared.size)),
        address: facts.addresses.first().map(ToString::to_string).unwrap_or_default(),
        mac: facts.mac,
        accelerator: host.machine.vmm.accelerator().to_owned(),
        guest_version: host.machine.vmm.guest_version().to_owned(),
        guest_kernel: facts.guest_kernel,
        boot_id: facts.boot_id,
        overhead,
        running: sandbox.is_some(),
    };
    let events = told.events.iter().map(|event| proto::TimedEvent {
        first_seen: convert::nanoseconds(event.first_seen),
        last_seen: convert::nanoseconds(event.last_seen),
        event: Some(convert::event(event)),
    });
    Ok(proto::InspectPodResponse {
        pod_json: convert::pod_json(&pod),
        micro_vm: Some(micro_vm),
        stages: told.stages.into_iter().map(|(_, stage)| convert::stage(stage)).collect(),
        events: events.collect(),
        published_ports: told.published.iter().map(|(_, port)| convert::port(port)).collect(),
    })
}

pub(super) async fn stop(host: &Host, request: proto::StopPodRequest) -> Result<proto::StopPodResponse, Status> {
    let grace = request.grace_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let finished = host.stop(&convert::pod_name(request.pod)?, grace).await.map_err(status)?;
    Ok(proto::StopPodResponse { finished: Some(convert::finished(finished)) })
}

pub(super) async fn apply(
    host: &Host,
    request: &proto::ApplyObjectsRequest,
) -> Result<proto::ApplyObjectsResponse, Status> {
    let objects = Objects::parse(request.objects_json.iter().map(Vec::as_slice));
    let objects = objects.map_err(|error| status(error.into()))?;
    for pod in &request.pods_json {
        let pod = crate::admission::read(pod).map_err(|error| status(error.into()))?;
        host.change(&pod).await.map_err(status)?;
    }
    Ok(proto::ApplyObjectsResponse { pods: host.apply(objects).await })
}
