//! An `ImageSource` without registries: it has what a test gives it, and every disk is an empty file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use monopod_images::{
    Credentials, Image, ImageConfig, ImageError, ImageSource, Images, Progress, PullPolicy, PullReport, Reference,
    Stage,
};
use tempfile::TempDir;

/// An `ImageSource` without registries. Clones are the same source.
#[derive(Clone, Debug)]
pub struct FakeImages {
    folder: Arc<TempDir>,
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<String, ImageConfig>,
    here: BTreeSet<String>,
    failures: VecDeque<ImageError>,
    calls: Vec<String>,
}

impl FakeImages {
    /// One that has nothing.
    ///
    /// # Errors
    /// When the machine does not give it a folder.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a folder for disks")?;
        Ok(Self { folder: Arc::new(folder), shared: Arc::default() })
    }

    /// It can be asked for this image from now on.
    ///
    /// # Panics
    /// When the name is none.
    pub fn add(&self, name: &str, config: ImageConfig) {
        let reference = Images::reference(name).expect("tests give images proper names");
        self.lock().known.insert(reference.to_string(), config);
    }

    /// The next pull fails; several are taken in turn.
    pub fn fail_next(&self, error: ImageError) {
        self.lock().failures.push_back(error);
    }

    /// What was asked so far: `pull NAME`.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn pull(&mut self, reference: &Reference) -> Result<(), ImageError> {
        let name = reference.to_string();
        self.calls.push(format!("pull {name}"));
        if let Some(error) = self.failures.pop_front() {
            return Err(error);
        }
        if !self.known.contains_key(&name) {
            return Err(ImageError::NotFound { reference: reference.clone() });
        }
        self.here.insert(name);
        Ok(())
    }
}

#[async_trait]
impl ImageSource for FakeImages {
    async fn ensure(
        &self,
        reference: &Reference,
        policy: PullPolicy,
        _credentials: &Credentials,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Image, ImageError> {
        let name = reference.to_string();
        let (is_here, config) = {
            let state = self.lock();
            (state.here.contains(&name), state.known.get(&name).cloned().unwrap_or_default())
        };
        let is_pulled = policy == PullPolicy::Always || !is_here;
        if is_pulled && policy == PullPolicy::Never {
            return Err(ImageError::NeverPull { reference: reference.clone() });
        }
        if is_pulled {
            progress(Progress::default());
            // A pull takes its time: others have their turn.
            tokio::task::yield_now().await;
            self.lock().pull(reference)?;
            progress(Progress { stage: Stage::Done, ..Progress::default() });
        }
        let mut image = Image::unmanaged(reference.clone(), self.folder.path().to_owned(), config);
        image.disk = self.folder.path().join(&image.serial);
        let made = File::options().create(true).append(true).open(&image.disk);
        made.map_err(|_| ImageError::DiskFull { path: image.disk.clone() })?;
        image.pulled = is_pulled.then(PullReport::default);
        Ok(image)
    }
}
