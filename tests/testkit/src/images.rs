//! Builds container images in memory: layers entry by entry, a config, and from these a `docker save` archive, an OCI
//! layout or a push to a registry. The same image always comes to the same bytes.

mod examples;
mod layer;
mod programs;

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub use examples::{busybox, web};
pub use layer::LayerBuilder;
pub use programs::{agnhost, coredns, metrics_server, python};

/// How layers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// As nearly all images are.
    Gzip,
    /// As some are.
    Zstd,
}

/// The words that a manifest is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Open Container Initiative.
    Oci,
    /// Docker, schema 2.
    Docker,
}

/// An image.
#[derive(Clone, Debug)]
pub struct TestImage {
    name: String,
    layers: Vec<Vec<u8>>,
    config: Value,
}

/// A piece of content and its digest, ready to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// `sha256:…`
    pub digest: String,
    /// The content.
    pub bytes: Vec<u8>,
}

/// An image as a registry holds it.
#[derive(Clone, Debug)]
pub struct StoredImage {
    /// The manifest.
    pub manifest: Stored,
    /// Its media type.
    pub media_type: &'static str,
    /// The config.
    pub config: Stored,
    /// The layers, the lowest first.
    pub layers: Vec<Stored>,
}

impl Stored {
    /// Content under its digest.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { digest: digest(&bytes), bytes }
    }
}

/// The digest of some bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

impl TestImage {
    /// An image without layers, such as `monopod.local/web:1`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), layers: Vec::new(), config: json!({}) }
    }

    /// What the image is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts a layer on top.
    #[must_use]
    pub fn layer(self, layer: LayerBuilder) -> Self {
        self.tar_layer(layer.into_tar())
    }

    /// Puts a layer on top, as the bytes of its tar archive, which need be none.
    #[must_use]
    pub fn tar_layer(mut self, tar: Vec<u8>) -> Self {
        self.layers.push(tar);
        self
    }

    /// Sets a field of the config by which the image is run, such as `Entrypoint`.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.config[field] = value.into();
        self
    }

    /// The config as it is stored.
    #[must_use]
    pub fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        config.to_string().into_bytes()
    }

    /// The image as a registry holds it.
    ///
    /// # Errors
    /// When compressing fails.
    pub fn stored(&self, compression: Compression, dialect: Dialect) -> Result<StoredImage> {
        let layers = self.layers.iter().map(|layer| compressed(layer, compression).map(Stored::new));
        let layers: Vec<_> = layers.collect::<Result<_>>()?;
        let config = Stored::new(self.config());
        let (manifest_type, config_type, layer_type) = media_types(compression, dialect);
        let described = |stored: &Stored, kind: &str| json!({"mediaType": kind, "digest": stored.digest, "size": stored.bytes.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": described(&config, config_type),
            "layers": layers.iter().map(|layer| described(layer, layer_type)).collect::<Vec<_>>(),
        });
        let manifest = Stored::new(manifest.to_string().into_bytes());
        Ok(StoredImage { manifest, media_type: manifest_type, config, layers })
    }

    /// Writes what `docker save` wrote before it came to write layouts.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_docker_archive(&self, path: &Path) -> Result<()> {
        let bytes = self.docker_archive()?;
        fs::write(path, bytes).with_context(|| format!("failed to write {}", path.display()))
    }

    /// The bytes of such an archive.
    ///
    /// # Errors
    /// When the archive cannot be made.
    pub fn docker_archive(&self) -> Result<Vec<u8>> {
        let config = self.config();
        let config_name = format!("{}.json", hex_of(&digest(&config)));
        let mut archive = LayerBuilder::new();
        let mut names = Vec::new();
        for layer in &self.layers {
            let name = format!("{}/layer.tar", hex_of(&digest(layer)));
            archive = archive.file(&name, 0o644, layer);
            names.push(name);
        }
        let manifest = json!([{"Config": config_name, "RepoTags": [self.name], "Layers": names}]);
        let archive = archive.file(&config_name, 0o644, &config);
        Ok(archive.file("manifest.json", 0o644, manifest.to_string().as_bytes()).into_tar())
    }

    /// Writes an OCI layout into a folder.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_oci_layout(&self, folder: &Path, compression: Compression) -> Result<()> {
        for (name, bytes) in self.layout(compression)? {
            let path = folder.join(name);
            let parent = path.parent().context("a file of a layout lies in it")?;
            fs::create_dir_all(parent).with_context(|| format!("failed to make {}", parent.display()))?;
            fs::write(&path, bytes).with_context(|| format!("failed to write {}", path.display()))?;
        }
        Ok(())
    }

    /// The bytes of an OCI layout in a tar archive.
    ///
    /// # Errors
    /// When compressing fails.
    pub fn oci_archive(&self, compression: Compression) -> Result<Vec<u8>> {
        let files = self.layout(compression)?;
        let add = |archive: LayerBuilder, (name, bytes): (String, Vec<u8>)| archive.file(&name, 0o644, &bytes);
        Ok(files.into_iter().fold(LayerBuilder::new(), add).into_tar())
    }

    fn layout(&self, compression: Compression) -> Result<Vec<(String, Vec<u8>)>> {
        let stored = self.stored(compression, Dialect::Oci)?;
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": stored.media_type,
                "digest": stored.manifest.digest,
                "size": stored.manifest.bytes.len(),
                "annotations": {"io.containerd.image.name": self.name},
            }],
        });
        let blob = |stored: Stored| (format!("blobs/sha256/{}", hex_of(&stored.digest)), stored.bytes);
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), index.to_string().into_bytes()),
        ];
        files.extend([stored.manifest, stored.config].into_iter().chain(stored.layers).map(blob));
        Ok(files)
    }
}

/// An index over images, each with its platform, as `os/architecture` or `os/architecture/variant`.
#[must_use]
pub fn index(images: &[(&str, &StoredImage)]) -> Stored {
    let entry = |(platform, image): &(&str, &StoredImage)| {
        let mut parts = platform.split('/');
        let mut platform = json!({"os": parts.next(), "architecture": parts.next()});
        if let Some(variant) = parts.next() {
            platform["variant"] = variant.into();
        }
        let (digest, size) = (&image.manifest.digest, image.manifest.bytes.len());
        json!({"mediaType": image.media_type, "digest": digest, "size": size, "platform": platform})
    };
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": images.iter().map(entry).collect::<Vec<_>>(),
    });
    Stored::new(index.to_string().into_bytes())
}

fn hex_of(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

fn compressed(layer: &[u8], compression: Compression) -> Result<Vec<u8>> {
    match compression {
        Compression::Plain => Ok(layer.to_vec()),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(layer).context("failed to compress")?;
            encoder.finish().context("failed to compress")
        }
        Compression::Zstd => zstd::encode_all(layer, 1).context("failed to compress"),
    }
}

fn media_types(compression: Compression, dialect: Dialect) -> (&'static str, &'static str, &'static str) {
    match dialect {
        Dialect::Oci => (
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.config.v1+json",
            match compression {
                Compression::Plain => "application/vnd.oci.image.layer.v1.tar",
                Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
                Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            },
        ),
        Dialect::Docker => (
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
    }
}
