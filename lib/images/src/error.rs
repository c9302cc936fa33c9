//! What can go wrong with an image, with the words that Kubernetes shows for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;
use crate::reference::{Reference, ReferenceError};
use crate::unpack::LayerError;

/// Why there is no image. Clones are cheap: everyone who waited for one pull gets the same error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The text is no image reference.
    #[error("Failed to apply default image tag \"{name}\": couldn't parse image name \"{name}\"")]
    InvalidName {
        /// The text.
        name: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
    /// The policy forbids pulling.
    #[error("Container image \"{}\" is not present with pull policy of Never", reference.written())]
    NeverPull {
        /// What was asked for.
        reference: Reference,
    },
    /// No registry has it.
    #[error("{reference}: not found")]
    NotFound {
        /// What was asked for.
        reference: Reference,
    },
    /// The registry wants other credentials.
    #[error(
        "pull access denied for {repository}, repository does not exist or may require authorization: server message: {said}"
    )]
    Denied {
        /// Registry and repository.
        repository: String,
        /// What the registry said, shortened.
        said: String,
    },
    /// The registry's answer to a request is not a success.
    #[error("unexpected status {status} from {method} request to {url}: {said}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The HTTP method.
        method: &'static str,
        /// What was asked for, without query.
        url: String,
        /// What the registry said, shortened.
        said: String,
        /// When the registry wants to be asked again.
        after: Option<Duration>,
    },
    /// No answer, or one that broke off more often than we try.
    #[error("failed to do request to {url}")]
    Transport {
        /// What was asked for, without query.
        url: String,
        /// The error of the connection.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// Nothing arrived for too long.
    #[error("no data from {url} for {waited:?}")]
    Stalled {
        /// What was asked for, without query.
        url: String,
        /// How long we waited.
        waited: Duration,
    },
    /// The registry does not keep to the protocol.
    #[error("registry {host} answered against the protocol: {problem}")]
    Protocol {
        /// The registry.
        host: String,
        /// What is wrong.
        problem: String,
    },
    /// Content that is not what its digest says.
    #[error("content of {what} has digest {found}, expected {expected}")]
    WrongDigest {
        /// Manifest, config or layer.
        what: String,
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// A digest that is not sha256.
    #[error("unsupported digest \"{digest}\"")]
    UnsupportedDigest {
        /// The text, shortened.
        digest: String,
    },
    /// Larger than we take.
    #[error("{what} is larger than the limit of {limit}")]
    TooLarge {
        /// Manifest, config, layer, …
        what: String,
        /// The limit, in bytes or pieces.
        limit: u64,
    },
    /// A manifest, index or config that does not make an image.
    #[error("invalid {what}: {problem}")]
    Malformed {
        /// Manifest, index, config or archive.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An index without an image for this machine.
    #[error("no match for platform in manifest: {reference} has no image for linux/amd64")]
    NoPlatform {
        /// What was asked for.
        reference: String,
    },
    /// A layer that cannot be unpacked, or is not allowed to.
    #[error("failed to extract layer {layer}")]
    Layer {
        /// The layer's digest.
        layer: Digest,
        /// Entry and problem.
        #[source]
        source: LayerError,
    },
    /// There is no space left.
    #[error("no space left for image data in {}", path.display())]
    DiskFull {
        /// Where it was missing.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("failed to {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: Arc<io::Error>,
    },
    /// mkfs.erofs failed.
    #[error("mkfs.erofs failed: {said}")]
    MakeDisk {
        /// What it printed last, shortened.
        said: String,
    },
    /// A running Pod uses the image.
    #[error("image {reference} is in use")]
    InUse {
        /// The image.
        reference: Reference,
    },
    /// The configuration of registries is wrong.
    #[error("invalid registry configuration {}: {problem}", path.display())]
    Registries {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A pull secret is no Docker configuration.
    #[error("invalid pull secret: {problem}")]
    PullSecret {
        /// What is wrong; never a secret itself.
        problem: String,
    },
    /// Nobody waits for it any more.
    #[error("the pull was given up")]
    Cancelled,
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not before something else is changed.
    Never,
    /// With the usual back-off, or after this time if it is longer.
    After(Option<Duration>),
}

impl ImageError {
    /// The reason a container waits with, as the kubelet has it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "InvalidImageName",
            Self::NeverPull { .. } => "ErrImageNeverPull",
            Self::InUse { .. } => "ImageInUse",
            Self::Registries { .. } => "InvalidRegistryConfiguration",
            Self::NotFound { .. }
            | Self::Denied { .. }
            | Self::Status { .. }
            | Self::Transport { .. }
            | Self::Stalled { .. }
            | Self::Protocol { .. }
            | Self::WrongDigest { .. }
            | Self::UnsupportedDigest { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::NoPlatform { .. }
            | Self::Layer { .. }
            | Self::DiskFull { .. }
            | Self::Io { .. }
            | Self::MakeDisk { .. }
            | Self::PullSecret { .. }
            | Self::Cancelled => "ErrImagePull",
        }
    }

    /// Whether asking again can help. A tag may come to name another image, so most errors of a pull are retried, as
    /// the kubelet does; the caller's back-off decides when.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::InvalidName { .. } | Self::NeverPull { .. } | Self::Registries { .. } => Retry::Never,
            Self::Status { after, .. } => Retry::After(*after),
            Self::NotFound { .. }
            | Self::InUse { .. }
            | Self::Denied { .. }
            | Self::Transport { .. }
            | Self::Stalled { .. }
            | Self::Protocol { .. }
            | Self::WrongDigest { .. }
            | Self::UnsupportedDigest { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::NoPlatform { .. }
            | Self::Layer { .. }
            | Self::DiskFull { .. }
            | Self::Io { .. }
            | Self::MakeDisk { .. }
            | Self::PullSecret { .. }
            | Self::Cancelled => Retry::After(None),
        }
    }

    /// The error of a system call; a full disk is told apart, since its cure is another.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::DiskFull { path };
        }
        Self::Io { action, path, source: Arc::new(source) }
    }

    pub(crate) fn malformed(what: impl Into<String>, problem: impl ToString) -> Self {
        Self::Malformed { what: what.into(), problem: crate::digest::shortened(&problem.to_string()) }
    }

    /// An error of a layer; a full disk is not the layer's fault.
    pub(crate) fn layer(layer: Digest, root: &Path, source: LayerError) -> Self {
        let is_io = matches!(&source, LayerError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull);
        let is_full = is_io || matches!(source, LayerError::Full);
        if is_full {
            return Self::DiskFull { path: root.to_owned() };
        }
        if matches!(source, LayerError::Cancelled) { Self::Cancelled } else { Self::Layer { layer, source } }
    }
}

/// Adds action and path to the error of a system call.
pub(crate) trait Context<T> {
    fn while_doing(self, action: &'static str, path: &Path) -> Result<T, ImageError>;
}

impl<T> Context<T> for io::Result<T> {
    fn while_doing(self, action: &'static str, path: &Path) -> Result<T, ImageError> {
        self.map_err(|error| ImageError::io(action, path, error))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn while_doing(self, action: &'static str, path: &Path) -> Result<T, ImageError> {
        self.map_err(|error| ImageError::io(action, path, error.into()))
    }
}
