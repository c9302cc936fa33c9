//! What the tests with real guests share: a guest of busybox that obeys lines on the agent's port, and a `QemuVmm` for it
//! in folders, users and control groups of the test's own.

pub(crate) mod tap;

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use monopod_testkit::remains::{Remains, remove_at_end};
use monopod_types::{MiB, MilliCpu};
use monopod_vmm::{ByteStream, Disk, VmError, VmId, VmSpec};
use monopod_vmm_qemu::{Accelerator, Allowance, Config, Guest, JailCommand, Limits, Ready, Users};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Says `ready` when asked to, and does what else it is told: the test's stand-in for the agent.
const INIT: &str = r#"#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
for name in scsi_common scsi_mod sd_mod virtio_scsi; do
  module=$($B find /lib/modules -name "$name.ko*" 2>/dev/null | $B head -n 1)
  [ -n "$module" ] && $B insmod $module
done
while port=$($B grep -l monopod.agent /sys/class/virtio-ports/*/name); [ -z "$port" ]; do $B sleep 0.1; done
exec 3<>/dev/$($B basename $($B dirname $port))
while :; do
  read line <&3 || { $B sleep 0.05; continue; }
  case "$line" in
    hello) echo ready >&3 ;;
    panic) echo c > /proc/sysrq-trigger ;;
    off) $B poweroff -f ;;
    reset) $B reboot -f ;;
    *) eval "$line" >&3 2>&1; echo "." >&3 ;;
  esac
done
"#;

/// Most that anything here may take on a busy machine without KVM.
pub(crate) const LONG: Duration = Duration::from_secs(240);

/// Most that killed processes may take to end.
const LEAVING: Duration = Duration::from_secs(10);

/// A `QemuVmm`'s configuration in folders of its own, which go with it.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) config: Config,
    folder: TempDir,
}

/// Asks the test's guest whether it has come up.
#[derive(Debug)]
pub(crate) struct SaysReady;

#[async_trait]
impl Ready for SaysReady {
    async fn ready(&self, mut stream: Box<dyn ByteStream>) -> Result<(), VmError> {
        let answer = ask(&mut stream, "hello").await;
        if answer == "ready" { Ok(()) } else { Err(VmError::NotReady { what: answer }) }
    }
}

/// Sends a line and reads the first of the answer.
pub(crate) async fn ask(stream: &mut Box<dyn ByteStream>, line: &str) -> String {
    stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    read_line(stream).await
}

/// Runs a command in the guest; returns its output.
pub(crate) async fn run(stream: &mut Box<dyn ByteStream>, command: &str) -> String {
    stream.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    let mut output = String::new();
    loop {
        let line = read_line(stream).await;
        if line == "." {
            return output.trim_end().to_owned();
        }
        output.push_str(&line);
        output.push('\n');
    }
}

async fn read_line(stream: &mut Box<dyn ByteStream>) -> String {
    let mut line = Vec::new();
    loop {
        match tokio::time::timeout(LONG, stream.read_u8()).await.expect("the guest answers in time") {
            Ok(b'\n') => return String::from_utf8_lossy(&line).trim_end().to_owned(),
            Ok(byte) => line.push(byte),
            Err(error) => return format!("{}({error})", String::from_utf8_lossy(&line)),
        }
    }
}

impl Bench {
    /// Everything of its own.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id() % 10_000 * 10 + NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::Builder::new().prefix("vmm").tempdir().unwrap();
        // The templates of all tests of one build are the same, and take a boot to make.
        let config = Config {
            qemu: "/usr/bin/qemu-system-x86_64".into(),
            guest: guest(),
            accelerator: Accelerator::Tcg,
            state: shared().join("state"),
            run: folder.path().join("run"),
            cgroup: format!("monopod-test-{number}"),
            jail: JailCommand { program: env!("CARGO_BIN_EXE_vm-jail").into(), arguments: Vec::new() },
            users: Users { first: 30_000_000 + number * 100, places: 100 },
            templates: true,
            keep_templates: 8,
            spares: 0,
            allowance: Allowance::default(),
            limits: Limits::default(),
            ready: Arc::new(SaysReady),
        };
        remove_at_end(Remains::Group(&config.cgroup)).unwrap();
        remove_at_end(Remains::Folder(folder.path())).unwrap();
        Self { config, folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Fills a state folder of the test's own with templates that look like the shared ones and cannot be restored.
    pub(crate) fn with_broken_templates(&mut self) -> Vec<PathBuf> {
        let state = self.folder().join("state");
        let mut made = Vec::new();
        for entry in fs::read_dir(self.config.state.join("templates")).unwrap() {
            let broken = state.join("templates").join(entry.unwrap().file_name());
            fs::create_dir_all(&broken).unwrap();
            fs::write(broken.join("state"), "no state of a machine").unwrap();
            fs::File::create(broken.join("memory")).unwrap().set_len(256 << 20).unwrap();
            fs::write(broken.join("template.json"), "{}").unwrap();
            made.push(broken);
        }
        self.config.state = state;
        made
    }

    /// What is left on the host of VMs: folders, control groups, processes and mounts.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let groups = self.groups().into_iter().flat_map(|group| names(&group));
        let folders = names(&self.config.run).into_iter().chain(groups).filter(|path| path.is_dir());
        let mut left: Vec<String> = folders.map(|path| path.display().to_string()).collect();
        left.extend(self.processes().into_iter().map(|pid| format!("process {pid}")));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(self.folder().to_str().unwrap())).map(str::to_owned));
        left
    }

    /// Where control groups of its VMs may be.
    fn groups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        ["cpu", "memory", "."].iter().map(|controller| root.join(controller).join(&self.config.cgroup)).collect()
    }

    /// Processes of its VMs: each has a user of its own.
    fn processes(&self) -> Vec<Pid> {
        let Users { first, places } = self.config.users;
        let is_ours =
            |process: &PathBuf| fs::metadata(process).is_ok_and(|about| (first..first + places).contains(&about.uid()));
        let pid = |process: PathBuf| Some(Pid::from_raw(process.file_name()?.to_str()?.parse().ok()?));
        names(Path::new("/proc")).into_iter().filter(is_ours).filter_map(pid).collect()
    }

    /// A disk of one MiB that begins with this text.
    pub(crate) fn disk(&self, serial: &str, text: &str, read_only: bool) -> Disk {
        let path = self.folder().join(serial);
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.set_len(1 << 20).unwrap();
        Disk { serial: serial.to_owned(), path, read_only }
    }
}

impl Drop for Bench {
    /// A test that fails leaves its VMs running, as a daemon would that was killed.
    fn drop(&mut self) {
        let left = self.processes();
        for pid in &left {
            // It may have ended by itself in between.
            let _ = kill(*pid, Signal::SIGKILL);
        }
        let since = Instant::now();
        while !self.processes().is_empty() && since.elapsed() < LEAVING {
            // Those that this process has started are still its children.
            for pid in &left {
                let _ = waitpid(*pid, Some(WaitPidFlag::WNOHANG));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for group in self.groups() {
            for folder in names(&group).into_iter().filter(|path| path.is_dir()) {
                drop(fs::remove_dir(folder));
            }
            drop(fs::remove_dir(group));
        }
    }
}

/// What is in a folder; nothing when there is none.
fn names(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// A small VM of this name.
pub(crate) fn spec(name: &str) -> VmSpec {
    VmSpec { id: VmId::new(name).unwrap(), cpu: MilliCpu(1000), memory: MiB(256), tap: None, disks: Vec::new() }
}

fn shared() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    cache.join("monopod").join("vmm-tests")
}

/// The kernel of the guest image with the test's own init: the image's initial file system, then one that replaces /init.
fn guest() -> Guest {
    let folder = shared();
    fs::create_dir_all(&folder).unwrap();
    let image = folder.parent().unwrap().join("guest").join("current");
    let image = Guest::read(&image).expect("there is a guest image; make one with `cargo xtask guest`");
    let mut initrd = fs::read(&image.initrd).unwrap();
    // An archive begins at a multiple of four.
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    initrd.extend(overlay());
    let path = folder.join("initrd");
    if fs::read(&path).ok().as_ref() != Some(&initrd) {
        let half = folder.join(format!("initrd.{}", std::process::id()));
        fs::write(&half, initrd).unwrap();
        fs::rename(half, &path).unwrap();
    }
    Guest { kernel: image.kernel, initrd: path, version: format!("test-{}", image.version), ..image }
}

fn overlay() -> Vec<u8> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    for name in ["bin", "dev", "proc", "sys"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::copy("/bin/busybox", folder.path().join("bin/busybox")).expect("busybox-static is installed");
    fs::write(folder.path().join("init"), INIT).unwrap();
    fs::set_permissions(folder.path().join("init"), fs::Permissions::from_mode(0o755)).unwrap();
    // The same bytes each time, so that the tests share their templates.
    for name in ["bin/busybox", "bin", "dev", "proc", "sys", "init", "."] {
        fs::File::open(folder.path().join(name)).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    let mut cpio = Command::new("cpio");
    cpio.args(["--create", "--format=newc", "--quiet", "--reproducible", "--renumber-inodes"])
        .current_dir(folder.path());
    let mut child = cpio.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cpio is installed");
    let names = "bin\nbin/busybox\ndev\nproc\nsys\ninit\n";
    child.stdin.take().unwrap().write_all(names.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}
