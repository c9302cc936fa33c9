//! Ways in for the fuzz targets of fuzz/: what reads foreign bytes, without a registry around it. Not for other use.

use std::path::Path;

use crate::limits::Limits;
use crate::manifest::{Document, read_config};
use crate::registry::{Challenge, token_of};
use crate::unpack::apply_unpromised;

/// Unpacks bytes as a layer into a folder; whether it was taken.
pub fn layer(bytes: &[u8], folder: &Path) -> bool {
    let limits = Limits {
        uncompressed: 1 << 20,
        entries: 256,
        path: 512,
        depth: 16,
        extended_header: 4096,
        keep_free: 0,
        ..Limits::default()
    };
    apply_unpromised(bytes, folder, &limits).is_ok()
}

/// Reads bytes as everything that a registry says in JSON or in a header.
pub fn registry_answer(bytes: &[u8]) {
    let _ = Document::parse(bytes, &Limits::default());
    let _ = read_config(bytes, "fuzz");
    let _ = token_of(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Challenge::parse(text);
    }
}
