//! Makes an image's disk, once however many ask for it: layers are fetched and unpacked in step, then the disk is made.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{FutureExt as _, Shared, WeakShared};
use futures_util::stream::{self, StreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::digest::Digest;
use crate::disk::{self, DiskFormat};
use crate::error::{Context, ImageError};
use crate::image::{Progress, Stage};
use crate::import::LayerFile;
use crate::limits::Limits;
use crate::manifest::{Blob, Manifest, read_config};
use crate::registry::Session;
use crate::store::{Hold, Store, Work};
use crate::unpack::{Budget, Promise, Tree, unpack};

/// Where the layers of an image come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Registry {
        session: Arc<Session>,
        peer: usize,
    },
    /// Layers of an archive, in the manifest's order.
    Archive(Vec<LayerFile>),
}

/// All that is needed to make a disk.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// For messages.
    pub(crate) name: String,
    pub(crate) manifest: Manifest,
    /// Checked against the manifest.
    pub(crate) config: Vec<u8>,
    pub(crate) source: Source,
}

/// A disk that was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// Keeps the disk until everyone who has waited holds it.
    pub(crate) hold: Arc<Hold>,
    /// Bytes fetched.
    pub(crate) bytes: u64,
}

/// What the maker needs to know of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) format: DiskFormat,
    pub(crate) parallel_layers: usize,
    pub(crate) blob_cache: u64,
}

type Making = Pin<Box<dyn Future<Output = Result<Made, ImageError>> + Send>>;

/// Makes disks. Who asks for one that is being made waits for it; when the last one has gone away, it is given up.
pub(crate) struct Maker {
    workshop: Workshop,
    flights: Mutex<HashMap<Digest, Flight>>,
}

/// Where disks are made.
#[derive(Clone, Debug)]
struct Workshop {
    store: Store,
    settings: Settings,
    /// Unpacking is work for disk and processor; more at once would only be slower. Fetching needs no turn, so that a
    /// registry that stalls holds nobody up but those who wait for it.
    turns: Arc<Semaphore>,
}

struct Flight {
    making: WeakShared<Making>,
    progress: watch::Receiver<Progress>,
}

impl fmt::Debug for Maker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Maker").field("workshop", &self.workshop).finish_non_exhaustive()
    }
}

impl Maker {
    pub(crate) fn new(store: Store, settings: Settings, parallel_images: usize) -> Self {
        let turns = Arc::new(Semaphore::new(parallel_images.max(1)));
        Self { workshop: Workshop { store, settings, turns }, flights: Mutex::default() }
    }

    /// Makes the disk, or waits for whoever makes it.
    pub(crate) async fn make(
        &self,
        order: Order,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Made, ImageError> {
        let (making, mut watched) = self.join(order);
        tokio::pin!(making);
        loop {
            let seen = *watched.borrow_and_update();
            progress(seen);
            tokio::select! {
                result = &mut making => {
                    // What was told last may not have been seen, such as that it is done.
                    let last = *watched.borrow();
                    if last != seen {
                        progress(last);
                    }
                    return result;
                }
                changed = watched.changed() => if changed.is_err() {
                    return making.await;
                },
            }
        }
    }

    fn join(&self, order: Order) -> (Shared<Making>, watch::Receiver<Progress>) {
        let id = order.manifest.config.digest;
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| flight.making.upgrade().is_some_and(|making| making.peek().is_none()));
        if let Some(flight) = flights.get(&id)
            && let Some(making) = flight.making.upgrade()
        {
            return (making, flight.progress.clone());
        }
        let (sender, progress) = watch::channel(Progress::default());
        let work = self.workshop.clone().make(order, Arc::new(sender));
        let making: Making = Box::pin(work);
        let making = making.shared();
        let weak = making.downgrade().expect("it was not polled yet");
        flights.insert(id, Flight { making: weak, progress: progress.clone() });
        (making, progress)
    }
}

/// Tells the unpacking thread that nobody waits any more.
struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Workshop {
    async fn make(self, order: Order, progress: Arc<watch::Sender<Progress>>) -> Result<Made, ImageError> {
        let layers = promised(&order)?;
        let total: u64 = order.manifest.layers.iter().map(|layer| layer.size).sum();
        progress.send_modify(|now| {
            *now = Progress { stage: Stage::Fetching, total_bytes: total, total_layers: layers.len(), ..*now };
        });
        let work = Arc::new(self.store.work()?);
        let folder = work.path("root");
        std::fs::create_dir(&folder).while_doing("make", &folder)?;
        // An image's disk is about as large as its layers at least.
        if disk::free_bytes(&folder)? < total.saturating_add(self.settings.limits.keep_free) {
            return Err(ImageError::DiskFull { path: self.store.root().to_owned() });
        }
        let bytes = match self.fill(&order, layers, &work, &progress).await {
            Ok(bytes) => bytes,
            Err(error) => return blocking(move || Err(removed(work, error))).await,
        };
        progress.send_modify(|now| now.stage = Stage::MakingDisk);
        let disk = work.path("disk");
        let turn = self.turns.acquire().await.expect("the semaphore is never closed");
        disk::make(&self.settings.format, &folder, &disk).await?;
        drop(turn);
        let id = order.manifest.config.digest;
        let hold = blocking(move || {
            let hold = self.store.adopt(&id, &order.config, &disk)?;
            // The folder is large; this is the thread to remove it in.
            drop(work);
            self.store.trim_blobs(self.settings.blob_cache)?;
            Ok(hold)
        })
        .await?;
        progress.send_modify(|now| now.stage = Stage::Done);
        Ok(Made { hold: Arc::new(hold), bytes })
    }

    /// Brings the layers and unpacks them, each as soon as it and those below it are there; the bytes fetched.
    async fn fill(
        &self,
        order: &Order,
        layers: Vec<(Blob, Digest)>,
        work: &Arc<Work>,
        progress: &Arc<watch::Sender<Progress>>,
    ) -> Result<u64, ImageError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let give_up = GiveUp(Arc::clone(&cancelled));
        let budget = Budget::new(&self.settings.limits, cancelled);
        let (sender, receiver) = mpsc::channel::<Ready>(layers.len().max(1));
        let mut unpacking = tokio::task::spawn_blocking({
            let (workshop, work, progress) = (self.clone(), Arc::clone(work), Arc::clone(progress));
            let runtime = Handle::current();
            move || workshop.unpack_all(&runtime, receiver, &work, budget, &progress)
        });
        let told = |more: i64| {
            progress.send_modify(|now| now.bytes = now.bytes.saturating_add_signed(more).min(now.total_bytes));
        };
        let bring =
            |(at, (blob, diff_id)): (usize, (Blob, Digest))| bring(&self.store, order, at, blob, diff_id, &told);
        let mut ready =
            stream::iter(layers.into_iter().enumerate()).map(bring).buffered(self.settings.parallel_layers.max(1));
        let mut bytes = 0;
        loop {
            // There is room for every layer, so nothing that is fetched waits for what is unpacked.
            let next = tokio::select! {
                next = ready.next() => next,
                ended = &mut unpacking => return ended.unwrap_or(Err(ImageError::Cancelled)).map(|()| bytes),
            };
            let (layer, fetched) = match next {
                Some(Ok(next)) => next,
                None => break,
                Some(Err(error)) => {
                    // The thread ends before the folder in which it works does.
                    drop((give_up, sender));
                    let _ = unpacking.await;
                    return Err(error);
                }
            };
            bytes += fetched;
            if sender.send(layer).await.is_err() {
                break;
            }
        }
        drop(sender);
        progress.send_modify(|now| now.stage = Stage::Unpacking);
        unpacking.await.unwrap_or(Err(ImageError::Cancelled)).map(|()| bytes)
    }

    fn unpack_all(
        &self,
        runtime: &Handle,
        mut layers: mpsc::Receiver<Ready>,
        work: &Work,
        mut budget: Budget,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), ImageError> {
        let folder = work.path("root");
        let failed = |digest: Digest| move |error| ImageError::layer(digest, self.store.root(), error);
        let tree =
            Tree::open(&folder).and_then(|tree| tree.prepare().map(|()| tree)).map_err(failed(Digest::of(b"")))?;
        while let Some(layer) = layers.blocking_recv() {
            let _turn = runtime.block_on(self.turns.acquire()).expect("the semaphore is never closed");
            unpack(layer.stored, layer.promise, &tree, &mut budget).map_err(failed(layer.digest))?;
            progress.send_modify(|now| now.layers += 1);
        }
        Ok(())
    }
}

/// The error, once nothing is left of what it has spoilt.
fn removed(work: Arc<Work>, error: ImageError) -> ImageError {
    drop(work);
    error
}

/// Each layer with what it must come to.
fn promised(order: &Order) -> Result<Vec<(Blob, Digest)>, ImageError> {
    let diff_ids = read_config(&order.config, &order.name)?.diff_ids;
    let layers = &order.manifest.layers;
    if diff_ids.len() != layers.len() {
        let problem = format!("{} layers, but the config has {}", layers.len(), diff_ids.len());
        return Err(ImageError::malformed("manifest", problem));
    }
    Ok(layers.iter().copied().zip(diff_ids).collect())
}

/// A layer that can be unpacked.
struct Ready {
    digest: Digest,
    promise: Promise,
    stored: Box<dyn Read + Send>,
    /// Keeps the blob while it is read.
    _blob: Option<nix::fcntl::Flock<File>>,
}

async fn bring(
    store: &Store,
    order: &Order,
    at: usize,
    blob: Blob,
    diff_id: Digest,
    told: &(dyn Fn(i64) + Send + Sync),
) -> Result<(Ready, u64), ImageError> {
    match &order.source {
        Source::Registry { session, peer } => {
            let fetched = session.fetch(*peer, &blob, store, told).await?;
            let stored = fetched.file.try_clone().while_doing("open", &store.blob_path(&blob.digest))?;
            // It was checked when it came.
            let promise = Promise { digest: None, diff_id };
            let ready = Ready { digest: blob.digest, promise, stored: Box::new(stored), _blob: Some(fetched.file) };
            Ok((ready, fetched.bytes))
        }
        Source::Archive(layers) => {
            let stored = layers[at].open()?;
            told(i64::try_from(blob.size).unwrap_or(i64::MAX));
            let promise = Promise { digest: layers[at].digest, diff_id };
            Ok((Ready { digest: blob.digest, promise, stored: Box::new(stored), _blob: None }, 0))
        }
    }
}

/// Runs something that waits for the disk.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ImageError::Cancelled))
}
