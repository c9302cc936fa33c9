//! The one place where paths from images become files: a folder that nothing leads out of.
//!
//! Guarantees: every path is walked from the folder's descriptor, one component at a time, without ever letting the
//! kernel follow a symbolic link; links in the middle of a path are resolved as the image would see them, with the
//! folder as `/`, so that `bin -> /usr/bin` works and `x -> ../../etc` stays inside. The last component is never
//! followed. Assumptions: nobody else writes in the folder.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{LayerError, shown};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;
const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The folder that an image is unpacked into.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
}

/// A folder in the tree.
#[derive(Debug)]
pub(crate) struct Folder {
    descriptor: OwnedFd,
    /// Its path from the root, free of links.
    pub(crate) real: PathBuf,
    /// Those on the way that had to be made.
    pub(crate) made: Vec<PathBuf>,
    /// The folder in which the first of them was made, and the time it had before.
    pub(crate) above: Option<(PathBuf, FileStat)>,
    pub(crate) inode: u64,
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// What to do about folders that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Make them.
    Make,
    /// Say so.
    Tell,
}

/// A path from an archive, checked: relative, without `..`, not too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryPath<'a> {
    components: Vec<&'a [u8]>,
}

impl<'a> EntryPath<'a> {
    /// Checks a path. `.` and empty components do not count.
    pub(crate) fn new(path: &'a [u8], limit: usize) -> Result<Self, LayerError> {
        let escape = |problem| LayerError::Escape { path: shown(path), problem };
        let refused = |problem| LayerError::Entry { path: shown(path), problem };
        if path.starts_with(b"/") {
            return Err(escape("the path is absolute"));
        }
        if path.len() > limit {
            return Err(refused("the path is too long"));
        }
        let components: Vec<_> =
            path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
        if components.contains(&b"..".as_slice()) {
            return Err(escape("the path has \"..\" in it"));
        }
        if components.iter().any(|part| part.len() > 255 || part.contains(&0)) {
            return Err(refused("the path has a name that no file can have"));
        }
        Ok(Self { components })
    }

    /// The folder's path and the last name; none for the root itself.
    pub(crate) fn split(&self) -> Option<(&[&'a [u8]], &'a OsStr)> {
        let (name, folder) = self.components.split_last()?;
        Some((folder, OsStr::from_bytes(name)))
    }
}

impl Tree {
    /// The tree in an existing folder.
    pub(crate) fn open(folder: &Path) -> Result<Self, LayerError> {
        let root = open(folder, FOLDER, Mode::empty());
        let root = root.map_err(|error| LayerError::io("open", folder.as_os_str().as_bytes(), error))?;
        Ok(Self { root })
    }

    /// Gives the root the look that it has when no layer says otherwise.
    pub(crate) fn prepare(&self) -> Result<(), LayerError> {
        let failed = |error| LayerError::io("prepare", b"", error);
        nix::sys::stat::fchmod(&self.root, Mode::from_bits_truncate(0o755)).map_err(failed)?;
        let epoch = nix::sys::time::TimeSpec::new(0, 0);
        nix::sys::stat::futimens(&self.root, &epoch, &epoch).map_err(failed)
    }

    /// The root as a folder.
    pub(crate) fn root(&self) -> Result<Folder, LayerError> {
        self.folder(&[], Missing::Tell, 0)?.ok_or(LayerError::Archive { problem: "the image has no root" })
    }

    /// Free bytes on the tree's disk.
    pub(crate) fn free_bytes(&self) -> Result<u64, LayerError> {
        let stat = nix::sys::statvfs::fstatvfs(&self.root).map_err(|error| LayerError::io("look at", b"", error))?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }

    /// Walks to a folder, through links that stay inside. None when it is missing and not to be made.
    pub(crate) fn folder(
        &self,
        components: &[&[u8]],
        missing: Missing,
        depth: usize,
    ) -> Result<Option<Folder>, LayerError> {
        let path = components.join(&b'/');
        let mut walk = Walk { tree: self, path: &path, stack: Vec::new(), made: Vec::new(), above: None, links: 0 };
        let mut pending: VecDeque<Vec<u8>> = components.iter().map(|part| part.to_vec()).collect();
        while let Some(part) = pending.pop_front() {
            if !walk.step(&part, &mut pending, missing)? {
                return Ok(None);
            }
            if walk.stack.len() > depth {
                return Err(LayerError::Entry { path: shown(&path), problem: "too many folders within each other" });
            }
        }
        walk.finish().map(Some)
    }
}

/// A walk under way: the folders from the root to where it stands.
struct Walk<'a> {
    tree: &'a Tree,
    path: &'a [u8],
    stack: Vec<(OwnedFd, OsString)>,
    made: Vec<PathBuf>,
    above: Option<(PathBuf, FileStat)>,
    links: usize,
}

impl Walk<'_> {
    /// Goes one component further; whether there was something.
    fn step(&mut self, part: &[u8], pending: &mut VecDeque<Vec<u8>>, missing: Missing) -> Result<bool, LayerError> {
        match part {
            b"" | b"." => return Ok(true),
            // Only the target of a link has these. Above the root is the root.
            b".." => {
                self.stack.pop();
                return Ok(true);
            }
            _ => {}
        }
        let name = OsStr::from_bytes(part);
        match openat(self.here(), name, FOLDER, Mode::empty()) {
            Ok(descriptor) => self.stack.push((descriptor, name.to_owned())),
            Err(Errno::ELOOP | Errno::ENOTDIR) => self.follow(name, pending)?,
            Err(Errno::ENOENT) if missing == Missing::Tell => return Ok(false),
            Err(Errno::ENOENT) => self.make(name)?,
            Err(error) => return Err(LayerError::io("open", self.path, error)),
        }
        Ok(true)
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.stack.last().map_or_else(|| self.tree.root.as_fd(), |(descriptor, _)| descriptor.as_fd())
    }

    fn follow(&mut self, name: &OsStr, pending: &mut VecDeque<Vec<u8>>) -> Result<(), LayerError> {
        let refused = |problem| LayerError::Entry { path: shown(self.path), problem };
        let target = match readlinkat(self.here(), name) {
            Ok(target) => target.into_vec(),
            Err(Errno::EINVAL) => return Err(refused("a folder on its path is a file")),
            Err(error) => return Err(LayerError::io("read the link of", self.path, error)),
        };
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(refused("too many symbolic links on its path"));
        }
        if target.starts_with(b"/") {
            self.stack.clear();
        }
        for part in target.split(|byte| *byte == b'/').rev() {
            pending.push_front(part.to_vec());
        }
        Ok(())
    }

    fn make(&mut self, name: &OsStr) -> Result<(), LayerError> {
        let failed = |error| LayerError::io("make", self.path, error);
        if self.above.is_none() {
            self.above = Some((self.real(), fstat(self.here()).map_err(failed)?));
        }
        mkdirat(self.here(), name, Mode::from_bits_truncate(0o755)).map_err(failed)?;
        let descriptor = openat(self.here(), name, FOLDER, Mode::empty()).map_err(failed)?;
        // The process may have a mask of its own.
        nix::sys::stat::fchmod(&descriptor, Mode::from_bits_truncate(0o755)).map_err(failed)?;
        self.stack.push((descriptor, name.to_owned()));
        self.made.push(self.real());
        Ok(())
    }

    fn real(&self) -> PathBuf {
        self.stack.iter().map(|(_, name)| name).collect()
    }

    fn finish(mut self) -> Result<Folder, LayerError> {
        let failed = |error| LayerError::io("open", self.path, error);
        let real = self.real();
        let descriptor = match self.stack.pop() {
            Some((descriptor, _)) => descriptor,
            None => openat(&self.tree.root, ".", FOLDER, Mode::empty()).map_err(failed)?,
        };
        let inode = fstat(&descriptor).map_err(failed)?.st_ino;
        Ok(Folder { descriptor, real, made: self.made, above: self.above, inode })
    }
}

/// What lies under a name, if anything; links are not followed.
pub(crate) fn look(folder: impl AsFd, name: &OsStr) -> Result<Option<FileStat>, LayerError> {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(LayerError::io("look at", name.as_bytes(), error)),
    }
}

pub(crate) fn is_folder(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

/// Removes what lies under a name, and what lies in it, but what is to be kept. Folders with kept things stay.
pub(crate) fn remove(
    folder: BorrowedFd<'_>,
    inode: u64,
    name: &OsStr,
    is_kept: &dyn Fn(u64, &OsStr) -> bool,
) -> Result<(), LayerError> {
    let failed = |error| LayerError::io("remove", name.as_bytes(), error);
    let Some(stat) = look(folder, name)? else { return Ok(()) };
    let kept = is_kept(inode, name);
    if !is_folder(&stat) {
        return if kept { Ok(()) } else { unlinkat(folder, name, UnlinkatFlags::NoRemoveDir).map_err(failed) };
    }
    let inner = openat(folder, name, FOLDER, Mode::empty()).map_err(failed)?;
    remove_content(inner, stat.st_ino, is_kept)?;
    if kept {
        return Ok(());
    }
    match unlinkat(folder, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOTEMPTY) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Removes everything in a folder but what is to be kept.
pub(crate) fn remove_content(
    folder: OwnedFd,
    inode: u64,
    is_kept: &dyn Fn(u64, &OsStr) -> bool,
) -> Result<(), LayerError> {
    let failed = |error| LayerError::io("list", b"", error);
    let mut listing =
        Dir::from_fd(folder.try_clone().map_err(|error| LayerError::io("list", b"", error))?).map_err(failed)?;
    // Read whole before anything is removed: a listing may skip entries when its folder changes.
    let names: Vec<OsString> = listing
        .iter()
        .map(|entry| entry.map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    drop(listing);
    for name in names.iter().filter(|name| *name != "." && *name != "..") {
        remove(folder.as_fd(), inode, name, is_kept)?;
    }
    Ok(())
}
