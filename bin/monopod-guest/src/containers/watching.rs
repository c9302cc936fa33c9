//! Streams that only tell: the states of containers, and the log of one.

use std::sync::Arc;

use monopod_agent_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::logs::LogBuffer;
use super::{Answers, Containers};

/// Most entries or states that wait for the host.
const BACKLOG: usize = 16;
/// Most entries that are copied at once; each may have 16 KiB.
const BATCH: usize = 32;

/// First every state, then each that changes.
pub(super) fn states(containers: Containers) -> Answers<v1::ContainerState> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let mut changes = containers.shared.changes.subscribe();
        let mut seen = 0;
        loop {
            changes.mark_unchanged();
            let mut news: Vec<_> =
                containers.all().iter().filter_map(|container| container.state_after(seen)).collect();
            news.sort_by_key(|(version, _)| *version);
            for (version, state) in news {
                seen = seen.max(version);
                if sender.send(Ok(state)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// The log of one container, from a time on.
pub(super) async fn logs(
    containers: &Containers,
    mut requests: Streaming<v1::ReadLogsRequest>,
) -> Result<Answers<v1::LogEntry>, Status> {
    use v1::read_logs_request::Kind;

    let first = requests.message().await?.and_then(|request| request.kind);
    let Some(Kind::From(from)) = first else {
        return Err(Status::invalid_argument("the first message must say which log"));
    };
    let buffer = containers.get(&from.id)?.logs.clone();
    // A host that goes on from a time has everything up to it, and will not say so again.
    buffer.acknowledge(from.after);
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn({
        let buffer = buffer.clone();
        async move {
            while let Ok(Some(request)) = requests.message().await {
                if let Some(Kind::Acknowledge(time)) = request.kind {
                    buffer.acknowledge(time);
                }
            }
        }
    });
    tokio::spawn(send_entries(buffer, from.after, sender));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

async fn send_entries(buffer: Arc<LogBuffer>, mut after: u64, sender: mpsc::Sender<Result<v1::LogEntry, Status>>) {
    let mut news = buffer.news();
    loop {
        news.mark_unchanged();
        let batch = buffer.read(after, BATCH);
        let empty = batch.entries.is_empty();
        for entry in batch.entries {
            after = entry.time;
            if sender.send(Ok(entry)).await.is_err() {
                return;
            }
        }
        if batch.ended {
            return;
        }
        if empty {
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    }
}
