//! Anything as what a client says on a connection of streams: as SPDY, and as messages of channels. The connection ends
//! when the client does, without a panic, and a message is read as what it says or not at all.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use monopod_kubelet_http::{Coding, Incoming, fuzz};

/// Only a connection that hangs takes so long.
const BOUND: Duration = Duration::from_secs(10);

fuzz_target!(|input: &[u8]| {
    for (coding, can_close) in [(Coding::Binary, true), (Coding::Binary, false), (Coding::Base64, false)] {
        let message = input.to_vec().into();
        if let Incoming::Data(_, data) = Incoming::parse(message, coding, can_close) {
            assert!(data.len() < input.len(), "a message is longer than what it carries");
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        tokio::time::timeout(BOUND, fuzz::spdy(input)).await.expect("the connection ends with its client");
    });
});
