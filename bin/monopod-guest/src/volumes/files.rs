//! Volumes of small files, updated all at once.
//!
//! ```text
//! root/..2026_11_25_22_51_49.123456789/   the files, in a folder named by time
//! root/..data -> ..2026_…                 switched by one rename
//! root/config -> ..data/config            one for each first name, what containers open
//! ```
//! A reader that holds `..data` open, or resolves it once, sees all files of one update or of another, never a mixture.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use monopod_agent_proto::v1;

use crate::safe_path::{PathError, join_below};

const DATA: &str = "..data";
/// The link before it is renamed to its name.
const DATA_HALF: &str = "..data_tmp";

/// Files by their relative path, checked.
pub(super) type Files<'a> = BTreeMap<PathBuf, &'a v1::VolumeFile>;

/// Checks every path: below the root, not beginning with `..` (those names are ours), no file where a folder must be.
pub(super) fn check(wanted: &v1::Files) -> Result<Files<'_>, PathError> {
    let mut files = Files::new();
    for file in &wanted.files {
        let path = join_below(Path::new(""), &file.path)?;
        let refused = || PathError::NotBelow { path: file.path.clone() };
        if first_name(&path).starts_with("..") || files.insert(path, file).is_some() {
            return Err(refused());
        }
    }
    let folders: BTreeSet<_> = files.keys().flat_map(|path| path.ancestors().skip(1)).collect();
    match files.keys().find(|path| folders.contains(path.as_path())) {
        Some(both) => Err(PathError::NotBelow { path: both.display().to_string() }),
        None => Ok(files),
    }
}

/// Makes the volume hold exactly these files. Does nothing when it does already.
pub(super) fn write(root: &Path, files: &Files<'_>, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(root)?;
    fs::set_permissions(root, fs::Permissions::from_mode(if group.is_some() { 0o2777 } else { 0o777 }))?;
    chown(root, None, group)?;
    let data = root.join(DATA);
    let old = match fs::read_link(&data) {
        Ok(target) => Some(root.join(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let old_files = old.as_deref().map(collect).transpose()?.unwrap_or_default();
    if old.as_deref().is_some_and(|folder| is_same(folder, &old_files, files, group)) {
        return Ok(());
    }
    let new = make_folder(root)?;
    if let Err(error) = fill(&new, files, group).and_then(|()| switch(root, &new)) {
        // What is there stays as it was; the half-made folder is of no use.
        let _ = fs::remove_dir_all(&new);
        return Err(error);
    }
    show(root, files)?;
    hide(root, &old_files, files)?;
    old.map_or(Ok(()), fs::remove_dir_all)
}

fn first_name(path: &Path) -> String {
    path.components().next().map(|name| name.as_os_str().to_string_lossy().into_owned()).unwrap_or_default()
}

/// All files below a folder, by their path in it.
fn collect(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let (mut found, mut waiting) = (BTreeSet::new(), vec![PathBuf::new()]);
    while let Some(relative) = waiting.pop() {
        for entry in fs::read_dir(folder.join(&relative))? {
            let entry = entry?;
            let path = relative.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                waiting.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

fn is_same(folder: &Path, there: &BTreeSet<PathBuf>, files: &Files<'_>, group: Option<u32>) -> bool {
    there.iter().eq(files.keys())
        && files.iter().all(|(path, file)| {
            let path = folder.join(path);
            let same_owner = fs::symlink_metadata(&path).is_ok_and(|found| {
                found.mode() & 0o7777 == mode(file, group)
                    && found.uid() == file.uid.unwrap_or(0)
                    && found.gid() == group.unwrap_or(0)
            });
            same_owner && fs::read(&path).is_ok_and(|found| found == file.data)
        })
}

/// The mode of a file: as asked for, and readable for the group that owns the volume.
fn mode(file: &v1::VolumeFile, group: Option<u32>) -> u32 {
    (file.mode & 0o777) | if group.is_some() { 0o440 } else { 0 }
}

/// A new folder, named by the time.
fn make_folder(root: &Path) -> io::Result<PathBuf> {
    let mut now = Timestamp::now();
    loop {
        let name = now.strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
        let folder = root.join(name);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                now += jiff::SignedDuration::from_nanos(1);
            }
            Err(error) => return Err(error),
            Ok(()) => return Ok(folder),
        }
    }
}

fn fill(folder: &Path, files: &Files<'_>, group: Option<u32>) -> io::Result<()> {
    own_folder(folder, group)?;
    for (path, file) in files {
        let mut parent = folder.to_path_buf();
        for name in path.parent().into_iter().flat_map(Path::components) {
            parent.push(name);
            if !parent.is_dir() {
                fs::create_dir(&parent)?;
                own_folder(&parent, group)?;
            }
        }
        let path = folder.join(path);
        let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        target.write_all(&file.data)?;
        // The owner first: changing it takes set-id bits away, and with them nothing that was asked for.
        chown(&path, file.uid, group)?;
        target.set_permissions(fs::Permissions::from_mode(mode(file, group)))?;
    }
    Ok(())
}

fn own_folder(folder: &Path, group: Option<u32>) -> io::Result<()> {
    chown(folder, None, group)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(if group.is_some() { 0o2755 } else { 0o755 }))
}

/// The moment at which the new files are there.
fn switch(root: &Path, new: &Path) -> io::Result<()> {
    let half = root.join(DATA_HALF);
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    symlink(new.file_name().unwrap_or_default(), &half)?;
    fs::rename(&half, root.join(DATA))
}

/// Makes the links that containers open, where they are missing.
fn show(root: &Path, files: &Files<'_>) -> io::Result<()> {
    for name in files.keys().map(|path| first_name(path)).collect::<BTreeSet<_>>() {
        match symlink(Path::new(DATA).join(&name), root.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
    }
    Ok(())
}

/// Takes away the links to what is there no more.
fn hide(root: &Path, old: &BTreeSet<PathBuf>, files: &Files<'_>) -> io::Result<()> {
    let names: BTreeSet<_> = files.keys().map(|path| first_name(path)).collect();
    let stale: BTreeSet<_> = old.iter().map(|path| first_name(path)).filter(|name| !names.contains(name)).collect();
    for name in stale {
        debug_assert!(matches!(Path::new(&name).components().next(), Some(Component::Normal(_))), "a name is a name");
        match fs::remove_file(root.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}
