//! Container images: pull, verify, unpack, one read-only erofs disk each, cache.
//!
//! [`Images::ensure`] is what a container's start needs: it gives an [`Image`] whose disk is there and stays as long as
//! the value lives. Behind it lie the client for registries (`registry`), archives from disk (`import`), the unpacker
//! for layers, which are hostile until shown otherwise (`unpack`), the disk (`disk`), and the folder where all is kept
//! (`store`).
//!
//! An image is known by its id, the digest of its config. The config names every layer's content, so one id is one
//! disk, whichever way, under whatever name and however compressed the image came.

#[cfg(feature = "contract")]
pub mod contract;
mod credentials;
mod digest;
mod disk;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod gc;
mod image;
mod import;
mod limits;
mod make;
mod manifest;
mod reference;
mod registries;
mod registry;
mod store;
mod unpack;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use async_trait::async_trait;

pub use credentials::{Credentials, Login};
pub use digest::Digest;
pub use disk::DiskFormat;
pub use error::{ImageError, Retry};
pub use gc::{Collected, Watermarks};
pub use image::{Image, ImageConfig, Progress, PullPolicy, PullReport, Stage};
pub use limits::Limits;
pub use reference::{Reference, ReferenceError, Version};
pub use registries::Registries;
pub use registry::Patience;
pub use unpack::LayerError;

use error::Context as _;
use gc::Space;
use make::{Maker, Order, Settings, Source, blocking};
use registry::Registry;
use store::{Record, Store};

/// How images are pulled and kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of images.
    pub folder: PathBuf,
    /// How registries are reached.
    pub registries: Registries,
    /// How large images may be.
    pub limits: Limits,
    /// How long to wait for registries.
    pub patience: Patience,
    /// How disks are made.
    pub format: DiskFormat,
    /// Layers of an image that are fetched at once.
    pub parallel_layers: usize,
    /// Images that are unpacked or made into disks at once; more wait for their turn.
    pub parallel_images: usize,
    /// Bytes of fetched layers that are kept for other images that share them.
    pub blob_cache: u64,
    /// When to remove images.
    pub watermarks: Watermarks,
}

impl Config {
    /// The usual configuration for a folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            registries: Registries::default(),
            limits: Limits::default(),
            patience: Patience::default(),
            format: DiskFormat::default(),
            parallel_layers: 4,
            parallel_images: 4,
            blob_cache: 2 << 30,
            watermarks: Watermarks::default(),
        }
    }
}

/// Where images come from: the seam for fakes.
#[async_trait]
pub trait ImageSource: Send + Sync {
    /// Gives an image whose disk is there.
    ///
    /// # Errors
    /// When the policy forbids what is needed, or the image cannot be had.
    async fn ensure(
        &self,
        reference: &Reference,
        policy: PullPolicy,
        credentials: &Credentials,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Image, ImageError>;
}

/// An image in the list of those that are here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it is called.
    pub reference: Reference,
    /// Its manifest's digest.
    pub digest: Digest,
    /// Its id.
    pub id: Digest,
    /// Bytes that its disk takes; images with the same id share it.
    pub size: u64,
    /// When it was used last.
    pub used: SystemTime,
}

/// The images of a host. Clones are the same store; other processes may use the same folder at the same time.
#[derive(Clone, Debug)]
pub struct Images {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    store: Store,
    registry: Arc<Registry>,
    maker: Maker,
}

impl Images {
    /// Opens the folder of images, and removes what a crash has left half-made there.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(config: Config) -> Result<Self, ImageError> {
        let store = Store::open(&config.folder)?;
        let registry = Registry::new(config.registries.clone(), config.limits.clone(), config.patience.clone());
        let settings = Settings {
            limits: config.limits.clone(),
            format: config.format.clone(),
            parallel_layers: config.parallel_layers,
            blob_cache: config.blob_cache,
        };
        let maker = Maker::new(store.clone(), settings, config.parallel_images);
        Ok(Self { inner: Arc::new(Inner { config, store, registry: Arc::new(registry), maker }) })
    }

    /// Reads an image reference as a container has it.
    ///
    /// # Errors
    /// `InvalidImageName` when it is none.
    pub fn reference(name: &str) -> Result<Reference, ImageError> {
        name.parse().map_err(|source| ImageError::InvalidName { name: digest::shortened(name), source })
    }

    /// Gives an image whose disk is there, and pulls it if the policy wants that.
    ///
    /// However many ask for the same image at once, it is made once. Whoever stops waiting, drops the future; when
    /// nobody waits any more, the pull ends and leaves nothing behind but whole layers.
    ///
    /// # Errors
    /// When the policy forbids what is needed, or the image cannot be had.
    pub async fn ensure(
        &self,
        reference: &Reference,
        policy: PullPolicy,
        credentials: &Credentials,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Image, ImageError> {
        if policy != PullPolicy::Always
            && let Some(image) = self.local(reference)?
        {
            return Ok(image);
        }
        if policy == PullPolicy::Never {
            return Err(ImageError::NeverPull { reference: reference.clone() });
        }
        let started = Instant::now();
        progress(Progress::default());
        let session = Arc::new(self.inner.registry.session(reference, credentials)?);
        let resolved = session.resolve().await?;
        let id = resolved.manifest.config.digest;
        let record = Record { reference: reference.clone(), digest: resolved.digest, id };
        let mut bytes = 0;
        if self.inner.store.hold(&id)?.is_none() {
            let config = session.config(resolved.peer, &resolved.manifest.config).await?;
            let source = Source::Registry { session, peer: resolved.peer };
            let order = Order { name: reference.to_string(), manifest: resolved.manifest, config, source };
            bytes = self.inner.maker.make(order, &progress).await?.bytes;
        }
        let mut image = self.adopt(&record)?;
        image.pulled = Some(PullReport { duration: started.elapsed(), bytes });
        Ok(image)
    }

    /// The image that a reference names here, if there is one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn local(&self, reference: &Reference) -> Result<Option<Image>, ImageError> {
        let Some(record) = self.inner.store.find(reference)? else { return Ok(None) };
        let Some(hold) = self.inner.store.hold(&record.id)? else { return Ok(None) };
        self.inner.store.image(&record, hold).map(Some)
    }

    /// Holds an image by its id again, after a restart of the process that a running Pod has survived.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn hold(&self, reference: &Reference, digest: Digest, id: Digest) -> Result<Option<Image>, ImageError> {
        let Some(hold) = self.inner.store.hold(&id)? else { return Ok(None) };
        let record = Record { reference: reference.clone(), digest, id };
        self.inner.store.image(&record, hold).map(Some)
    }

    /// Notes what a reference names, and holds it.
    fn adopt(&self, record: &Record) -> Result<Image, ImageError> {
        let hold = self.inner.store.hold(&record.id)?;
        let missing = || ImageError::NotFound { reference: record.reference.clone() };
        let image = self.inner.store.image(record, hold.ok_or_else(missing)?)?;
        self.inner.store.record(record)?;
        Ok(image)
    }

    /// Takes the images of an OCI layout (folder or tar) or of a `docker save` archive (tar, also compressed).
    ///
    /// # Errors
    /// When it is neither, or an image in it is refused.
    pub async fn import_archive(
        &self,
        path: &Path,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Vec<Image>, ImageError> {
        let found = blocking({
            let (path, limits, store) = (path.to_owned(), self.inner.config.limits.clone(), self.inner.store.clone());
            move || import::read(&path, &limits, || tempfile::NamedTempFile::new_in(store.root()))
        });
        let mut images = Vec::new();
        for found in found.await? {
            let (digest, id) = (found.order.manifest.digest, found.order.manifest.config.digest);
            // Held until its names hold it.
            let kept = self.inner.store.hold(&id)?;
            let _kept = match kept {
                Some(hold) => Arc::new(hold),
                None => self.inner.maker.make(found.order, &progress).await?.hold,
            };
            for reference in found.references {
                images.push(self.adopt(&Record { reference, digest, id })?);
            }
        }
        Ok(images)
    }

    /// All images that are here, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, ImageError> {
        let disks = self.inner.store.disks()?;
        let listed = |record: Record| {
            let disk = disks.iter().find(|disk| disk.id == record.id)?;
            let Record { reference, digest, id } = record;
            Some(Listed { reference, digest, id, size: disk.bytes, used: disk.used })
        };
        Ok(self.inner.store.records()?.into_iter().filter_map(listed).collect())
    }

    /// Forgets a reference, and removes the image's disk when it was the last one.
    ///
    /// # Errors
    /// `NotFound` when there is no such image, `InUse` when a Pod runs it.
    pub async fn remove(&self, reference: &Reference) -> Result<(), ImageError> {
        let (store, reference) = (self.inner.store.clone(), reference.clone());
        blocking(move || {
            let Some(record) = store.find(&reference)? else { return Err(ImageError::NotFound { reference }) };
            let others = store.records()?;
            let is_last = !others.iter().any(|other| other.id == record.id && other.reference != reference);
            if is_last && !store.remove(&record.id)? {
                return Err(ImageError::InUse { reference });
            }
            store.forget(&reference).map(|_| ())
        })
        .await
    }

    /// Removes every image that no Pod uses, and all kept layers.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn prune(&self) -> Result<Collected, ImageError> {
        let store = self.inner.store.clone();
        blocking(move || {
            let mut collected = Collected { freed: store.trim_blobs(0)?, ..Collected::default() };
            for disk in store.disks()? {
                if store.remove(&disk.id)? {
                    collected.freed += disk.bytes;
                    collected.removed.push(disk.id);
                }
            }
            Ok(collected)
        })
        .await
    }

    /// Removes images that were not used for the longest time, when the disk is fuller than the high watermark and
    /// until it is no fuller than the low one. Kept layers go first; what a Pod uses never goes.
    ///
    /// # Errors
    /// When the store cannot be read or written. That too little could be freed shows in the result.
    pub async fn collect_garbage(&self) -> Result<Collected, ImageError> {
        let (store, watermarks) = (self.inner.store.clone(), self.inner.config.watermarks);
        blocking(move || {
            let stat = nix::sys::statvfs::statvfs(store.root()).while_doing("look at", store.root())?;
            let unit = stat.fragment_size();
            let (capacity, available) =
                (stat.blocks().saturating_mul(unit), stat.blocks_available().saturating_mul(unit));
            let wanted = gc::wanted(Space { capacity, available }, watermarks);
            collect(&store, wanted, watermarks)
        })
        .await
    }
}

/// Frees so many bytes, if it can.
fn collect(store: &Store, wanted: u64, watermarks: Watermarks) -> Result<Collected, ImageError> {
    let mut collected = Collected { wanted, ..Collected::default() };
    if wanted == 0 {
        return Ok(collected);
    }
    collected.freed = store.trim_blobs(0)?;
    for disk in gc::candidates(&store.disks()?, watermarks, SystemTime::now()) {
        if collected.freed >= wanted {
            break;
        }
        if store.remove(&disk.id)? {
            collected.freed += disk.bytes;
            collected.removed.push(disk.id);
        }
    }
    tracing::info!(wanted, freed = collected.freed, removed = collected.removed.len(), "images were collected");
    Ok(collected)
}

#[async_trait]
impl ImageSource for Images {
    async fn ensure(
        &self,
        reference: &Reference,
        policy: PullPolicy,
        credentials: &Credentials,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Image, ImageError> {
        Self::ensure(self, reference, policy, credentials, progress).await
    }
}
