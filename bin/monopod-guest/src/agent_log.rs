//! What the agent has to say: kept in a small ring, and streamed to a host that listens.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use monopod_agent_proto::v1;
use tokio::sync::broadcast;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::containers::Answers;

/// Entries kept for a host that comes late, and entries that a slow host may be behind.
const KEPT: usize = 64;
/// Most bytes of one message.
const LONGEST: usize = 4096;

/// The agent's log. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct AgentLog {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    kept: VecDeque<v1::AgentLogEntry>,
    listeners: broadcast::Sender<v1::AgentLogEntry>,
}

impl Default for AgentLog {
    fn default() -> Self {
        let shared = Shared { kept: VecDeque::new(), listeners: broadcast::Sender::new(KEPT) };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }
}

impl AgentLog {
    /// What is kept, then everything new; says so where the listener was too slow and missed some.
    #[must_use]
    pub fn watch(&self) -> Answers<v1::AgentLogEntry> {
        let shared = self.lock();
        let kept: Vec<_> = shared.kept.iter().cloned().map(Ok).collect();
        let news = BroadcastStream::new(shared.listeners.subscribe()).map(|entry| {
            Ok(entry.unwrap_or_else(|BroadcastStreamRecvError::Lagged(count)| {
                entry_of("WARN", format!("{count} entries of the agent's log were lost here"))
            }))
        });
        Box::pin(tokio_stream::iter(kept).chain(news))
    }

    fn add(&self, entry: v1::AgentLogEntry) {
        let mut shared = self.lock();
        if shared.kept.len() == KEPT {
            shared.kept.pop_front();
        }
        shared.kept.push_back(entry.clone());
        // Fails when nobody listens.
        let _ = shared.listeners.send(entry);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for AgentLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.add(entry_of(event.metadata().level().as_str(), text.message + &text.fields));
    }
}

fn entry_of(level: &str, mut message: String) -> v1::AgentLogEntry {
    if message.len() > LONGEST {
        message.truncate(message.floor_char_boundary(LONGEST));
    }
    v1::AgentLogEntry { time: now(), level: level.to_owned(), message }
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The message of an event, and its fields as ` name=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests;
