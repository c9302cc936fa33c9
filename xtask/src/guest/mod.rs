//! `cargo xtask guest`: the kernel and the initramfs that every microVM starts with.
//!
//! Kernel and modules come out of Debian's cloud kernel package, which is unpacked and not installed. The initramfs holds
//! `monopod-guest` as its /init and the modules it needs. The same kernel package and the same agent give the same bytes,
//! under a version made of the kernel's release and a digest of the contents.

mod agent;
mod archive;
mod kernel_modules;
mod package;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::process::cache_folder;
use crate::workspace::Workspace;
use archive::Entry;

/// What the kernel is told at boot, whatever the machine. Whoever starts one may add to it.
///
/// `no_timer_check`: on a busy host without KVM the check fails now and then, and the kernel panics. `panic=-1` ends the
/// virtual machine at once, so that the host learns of it.
const COMMAND_LINE: &str = "console=hvc0 quiet panic=-1 oops=panic no_timer_check cgroup_no_v1=all audit=0 \
                            random.trust_cpu=on random.trust_bootloader=on i8042.noaux i8042.nopnp rdinit=/init";
/// Stands in the digest: raised when the same contents are put together in another way.
const FORMAT: &str = "1";
/// Hex digits of the digest that the version shows.
const DIGITS: usize = 12;
/// Level of zstd: the highest that costs nothing to undo.
const COMPRESSION: i32 = 19;
/// File of the image in which the agent finds its version.
const VERSION_FILE: &str = "etc/monopod-guest-version";

/// Builds the image unless it is there, makes it the current one, says where it is.
///
/// # Errors
/// When the kernel package cannot be had, the agent does not build, or a file cannot be written.
pub(crate) fn build(workspace: &Workspace, refresh: bool) -> Result<()> {
    assemble(refresh, || agent::build(workspace))
}

/// The same with an agent that was built elsewhere.
///
/// # Errors
/// As [`build`].
pub(crate) fn build_with(agent: &Path, refresh: bool) -> Result<()> {
    assemble(refresh, || fs::read(agent).with_context(|| format!("failed to read {}", agent.display())))
}

fn assemble(refresh: bool, agent: impl FnOnce() -> Result<Vec<u8>>) -> Result<()> {
    let folder = cache_folder()?.join("guest");
    let kernel = package::unpacked(&folder, refresh)?;
    let agent = agent()?;
    let image = Image::new(&kernel, agent)?;
    let version = image.version();
    let target = folder.join(&version);
    if !target.join("guest.json").is_file() {
        image.write(&target)?;
    }
    make_current(&folder, &version)?;
    println!("{}", target.display());
    println!("{version}");
    Ok(())
}

/// Everything that goes into an image.
struct Image {
    kernel_release: String,
    kernel: Vec<u8>,
    entries: Vec<Entry>,
}

impl Image {
    fn new(kernel: &package::Kernel, agent: Vec<u8>) -> Result<Self> {
        let mut entries = vec![Entry::console(), Entry::file("init", 0o755, agent)];
        entries.extend(kernel_modules::entries(&kernel.modules)?);
        let path = &kernel.image;
        let kernel_image = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
        Ok(Self { kernel_release: kernel.release.clone(), kernel: kernel_image, entries })
    }

    /// Kernel release and digest of everything that makes a difference.
    fn version(&self) -> String {
        let mut digest = Sha256::new();
        for part in [FORMAT.as_bytes(), COMMAND_LINE.as_bytes(), &self.kernel, &archive::write(&self.entries)] {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        let digest = hex::encode(digest.finalize());
        format!("{}-{}", self.kernel_release, &digest[..DIGITS])
    }

    /// The compressed initramfs.
    fn initrd(&self) -> Result<Vec<u8>> {
        let mut entries = self.entries.clone();
        entries.push(Entry::file(VERSION_FILE, 0o644, self.version().into_bytes()));
        zstd::bulk::compress(&archive::write(&entries), COMPRESSION).context("failed to compress the initramfs")
    }

    /// Writes the image into a folder that is there as a whole or not at all.
    fn write(&self, target: &Path) -> Result<()> {
        let parent = target.parent().context("an image has a parent folder")?;
        let half = parent.join(format!(".half-{}", std::process::id()));
        fs::create_dir_all(&half)?;
        let initrd = self.initrd()?;
        let mut digest = Sha256::new();
        digest.update(&self.kernel);
        digest.update(&initrd);
        let description = serde_json::json!({
            "version": self.version(),
            "kernelRelease": self.kernel_release,
            "kernelCommandLine": COMMAND_LINE,
            "digest": format!("sha256:{}", hex::encode(digest.finalize())),
        });
        fs::write(half.join("vmlinuz"), &self.kernel)?;
        fs::write(half.join("initrd"), &initrd)?;
        fs::write(half.join("guest.json"), format!("{description:#}\n"))?;
        println!("kernel {} KiB, initramfs {} KiB", self.kernel.len() / 1024, initrd.len() / 1024);
        if target.exists() {
            fs::remove_dir_all(target)?;
        }
        fs::rename(&half, target).with_context(|| format!("failed to make {}", target.display()))
    }
}

/// Points `current` at a version, in one step.
fn make_current(folder: &Path, version: &str) -> Result<()> {
    let link: PathBuf = folder.join("current");
    if fs::read_link(&link).is_ok_and(|target| target == Path::new(version)) {
        return Ok(());
    }
    let half = folder.join(format!(".current-{}", std::process::id()));
    std::os::unix::fs::symlink(version, &half)?;
    fs::rename(&half, &link).context("failed to switch the current guest image")
}

#[cfg(test)]
mod tests;
