//! Bytes as everything that a registry says: manifest, index, config, token, challenge.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| monopod_images::fuzz::registry_answer(input));
