//! The folder in which images are kept, and who may touch what in it.
//!
//! ```text
//! disks/ID.erofs      one disk per image, ID being its config's digest; the rename to this name makes it exist
//! disks/ID.json       the image's config, byte for byte, in place before the disk
//! references/*.json   which image a reference names
//! blobs/DIGEST        layers as registries store them, kept for the next image that shares them
//! blobs/DIGEST.partial
//! work/*              images under way
//! ```
//! Every claim is a file lock, so that it ends with the process that holds it, however that ends: a shared lock on a
//! disk in use, an exclusive one on a work folder and on a partial blob. What is not locked is rubbish or may be
//! collected.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::digest::Digest;
use crate::error::{Context, ImageError};
use crate::image::{Image, serial};
use crate::manifest::{ReadConfig, read_config};
use crate::reference::{Reference, Version};

/// The folder of images.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: Arc<PathBuf>,
}

/// Keeps a disk from being removed.
#[derive(Debug)]
pub(crate) struct Hold {
    lock: Flock<File>,
}

impl Drop for Hold {
    /// The end of a use counts as a use.
    fn drop(&mut self) {
        let _ = self.lock.set_modified(SystemTime::now());
    }
}

/// A folder for an image under way; removed when dropped.
#[derive(Debug)]
pub(crate) struct Work {
    folder: TempDir,
    _lock: Flock<File>,
}

impl Work {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Which image a reference names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) reference: Reference,
    /// Of the manifest.
    pub(crate) digest: Digest,
    /// Of the config.
    pub(crate) id: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordFile {
    reference: String,
    digest: String,
    id: String,
}

/// A disk, for the garbage collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) id: Digest,
    pub(crate) bytes: u64,
    pub(crate) used: SystemTime,
}

const FOLDERS: [(&str, u32); 4] = [("disks", 0o711), ("references", 0o700), ("blobs", 0o700), ("work", 0o700)];

impl Store {
    /// Opens the folder, makes what is missing, and removes what a crash has left half-made.
    pub(crate) fn open(root: &Path) -> Result<Self, ImageError> {
        let store = Self { root: Arc::new(root.to_owned()) };
        for (name, mode) in FOLDERS {
            let folder = root.join(name);
            let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(&folder);
            made.while_doing("make", &folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).while_doing("set the mode of", &folder)?;
        }
        store.clean()?;
        Ok(store)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn disk_path(&self, id: &Digest) -> PathBuf {
        self.folder("disks").join(format!("{}.erofs", id.hex()))
    }

    fn config_path(&self, id: &Digest) -> PathBuf {
        self.folder("disks").join(format!("{}.json", id.hex()))
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.folder("blobs").join(digest.hex())
    }

    /// Held while work folders are made or swept, so that a new one is not swept before it is locked.
    fn gate(&self, arg: FlockArg) -> Result<Flock<File>, ImageError> {
        let path = self.root.join("lock");
        let file = File::options().create(true).append(true).open(&path).while_doing("open", &path)?;
        Flock::lock(file, arg).map_err(|(_, error)| ImageError::io("lock", &path, error.into()))
    }

    /// Removes work folders without a worker, disks without a config, and references without a disk.
    fn clean(&self) -> Result<(), ImageError> {
        let _gate = self.gate(FlockArg::LockExclusive)?;
        for path in entries(&self.folder("work"))? {
            let Ok(file) = File::open(&path) else { continue };
            if let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                tracing::info!(path = %path.display(), "removing an image that was never finished");
                fs::remove_dir_all(&path).while_doing("remove", &path)?;
            }
        }
        for path in entries(&self.folder("disks"))? {
            let id = path.file_stem().and_then(|stem| Digest::from_hex(&stem.to_string_lossy()));
            let is_whole = id.is_some_and(|id| self.disk_path(&id).exists() && self.config_path(&id).exists());
            if !is_whole {
                remove_file(&path)?;
            }
        }
        for (path, record) in self.record_files()? {
            if record.is_none_or(|record| !self.disk_path(&record.id).exists()) {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// A new work folder.
    pub(crate) fn work(&self) -> Result<Work, ImageError> {
        let _gate = self.gate(FlockArg::LockShared)?;
        let parent = self.folder("work");
        let folder = tempfile::Builder::new().prefix("image-").tempdir_in(&parent).while_doing("make", &parent)?;
        let path = folder.path();
        let file = File::open(path).while_doing("open", path)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, error)| ImageError::io("lock", path, error.into()))?;
        Ok(Work { folder, _lock: lock })
    }

    /// Makes a finished disk the image's. It is held before anybody else can see it.
    pub(crate) fn adopt(&self, id: &Digest, config: &[u8], finished: &Path) -> Result<Hold, ImageError> {
        let _gate = self.gate(FlockArg::LockShared)?;
        let mode = fs::Permissions::from_mode(0o444);
        fs::set_permissions(finished, mode).while_doing("set the mode of", finished)?;
        let file = File::open(finished).while_doing("open", finished)?;
        file.sync_all().while_doing("write", finished)?;
        let lock = Flock::lock(file, FlockArg::LockSharedNonblock);
        let lock = lock.map_err(|(_, error)| ImageError::io("lock", finished, error.into()))?;
        write_atomically(&self.config_path(id), config)?;
        let path = self.disk_path(id);
        fs::rename(finished, &path).while_doing("move into place", &path)?;
        let folder = self.folder("disks");
        File::open(&folder).and_then(|folder| folder.sync_all()).while_doing("write", &folder)?;
        Ok(Hold { lock })
    }

    /// Holds the disk of an image, if it is there.
    pub(crate) fn hold(&self, id: &Digest) -> Result<Option<Hold>, ImageError> {
        let path = self.disk_path(id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ImageError::io("open", &path, error)),
        };
        let Ok(lock) = Flock::lock(file, FlockArg::LockSharedNonblock) else {
            // Only whoever removes it locks it so.
            return Ok(None);
        };
        let links = lock.metadata().while_doing("look at", &path)?.nlink();
        lock.set_modified(SystemTime::now()).while_doing("set the time of", &path)?;
        Ok((links > 0).then_some(Hold { lock }))
    }

    /// The config of an image that is here.
    pub(crate) fn config(&self, id: &Digest, reference: &Reference) -> Result<ReadConfig, ImageError> {
        let path = self.config_path(id);
        let bytes = fs::read(&path).while_doing("read", &path)?;
        read_config(&bytes, &reference.to_string())
    }

    /// What the caller gets of an image that is here.
    pub(crate) fn image(&self, record: &Record, hold: Hold) -> Result<Image, ImageError> {
        let config = self.config(&record.id, &record.reference)?.config;
        let disk = self.disk_path(&record.id);
        let size = hold.lock.metadata().while_doing("look at", &disk)?.blocks() * 512;
        Ok(Image {
            reference: record.reference.clone(),
            digest: record.digest,
            id: record.id,
            serial: serial(&record.id),
            disk,
            config,
            size,
            pulled: None,
            hold: Some(Arc::new(hold)),
        })
    }

    /// Notes which image a reference names from now on.
    pub(crate) fn record(&self, record: &Record) -> Result<(), ImageError> {
        let file = RecordFile {
            reference: record.reference.to_string(),
            digest: record.digest.to_string(),
            id: record.id.to_string(),
        };
        let json = serde_json::to_vec(&file).expect("three texts make JSON");
        let _gate = self.gate(FlockArg::LockShared)?;
        write_atomically(&self.record_path(&record.reference), &json)
    }

    fn record_path(&self, reference: &Reference) -> PathBuf {
        let name = Digest::of(reference.to_string().as_bytes()).hex();
        self.folder("references").join(format!("{name}.json"))
    }

    /// What a reference names here. A digest is found under any tag of its repository.
    pub(crate) fn find(&self, reference: &Reference) -> Result<Option<Record>, ImageError> {
        let path = self.record_path(reference);
        if let Some(record) = read_record(&path)? {
            return Ok(Some(record));
        }
        let Version::Digest(digest) = reference.version() else { return Ok(None) };
        let is_same =
            |record: &Record| record.digest == *digest && record.reference.repository() == reference.repository();
        let found = self.records()?.into_iter().find(is_same);
        Ok(found.map(|record| Record { reference: reference.clone(), ..record }))
    }

    pub(crate) fn records(&self) -> Result<Vec<Record>, ImageError> {
        let mut records: Vec<_> = self.record_files()?.into_iter().filter_map(|(_, record)| record).collect();
        records.sort_by(|one, other| one.reference.cmp(&other.reference));
        Ok(records)
    }

    fn record_files(&self) -> Result<Vec<(PathBuf, Option<Record>)>, ImageError> {
        let with_record = |path: PathBuf| Ok((path.clone(), read_record(&path)?));
        entries(&self.folder("references"))?.into_iter().map(with_record).collect()
    }

    /// Forgets a reference; whether it was known.
    pub(crate) fn forget(&self, reference: &Reference) -> Result<bool, ImageError> {
        let path = self.record_path(reference);
        let was_there = path.exists();
        remove_file(&path)?;
        Ok(was_there)
    }

    /// Removes a disk and its references, unless it is in use; whether it is gone.
    pub(crate) fn remove(&self, id: &Digest) -> Result<bool, ImageError> {
        let path = self.disk_path(id);
        let Ok(file) = File::open(&path) else { return Ok(true) };
        let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return Ok(false) };
        for (path, record) in self.record_files()? {
            if record.is_some_and(|record| record.id == *id) {
                remove_file(&path)?;
            }
        }
        remove_file(&path)?;
        remove_file(&self.config_path(id))?;
        Ok(true)
    }

    /// All disks, the least recently used first.
    pub(crate) fn disks(&self) -> Result<Vec<Disk>, ImageError> {
        let mut disks = Vec::new();
        for path in entries(&self.folder("disks"))? {
            let is_disk = path.extension().is_some_and(|extension| extension == "erofs");
            let id = path.file_stem().and_then(|stem| Digest::from_hex(&stem.to_string_lossy()));
            let (Some(id), true, Ok(metadata)) = (id, is_disk, fs::metadata(&path)) else { continue };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            disks.push(Disk { id, bytes: metadata.blocks() * 512, used });
        }
        disks.sort_by_key(|disk| disk.used);
        Ok(disks)
    }

    /// Removes blobs, the oldest first, until those that stay are no more than `keep` bytes; the bytes removed.
    pub(crate) fn trim_blobs(&self, keep: u64) -> Result<u64, ImageError> {
        let mut blobs = Vec::new();
        for path in entries(&self.folder("blobs"))? {
            let Ok(metadata) = fs::metadata(&path) else { continue };
            blobs.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.blocks() * 512, path));
        }
        blobs.sort();
        let mut held: u64 = blobs.iter().map(|(_, bytes, _)| bytes).sum();
        let mut removed = 0;
        for (_, bytes, path) in blobs {
            if held <= keep {
                break;
            }
            // A blob that is being fetched or unpacked is locked.
            let Ok(file) = File::open(&path) else { continue };
            let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
            remove_file(&path)?;
            held -= bytes;
            removed += bytes;
        }
        Ok(removed)
    }
}

fn read_record(path: &Path) -> Result<Option<Record>, ImageError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ImageError::io("read", path, error)),
    };
    // One that cannot be read counts as none: the image is asked for again.
    Ok(serde_json::from_slice(&bytes).ok().and_then(|file: RecordFile| file.record()))
}

impl RecordFile {
    fn record(&self) -> Option<Record> {
        let reference = self.reference.parse().ok()?;
        Some(Record { reference, digest: self.digest.parse().ok()?, id: self.id.parse().ok()? })
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let listed = fs::read_dir(folder).while_doing("list", folder)?;
    listed.map(|entry| entry.map(|entry| entry.path()).while_doing("list", folder)).collect()
}

fn remove_file(path: &Path) -> Result<(), ImageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ImageError::io("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let folder = path.parent().expect("files of the store lie in its folders");
    let mut file = tempfile::NamedTempFile::new_in(folder).while_doing("make a file in", folder)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).while_doing("write", path)?;
    file.persist(path).map_err(|error| error.error).while_doing("move into place", path)?;
    Ok(())
}
