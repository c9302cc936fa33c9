//! The yardstick: a QEMU that boots the guest's kernel to an /init that says so, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// What /init, or a container, says.
pub(crate) const MARKER: &str = "it has come up";
/// How long it may take.
const LIMIT: Duration = Duration::from_secs(180);

const KERNEL_PARAMETERS: &str = "console=hvc0 quiet panic=-1 no_timer_check rdinit=/init";

/// Puts an archive together from within the folder of its contents.
const MAKE_ARCHIVE: &str = "mkdir -p bin dev && cp /bin/busybox bin/ && mknod dev/console c 5 1 && chmod 755 init && \
                            find . | cpio --create --format=newc --quiet";

/// What a bare machine is started from.
#[derive(Debug)]
pub(crate) struct Bare {
    kernel: PathBuf,
    initrd: PathBuf,
    accelerator: String,
    _folder: TempDir,
}

impl Bare {
    /// Makes the initial file system: a shell and two lines for it.
    pub(crate) async fn new(accelerator: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = folder.path().join("root");
        fs::create_dir(&root)?;
        fs::write(root.join("init"), format!("#!/bin/busybox sh\necho {MARKER}\nexec /bin/busybox sleep 1000\n"))?;
        let archive = Command::new("sh").args(["-ec", MAKE_ARCHIVE]).current_dir(&root).output().await?;
        ensure!(archive.status.success(), "cpio failed: {}", String::from_utf8_lossy(&archive.stderr));
        let initrd = folder.path().join("initrd");
        fs::write(&initrd, archive.stdout)?;
        let kernel = guest_folder()?.join("vmlinuz");
        ensure!(kernel.is_file(), "there is no {}; make it with `cargo xtask guest`", kernel.display());
        Ok(Self { kernel, initrd, accelerator: accelerator.to_owned(), _folder: folder })
    }

    /// Starts one, and ends it as soon as its /init has spoken.
    pub(crate) async fn boot(&self, memory: u64) -> Result<Duration> {
        let begun = Instant::now();
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35"]);
        command.args(["-cpu", if self.accelerator == "kvm" { "host" } else { "max" }, "-accel", &self.accelerator]);
        command.args(["-smp", "1", "-m", &format!("{memory}M"), "-append", KERNEL_PARAMETERS]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        command.args(["-chardev", "stdio,id=console,signal=off", "-device", "virtio-serial-pci"]);
        command.args(["-device", "virtconsole,chardev=console"]);
        let mut machine = spawn(command).context("failed to start qemu-system-x86_64")?;
        let took = until_marker(&mut machine, begun).await?;
        machine.kill().await?;
        Ok(took)
    }
}

/// Starts a program whose output is read and that ends with us.
pub(crate) fn spawn(mut command: Command) -> Result<Child> {
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?)
}

/// Waits until a program prints the marker; the time from `begun` until then.
pub(crate) async fn until_marker(child: &mut Child, begun: Instant) -> Result<Duration> {
    let mut lines = BufReader::new(child.stdout.take().context("its output is read")?).lines();
    let reading = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains(MARKER) {
                return Ok(begun.elapsed());
            }
        }
        bail!("it ended before it came up")
    };
    tokio::time::timeout(LIMIT, reading).await.context("it did not come up in time")?
}

fn guest_folder() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    Ok(cache.context("neither XDG_CACHE_HOME nor HOME is set; set one of them")?.join("monopod/guest/current"))
}
