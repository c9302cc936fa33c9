//! `docker save`: `manifest.json`, a config and plain layers.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::files::Files;
use super::{Found, name_of_file};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::limits::Limits;
use crate::make::{Order, Source};
use crate::manifest::{Document, read_config};
use crate::reference::Reference;

/// The names of images by their config, for archives that are layouts as well.
pub(super) type Names = HashMap<Digest, Vec<Reference>>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

impl Saved {
    fn references(&self) -> Vec<Reference> {
        self.repo_tags.iter().flatten().filter_map(|tag| tag.parse().ok()).collect()
    }
}

pub(super) fn names(files: &Files, limits: &Limits) -> Result<Names, ImageError> {
    let mut names = Names::new();
    if files.has("manifest.json") {
        for saved in saved(files, limits)? {
            let config = files.read(&saved.config, "config", limits.config)?;
            names.entry(Digest::of(&config)).or_default().extend(saved.references());
        }
    }
    Ok(names)
}

pub(super) fn read(files: &Files, limits: &Limits, path: &Path) -> Result<Vec<Found>, ImageError> {
    saved(files, limits)?.iter().map(|saved| found(files, limits, saved, path)).collect()
}

fn saved(files: &Files, limits: &Limits) -> Result<Vec<Saved>, ImageError> {
    let bytes = files.read("manifest.json", "manifest", limits.manifest)?;
    serde_json::from_slice(&bytes).map_err(|error| ImageError::malformed("manifest.json", error))
}

fn found(files: &Files, limits: &Limits, saved: &Saved, path: &Path) -> Result<Found, ImageError> {
    let config = files.read(&saved.config, "config", limits.config)?;
    let name = path.display().to_string();
    let diff_ids = read_config(&config, &name)?.diff_ids;
    let layers = saved.layers.iter().flatten().map(|layer| files.layer(layer, None));
    let layers: Vec<_> = layers.collect::<Result<_, _>>()?;
    if layers.len() != diff_ids.len() {
        return Err(ImageError::malformed("manifest.json", "it has another number of layers than the config"));
    }
    // The archive has no manifest. One is made up of what is known, so that the image has a digest as others do.
    let described = layers.iter().zip(&diff_ids).map(|(layer, diff_id)| {
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff_id.to_string(), "size": layer.size})
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(&config).to_string(),
            "size": config.len(),
        },
        "layers": described.collect::<Vec<_>>(),
    });
    let bytes = serde_json::to_vec(&manifest).expect("a value makes JSON");
    let Document::Manifest(manifest) = Document::parse(&bytes, limits)? else {
        return Err(ImageError::malformed("manifest.json", "no image"));
    };
    let mut references = saved.references();
    if references.is_empty() {
        references.extend(name_of_file(path, "latest"));
    }
    Ok(Found { references, order: Order { name, manifest, config, source: Source::Archive(layers) } })
}
