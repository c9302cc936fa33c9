//! What is written is read again, whatever happens in between.

use tokio::sync::{mpsc, watch};

use super::{ContainerLogs, Entry, Limits, Options, Progress, Reader, Stream, Writer, follow};

const SECOND: u64 = 1_000_000_000;

struct Log {
    _folder: tempfile::TempDir,
    logs: ContainerLogs,
}

impl Log {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let logs = ContainerLogs::new(folder.path(), "web");
        Self { _folder: folder, logs }
    }

    fn writer(&self, limits: Limits) -> Writer {
        Writer::open(self.logs.clone(), 0, limits).unwrap()
    }

    fn write(&self, entries: &[(u64, &str)]) {
        let mut writer = self.writer(Limits::default());
        for (second, text) in entries {
            writer.append(&entry(*second, text)).unwrap();
        }
        writer.flush().unwrap();
    }

    fn read(&self, options: Options) -> String {
        let mut reader = Reader::open(self.logs.clone(), 0, options).unwrap();
        let mut text = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            text.extend(chunk);
        }
        String::from_utf8(text).unwrap()
    }
}

/// A trailing `\` marks a piece of a line.
fn entry(second: u64, text: &str) -> Entry<'_> {
    let (text, partial) = text.strip_suffix('\\').map_or((text, false), |text| (text, true));
    Entry { time: second * SECOND, stream: Stream::Stdout, partial, text: text.as_bytes() }
}

#[test]
fn an_entry_is_written_as_container_runtimes_do() {
    let mut line = Vec::new();
    Entry { time: 1_764_065_832_000_000_007, stream: Stream::Stderr, partial: true, text: b"a b" }.write(&mut line);
    assert_eq!(String::from_utf8(line).unwrap(), "2025-11-25T10:17:12.000000007Z stderr P a b\n");
}

#[test]
fn what_is_no_entry_is_passed_over() {
    for line in ["", "x", "2025-11-25T10:17:12Z stdout", "2025-11-25T10:17:12Z stdin F x", "never stdout F x"] {
        assert_eq!(Entry::parse(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn pieces_are_one_line_again() {
    let log = Log::new();
    log.write(&[(1, "one"), (2, "tw\\"), (3, "o"), (4, "")]);
    assert_eq!(log.read(Options::default()), "one\ntwo\n\n");
}

#[test]
fn a_time_stands_before_each_line_and_not_before_its_pieces() {
    let log = Log::new();
    log.write(&[(1, "a\\"), (2, "b"), (3, "c")]);
    let text = log.read(Options { timestamps: true, ..Options::default() });
    assert_eq!(text, "1970-01-01T00:00:01.000000000Z ab\n1970-01-01T00:00:03.000000000Z c\n");
}

#[test]
fn since_tail_and_limit_choose() {
    let log = Log::new();
    log.write(&[(1, "one"), (2, "two"), (3, "thr\\"), (4, "ee"), (5, "four")]);
    assert_eq!(log.read(Options { since: 2 * SECOND, ..Options::default() }), "two\nthree\nfour\n");
    assert_eq!(log.read(Options { tail_lines: Some(2), ..Options::default() }), "three\nfour\n");
    assert_eq!(log.read(Options { tail_lines: Some(0), ..Options::default() }), "");
    assert_eq!(log.read(Options { tail_lines: Some(99), ..Options::default() }), "one\ntwo\nthree\nfour\n");
    assert_eq!(log.read(Options { limit_bytes: Some(5), ..Options::default() }), "one\nt");
}

#[test]
fn a_restarted_writer_goes_on_and_takes_nothing_twice() {
    let log = Log::new();
    log.write(&[(1, "one"), (2, "two")]);
    // The daemon was killed in the middle of a write.
    let path = log.logs.current(0);
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"1970-01-01T00:00:03.0000");
    std::fs::write(&path, text).unwrap();

    assert_eq!(log.writer(Limits::default()).last(), 2 * SECOND);
    log.write(&[(2, "two"), (3, "three")]);
    assert_eq!(log.read(Options::default()), "one\ntwo\nthree\n");
}

#[test]
fn files_are_rotated_and_the_oldest_goes() {
    let log = Log::new();
    let mut writer = log.writer(Limits { file_size: 100, files: 3 });
    for second in 1..=20 {
        writer.append(&entry(second, &format!("line {second}"))).unwrap();
    }
    writer.flush().unwrap();
    assert_eq!(log.logs.files(0).unwrap().len(), 3);
    let text = log.read(Options::default());
    assert!(text.ends_with("line 19\nline 20\n") && !text.contains("line 1\n"), "{text}");
    assert_eq!(log.read(Options { tail_lines: Some(4), ..Options::default() }), "line 17\nline 18\nline 19\nline 20\n");
}

#[test]
fn after_a_rotation_at_the_very_end_the_last_time_is_still_known() {
    let log = Log::new();
    let limits = Limits { file_size: 10, files: 3 };
    let mut writer = log.writer(limits);
    writer.append(&entry(7, "a long enough line")).unwrap();
    writer.flush().unwrap();
    writer.rotate_for_test();
    drop(writer);
    assert_eq!(log.writer(limits).last(), 7 * SECOND);
}

#[test]
fn the_tail_for_a_termination_message_is_bounded() {
    let log = Log::new();
    log.write(&[(1, "one"), (2, "two"), (3, "three")]);
    assert_eq!(log.logs.tail(0, 2, 100).unwrap(), b"two\nthree\n");
    assert_eq!(log.logs.tail(0, 2, 4).unwrap(), b"ree\n");
    assert_eq!(log.logs.tail(1, 2, 4).unwrap(), b"");
}

#[tokio::test]
async fn who_follows_sees_every_line_through_rotations_and_then_the_end() {
    let log = Log::new();
    let mut writer = log.writer(Limits { file_size: 60, files: 100 });
    let (tell, progress) = watch::channel(Progress::default());
    let (to, mut from) = mpsc::channel(1);
    let reader = Reader::open(log.logs.clone(), 0, Options::default()).unwrap();
    let following = tokio::spawn(follow(reader, Some(progress), to));
    let writing = tokio::task::spawn_blocking(move || {
        for second in 1..=50 {
            writer.append(&entry(second, &second.to_string())).unwrap();
            writer.flush().unwrap();
            tell.send_replace(Progress { written: second * SECOND, ended: second == 50 });
        }
    });
    let mut text = Vec::new();
    while let Some(chunk) = from.recv().await {
        text.extend(chunk);
    }
    writing.await.unwrap();
    following.await.unwrap().unwrap();
    let expected: String = (1..=50).map(|second| format!("{second}\n")).collect();
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}

#[test]
fn a_guest_cannot_write_lines_in_anothers_name() {
    let log = Log::new();
    log.write(&[(1, "honest\n2026-11-25T10:00:00.000000000Z stdout F forged")]);
    assert_eq!(log.read(Options::default()), "honest 2026-11-25T10:00:00.000000000Z stdout F forged\n");
}
