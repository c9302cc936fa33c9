//! Logs of a container.

use monopod_host_proto::v1 as proto;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Answers;
use super::convert::{self, status};
use crate::error::HostError;
use crate::host::Host;
use crate::logs::{Options, Progress, Reader, follow};
use crate::pod::{Found, PodHandle};

pub(super) async fn logs(host: &Host, request: proto::LogsRequest) -> Result<Answers<proto::LogsResponse>, Status> {
    let handle = host.pod(&convert::pod_name(request.pod.clone())?).map_err(status)?;
    let container = container(&handle, &request.container).map_err(status)?;
    let options = Options {
        timestamps: request.timestamps,
        tail_lines: request.tail_lines,
        since: request.since,
        limit_bytes: request.limit_bytes,
        stream: None,
    };
    let (reader, progress) = open_log(&handle, &container, request.previous, options).await.map_err(status)?;
    let progress = if request.follow { progress } else { None };
    let (to, from) = mpsc::channel(4);
    tokio::spawn(async move {
        if let Err(error) = follow(reader, progress, to).await {
            tracing::error!(container, error = &error as &dyn std::error::Error, "failed to read a log");
        }
    });
    Ok(Box::pin(ReceiverStream::new(from).map(|data| Ok(proto::LogsResponse { data }))))
}

/// Opens the log of a container's last instance, or of the one before; and how far it is written, while it grows.
pub(crate) async fn open_log(
    handle: &PodHandle,
    container: &str,
    previous: bool,
    options: Options,
) -> Result<(Reader, Option<watch::Receiver<Progress>>), HostError> {
    let unread = |source| HostError::Log { container: container.to_owned(), source };
    let found = handle.shared.logs.find(container, previous).map_err(unread)?;
    let Found { logs, attempt, progress } = found.ok_or_else(|| no_log(handle, container, previous))?;
    let opening = tokio::task::spawn_blocking(move || Reader::open(logs, attempt, options));
    let opened = opening.await.map_err(std::io::Error::other).and_then(|opened| opened);
    Ok((opened.map_err(unread)?, progress))
}

fn no_log(handle: &PodHandle, container: &str, previous: bool) -> HostError {
    let name = &handle.shared.name.name;
    let what = if previous {
        format!("previous terminated container \"{container}\" in pod \"{name}\" not found")
    } else {
        format!("container \"{container}\" in pod \"{name}\" is waiting to start: {}", waiting(handle, container))
    };
    HostError::Container { what }
}

/// Why a container waits, in the words of its status.
fn waiting(handle: &PodHandle, container: &str) -> String {
    let pod = handle.shared.news.pod();
    let status = pod.as_ref().and_then(|pod| pod.status.as_ref());
    let statuses = status
        .into_iter()
        .flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses).flatten());
    let reason = statuses
        .filter(|one| one.name == container)
        .find_map(|one| one.state.as_ref()?.waiting.as_ref()?.reason.clone());
    reason.unwrap_or_else(|| "ContainerCreating".to_owned())
}

/// The container that is meant: the only one or the default one where none is named.
pub(crate) fn container(handle: &PodHandle, wanted: &str) -> Result<String, HostError> {
    let name = &handle.shared.name;
    let pod = handle.shared.news.pod().ok_or_else(|| HostError::NotFound(name.clone()))?;
    let spec = pod.spec.as_ref().ok_or_else(|| HostError::NotFound(name.clone()))?;
    if wanted.is_empty() {
        let default =
            pod.metadata.annotations.as_ref().and_then(|all| all.get("kubectl.kubernetes.io/default-container"));
        let first = spec.containers.first().map(|container| container.name.clone());
        let chosen = default.filter(|name| spec.containers.iter().any(|one| &one.name == *name)).cloned().or(first);
        return chosen.ok_or_else(|| HostError::NotFound(name.clone()));
    }
    let ordinary = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|one| &one.name);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|one| &one.name);
    if ordinary.chain(ephemeral).any(|one| one == wanted) {
        return Ok(wanted.to_owned());
    }
    Err(HostError::Container { what: format!("container {wanted} is not valid for pod {}", name.name) })
}
