//! How many HTTP/2 frames a guest may send that cost it next to nothing.
//!
//! Flow control bounds what a guest can make the host hold in data, the HTTP library bounds most of the rest. What stays
//! are frames without or with hardly any payload (pings, settings, interim responses, empty data): they can be sent
//! without end, each costs the host work and some are kept. Here they are counted against what the host has done to earn
//! them: bytes written, messages taken by the caller, time. Called by the link for every byte read.

use std::time::Instant;

/// Bytes of an HTTP/2 frame's header.
const HEADER: usize = 9;
/// Type of DATA frames.
const DATA: u8 = 0;
/// A DATA frame with less payload than this counts, as flow control charges it with nearly nothing.
const SMALL: usize = 8;
/// Frames that may come without any reason.
const CAPACITY: u64 = 4096;
/// Frames earned per second.
const PER_SECOND: u64 = 64;
/// One frame is earned per so many bytes written.
const WRITTEN_PER_FRAME: u64 = 512;
/// Frames earned per message that the caller has taken.
const PER_MESSAGE: u64 = 4;

/// Where the reader is in the stream of frames, and what the guest may still send.
#[derive(Debug)]
pub(crate) struct FrameMeter {
    header: [u8; HEADER],
    filled: usize,
    payload_left: usize,
    credit: u64,
    written: u64,
    refilled: Instant,
}

impl FrameMeter {
    pub(crate) fn new(now: Instant) -> Self {
        Self { header: [0; HEADER], filled: 0, payload_left: 0, credit: CAPACITY, written: 0, refilled: now }
    }

    /// Notes bytes that the host has written.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
        self.earn(self.written / WRITTEN_PER_FRAME);
        self.written %= WRITTEN_PER_FRAME;
    }

    /// Notes a message that the caller has taken.
    pub(crate) fn delivered(&mut self) {
        self.earn(PER_MESSAGE);
    }

    /// Follows bytes that the guest has sent; false when it has sent too many frames.
    pub(crate) fn read(&mut self, mut bytes: &[u8], now: Instant) -> bool {
        self.refill(now);
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (HEADER - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEADER && !self.frame() {
                return false;
            }
        }
        true
    }

    /// Takes a complete header.
    fn frame(&mut self) -> bool {
        let [high, middle, low, kind, ..] = self.header;
        self.filled = 0;
        self.payload_left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if kind == DATA && self.payload_left >= SMALL {
            return true;
        }
        let left = self.credit.checked_sub(1);
        self.credit = left.unwrap_or(0);
        left.is_some()
    }

    fn refill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.refilled).as_secs();
        if seconds > 0 {
            self.refilled = now;
            self.earn(seconds.saturating_mul(PER_SECOND));
        }
    }

    fn earn(&mut self, frames: u64) {
        self.credit = self.credit.saturating_add(frames).min(CAPACITY);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{CAPACITY, FrameMeter, PER_SECOND};

    /// Settings without a setting.
    const EMPTY: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

    fn frames_taken(meter: &mut FrameMeter, now: Instant) -> u64 {
        (0..100_000).find(|_| !meter.read(&EMPTY, now)).unwrap_or(100_000)
    }

    #[test]
    fn a_flood_of_frames_is_cut_off_and_time_earns_some_back() {
        let start = Instant::now();
        let mut meter = FrameMeter::new(start);
        assert_eq!(frames_taken(&mut meter, start), CAPACITY);
        assert_eq!(frames_taken(&mut meter, start + Duration::from_secs(3)), 3 * PER_SECOND);
    }

    #[test]
    fn data_with_substance_is_left_to_flow_control() {
        let start = Instant::now();
        let mut meter = FrameMeter::new(start);
        let mut stream = Vec::new();
        for _ in 0..2 * CAPACITY {
            stream.extend([0, 0, 9, 0, 0, 0, 0, 0, 1]);
            stream.extend([0; 9]);
        }
        for piece in stream.chunks(5) {
            assert!(meter.read(piece, start));
        }
        assert_eq!(frames_taken(&mut meter, start), CAPACITY);
    }

    #[test]
    fn empty_data_needs_messages_that_were_taken() {
        let start = Instant::now();
        let mut meter = FrameMeter::new(start);
        for _ in 0..3 * CAPACITY {
            assert!(meter.read(&[0, 0, 5, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0], start));
            meter.delivered();
        }
    }

    #[test]
    fn window_updates_are_earned_by_what_was_written() {
        let start = Instant::now();
        let mut meter = FrameMeter::new(start);
        for _ in 0..3 * CAPACITY {
            assert!(meter.read(&[0, 0, 4, 8, 0, 0, 0, 0, 1, 0, 0, 1, 0], start));
            meter.wrote(512);
        }
    }
}
