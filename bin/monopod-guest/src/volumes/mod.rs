//! The Pod's volumes: made or brought up to date by `PutVolume`, looked up by containers.
//!
//! A volume keeps its kind for life. Putting an emptyDir or a network file system again changes nothing but its owner;
//! putting files again replaces them.

mod empty_dir;
mod files;
mod mount_helper;
mod nfs;
mod ownership;
mod usage;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use monopod_agent_proto::v1;
use tonic::Status;
use v1::put_volume_request::Kind;

use crate::paths::Paths;
use crate::reaper::Reaper;
use crate::safe_path::{PathError, join_name};
use nfs::NfsError;
use ownership::Ownership;

pub(crate) use mount_helper::{helper_main, unmount};
pub(crate) use usage::filesystem;

/// All volumes of the Pod. Clones are handles to the same ones.
#[derive(Clone, Debug)]
pub struct Volumes {
    paths: Paths,
    reaper: Reaper,
    by_name: Arc<Mutex<BTreeMap<String, Volume>>>,
}

/// One volume that exists.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its root folder, which a container sees at the mount's destination.
    pub root: PathBuf,
    /// Read-only files: always mounted read-only, and sub-paths are not made when missing.
    pub files: bool,
    backing: Backing,
}

/// What a volume's contents lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backing {
    Scratch,
    Memory,
    Files,
    Network,
}

/// Why a volume is not as asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("volume {name:?} cannot be used")]
    Name {
        name: String,
        #[source]
        source: PathError,
    },
    #[error("volume {name:?} has no kind")]
    NoKind { name: String },
    #[error("volume {name:?} exists and is of another kind")]
    OtherKind { name: String },
    #[error("volume {name:?} has a file that cannot be used")]
    File {
        name: String,
        #[source]
        source: PathError,
    },
    #[error("failed to make volume {name:?}")]
    Make {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to mount volume {name:?}")]
    Nfs {
        name: String,
        #[source]
        source: NfsError,
    },
    #[error("failed to give volume {name:?} to its group")]
    Own {
        name: String,
        #[source]
        source: io::Error,
    },
}

impl VolumeError {
    /// For the host's events and metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Name { .. } | Self::NoKind { .. } | Self::OtherKind { .. } => "InvalidVolume",
            Self::File { .. } => "InvalidVolumeFile",
            Self::Make { .. } => "VolumeFailed",
            Self::Nfs { source, .. } => source.reason(),
            Self::Own { .. } => "VolumeOwnershipFailed",
        }
    }
}

impl From<VolumeError> for Status {
    fn from(error: VolumeError) -> Self {
        let text = format!("{}: {}", error.reason(), crate::personalize::chain(&error));
        match error {
            VolumeError::Name { .. } | VolumeError::NoKind { .. } | VolumeError::File { .. } => {
                Self::invalid_argument(text)
            }
            VolumeError::OtherKind { .. } => Self::already_exists(text),
            VolumeError::Make { .. } | VolumeError::Own { .. } => Self::internal(text),
            VolumeError::Nfs { source, .. } => Self::new(source.code(), text),
        }
    }
}

impl Volumes {
    /// None yet.
    #[must_use]
    pub fn new(paths: Paths, reaper: Reaper) -> Self {
        Self { paths, reaper, by_name: Arc::default() }
    }

    /// The volume of that name, if the host has put it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Volume> {
        self.lock().get(name).cloned()
    }

    /// `PutVolume`. The caller lets one in at a time.
    ///
    /// # Errors
    /// When the volume is not as asked for; files that were there before are then still there, unchanged.
    pub(crate) async fn put(&self, request: v1::PutVolumeRequest) -> Result<(), VolumeError> {
        let v1::PutVolumeRequest { name, kind, fs_group, fs_group_on_root_mismatch } = request;
        let kind = kind.ok_or_else(|| VolumeError::NoKind { name: name.clone() })?;
        let backing = match &kind {
            Kind::EmptyDir(wanted) if wanted.in_memory => Backing::Memory,
            Kind::EmptyDir(_) => Backing::Scratch,
            Kind::Files(_) => Backing::Files,
            Kind::Nfs(_) => Backing::Network,
        };
        let existing = self.get(&name);
        if existing.as_ref().is_some_and(|volume| volume.backing != backing) {
            return Err(VolumeError::OtherKind { name });
        }
        let parent = if backing == Backing::Scratch { self.paths.scratch_volumes() } else { self.paths.volumes() };
        let root = join_name(&parent, &name).map_err(|source| VolumeError::Name { name: name.clone(), source })?;
        let owner = fs_group.map(|group| Ownership { group, on_root_mismatch: fs_group_on_root_mismatch });
        let make = |source| VolumeError::Make { name: name.clone(), source };
        let is_new = existing.is_none();
        match kind {
            Kind::EmptyDir(wanted) if is_new => empty_dir::make(&root, &wanted).map_err(make)?,
            Kind::Nfs(wanted) if is_new => {
                let mounted = nfs::mount(&root, &wanted, &self.reaper).await;
                mounted.map_err(|source| VolumeError::Nfs { name: name.clone(), source })?;
            }
            Kind::EmptyDir(_) | Kind::Nfs(_) => {}
            Kind::Files(wanted) => {
                let files = files::check(&wanted).map_err(|source| VolumeError::File { name: name.clone(), source })?;
                // Files belong to the group from the start: the switch shows them with their final owner.
                files::write(&root, &files, owner.map(|owner| owner.group)).map_err(make)?;
            }
        }
        if let (Some(owner), false) = (owner, backing == Backing::Files) {
            let folder = root.clone();
            let owned = tokio::task::spawn_blocking(move || owner.apply(&folder)).await;
            let owned = owned.map_err(io::Error::other).flatten();
            owned.map_err(|source| VolumeError::Own { name: name.clone(), source })?;
        }
        self.lock().insert(name, Volume { root, files: backing == Backing::Files, backing });
        Ok(())
    }

    /// What each volume holds. Walks the folders of those that share a disk with others.
    pub(crate) async fn usage(&self) -> Vec<v1::VolumeStats> {
        let volumes = self.lock().clone();
        let measured = tokio::task::spawn_blocking(move || {
            let measure = |(name, volume): (String, Volume)| {
                let shared = matches!(volume.backing, Backing::Scratch | Backing::Files);
                let usage = if shared { usage::folder(&volume.root) } else { filesystem(&volume.root) };
                usage
                    .map_err(|error| tracing::warn!(volume = name, %error, "failed to measure a volume"))
                    .ok()
                    .map(|usage| v1::VolumeStats { name, usage: Some(usage) })
            };
            volumes.into_iter().filter_map(measure).collect()
        });
        measured.await.unwrap_or_default()
    }

    /// Roots of the volumes that are mounts from elsewhere, which must go before the network does.
    pub(crate) fn network_mounts(&self) -> Vec<PathBuf> {
        let volumes = self.lock();
        volumes.values().filter(|volume| volume.backing == Backing::Network).map(|volume| volume.root.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Volume>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
