//! A real guest for tests: the current image in QEMU without KVM, reachable over its virtio-serial port.
//!
//! The machine has a network namespace of its own and ends with the test, however the test ends.
#![allow(dead_code, clippy::unwrap_used, reason = "no test uses all of it, and each fails where it panics")]

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use monopod_agent_client::{AgentClient, Deadlines, SocketTransport};
use monopod_agent_proto::v1;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// No test lasts so long; a machine that does is killed.
const LIFETIME: &str = "300";
/// How long a guest may take to boot on a busy machine without KVM.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// One disk of the machine.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) file: PathBuf,
    pub(crate) serial: String,
    pub(crate) read_only: bool,
}

/// A running guest.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) client: AgentClient,
    pub(crate) folder: tempfile::TempDir,
    machine: Child,
}

impl Guest {
    /// Boots the current image with these disks, until its agent answers. Its network card leads nowhere.
    pub(crate) async fn boot(disks: &[Disk]) -> Self {
        Self::boot_beside("ip link set lo up", "hubport,hubid=0", disks).await
    }

    /// The same, with something else running in the machine's namespaces: what the shell script `neighbour` starts in the
    /// background. The card is connected to `network`.
    pub(crate) async fn boot_beside(neighbour: &str, network: &str, disks: &[Disk]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = start(folder.path(), neighbour, network, disks);
        let deadlines = Deadlines { connect: BOOT_LIMIT, call: Duration::from_secs(60), ..Deadlines::default() };
        let socket = folder.path().join("agent");
        let mut guest = Self { client: AgentClient::new(SocketTransport::new(&socket), deadlines), folder, machine };
        guest.wait_for(&socket).await;
        if let Err(error) = guest.client.hello().await {
            panic!("the guest did not answer: {error:?}; its console:\n{}", guest.console());
        }
        guest
    }

    /// Boots a guest with a scratch disk and makes it a Pod's own.
    pub(crate) async fn personal(disks: &[Disk]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut all = vec![scratch_disk(&files.path().join("scratch"), 256)];
        all.extend(disks.iter().cloned());
        let guest = Self::boot(&all).await;
        // QEMU has the file open; nobody else needs its name.
        drop(files);
        if let Err(error) = guest.client.personalize(personality()).await {
            panic!("the guest was not personalized: {error:?}; its console:\n{}", guest.console());
        }
        guest
    }

    /// Path of the socket that is the other end of the agent's port.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    /// What kernel and agent have printed.
    pub(crate) fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("console")).unwrap_or_default()).into_owned()
    }

    /// Waits until the machine is off; whether it ended by itself without an error.
    pub(crate) async fn ended(&mut self) -> bool {
        for _ in 0..600 {
            if let Some(status) = self.machine.try_wait().unwrap() {
                return status.success();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the machine is still on; its console:\n{}", self.console());
    }

    async fn wait_for(&mut self, socket: &Path) {
        for _ in 0..600 {
            // The file is there a moment before anybody listens. A host that hangs up at once is nothing to the guest.
            if tokio::net::UnixStream::connect(socket).await.is_ok() {
                return;
            }
            if let Some(status) = self.machine.try_wait().unwrap() {
                let errors = fs::read_to_string(self.folder.path().join("errors")).unwrap_or_default();
                panic!("QEMU ended with {status}: {errors}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("QEMU did not make its socket");
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The group: `unshare`, whose child goes with it, and takes QEMU along.
        let group = Pid::from_raw(i32::try_from(self.machine.id()).unwrap());
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.machine.wait();
    }
}

/// Folder of the current guest image.
pub(crate) fn image() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache"));
    let folder = cache.join("monopod/guest/current");
    assert!(folder.join("guest.json").is_file(), "there is no guest image; make one with `cargo xtask guest`");
    folder
}

fn start(folder: &Path, neighbour: &str, network: &str, disks: &[Disk]) -> Child {
    let image = image();
    let description: serde_json::Value = serde_json::from_slice(&fs::read(image.join("guest.json")).unwrap()).unwrap();
    let mut command = Command::new("unshare");
    // Everything in these namespaces ends with the first process in them, which the shell becomes.
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec"]);
    command
        .arg(format!("{neighbour}\nexec timeout --foreground --signal=KILL {LIFETIME} qemu-system-x86_64 \"$@\""))
        .arg("sh");
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35,accel=tcg"]);
    command.args(["-cpu", "max", "-smp", "1", "-m", "384"]);
    command.arg("-kernel").arg(image.join("vmlinuz")).arg("-initrd").arg(image.join("initrd"));
    command.args(["-append", description["kernelCommandLine"].as_str().unwrap()]);
    command.args(["-device", "virtio-serial-pci"]);
    command.arg("-chardev").arg(format!("file,id=console,path={}", folder.join("console").display()));
    command.args(["-device", "virtconsole,chardev=console"]);
    command.arg("-chardev");
    command.arg(format!("socket,id=agent,server=on,wait=off,path={}", folder.join("agent").display()));
    command.args(["-device", "virtserialport,chardev=agent,name=monopod.agent"]);
    command.arg("-netdev").arg(format!("{network},id=network"));
    command.args(["-device", "virtio-net-pci,netdev=network,romfile="]);
    command.args(["-device", "virtio-rng-pci", "-device", "virtio-scsi-pci,id=scsi"]);
    for (number, disk) in disks.iter().enumerate() {
        let read_only = if disk.read_only { "on" } else { "off" };
        let file = disk.file.display();
        command.arg("-blockdev");
        command.arg(format!("driver=file,node-name=disk{number},read-only={read_only},locking=off,filename={file}"));
        let Disk { serial, .. } = disk;
        command.arg("-device").arg(format!("scsi-hd,bus=scsi.0,drive=disk{number},device_id={serial}"));
    }
    let errors = File::create(folder.join("errors")).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).process_group(0).spawn().unwrap()
}

/// An empty ext4 disk.
pub(crate) fn scratch_disk(file: &Path, mebibytes: u64) -> Disk {
    File::create(file).unwrap().set_len(mebibytes << 20).unwrap();
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(file));
    Disk { file: file.to_owned(), serial: "scratch".to_owned(), read_only: false }
}

/// An erofs disk with the contents of a folder.
pub(crate) fn image_disk(file: &Path, folder: &Path, serial: &str) -> Disk {
    run(Command::new("mkfs.erofs").args(["--quiet", "--all-root"]).arg(file).arg(folder));
    Disk { file: file.to_owned(), serial: serial.to_owned(), read_only: true }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the host would send to make a guest a Pod's own.
pub(crate) fn personality() -> v1::PersonalizeRequest {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    v1::PersonalizeRequest {
        pod_uid: "7a3c3f5e-8f0b-4f0e-9d0a-0123456789ab".to_owned(),
        entropy: fs::read("/proc/sys/kernel/random/uuid").unwrap().repeat(2),
        wall_clock: u64::try_from(since.as_nanos()).unwrap(),
        hostname: "web-1".to_owned(),
        machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
        network: Some(v1::Network {
            mac: "02:00:0a:00:01:02".to_owned(),
            mtu: 1500,
            addresses: vec!["10.0.1.2/32".to_owned(), "fd00::2/128".to_owned()],
            gateways: vec!["169.254.1.1".to_owned(), "fe80::1".to_owned()],
        }),
        files: Some(v1::PodFiles { hosts: "127.0.0.1 localhost\n".to_owned(), resolv_conf: String::new() }),
        scratch_serial: "scratch".to_owned(),
        sysctls: [("net.core.somaxconn".to_owned(), "1024".to_owned())].into(),
        share_process_namespace: false,
        shm_size: 0,
    }
}
