//! Bytes as the lines that QEMU says on its control channel, once a guest may have taken it over: each is a message or an
//! error. Spaces behind a message change nothing, and a torn line is none.

#![no_main]

use libfuzzer_sys::fuzz_target;
use monopod_vmm_qemu::qmp::{MAX_LINE, Message, decode};

fuzz_target!(|input: &[u8]| {
    for line in input.split(|byte| *byte == b'\n') {
        let Ok(message) = decode(line) else { continue };
        assert!(line.len() <= MAX_LINE, "{} bytes", line.len());
        if let Message::Greeting { version } = &message {
            assert_eq!(version.split('.').count(), 3, "{version}");
        }
        let bare = line.trim_ascii_end();
        let padded = decode(&[bare, b" "].concat()).expect("spaces are nothing");
        assert_eq!(padded, message);
        assert!(decode(&bare[..bare.len() - 1]).is_err(), "a torn line is a message");
    }
});
