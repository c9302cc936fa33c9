//! What a container writes becomes entries, kept until they are acknowledged.

use std::sync::Arc;
use std::time::Duration;

use monopod_agent_proto::MAX_LOG_LINE;
use monopod_agent_proto::v1::OutputStream;

use super::{CAPACITY, LineSplitter, LogBuffer, Piece};

fn piece(text: &str, partial: bool) -> Piece {
    Piece { text: text.as_bytes().to_vec(), partial }
}

#[test]
fn lines_are_cut_at_their_ends_however_the_bytes_arrive() {
    let mut splitter = LineSplitter::default();
    assert_eq!(splitter.feed(b"one\ntw"), [piece("one", false)]);
    assert_eq!(splitter.feed(b"o\n\n"), [piece("two", false), piece("", false)]);
    assert_eq!(splitter.finish(), None);
    assert_eq!(splitter.feed(b"rest"), []);
    assert_eq!(splitter.finish(), Some(piece("rest", true)));
}

#[test]
fn a_line_of_exactly_the_limit_is_whole_and_a_longer_one_comes_in_pieces() {
    let full = "x".repeat(MAX_LOG_LINE);
    let mut splitter = LineSplitter::default();
    assert_eq!(splitter.feed(format!("{full}\n").as_bytes()), [piece(&full, false)]);
    assert_eq!(
        splitter.feed(format!("{full}y\nz\n").as_bytes()),
        [piece(&full, true), piece("y", false), piece("z", false)]
    );
    for byte in full.bytes() {
        assert_eq!(splitter.feed(&[byte]), []);
    }
    assert_eq!(splitter.feed(b"\n"), [piece(&full, false)]);
}

async fn push(buffer: &LogBuffer, text: &str, now: u64) {
    buffer.push(OutputStream::Stdout, piece(text, false), now).await;
}

fn texts(buffer: &LogBuffer, after: u64) -> Vec<(u64, String)> {
    let entries = buffer.read(after, usize::MAX).entries;
    entries.into_iter().map(|entry| (entry.time, String::from_utf8(entry.text).unwrap())).collect()
}

#[tokio::test]
async fn times_increase_even_when_the_clock_does_not() {
    let buffer = LogBuffer::new();
    for (text, now) in [("a", 10), ("b", 10), ("c", 5), ("d", 20)] {
        push(&buffer, text, now).await;
    }
    let times: Vec<_> = texts(&buffer, 0).into_iter().map(|(time, _)| time).collect();
    assert_eq!(times, [10, 11, 12, 20]);
    assert_eq!(texts(&buffer, 11), [(12, "c".to_owned()), (20, "d".to_owned())]);
}

#[tokio::test]
async fn entries_stay_until_they_are_acknowledged() {
    let buffer = LogBuffer::new();
    push(&buffer, "a", 1).await;
    push(&buffer, "b", 2).await;
    assert_eq!(texts(&buffer, 0).len(), 2);
    assert_eq!(texts(&buffer, 0).len(), 2, "reading takes nothing away");
    buffer.acknowledge(1);
    assert_eq!(texts(&buffer, 0), [(2, "b".to_owned())]);
}

#[tokio::test]
async fn the_end_comes_after_the_last_entry() {
    let buffer = LogBuffer::new();
    push(&buffer, "a", 1).await;
    push(&buffer, "b", 2).await;
    buffer.end();
    assert!(!buffer.read(0, 1).ended);
    assert!(buffer.read(0, 2).ended);
    assert!(buffer.read(2, 2).ended);
}

#[tokio::test]
async fn a_writer_waits_while_the_buffer_is_full() {
    let buffer = Arc::new(LogBuffer::new());
    let line = "x".repeat(MAX_LOG_LINE);
    let mut now = 0;
    while buffer.lock().size + 2 * MAX_LOG_LINE <= CAPACITY {
        now += 1;
        push(&buffer, &line, now).await;
    }
    now += 1;
    push(&buffer, &line, now).await;
    let waiting = tokio::spawn({
        let (buffer, line) = (buffer.clone(), line.clone());
        async move { push(&buffer, &line, 1_000_000).await }
    });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    assert_eq!(buffer.lock().last_time, now);
    buffer.acknowledge(1);
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    assert_eq!(buffer.lock().last_time, 1_000_000);
}
