//! Fetches a layer into the store, and goes on where a broken connection has left off.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;
use sha2::{Digest as _, Sha256};

use super::{Session, in_time};
use crate::digest::Digest;
use crate::error::{Context, ImageError};
use crate::manifest::Blob;
use crate::store::Store;

/// How often we look whether another one has finished fetching the same blob.
const LOOK: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Broken connections that a blob may cost in all, even when each brings something.
const MAX_BREAKS: u32 = 1000;

/// A blob that is here and checked. It is not collected as long as this lives.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) file: Flock<File>,
    /// Bytes that came over the network.
    pub(crate) bytes: u64,
}

/// A blob under way: the file, what of it is there, and the hash of that.
struct Partial {
    path: PathBuf,
    file: Flock<File>,
    size: u64,
    hasher: Sha256,
    fetched: u64,
}

/// What an attempt has come to.
enum Attempt {
    Whole,
    Broken(ImageError),
}

impl Session {
    /// Fetches a blob unless it is here. `progress` is told how many bytes more there are; when a start was in vain,
    /// how many less.
    ///
    /// # Errors
    /// When no server gives it, or none gives the right content.
    pub(crate) async fn fetch(
        &self,
        first: usize,
        blob: &Blob,
        store: &Store,
        progress: &(dyn Fn(i64) + Send + Sync),
    ) -> Result<Fetched, ImageError> {
        let mut partial = match Partial::open(blob, store).await? {
            Ok(file) => {
                progress(signed(blob.size));
                return Ok(Fetched { file, bytes: 0 });
            }
            Err(partial) => partial,
        };
        progress(signed(partial.size));
        // The server that has answered first, then the others.
        let others = (0..self.peers.len()).filter(|at| *at != first);
        let mut last = None;
        for peer in std::iter::once(first).chain(others) {
            match self.fetch_from(peer, blob, &mut partial, progress).await {
                Ok(()) => return partial.keep(blob, store),
                Err(error @ (ImageError::DiskFull { .. } | ImageError::Io { .. })) => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("there is a server"))
    }

    async fn fetch_from(
        &self,
        peer: usize,
        blob: &Blob,
        partial: &mut Partial,
        progress: &(dyn Fn(i64) + Send + Sync),
    ) -> Result<(), ImageError> {
        let patience = &self.registry.patience;
        let (mut vain, mut was_wrong) = (0, false);
        for _ in 0..MAX_BREAKS {
            let before = partial.size;
            let error = match self.attempt(peer, blob, partial, progress).await? {
                Attempt::Whole => match partial.check(blob) {
                    Ok(()) => return Ok(()),
                    // Once may be a broken line; twice is the server.
                    Err(error) => {
                        progress(-signed(partial.size));
                        partial.restart()?;
                        if std::mem::replace(&mut was_wrong, true) {
                            return Err(error);
                        }
                        error
                    }
                },
                Attempt::Broken(error) => error,
            };
            vain = if partial.size > before { 0 } else { vain + 1 };
            if vain >= patience.attempts {
                return Err(error);
            }
            tracing::debug!(digest = %blob.digest, at = partial.size, %error, "a download broke off");
            let pause = patience.pause.saturating_mul(2_u32.saturating_pow(vain)).min(MAX_PAUSE);
            tokio::time::sleep(pause).await;
        }
        Err(ImageError::Protocol {
            host: self.reference.domain().to_owned(),
            problem: "broke off too often".to_owned(),
        })
    }

    /// One request, from where the file ends. Errors that a further attempt cannot mend are errors here.
    async fn attempt(
        &self,
        peer: usize,
        blob: &Blob,
        partial: &mut Partial,
        progress: &(dyn Fn(i64) + Send + Sync),
    ) -> Result<Attempt, ImageError> {
        let from = (partial.size > 0).then_some(partial.size);
        if partial.size == blob.size && blob.size > 0 {
            return Ok(Attempt::Whole);
        }
        let mut response = match self.get(peer, &format!("blobs/{}", blob.digest), from).await {
            Ok(response) => response,
            Err(ImageError::Status { status: 416, .. }) => {
                progress(-signed(partial.size));
                partial.restart()?;
                return Ok(Attempt::Broken(self.against("it has less of a layer than before")));
            }
            Err(error) if is_passing(&error) => return Ok(Attempt::Broken(error)),
            Err(error) => return Err(error),
        };
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let goes_on = response.status() == StatusCode::PARTIAL_CONTENT
            && range.is_some_and(|range| range.starts_with(&format!("bytes {}-", partial.size)));
        if from.is_some() && !goes_on {
            // It gives everything again, or something that was not asked for.
            progress(-signed(partial.size));
            partial.restart()?;
            if response.status() == StatusCode::PARTIAL_CONTENT {
                return Ok(Attempt::Broken(self.against("it gives another range than asked for")));
            }
        }
        let url = response.url().clone();
        loop {
            let chunk = match in_time(self.registry.patience.stall, &url, response.chunk()).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if partial.size == blob.size => return Ok(Attempt::Whole),
                Ok(None) => return Ok(Attempt::Broken(self.against("a layer is shorter than its manifest says"))),
                Err(error) => return Ok(Attempt::Broken(error)),
            };
            if chunk.len() as u64 > blob.size - partial.size {
                return Err(self.against("a layer is longer than its manifest says"));
            }
            partial.append(&chunk)?;
            progress(signed(chunk.len() as u64));
        }
    }

    fn against(&self, problem: &str) -> ImageError {
        ImageError::Protocol { host: self.reference.domain().to_owned(), problem: problem.to_owned() }
    }
}

impl Partial {
    /// The blob if it is here, or what there is of it. Waits while somebody else is fetching it.
    async fn open(blob: &Blob, store: &Store) -> Result<Result<Flock<File>, Self>, ImageError> {
        let path = store.blob_path(&blob.digest).with_extension("partial");
        loop {
            match Whole::look(blob, store)? {
                Whole::Here(file) => return Ok(Ok(file)),
                Whole::Missing => {
                    let options = File::options().read(true).create(true).append(true).open(&path);
                    let file = options.while_doing("open", &path)?;
                    if let Ok(file) = Flock::lock(file, FlockArg::LockExclusiveNonblock)
                        // Its last owner may have finished or removed it in between.
                        && is_named(&file, &path)
                        && matches!(Whole::look(blob, store)?, Whole::Missing)
                    {
                        let partial = Self { path, file, size: 0, hasher: Sha256::new(), fetched: 0 };
                        return partial.resumed(blob).await.map(Err);
                    }
                }
                Whole::Busy => {}
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Hashes what is there already.
    async fn resumed(mut self, blob: &Blob) -> Result<Self, ImageError> {
        let limit = blob.size;
        let joined = tokio::task::spawn_blocking(move || {
            let mut reader: &File = &self.file;
            let mut buffer = vec![0; 256 << 10];
            loop {
                let count = reader.read(&mut buffer).while_doing("read", &self.path)?;
                if count == 0 {
                    break;
                }
                self.hasher.update(&buffer[..count]);
                self.size += count as u64;
            }
            if self.size > limit {
                self.restart()?;
            }
            Ok(self)
        });
        joined.await.unwrap_or(Err(ImageError::Cancelled))
    }

    /// Writes at once, since what is given up between two chunks goes on from here. A chunk is small, and the kernel
    /// takes it into memory.
    fn append(&mut self, chunk: &[u8]) -> Result<(), ImageError> {
        let mut file: &File = &self.file;
        file.write_all(chunk).while_doing("write", &self.path)?;
        self.hasher.update(chunk);
        self.size += chunk.len() as u64;
        self.fetched += chunk.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), ImageError> {
        self.file.set_len(0).while_doing("empty", &self.path)?;
        self.size = 0;
        self.hasher = Sha256::new();
        Ok(())
    }

    fn check(&self, blob: &Blob) -> Result<(), ImageError> {
        let found = Digest::finish(self.hasher.clone());
        if found == blob.digest {
            return Ok(());
        }
        Err(ImageError::WrongDigest { what: "layer".to_owned(), expected: blob.digest, found })
    }

    /// Gives the file its name.
    fn keep(self, blob: &Blob, store: &Store) -> Result<Fetched, ImageError> {
        let path = store.blob_path(&blob.digest);
        std::fs::rename(&self.path, &path).while_doing("move into place", &path)?;
        // Should somebody remove it in this moment, the open file is still there.
        let _ = self.file.relock(FlockArg::LockSharedNonblock);
        let mut file = self.file;
        file.seek(SeekFrom::Start(0)).while_doing("read", &path)?;
        Ok(Fetched { file, bytes: self.fetched })
    }
}

/// Whether a blob is in the store.
enum Whole {
    Here(Flock<File>),
    /// It is just being finished, or removed.
    Busy,
    Missing,
}

impl Whole {
    fn look(blob: &Blob, store: &Store) -> Result<Self, ImageError> {
        let path = store.blob_path(&blob.digest);
        let Ok(file) = File::open(&path) else { return Ok(Self::Missing) };
        let Ok(file) = Flock::lock(file, FlockArg::LockSharedNonblock) else { return Ok(Self::Busy) };
        if !is_named(&file, &path) {
            return Ok(Self::Busy);
        }
        let is_whole = file.metadata().while_doing("look at", &path)?.len() == blob.size;
        Ok(if is_whole { Self::Here(file) } else { Self::Missing })
    }
}

/// Whether a file still has the name under which it was opened.
fn is_named(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}

/// Whether trying again may help.
fn is_passing(error: &ImageError) -> bool {
    let is_overload = |status: u16| status == 429 || status >= 500;
    matches!(error, ImageError::Transport { .. } | ImageError::Stalled { .. })
        || matches!(error, ImageError::Status { status, .. } if is_overload(*status))
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
