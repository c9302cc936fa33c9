//! The Pod's volumes: made or brought up to date by `PutVolume`, looked up by containers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use monopod_agent_proto::v1;
use tonic::Status;

use crate::paths::Paths;

/// All volumes of the Pod. Clones are handles to the same ones.
#[derive(Clone, Debug)]
pub struct Volumes {
    paths: Paths,
    by_name: Arc<Mutex<BTreeMap<String, Volume>>>,
}

/// One volume that exists.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its root folder, which a container sees at the mount's destination.
    pub root: PathBuf,
    /// Read-only files: always mounted read-only, and sub-paths are not made when missing.
    pub files: bool,
}

impl Volumes {
    /// None yet.
    #[must_use]
    pub fn new(paths: Paths) -> Self {
        Self { paths, by_name: Arc::default() }
    }

    /// `PutVolume`.
    pub(crate) async fn put(&self, _request: v1::PutVolumeRequest) -> Result<(), Status> {
        Err(Status::unimplemented("PutVolume"))
    }

    /// The volume of that name, if the host has put it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Volume> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}
