//! Manifests, indexes and configs: foreign JSON, bounded by whoever read it, turned into what the rest needs.

use std::collections::BTreeMap;

use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, Os};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::ImageConfig;
use crate::limits::Limits;

#[cfg(test)]
mod tests;

/// The media types that a registry may answer with.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// Content by its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    /// Bytes as stored.
    pub(crate) size: u64,
}

/// One image: its config and its layers, the lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) digest: Digest,
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
}

/// What a reference may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Vec<IndexEntry>),
}

/// An image in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) blob: Blob,
    pub(crate) fit: Fit,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// How well an image fits the guests: linux on amd64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    Exact,
    /// For a newer generation of the processor.
    Variant,
    Unknown,
    No,
}

/// The fields by which the kinds of documents differ.
#[derive(Deserialize)]
struct Shape {
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    /// Reads a manifest or an index. What it is stands in the fields; media types are not trusted.
    pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, ImageError> {
        let shape: Shape = serde_json::from_slice(bytes).map_err(|error| ImageError::malformed("manifest", error))?;
        match (shape.manifests, shape.layers, shape.fs_layers) {
            (Some(_), None, None) => index(bytes),
            (None, Some(_), None) => manifest(bytes, limits).map(Self::Manifest),
            (None, None, Some(_)) => Err(ImageError::malformed(
                "manifest",
                "Docker's schema 1 is not supported any more; push the image again",
            )),
            (None, None, None) => Err(ImageError::malformed("manifest", "neither layers nor manifests in it")),
            (Some(_) | None, Some(_) | None, Some(_) | None) => {
                Err(ImageError::malformed("manifest", "of two kinds at once"))
            }
        }
    }
}

/// The entry of an index that the guests can run.
pub(crate) fn choose<'a>(entries: &'a [IndexEntry], reference: &str) -> Result<&'a IndexEntry, ImageError> {
    let best = entries.iter().filter(|entry| entry.fit != Fit::No).min_by_key(|entry| entry.fit);
    best.ok_or_else(|| ImageError::NoPlatform { reference: reference.to_owned() })
}

fn manifest(bytes: &[u8], limits: &Limits) -> Result<Manifest, ImageError> {
    let read = ImageManifest::from_reader(bytes).map_err(|error| ImageError::malformed("manifest", error))?;
    if read.layers().len() > limits.layers {
        return Err(ImageError::TooLarge { what: "number of layers".to_owned(), limit: limits.layers as u64 });
    }
    let layers: Vec<Blob> = read.layers().iter().map(blob).collect::<Result<_, _>>()?;
    let total = layers.iter().try_fold(0_u64, |sum, layer| sum.checked_add(layer.size));
    if total.is_none_or(|total| total > limits.compressed) {
        return Err(ImageError::TooLarge { what: "image".to_owned(), limit: limits.compressed });
    }
    let config = blob(read.config())?;
    if config.size > limits.config {
        return Err(ImageError::TooLarge { what: "config".to_owned(), limit: limits.config });
    }
    Ok(Manifest { digest: Digest::of(bytes), config, layers })
}

fn index(bytes: &[u8]) -> Result<Document, ImageError> {
    let read = ImageIndex::from_reader(bytes).map_err(|error| ImageError::malformed("index", error))?;
    let entry = |descriptor: &Descriptor| {
        let annotations = descriptor.annotations().clone().unwrap_or_default().into_iter().collect();
        Ok(IndexEntry { blob: blob(descriptor)?, fit: fit(descriptor), annotations })
    };
    let entries: Result<_, ImageError> = read.manifests().iter().map(entry).collect();
    entries.map(Document::Index)
}

fn blob(descriptor: &Descriptor) -> Result<Blob, ImageError> {
    Ok(Blob { digest: descriptor.digest().to_string().parse()?, size: descriptor.size() })
}

fn fit(descriptor: &Descriptor) -> Fit {
    let Some(platform) = descriptor.platform() else { return Fit::Unknown };
    if (platform.os(), platform.architecture()) != (&Os::Linux, &Arch::Amd64) {
        return Fit::No;
    }
    match platform.variant().as_deref() {
        None | Some("" | "v1") => Fit::Exact,
        Some(_) => Fit::Variant,
    }
}

/// What an image's config says: how to run it, and what its layers are once unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadConfig {
    pub(crate) config: ImageConfig,
    pub(crate) diff_ids: Vec<Digest>,
}

/// Reads a config.
pub(crate) fn read_config(bytes: &[u8], reference: &str) -> Result<ReadConfig, ImageError> {
    let read = ImageConfiguration::from_reader(bytes).map_err(|error| ImageError::malformed("config", error))?;
    let is_ours = matches!(read.os().to_string().as_str(), "linux" | "")
        && matches!(read.architecture().to_string().as_str(), "amd64" | "");
    if !is_ours {
        return Err(ImageError::NoPlatform { reference: reference.to_owned() });
    }
    let diff_ids: Result<Vec<Digest>, ImageError> = read.rootfs().diff_ids().iter().map(|id| id.parse()).collect();
    let Some(config) = read.config() else {
        return Ok(ReadConfig { config: ImageConfig::default(), diff_ids: diff_ids? });
    };
    let config = ImageConfig {
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        env: config.env().clone().unwrap_or_default(),
        user: config.user().clone().unwrap_or_default(),
        working_dir: config.working_dir().clone().unwrap_or_default(),
        stop_signal: config.stop_signal().clone().filter(|signal| !signal.is_empty()),
        volumes: {
            let mut volumes = config.volumes().clone().unwrap_or_default();
            volumes.sort();
            volumes
        },
        labels: config.labels().clone().unwrap_or_default().into_iter().collect(),
    };
    Ok(ReadConfig { config, diff_ids: diff_ids? })
}
