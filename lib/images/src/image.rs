//! What the rest of the host sees of an image.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;
use crate::reference::{Reference, Version};
use crate::store::Hold;

/// An image whose disk is there. As long as the value lives, the disk is not removed.
#[derive(Clone, Debug)]
pub struct Image {
    /// What was asked for.
    pub reference: Reference,
    /// The manifest's digest, under which the registry has the image.
    pub digest: Digest,
    /// The image's own id: the digest of its config, which fixes every layer's content.
    pub id: Digest,
    /// A read-only erofs disk with the image's files.
    pub disk: PathBuf,
    /// By this the guest finds the disk. No longer than 36 characters.
    pub serial: String,
    /// How to run it.
    pub config: ImageConfig,
    /// Bytes that the disk takes on the host.
    pub size: u64,
    /// How long the pull took, unless the image was there already.
    pub pulled: Option<PullReport>,
    pub(crate) hold: Option<Arc<Hold>>,
}

impl Image {
    /// An image that no store keeps, for fakes of [`crate::ImageSource`].
    #[must_use]
    pub fn unmanaged(reference: Reference, disk: PathBuf, config: ImageConfig) -> Self {
        let id = Digest::of(reference.to_string().as_bytes());
        Self { reference, digest: id, id, disk, serial: serial(&id), config, size: 0, pulled: None, hold: None }
    }

    /// Repository and digest, as `imageID` of a container status has it.
    #[must_use]
    pub fn image_id(&self) -> String {
        self.reference.at(self.digest).to_string()
    }

    /// Whether a store keeps the disk for as long as this value lives.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.hold.is_some()
    }
}

/// The serial of the disk of an image.
pub(crate) fn serial(id: &Digest) -> String {
    format!("img-{}", &id.hex()[..32])
}

/// What an image says about running it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Arguments, unless the Pod brings others.
    pub cmd: Vec<String>,
    /// Environment as `NAME=value`.
    pub env: Vec<String>,
    /// User and perhaps group, by name or number; may be empty.
    pub user: String,
    /// Where to start; may be empty.
    pub working_dir: String,
    /// The signal for stopping, by name or number, if another than SIGTERM.
    pub stop_signal: Option<String>,
    /// Paths that the image wants as volumes.
    pub volumes: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// What a pull cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullReport {
    /// From the first request to the finished disk.
    pub duration: Duration,
    /// Bytes fetched, those of the layers that were still there not counted.
    pub bytes: u64,
}

/// How far a pull has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes of layers that are here.
    pub bytes: u64,
    /// Bytes of all layers as they are stored; 0 as long as that is unknown.
    pub total_bytes: u64,
    /// Layers that are unpacked.
    pub layers: usize,
    /// All layers.
    pub total_layers: usize,
}

/// What a pull is doing. Unpacking begins while later layers are still being fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Asking the registry what the reference names.
    #[default]
    Resolving,
    /// Fetching layers, and unpacking those that are here.
    Fetching,
    /// Unpacking the rest.
    Unpacking,
    /// Making the disk.
    MakingDisk,
    /// Done.
    Done,
}

/// When to ask the registry, as `imagePullPolicy` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Always ask what the reference names; fetch what is missing.
    Always,
    /// Ask only when the reference is unknown here.
    IfNotPresent,
    /// Never ask.
    Never,
}

impl PullPolicy {
    /// The policy of a container that names none.
    #[must_use]
    pub fn default_for(reference: &Reference) -> Self {
        match reference.version() {
            Version::Tag(tag) if tag == "latest" => Self::Always,
            Version::Tag(_) | Version::Digest(_) => Self::IfNotPresent,
        }
    }
}
