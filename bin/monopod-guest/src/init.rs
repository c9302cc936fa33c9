//! What PID 1 does first: file systems, kernel modules, the port to the host; then it serves for ever.
//!
//! Up to the first call of the host nothing is read from the kernel's random generator's files (boot_id above all), and
//! nothing runs on a timer: the machine can be saved here and restored many times.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use monopod_agent_proto::PORT_NAME;
use nix::mount::{MsFlags, mount};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::agent_log::AgentLog;
use crate::paths::Paths;
use crate::port::{self, Port};
use crate::reaper::Reaper;
use crate::server::{Agent, Identity};
use crate::{connection, kernel_modules};

/// How long the port may take to appear.
const PORT_LIMIT: Duration = Duration::from_secs(10);
/// Files that the agent may have open.
const FILES: u64 = 65_535;
/// File of the image that holds its version.
const VERSION_FILE: &str = "/etc/monopod-guest-version";

/// The whole life of the agent. Returns only when it cannot serve; PID 1 ending makes the kernel panic, and with that
/// the virtual machine ends, which the host sees.
pub(crate) fn run() -> ExitCode {
    if std::process::id() != 1 {
        let _ = writeln!(io::stderr(), "monopod-guest is PID 1 of a microVM and does nothing anywhere else");
        return ExitCode::FAILURE;
    }
    if let Err(error) = boot() {
        let _ = writeln!(io::stderr(), "monopod-guest: {error:#}");
    }
    ExitCode::FAILURE
}

fn boot() -> Result<()> {
    mounts().context("failed to mount the machine's file systems")?;
    open_console();
    kernel_modules::load("boot")?;
    settings()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(16).build()?;
    runtime.block_on(serve())
}

/// What the kernel does by default and a machine for containers should not.
fn settings() -> Result<()> {
    // One process id is as good as never used twice in the life of a microVM.
    write_sysctl("kernel/pid_max", "4194304")?;
    // Programs that ask for more memory than they use are let: databases fork, and expect it.
    write_sysctl("vm/overcommit_memory", "1")?;
    // Each stream of the host holds a few descriptors.
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, FILES, FILES)?;
    Ok(())
}

async fn serve() -> Result<()> {
    let log = AgentLog::default();
    tracing_subscriber::registry().with(tracing_subscriber::filter::LevelFilter::INFO).with(log.clone()).init();
    let reaper = Reaper::start()?;
    let identity = Identity {
        image_version: fs::read_to_string(VERSION_FILE).unwrap_or_default().trim_end().to_owned(),
        kernel_release: nix::sys::utsname::uname()?.release().to_string_lossy().into_owned(),
    };
    let agent = Agent::new(identity, Paths::system(), reaper, log);
    let port = open_port().await?;
    connection::serve(port, &agent).await.context("the port to the host broke")
}

async fn open_port() -> Result<Port> {
    let deadline = tokio::time::Instant::now() + PORT_LIMIT;
    loop {
        if let Some(path) = port::find(PORT_NAME)? {
            return Port::open(&path).with_context(|| format!("failed to open {}", path.display()));
        }
        if tokio::time::Instant::now() > deadline {
            bail!("the machine has no virtio-serial port {PORT_NAME}");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// One file system to mount.
struct Mount {
    kind: &'static str,
    target: &'static str,
    flags: MsFlags,
    options: &'static str,
}

fn mounts() -> Result<()> {
    let hard = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let device = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    leave_initramfs()?;
    for Mount { kind, target, flags, options } in [
        Mount { kind: "proc", target: "/proc", flags: hard, options: "" },
        Mount { kind: "sysfs", target: "/sys", flags: hard, options: "" },
        Mount { kind: "devtmpfs", target: "/dev", flags: MsFlags::MS_NOSUID, options: "mode=0755" },
        Mount { kind: "devpts", target: "/dev/pts", flags: device, options: "mode=0620,gid=5,ptmxmode=0666" },
        Mount { kind: "cgroup2", target: "/sys/fs/cgroup", flags: hard, options: "nsdelegate" },
        Mount { kind: "tmpfs", target: "/run", flags: MsFlags::MS_NOSUID | MsFlags::MS_NODEV, options: "mode=0755" },
        Mount { kind: "tmpfs", target: "/tmp", flags: MsFlags::MS_NOSUID | MsFlags::MS_NODEV, options: "mode=1777" },
    ] {
        fs::create_dir_all(target)?;
        mount(Some(kind), target, Some(kind), flags, Some(options))
            .with_context(|| format!("failed to mount {target}"))?;
    }
    for (link, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        let link = Path::new("/dev").join(link);
        if !link.exists() {
            symlink(target, link)?;
        }
    }
    fs::set_permissions("/dev/ptmx", fs::Permissions::from_mode(0o666))?;
    delegate_controllers()
}

/// Makes `/` a mount that has a parent. The initramfs itself has none, and `pivot_root`, with which containers get
/// their root, refuses to leave such a one.
fn leave_initramfs() -> Result<()> {
    let none: Option<&str> = None;
    fs::create_dir_all("/root-mount")?;
    mount(Some("/"), "/root-mount", none, MsFlags::MS_BIND, none).context("failed to bind the root")?;
    std::env::set_current_dir("/root-mount")?;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none).context("failed to move the root")?;
    nix::unistd::chroot(".").context("failed to change the root")?;
    std::env::set_current_dir("/")?;
    Ok(())
}

/// Lets the cgroups below the root have every controller that the kernel offers.
fn delegate_controllers() -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let offered = fs::read_to_string(root.join("cgroup.controllers"))?;
    let wanted: Vec<_> = offered.split_whitespace().map(|name| format!("+{name}")).collect();
    fs::write(root.join("cgroup.subtree_control"), wanted.join(" ")).context("failed to enable cgroup controllers")
}

/// Sends what this process and the kernel print to the console that the machine has, and nowhere if it has none.
fn open_console() {
    // The kernel opens /dev/console for PID 1 only if the image has that node; ours has none.
    let console = fs::OpenOptions::new().read(true).write(true).open("/dev/console");
    let Ok(file) = console.or_else(|_| fs::OpenOptions::new().read(true).write(true).open("/dev/null")) else { return };
    // Standard output and error being elsewhere is no reason to end.
    let _ = nix::unistd::dup2_stdin(&file)
        .and_then(|()| nix::unistd::dup2_stdout(&file))
        .and_then(|()| nix::unistd::dup2_stderr(&file));
}

/// Sets a kernel parameter, named as below /proc/sys.
fn write_sysctl(name: &str, value: &str) -> Result<()> {
    fs::write(Path::new("/proc/sys").join(name), value).with_context(|| format!("failed to set {name}"))
}
