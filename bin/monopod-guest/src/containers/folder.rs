//! The folder of one container: its root file system, parts of volumes, the termination message, the runtime's state.

use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};

use super::error::ContainerError;
use crate::paths::Paths;

/// Most bytes that are read of the image's account files.
const LARGEST_ACCOUNTS: u64 = 16 << 20;
/// Most bytes of a termination message; the last ones count.
const LARGEST_MESSAGE: u64 = 4096;

/// Where everything of one container is.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// Short name, unique for the guest's life: ids are too long for the path of a socket.
    key: String,
    root: PathBuf,
    layer: PathBuf,
}

impl Folder {
    pub(crate) fn new(paths: &Paths, key: String) -> Self {
        Self { root: paths.containers().join(&key), layer: paths.layers().join(&key), key }
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Holds config.json, which is what a bundle is.
    pub(crate) fn bundle(&self) -> &Path {
        &self.root
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.root.join("rootfs")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The socket on which the container's process waits for its start.
    pub(crate) fn start_socket(&self) -> PathBuf {
        self.state().join(&self.key).join("notify.sock")
    }

    pub(crate) fn termination_log(&self) -> PathBuf {
        self.root.join("termination-log")
    }

    /// What the container has written.
    pub(crate) fn writable_layer(&self) -> PathBuf {
        self.layer.join("upper")
    }

    /// Makes the folder, with the image and a writable layer over it as its root file system.
    pub(crate) fn make(&self, image: &Path) -> Result<(), ContainerError> {
        let work = self.layer.join("work");
        for folder in [&self.rootfs(), &self.state(), &self.root.join("mounts"), &self.writable_layer(), &work] {
            fs::create_dir_all(folder).map_err(ContainerError::prepare("the container's folder"))?;
        }
        // Containers may run as anybody; what they may see of it is decided by its own root folder.
        let status = fs::metadata(image).map_err(ContainerError::prepare("the image"))?;
        let permissions = Permissions::from_mode(status.permissions().mode());
        fs::set_permissions(self.writable_layer(), permissions)
            .map_err(ContainerError::prepare("the container's writable layer"))?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            image.display(),
            self.writable_layer().display(),
            work.display()
        );
        // A device node that a container makes in its root must be of no use.
        mount(Some("overlay"), &self.rootfs(), Some("overlay"), MsFlags::MS_NODEV, Some(options.as_str()))
            .map_err(ContainerError::mount("the container's root"))?;
        File::create(self.termination_log())
            .and_then(|file| file.set_permissions(Permissions::from_mode(0o666)))
            .map_err(ContainerError::prepare("the termination message"))
    }

    /// Makes the working directory where the image lacks it: in a read-only root the container's process cannot. What
    /// is in the way is not for us to judge; entering it will tell.
    pub(crate) fn make_working_directory(&self, path: &str) {
        if let Err(error) = make_below(&self.rootfs(), path.trim_start_matches('/'), Permissions::from_mode(0o755)) {
            tracing::debug!(%error, path, "failed to make a working directory");
        }
    }

    /// A file of the image, empty where there is none.
    pub(crate) fn read_image_file(&self, path: &str) -> String {
        let read = || -> std::io::Result<String> {
            let mut bytes = Vec::new();
            let file = File::from(open_below(&self.rootfs(), path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
            if file.metadata()?.is_file() {
                file.take(LARGEST_ACCOUNTS).read_to_end(&mut bytes)?;
            }
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_default()
    }

    /// Part of a volume, made when missing and wanted, held where no container can exchange it any more.
    pub(crate) fn hold_part(&self, index: usize, volume: &Path, part: &str, make: bool) -> nix::Result<PathBuf> {
        let found = match open_below(volume, part, OFlag::O_PATH) {
            Err(Errno::ENOENT) if make => {
                make_below(volume, part, fs::metadata(volume).map_err(errno)?.permissions())?;
                open_below(volume, part, OFlag::O_PATH)?
            }
            other => other?,
        };
        let place = self.root.join("mounts").join(index.to_string());
        let source = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
        if fs::metadata(&source).map_err(errno)?.is_dir() {
            fs::create_dir(&place).map_err(errno)?;
        } else {
            File::create(&place).map_err(errno)?;
        }
        let none: Option<&str> = None;
        mount(Some(&source), &place, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
        Ok(place)
    }

    /// The end of what the container wrote into its termination message.
    pub(crate) fn termination_message(&self) -> Vec<u8> {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(self.termination_log())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LARGEST_MESSAGE)))?;
            let mut message = Vec::new();
            file.take(LARGEST_MESSAGE).read_to_end(&mut message)?;
            Ok(message)
        };
        read().unwrap_or_default()
    }

    /// Removes everything, the writable layer too. Does as much as it can.
    pub(crate) fn remove(&self) {
        // What is still mounted must not be emptied.
        let folders = if self.unmount() { vec![&self.root, &self.layer] } else { vec![&self.layer] };
        for folder in folders {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, folder = %folder.display(), "failed to remove a container's folder");
                }
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Lets go of the image and the volumes. Says whether it has.
    pub(crate) fn unmount(&self) -> bool {
        let parts = fs::read_dir(self.root.join("mounts")).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut clean = true;
        for place in parts.chain([self.rootfs()]) {
            match umount2(&place, MntFlags::MNT_DETACH) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(error) => {
                    tracing::warn!(%error, place = %place.display(), "failed to unmount");
                    clean = false;
                }
            }
        }
        clean
    }
}

/// Opens something below a folder as if the folder were the root: no symbolic link leads out of it.
fn open_below(root: &Path, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let root = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(&root, path, how)
}

/// Makes folders below a folder. Never leaves it, whatever links are in the way.
fn make_below(root: &Path, path: &str, permissions: Permissions) -> nix::Result<()> {
    let mut done = PathBuf::from(".");
    for name in Path::new(path).components() {
        let parent = open_below(root, done.to_str().ok_or(Errno::EINVAL)?, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        done.push(name);
        let name: &Path = name.as_ref();
        match mkdirat(&parent, name, Mode::from_bits_truncate(0o700)) {
            Ok(()) => {
                let made = File::from(open_below(root, done.to_str().ok_or(Errno::EINVAL)?, OFlag::O_RDONLY)?);
                made.set_permissions(permissions.clone()).map_err(errno)?;
            }
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests;
