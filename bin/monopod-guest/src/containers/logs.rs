//! The output of one container as log entries, kept until the host has them.
//!
//! The writer waits while the buffer is full, and with it the container: nothing is ever dropped.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use monopod_agent_proto::MAX_LOG_LINE;
use monopod_agent_proto::v1::{LogEntry, OutputStream};
use tokio::sync::{Notify, watch};

/// Most bytes kept, text and what it takes to hold it.
const CAPACITY: usize = 1 << 20;
/// What an entry costs besides its text.
const ENTRY_COST: usize = size_of::<LogEntry>();

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub(crate) struct LineSplitter {
    pending: Vec<u8>,
}

/// One line without its end, or a piece of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) text: Vec<u8>,
    pub(crate) partial: bool,
}

impl LineSplitter {
    /// What is complete after these bytes. A line of more than 16 KiB comes in pieces.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let room = MAX_LOG_LINE - self.pending.len();
            match bytes.iter().take(room + 1).position(|byte| *byte == b'\n') {
                Some(end) => {
                    self.pending.extend_from_slice(&bytes[..end]);
                    pieces.push(self.take(false));
                    bytes = &bytes[end + 1..];
                }
                None if bytes.len() > room => {
                    self.pending.extend_from_slice(&bytes[..room]);
                    pieces.push(self.take(true));
                    bytes = &bytes[room..];
                }
                None => {
                    self.pending.extend_from_slice(bytes);
                    bytes = &[];
                }
            }
        }
        pieces
    }

    /// The rest at the end of the stream: a line that was never ended.
    pub(crate) fn finish(&mut self) -> Option<Piece> {
        (!self.pending.is_empty()).then(|| self.take(true))
    }

    fn take(&mut self, partial: bool) -> Piece {
        Piece { text: std::mem::take(&mut self.pending), partial }
    }
}

/// The entries that the host has not acknowledged.
#[derive(Debug)]
pub(crate) struct LogBuffer {
    entries: Mutex<Entries>,
    /// Rung when room was made.
    room: Notify,
    /// Changes when there is something new to read.
    news: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Entries {
    queue: VecDeque<LogEntry>,
    size: usize,
    last_time: u64,
    ended: bool,
}

/// What a reader gets at once.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<LogEntry>,
    /// Nothing will come after these.
    pub(crate) ended: bool,
}

impl LogBuffer {
    pub(crate) fn new() -> Self {
        Self { entries: Mutex::default(), room: Notify::new(), news: watch::Sender::new(()) }
    }

    /// Adds an entry with a time later than that of the one before; waits for room.
    pub(crate) async fn push(&self, stream: OutputStream, piece: Piece, now: u64) {
        let cost = piece.text.len() + ENTRY_COST;
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Registered before the look, so that room made in between is not missed.
            room.as_mut().enable();
            {
                let mut entries = self.lock();
                if entries.size + cost <= CAPACITY {
                    let time = now.max(entries.last_time + 1);
                    entries.last_time = time;
                    entries.size += cost;
                    entries.queue.push_back(LogEntry {
                        time,
                        stream: stream.into(),
                        text: piece.text,
                        partial: piece.partial,
                    });
                    break;
                }
            }
            room.await;
        }
        self.news.send_replace(());
    }

    /// Says that nothing will be added any more.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.news.send_replace(());
    }

    /// Forgets everything up to a time.
    pub(crate) fn acknowledge(&self, time: u64) {
        let mut entries = self.lock();
        while let Some(first) = entries.queue.pop_front_if(|first| first.time <= time) {
            entries.size -= first.text.len() + ENTRY_COST;
        }
        drop(entries);
        self.room.notify_waiters();
    }

    /// Up to `most` entries that are later than `after`.
    pub(crate) fn read(&self, after: u64, most: usize) -> Batch {
        let entries = self.lock();
        let start = entries.queue.partition_point(|entry| entry.time <= after);
        let batch: Vec<_> = entries.queue.range(start..).take(most).cloned().collect();
        Batch { ended: entries.ended && start + batch.len() == entries.queue.len(), entries: batch }
    }

    /// Tells when to read again.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
