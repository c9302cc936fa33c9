//! Small disks that a test can fill. They are mounted where nobody else sees them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// A disk that is mounted until this is dropped, whoever still has files of it open.
#[derive(Debug)]
pub struct Mounted {
    folder: PathBuf,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A test that failed has said why; there is nobody to tell more.
        let _ = umount2(&self.folder, MntFlags::MNT_DETACH);
    }
}

/// Runs a test in a thread with its own view of mounts. What it mounts goes with it; threads and programs that it starts
/// see it, too.
///
/// # Errors
/// When the machine does not let us, or the test fails.
///
/// # Panics
/// When the test does.
pub fn with_mounts_of_its_own(test: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let thread = || {
        unshare(CloneFlags::CLONE_NEWNS).context("failed to make a mount namespace; that needs root")?;
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("failed to make mounts private")?;
        test()
    };
    let joined = std::thread::scope(|scope| scope.spawn(thread).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Makes a folder a disk in memory of so many bytes.
///
/// # Errors
/// When the machine does not let us.
pub fn mount_in_memory(folder: &Path, bytes: u64) -> Result<Mounted> {
    std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    in_memory(folder, bytes, MsFlags::empty())?;
    Ok(Mounted { folder: folder.to_owned() })
}

/// Makes such a disk smaller or larger.
///
/// # Errors
/// When the machine does not let us.
pub fn resize_in_memory(folder: &Path, bytes: u64) -> Result<()> {
    in_memory(folder, bytes, MsFlags::MS_REMOUNT)
}

fn in_memory(folder: &Path, bytes: u64, flags: MsFlags) -> Result<()> {
    let options = format!("size={bytes}");
    mount(Some("tmpfs"), folder, Some("tmpfs"), flags, Some(options.as_str()))
        .with_context(|| format!("failed to mount a disk at {}", folder.display()))
}

/// Makes a folder an ext4 disk of so many bytes, kept in a sparse file.
///
/// # Errors
/// When the machine does not let us.
pub fn mount_ext4(folder: &Path, file: &Path, bytes: u64) -> Result<Mounted> {
    std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let made = File::create(file).and_then(|file| file.set_len(bytes));
    made.with_context(|| format!("failed to make {}", file.display()))?;
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(file))?;
    run(Command::new("mount").args(["-o", "loop"]).arg(file).arg(folder))?;
    Ok(Mounted { folder: folder.to_owned() })
}

/// Takes all room that is left where a folder is; who removes the file gives it back.
///
/// # Errors
/// When the machine does not let us.
pub fn fill(folder: &Path, file: &Path) -> Result<()> {
    // The kernel keeps a little back from each single request, so there are several, ever smaller.
    let at = File::create(file).with_context(|| format!("failed to make {}", file.display()))?;
    let (mut piece, mut offset) = (free_bytes(folder)?.max(1), 0_i64);
    while piece >= 512 {
        let length = i64::try_from(piece).context("a disk of a test is small")?;
        match nix::fcntl::fallocate(&at, nix::fcntl::FallocateFlags::empty(), offset, length) {
            Ok(()) => offset += length,
            Err(nix::errno::Errno::ENOSPC) => piece /= 2,
            Err(error) => return Err(error).context("failed to fill a disk"),
        }
    }
    Ok(())
}

/// Free bytes where a folder is.
///
/// # Errors
/// When it cannot be looked at.
pub fn free_bytes(folder: &Path) -> Result<u64> {
    let stat = nix::sys::statvfs::statvfs(folder).with_context(|| format!("failed to look at {}", folder.display()))?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("failed to run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
