//! Streams of messages from a guest.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::{Stream, StreamExt, once, unfold};
use monopod_agent_proto::v1::read_logs_request::Kind;
use monopod_agent_proto::v1::{LogEntry, ReadLogsRequest};
use tokio::sync::watch;
use tonic::Streaming;

use crate::connection::error_on;
use crate::error::AgentError;
use crate::link::Link;

/// Messages of one kind, one after the other. Dropping it ends the call.
pub struct Messages<T> {
    call: &'static str,
    stream: Streaming<T>,
    link: Arc<Link>,
}

impl<T> fmt::Debug for Messages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("call", &self.call).finish_non_exhaustive()
    }
}

impl<T> Messages<T> {
    pub(crate) fn new(call: &'static str, stream: Streaming<T>, link: Arc<Link>) -> Self {
        Self { call, stream, link }
    }

    /// Waits for the next message; `None` when the guest has ended the stream orderly.
    ///
    /// There is no deadline: a stream may be silent for days. A guest that has stopped answering is found out by the
    /// connection, which ends all of its streams.
    ///
    /// # Errors
    /// When the stream breaks; it gives nothing more after that.
    pub async fn next(&mut self) -> Result<Option<T>, AgentError> {
        let message = self.stream.message().await;
        self.taken(message)
    }

    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<T>, AgentError>> {
        let stream = Pin::new(&mut self.stream);
        Stream::poll_next(stream, context).map(|message| self.taken(message.transpose()))
    }

    pub(crate) fn call(&self) -> &'static str {
        self.call
    }

    fn taken(&self, message: Result<Option<T>, tonic::Status>) -> Result<Option<T>, AgentError> {
        match message {
            Ok(message) => {
                self.link.delivered();
                Ok(message)
            }
            Err(status) => Err(error_on(&self.link, self.call, status)),
        }
    }
}

/// The log of one container. Dropping it ends the call; the guest keeps what was not acknowledged.
#[derive(Debug)]
pub struct LogReader {
    entries: Messages<LogEntry>,
    acknowledged: watch::Sender<u64>,
}

impl LogReader {
    pub(crate) fn new(entries: Messages<LogEntry>, acknowledged: watch::Sender<u64>) -> Self {
        Self { entries, acknowledged }
    }

    /// Waits for the next entry; `None` after the last one of an ended container.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, AgentError> {
        self.entries.next().await
    }

    /// Tells the guest that everything up to a time is safe. Never waits: of several, the latest is sent.
    pub fn acknowledge(&self, time: u64) {
        self.acknowledged.send_if_modified(|latest| {
            let later = time > *latest;
            *latest = time.max(*latest);
            later
        });
    }
}

/// Turns what is acknowledged into messages, behind the first message of the call.
pub(crate) fn log_requests(
    first: ReadLogsRequest,
    acknowledged: watch::Receiver<u64>,
) -> impl Stream<Item = ReadLogsRequest> + Send + 'static {
    let later = unfold(acknowledged, |mut acknowledged| async move {
        acknowledged.changed().await.ok()?;
        let time = *acknowledged.borrow_and_update();
        Some((ReadLogsRequest { kind: Some(Kind::Acknowledge(time)) }, acknowledged))
    });
    once(async { first }).chain(later)
}
