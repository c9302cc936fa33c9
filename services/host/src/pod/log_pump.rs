//! Carries the output of one instance from the guest into its log.
//!
//! The guest keeps what is not acknowledged, and it is acknowledged only when it is written. So a full disk or a killed
//! daemon loses nothing: the container waits, at worst.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use monopod_agent_client::{AgentClient, AgentError, Code, LogReader};
use monopod_agent_proto::v1::{LogEntry, OutputStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::PodShared;
use crate::logs::{Entry, Limits, Progress, Stream, Writer};

/// Which instance.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) id: String,
    pub(super) container: String,
    pub(super) attempt: u32,
}

/// Between attempts to read or write.
const PAUSE: Duration = Duration::from_millis(500);
/// How long what a microVM had said is waited for after its end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Carries until the container's output has ended, or the microVM has. The log counts as ended then.
pub(super) async fn pump(
    shared: &Arc<PodShared>,
    agent: &AgentClient,
    source: &Source,
    limits: Limits,
    gone: &CancellationToken,
) {
    let tell = shared.logs.begin(&source.container, source.attempt);
    let lost = async {
        gone.cancelled().await;
        // What has arrived already is still written: it may say why the guest broke down.
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        () = keep_pumping(shared, agent, source, limits, (&tell, gone)) => {}
        () = lost => tracing::debug!(id = source.id, "the microVM ended before its logs did"),
    }
    shared.logs.end(&source.container, source.attempt);
    tell.send_modify(|progress| progress.ended = true);
}

async fn keep_pumping(
    shared: &Arc<PodShared>,
    agent: &AgentClient,
    source: &Source,
    limits: Limits,
    (tell, gone): (&watch::Sender<Progress>, &CancellationToken),
) {
    loop {
        let logs = shared.logs.of(&source.container);
        let failure = match Writer::open(logs, source.attempt, limits) {
            Ok(mut writer) => match carry(agent, source, &mut writer, tell).await {
                Ok(()) => return,
                Err(PumpError::Agent(error)) if error.code() == Some(Code::NotFound) => return,
                Err(error) => error,
            },
            Err(error) => PumpError::Log(error),
        };
        if gone.is_cancelled() {
            return;
        }
        tracing::warn!(pod = %shared.name, container = source.container, error = &failure as &dyn std::error::Error, "log is held up");
        tokio::time::sleep(PAUSE).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum PumpError {
    #[error("failed to read the log from the guest")]
    Agent(#[from] AgentError),
    #[error("failed to write the log")]
    Log(#[from] std::io::Error),
}

async fn carry(
    agent: &AgentClient,
    source: &Source,
    writer: &mut Writer,
    tell: &watch::Sender<Progress>,
) -> Result<(), PumpError> {
    let mut reader = agent.read_logs(&source.id, writer.last()).await?;
    loop {
        // Take what is there, then write it in one go.
        let next = match reader.next().now_or_never() {
            Some(next) => next,
            None => {
                make_safe(writer, &reader, tell)?;
                reader.next().await
            }
        };
        match next {
            Ok(Some(entry)) => append(writer, &entry)?,
            Ok(None) => return Ok(make_safe(writer, &reader, tell)?),
            Err(error) => {
                make_safe(writer, &reader, tell)?;
                return Err(error.into());
            }
        }
    }
}

fn append(writer: &mut Writer, entry: &LogEntry) -> std::io::Result<()> {
    let stream = match entry.stream() {
        OutputStream::Stdout => Stream::Stdout,
        OutputStream::Stderr => Stream::Stderr,
    };
    writer.append(&Entry { time: entry.time, stream, partial: entry.partial, text: &entry.text })
}

fn make_safe(writer: &mut Writer, reader: &LogReader, tell: &watch::Sender<Progress>) -> std::io::Result<()> {
    writer.flush()?;
    let last = writer.last();
    reader.acknowledge(last);
    tell.send_if_modified(|progress| {
        let is_more = progress.written != last;
        progress.written = last;
        is_more
    });
    Ok(())
}
