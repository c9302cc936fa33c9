//! OCI layouts: `index.json` and blobs by digest.

use std::path::Path;

use super::docker::Names;
use super::files::{Files, blob_name};
use super::{Found, name_of_file};
use crate::error::ImageError;
use crate::limits::Limits;
use crate::make::{Order, Source};
use crate::manifest::{Document, Fit, IndexEntry, Manifest, choose};
use crate::reference::Reference;

/// What containerd and Docker call an image in an index.
const FULL_NAME: &str = "io.containerd.image.name";
/// What the specification has: a name, or only a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// An index may hold an index; deeper is nonsense.
const MAX_NESTING: usize = 3;

pub(super) fn read(files: &Files, limits: &Limits, names: &Names, path: &Path) -> Result<Vec<Found>, ImageError> {
    let bytes = files.read("index.json", "index", limits.manifest)?;
    let entries = match Document::parse(&bytes, limits)? {
        Document::Index(entries) => entries,
        Document::Manifest(_) => return Err(ImageError::malformed("index", "index.json is no index")),
    };
    let mut found: Vec<Found> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.fit != Fit::No) {
        let Some(manifest) = manifest(files, limits, entry)? else { continue };
        let references = references(entry, &manifest, names, path);
        // One image may be listed once for each of its names.
        if let Some(same) = found.iter_mut().find(|found| found.order.manifest == manifest) {
            same.references.extend(references);
            continue;
        }
        let config = files.blob(&manifest.config.digest, "config", limits.config)?;
        let layers = manifest.layers.iter().map(|layer| files.layer(&blob_name(&layer.digest), Some(layer.digest)));
        let source = Source::Archive(layers.collect::<Result<_, _>>()?);
        let name = path.display().to_string();
        found.push(Found { references, order: Order { name, manifest, config, source } });
    }
    Ok(found)
}

/// The manifest of an entry, through indexes; none when nothing in it is for us.
fn manifest(files: &Files, limits: &Limits, entry: &IndexEntry) -> Result<Option<Manifest>, ImageError> {
    let mut digest = entry.blob.digest;
    for _ in 0..MAX_NESTING {
        let bytes = files.blob(&digest, "manifest", limits.manifest)?;
        match Document::parse(&bytes, limits)? {
            Document::Manifest(manifest) => return Ok(Some(manifest)),
            Document::Index(entries) => match choose(&entries, "archive") {
                Ok(chosen) => digest = chosen.blob.digest,
                Err(_) => return Ok(None),
            },
        }
    }
    Err(ImageError::malformed("index", "indexes within each other without end"))
}

fn references(entry: &IndexEntry, manifest: &Manifest, names: &Names, path: &Path) -> Vec<Reference> {
    let annotation = |name: &str| entry.annotations.get(name).map(String::as_str);
    if let Some(full) = annotation(FULL_NAME).and_then(|name| name.parse().ok()) {
        return vec![full];
    }
    if let Some(known) = names.get(&manifest.config.digest) {
        return known.clone();
    }
    let tag = annotation(REF_NAME).unwrap_or("latest");
    let is_full = tag.contains(['/', ':']);
    let named = if is_full { tag.parse().ok() } else { name_of_file(path, tag) };
    named.or_else(|| name_of_file(path, "latest")).into_iter().collect()
}
