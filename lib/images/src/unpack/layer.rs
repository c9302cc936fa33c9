//! Gives the entries of a layer their meaning: files, links, devices, and what a layer takes away from those below it.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, fstat, futimens, makedev, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};
use xattr::FileExt as _;

use super::archive::{Archive, Entry, Kind, Time};
use super::tree::{EntryPath, Folder, Missing, Tree, is_folder, look, remove, remove_content};
use super::{Budget, LayerError, shown};

/// Names beginning so take the rest of the name away.
const WHITEOUT: &[u8] = b".wh.";
/// Names beginning so are notes of a union file system to itself; one of them means something.
const WHITEOUT_META: &[u8] = b".wh..wh.";
/// Takes away everything that lower layers have in the folder.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Applies a plain tar archive to the tree.
pub(crate) fn apply(plain: &mut impl Read, tree: &Tree, budget: &mut Budget) -> Result<(), LayerError> {
    let limits = budget.limits().clone();
    let mut archive = Archive::new(plain, &limits);
    let mut layer = Layer { tree, budget, own: HashSet::new(), times: BTreeMap::new(), last: None };
    while let Some(entry) = archive.next_entry()? {
        layer.budget.take_entry()?;
        layer.entry(&entry, &mut archive)?;
    }
    layer.restore_times()
}

/// A layer under way.
struct Layer<'a> {
    tree: &'a Tree,
    budget: &'a mut Budget,
    /// What this layer has brought, by folder and name: its whiteouts are not meant for it.
    own: HashSet<(u64, OsString)>,
    /// The times that folders get at the end; writing into one changes its time.
    times: BTreeMap<PathBuf, Time>,
    /// The folder of the last entry, since the next one mostly lies in it too.
    last: Option<(Vec<u8>, Folder)>,
}

impl Layer<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, archive: &mut Archive<'_, R>) -> Result<(), LayerError> {
        let path = EntryPath::new(&entry.path, self.budget.limits().path)?;
        let Some((parent, name)) = path.split() else { return self.root(entry) };
        let bytes = name.as_bytes();
        if bytes == OPAQUE {
            return self.opaque(parent);
        }
        if bytes.starts_with(WHITEOUT_META) {
            return Ok(());
        }
        if let Some(hidden) = bytes.strip_prefix(WHITEOUT) {
            return self.whiteout(entry, parent, OsStr::from_bytes(hidden));
        }
        let folder = self.parent(parent)?;
        self.make(entry, &folder, name, archive)?;
        self.own.insert((folder.inode, name.to_owned()));
        self.last = Some((parent.join(&b'/'), folder));
        Ok(())
    }

    /// The root is there; an entry for it says how it looks.
    fn root(&mut self, entry: &Entry) -> Result<(), LayerError> {
        if entry.kind != Kind::Folder {
            return Err(LayerError::Entry { path: shown(&entry.path), problem: "the root is a folder" });
        }
        let root = self.tree.root()?;
        self.look_of_folder(entry, root.as_fd())?;
        self.times.insert(PathBuf::new(), entry.modified);
        Ok(())
    }

    fn opaque(&mut self, parent: &[&[u8]]) -> Result<(), LayerError> {
        let folder = self.parent(parent)?;
        let descriptor = folder.as_fd().try_clone_to_owned();
        let descriptor = descriptor.map_err(|error| LayerError::io("open", OPAQUE, error))?;
        remove_content(descriptor, folder.inode, &|inode, name| self.own.contains(&(inode, name.to_owned())))
    }

    fn whiteout(&mut self, entry: &Entry, parent: &[&[u8]], hidden: &OsStr) -> Result<(), LayerError> {
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(LayerError::Escape { path: shown(&entry.path), problem: "the whiteout names no file" });
        }
        let folder = self.parent(parent)?;
        let is_own = |inode: u64, name: &OsStr| self.own.contains(&(inode, name.to_owned()));
        remove(folder.as_fd(), folder.inode, hidden, &is_own)
    }

    /// The folder in which something is about to change; made if need be.
    fn parent(&mut self, components: &[&[u8]]) -> Result<Folder, LayerError> {
        let path = components.join(&b'/');
        if let Some((last, folder)) = self.last.take()
            && last == path
        {
            return Ok(folder);
        }
        let depth = self.budget.limits().depth;
        let missing = || LayerError::Entry { path: shown(&path), problem: "its folder is missing" };
        let mut folder = self.tree.folder(components, Missing::Make, depth)?.ok_or_else(missing)?;
        if let Some((above, stat)) = folder.above.take() {
            self.keep_time(above, modified(&stat)?);
        }
        // What no entry describes has the oldest time, so that the same layers always make the same disk.
        for made in std::mem::take(&mut folder.made) {
            self.keep_time(made, Time::default());
        }
        let stat = fstat(&folder).map_err(|error| LayerError::io("look at", &path, error))?;
        self.keep_time(folder.real.clone(), modified(&stat)?);
        Ok(folder)
    }

    /// Notes the time that a folder gets back at the end, unless its entry has come already.
    fn keep_time(&mut self, real: PathBuf, time: Time) {
        self.times.entry(real).or_insert(time);
    }

    fn make<R: Read>(
        &mut self,
        entry: &Entry,
        folder: &Folder,
        name: &OsStr,
        archive: &mut Archive<'_, R>,
    ) -> Result<(), LayerError> {
        let failed = |error: Errno| LayerError::io("make", &entry.path, error);
        // What a link means must be settled before its name is cleared.
        let target = if entry.kind == Kind::HardLink { Some(self.link_target(entry)?) } else { None };
        if let Some((from, from_name)) = &target
            && (from.inode, from_name.as_os_str()) == (folder.inode, name)
        {
            return Err(LayerError::Entry { path: shown(&entry.path), problem: "a hard link to itself" });
        }
        let there = look(folder, name)?;
        if entry.kind == Kind::Folder && there.as_ref().is_some_and(is_folder) {
            return self.folder(entry, folder, name);
        }
        if there.is_some() {
            remove(folder.as_fd(), folder.inode, name, &|_, _| false)?;
        }
        match entry.kind {
            Kind::Folder => {
                mkdirat(folder, name, Mode::from_bits_truncate(0o700)).map_err(failed)?;
                self.folder(entry, folder, name)
            }
            Kind::File => self.file(entry, folder, name, archive),
            Kind::HardLink => {
                let (from, from_name) = target.expect("hard links have a target");
                linkat(&from, from_name.as_os_str(), folder, name, AtFlags::empty()).map_err(failed)
            }
            Kind::SymbolicLink => {
                let is_bad = entry.link.is_empty() || entry.link.contains(&0);
                if is_bad || entry.link.len() > self.budget.limits().path {
                    return Err(LayerError::Entry {
                        path: shown(&entry.path),
                        problem: "no target that a link can have",
                    });
                }
                symlinkat(OsStr::from_bytes(&entry.link), folder, name).map_err(failed)?;
                owner_and_time(entry, folder, name)
            }
            Kind::CharacterDevice { major, minor } => node(entry, folder, name, SFlag::S_IFCHR, (major, minor)),
            Kind::BlockDevice { major, minor } => node(entry, folder, name, SFlag::S_IFBLK, (major, minor)),
            Kind::Fifo => node(entry, folder, name, SFlag::S_IFIFO, (0, 0)),
        }
    }

    /// Where a hard link leads: something in the tree that is no folder.
    fn link_target(&self, entry: &Entry) -> Result<(Folder, OsString), LayerError> {
        let refused = |problem| LayerError::Entry { path: shown(&entry.path), problem };
        let escape = |problem| LayerError::Escape { path: shown(&entry.path), problem };
        let target = EntryPath::new(&entry.link, self.budget.limits().path).map_err(|error| {
            let leaves = matches!(error, LayerError::Escape { .. });
            if leaves { escape("it is a hard link to a place outside") } else { error }
        })?;
        let (parent, name) = target.split().ok_or_else(|| refused("a hard link to the root"))?;
        let missing = || refused("a hard link to something that is not there");
        let depth = self.budget.limits().depth;
        let folder = self.tree.folder(parent, Missing::Tell, depth)?.ok_or_else(missing)?;
        let stat = look(&folder, name)?.ok_or_else(missing)?;
        if is_folder(&stat) {
            return Err(refused("a hard link to a folder"));
        }
        Ok((folder, name.to_owned()))
    }

    fn folder(&mut self, entry: &Entry, folder: &Folder, name: &OsStr) -> Result<(), LayerError> {
        let failed = |error: Errno| LayerError::io("open", &entry.path, error);
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let own = openat(folder, name, flags, Mode::empty()).map_err(failed)?;
        self.look_of_folder(entry, own.as_fd())?;
        self.times.insert(folder.real.join(name), entry.modified);
        Ok(())
    }

    fn look_of_folder(&self, entry: &Entry, descriptor: std::os::fd::BorrowedFd<'_>) -> Result<(), LayerError> {
        let copy = descriptor.try_clone_to_owned().map_err(|error| LayerError::io("open", &entry.path, error))?;
        look_of(entry, &File::from(copy))
    }

    fn file<R: Read>(
        &mut self,
        entry: &Entry,
        folder: &Folder,
        name: &OsStr,
        archive: &mut Archive<'_, R>,
    ) -> Result<(), LayerError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(folder, name, flags, Mode::from_bits_truncate(0o600));
        let mut file = File::from(made.map_err(|error| LayerError::io("make", &entry.path, error))?);
        let most = usize::try_from(entry.size).unwrap_or(usize::MAX).clamp(1, 128 << 10);
        let mut buffer = vec![0; most];
        loop {
            let count = archive.read_data(&mut buffer)?;
            if count == 0 {
                break;
            }
            self.budget.take_bytes(count as u64, self.tree)?;
            file.write_all(&buffer[..count]).map_err(|error| LayerError::io("write", &entry.path, error))?;
        }
        look_of(entry, &file)?;
        let time = time_spec(entry.modified);
        futimens(&file, &time, &time).map_err(|error| LayerError::io("set the time of", &entry.path, error))
    }

    /// Gives folders the times that their entries say, or that they had before.
    fn restore_times(&self) -> Result<(), LayerError> {
        for (real, time) in &self.times {
            let components: Vec<_> = real.iter().map(OsStr::as_bytes).collect();
            let failed = |error: Errno| LayerError::io("set the time of", real.as_os_str().as_bytes(), error);
            // It may have been removed, or become something else, later in the layer.
            let Ok(Some(folder)) = self.tree.folder(&components, Missing::Tell, usize::MAX) else { continue };
            if folder.real == *real {
                let time = time_spec(*time);
                futimens(&folder, &time, &time).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// Owner, extended attributes and mode. In this order: changing the owner clears what the other two set.
fn look_of(entry: &Entry, file: &File) -> Result<(), LayerError> {
    let failed = |error: Errno| LayerError::io("set owner and mode of", &entry.path, error);
    fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))).map_err(failed)?;
    fchmod(file, Mode::from_bits_truncate(entry.mode)).map_err(failed)?;
    for (name, value) in entry.attributes.iter().filter(|(name, _)| is_wanted(name)) {
        match file.set_xattr(OsStr::from_bytes(name), value) {
            Ok(()) => {}
            // As containerd: the host's file system may have none.
            Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {}
            Err(error) => return Err(LayerError::io("set an attribute of", &entry.path, error)),
        }
    }
    Ok(())
}

/// Attributes that mean something in a guest. The others are those of the machine that built the image.
fn is_wanted(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.")
}

fn node(
    entry: &Entry,
    folder: &Folder,
    name: &OsStr,
    kind: SFlag,
    (major, minor): (u32, u32),
) -> Result<(), LayerError> {
    let failed = |error: Errno| LayerError::io("make", &entry.path, error);
    let device = makedev(u64::from(major), u64::from(minor));
    mknodat(folder, name, kind, Mode::from_bits_truncate(0o600), device).map_err(failed)?;
    // Opening a device would touch the host's; its mode is set by name, which is not a link.
    let flag = nix::sys::stat::FchmodatFlags::FollowSymlink;
    nix::sys::stat::fchmodat(folder, name, Mode::from_bits_truncate(entry.mode), flag).map_err(failed)?;
    owner_and_time(entry, folder, name)
}

fn owner_and_time(entry: &Entry, folder: &Folder, name: &OsStr) -> Result<(), LayerError> {
    let failed = |error: Errno| LayerError::io("set owner and time of", &entry.path, error);
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchownat(folder, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
    let time = time_spec(entry.modified);
    utimensat(folder, name, &time, &time, UtimensatFlags::NoFollowSymlink).map_err(failed)
}

fn time_spec(time: Time) -> TimeSpec {
    TimeSpec::new(time.seconds, i64::from(time.nanos))
}

fn modified(stat: &nix::sys::stat::FileStat) -> Result<Time, LayerError> {
    let nanos = u32::try_from(stat.st_mtime_nsec);
    let nanos = nanos.map_err(|_| LayerError::Archive { problem: "the disk has a broken time" })?;
    Ok(Time { seconds: stat.st_mtime, nanos })
}
