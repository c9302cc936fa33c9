//! The disks of all Pods of a host, in one folder.
//!
//! `bases/<GiB>.ext4` are the formatted originals, `pods/<uid>.ext4` the disks. Either is made under another name that
//! ends in `.partial` and renamed when it is whole; what a crash has left is removed at the next start.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use monopod_types::{Bytes, GiB, PodUid};
use nix::sys::statvfs::statvfs;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::base;
use crate::copy::sparse_copy;
use crate::error::ScratchError;

/// The largest disk; as large as ext4 goes without further features.
const LARGEST: GiB = GiB(16 << 10);

/// Longest name of a Pod.
const MAX_NAME: usize = 128;

/// Where scratch disks are, and how they are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScratchConfig {
    /// The folder; only ours.
    pub folder: PathBuf,
    /// Room that a new disk must leave.
    pub reserve: Bytes,
    /// What formats them: `mkfs.ext4` of e2fsprogs 1.47 or later.
    pub mkfs: PathBuf,
}

/// The user that a Pod's VM runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A Pod's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScratchDisk {
    /// A raw image.
    pub path: PathBuf,
    /// How large it seems.
    pub size: GiB,
}

/// The disks of all Pods of a host.
#[derive(Debug)]
pub struct ScratchDisks {
    config: ScratchConfig,
    /// Held while an original is made, so that each is made once.
    formatting: Mutex<()>,
}

impl ScratchConfig {
    /// Disks in a folder, with 1 GiB kept free.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), reserve: GiB(1).into(), mkfs: "mkfs.ext4".into() }
    }
}

impl ScratchDisks {
    /// Makes the folder where it is missing, and removes what is half-made.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(config: ScratchConfig) -> Result<Self, ScratchError> {
        let disks = Self { config, formatting: Mutex::new(()) };
        for folder in [disks.bases(), disks.pods()] {
            fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
            for name in file_names(&folder)? {
                if name.ends_with(".partial") {
                    remove(&folder.join(name))?;
                }
            }
        }
        Ok(disks)
    }

    /// Makes a Pod's disk.
    ///
    /// # Guarantees
    /// The disk is whole, empty and its owner's alone when it is there; after an error there is none.
    ///
    /// # Errors
    /// When the Pod has one, there is no room, or the system fails.
    pub async fn create(&self, pod: &PodUid, size: GiB, owner: Owner) -> Result<ScratchDisk, ScratchError> {
        if size < GiB(1) || size > LARGEST {
            return Err(ScratchError::InvalidSize { size, largest: LARGEST });
        }
        let path = self.path(pod)?;
        if path.exists() {
            return Err(ScratchError::Exists { path });
        }
        self.check_room(self.config.reserve)?;
        let base = self.base(size).await?;
        let (from, to) = (base, path.clone());
        let copied = spawn_blocking(move || copy_whole(&from, &to, owner)).await.expect("copying does not panic");
        match copied {
            Ok(()) => Ok(ScratchDisk { path, size }),
            Err(ScratchError::File { source, .. }) if is_full(&source) => Err(self.full()),
            Err(error) => Err(error),
        }
    }

    /// Removes a Pod's disk; not an error when it has none.
    ///
    /// # Errors
    /// When the system fails.
    pub fn remove(&self, pod: &PodUid) -> Result<(), ScratchError> {
        remove(&self.path(pod)?)
    }

    /// Removes all disks but those of live Pods, whose disks it returns.
    ///
    /// # Errors
    /// When the system fails.
    pub fn adopt(&self, live: &[PodUid]) -> Result<Vec<(PodUid, ScratchDisk)>, ScratchError> {
        let mut adopted = Vec::new();
        for name in file_names(&self.pods())? {
            let path = self.pods().join(&name);
            let owner = name.strip_suffix(".ext4").and_then(|uid| live.iter().find(|pod| pod.as_str() == uid));
            if let Some(pod) = owner {
                let length = fs::metadata(&path).map_err(failed("read", &path))?.len();
                adopted.push((pod.clone(), ScratchDisk { path, size: GiB(length >> 30) }));
            } else {
                tracing::info!(disk = %path.display(), "removing a scratch disk that no live pod has");
                remove(&path)?;
            }
        }
        Ok(adopted)
    }

    /// What a Pod's disk takes on this machine.
    ///
    /// # Errors
    /// When the Pod has none.
    pub fn used(&self, pod: &PodUid) -> Result<Bytes, ScratchError> {
        let path = self.path(pod)?;
        let blocks = fs::metadata(&path).map_err(failed("read", &path))?.blocks();
        Ok(Bytes(blocks.saturating_mul(512)))
    }

    fn bases(&self) -> PathBuf {
        self.config.folder.join("bases")
    }

    fn pods(&self) -> PathBuf {
        self.config.folder.join("pods")
    }

    /// Where a Pod's disk is; a UID comes from a manifest, and must not lead elsewhere.
    fn path(&self, pod: &PodUid) -> Result<PathBuf, ScratchError> {
        let uid = pod.as_str();
        let fits = (1..=MAX_NAME).contains(&uid.len())
            && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if !fits {
            return Err(ScratchError::InvalidName { uid: uid.to_owned() });
        }
        Ok(self.pods().join(format!("{uid}.ext4")))
    }

    /// The original of a size, made where it is missing.
    async fn base(&self, size: GiB) -> Result<PathBuf, ScratchError> {
        let path = self.bases().join(format!("{}.ext4", size.0));
        let _formatting = self.formatting.lock().await;
        if path.exists() {
            return Ok(path);
        }
        let partial = partial(&path);
        remove(&partial)?;
        let made = base::format(&self.config.mkfs, &partial, size).await;
        let renamed = made.and_then(|()| fs::rename(&partial, &path).map_err(failed("rename", &partial)));
        if let Err(error) = renamed {
            remove(&partial)?;
            return Err(if self.check_room(Bytes(0)).is_err() { self.full() } else { error });
        }
        Ok(path)
    }

    /// Whether there is more room than must stay.
    fn check_room(&self, reserve: Bytes) -> Result<(), ScratchError> {
        if self.available()? > reserve { Ok(()) } else { Err(self.full()) }
    }

    fn available(&self) -> Result<Bytes, ScratchError> {
        let folder = &self.config.folder;
        let stat = statvfs(folder).map_err(|error| failed("measure", folder)(error.into()))?;
        Ok(Bytes(stat.blocks_available().saturating_mul(stat.fragment_size())))
    }

    fn full(&self) -> ScratchError {
        let available = self.available().unwrap_or_default();
        ScratchError::DiskFull { folder: self.config.folder.clone(), available, reserve: self.config.reserve }
    }
}

fn copy_whole(from: &Path, to: &Path, owner: Owner) -> Result<(), ScratchError> {
    let partial = partial(to);
    remove(&partial)?;
    let copied = sparse_copy(from, &partial, owner).map_err(failed("copy", from));
    let renamed = copied.and_then(|()| fs::rename(&partial, to).map_err(failed("rename", &partial)));
    if renamed.is_err() {
        remove(&partial)?;
    }
    renamed
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn file_names(folder: &Path) -> Result<Vec<String>, ScratchError> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(failed("list", folder))?;
    Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

fn remove(path: &Path) -> Result<(), ScratchError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ScratchError + use<> {
    let path = path.to_owned();
    move |source| ScratchError::File { what, path, source }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
