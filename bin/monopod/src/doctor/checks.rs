//! The checks: each tries what the daemon will do, by the same code.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use monopod_hostnet::{HostNet, NetConfig, RoutedNet};
use monopod_types::PodUid;
use monopod_vmm_qemu::{Accelerator, Config, probe};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;
use tempfile::TempDir;
use tokio::runtime::Builder;

use super::{Check, Checks, start};
use crate::daemon::Folders;
use crate::failure::Failure;
use crate::host::Guests;

/// Free disk below which nothing but the smallest images fits.
const LITTLE_DISK: u64 = 5 << 30;
/// Free memory below which not even a few of the smallest Pods fit.
const LITTLE_MEMORY: u64 = 2 << 30;
/// Where kernels tell what they know of control groups.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// Runs all checks, as far as one does not need what another missed.
pub(super) async fn all(guests: &Guests, folders: &Folders, checks: &mut Checks) -> Result<(), Failure> {
    let root = root();
    let is_root = root.verdict == super::Verdict::Ok;
    checks.add(root)?;
    checks.add(control_groups(Path::new(CONTROL_GROUPS)))?;
    checks.add(program("mkfs.erofs", "erofs-utils"))?;
    checks.add(program("mkfs.ext4", "e2fsprogs"))?;
    checks.add(program("nft", "nftables"))?;
    checks.add(disk(&folders.root))?;
    checks.add(memory(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()))?;
    if !is_root {
        return Ok(());
    }
    checks.add(network().await)?;
    let Some((config, _folders)) = config(guests, &folders.root, checks)? else { return Ok(()) };
    let Some(config) = accelerators(guests, config, checks).await? else { return Ok(()) };
    checks.add(start::measure(config).await)
}

fn root() -> Check {
    if geteuid().is_root() {
        Check::ok("user", "root")
    } else {
        Check::failed("user", "not root, so nothing more can be tried", "run it with sudo, as the host daemon is run")
    }
}

fn control_groups(place: &Path) -> Check {
    let (version, found) = match std::fs::read_to_string(place.join("cgroup.controllers")) {
        Ok(controllers) => (2, controllers.split_whitespace().map(str::to_owned).collect::<Vec<_>>()),
        Err(_) => {
            let has = |name: &&str| place.join(name).join("tasks").is_file();
            (1, ["cpu", "memory"].into_iter().filter(has).map(str::to_owned).collect())
        }
    };
    let missing: Vec<_> = ["cpu", "memory"].into_iter().filter(|name| !found.iter().any(|one| one == name)).collect();
    if missing.is_empty() {
        return Check::ok("cgroup", format!("version {version}, with cpu and memory"));
    }
    Check::failed(
        "cgroup",
        format!("version {version}, without {}", missing.join(" and ")),
        format!("turn the controllers on (kernel command line) and mount them on {}", place.display()),
    )
}

fn program(name: &'static str, package: &str) -> Check {
    match Command::new(name).arg("-V").output() {
        Ok(output) => {
            let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            let said = String::from_utf8_lossy(&said);
            Check::ok(name, said.lines().next().unwrap_or("present").trim())
        }
        Err(error) => Check::failed(name, format!("cannot be run: {error}"), format!("install the package {package}")),
    }
}

fn disk(folder: &Path) -> Check {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
    match statvfs(there) {
        Ok(about) => {
            let free = about.blocks_available().saturating_mul(about.fragment_size());
            let found = format!("{} free in {}", gib(free), folder.display());
            if free < LITTLE_DISK {
                Check::warning("disk", found, "images and the disks of Pods go there; make room or name another --root")
            } else {
                Check::ok("disk", found)
            }
        }
        Err(error) => Check::failed("disk", format!("{}: {error}", there.display()), "name another folder with --root"),
    }
}

fn memory(meminfo: &str) -> Check {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0);
    let found = format!("{} free for Pods", gib(kib << 10));
    if kib << 10 < LITTLE_MEMORY {
        Check::warning("memory", found, "a Pod takes its size (at least 0.5 GiB) and, translated, about 100 MiB")
    } else {
        Check::ok("memory", found)
    }
}

fn gib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 30;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// Makes the network of a Pod in a namespace that goes with the thread.
async fn network() -> Check {
    let tried = tokio::task::spawn_blocking(|| std::thread::spawn(try_network).join()).await;
    match tried {
        Ok(Ok(Ok(address))) => Check::ok("network", format!("a tap with routes and packet filter for {address}")),
        Ok(Ok(Err(error))) => Check::failed(
            "network",
            whole(&*error),
            "the kernel needs tun, nf_tables and network namespaces; see docs/network.md",
        ),
        Ok(Err(_)) | Err(_) => Check::failed("network", "the check itself broke", "please report this"),
    }
}

fn try_network() -> Result<String, Box<dyn Error + Send + Sync>> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let net = RoutedNet::open(NetConfig { ready: 0, ..NetConfig::default() }).await?;
        let pod = PodUid::new("00000000-0000-4000-8000-000000000000");
        let attached = net.attach(&pod, None).await?;
        let address = attached.lease.address().map(|address| address.to_string()).unwrap_or_default();
        net.detach(&pod).await?;
        net.close().await?;
        Ok(address)
    })
}

/// What guests are started with, in folders of their own; these go when the second is dropped.
fn config(guests: &Guests, root: &Path, checks: &mut Checks) -> Result<Option<(Config, TempDir)>, Failure> {
    // On the disk where the daemon's templates are, if there has been a daemon.
    let place = if root.is_dir() { root } else { Path::new("/var/tmp") };
    let folder = tempfile::Builder::new().prefix("doctor-").tempdir_in(place).map_err(|source| Failure::Io {
        action: format!("failed to make a folder in {} for the guests that are tried", place.display()),
        source,
    })?;
    match guests.prepared(&folder.path().join("state"), &folder.path().join("run")) {
        Ok(config) => {
            checks.add(Check::ok(
                "guest image",
                format!("{}, {}", config.guest.version, config.guest.kernel.display()),
            ))?;
            Ok(Some((start::own(config), folder)))
        }
        Err(error) => {
            checks.add(Check::failed("guest image", whole(&error), "make one with `cargo xtask guest`"))?;
            Ok(None)
        }
    }
}

/// Tries the accelerators; the configuration has the one that was asked for, or the first that works.
async fn accelerators(guests: &Guests, mut config: Config, checks: &mut Checks) -> Result<Option<Config>, Failure> {
    let report = match probe::probe(&config, true).await {
        Ok(report) => report,
        Err(error) => {
            let advice = "install qemu-system-x86, version 9 or later, or name the program with --qemu";
            checks.add(Check::failed("QEMU", whole(&error), advice))?;
            return Ok(None);
        }
    };
    checks.add(Check::ok("QEMU", format!("{}, {}", report.qemu_version, config.qemu.display())))?;
    checks.add(templates(report.templates))?;
    for attempt in &report.attempts {
        checks.add(accelerator(attempt))?;
    }
    let Some(chosen) = guests.asked().or_else(|| report.chosen()) else {
        checks.add(Check::failed("accelerator", "none runs a guest", "see the lines above"))?;
        return Ok(None);
    };
    let why = if guests.asked().is_some() { "asked for by --accelerator" } else { "the first that ran a guest" };
    checks.add(Check::ok("accelerator", format!("{chosen}: {why}")))?;
    config.accelerator = chosen;
    Ok(Some(config))
}

fn templates(support: probe::TemplateSupport) -> Check {
    let has = |has: bool| if has { "yes" } else { "no" };
    let found = format!("x-ignore-shared {}, mapped-ram {}", has(support.ignore_shared), has(support.mapped_ram));
    if support.ignore_shared {
        Check::ok("templates", found)
    } else {
        Check::failed("templates", found, "starts from a template need QEMU 9 or later")
    }
}

fn accelerator(attempt: &probe::Attempt) -> Check {
    let name = match attempt.accelerator {
        Accelerator::Kvm => "KVM",
        Accelerator::Tcg => "TCG",
    };
    match &attempt.outcome {
        Ok(took) => Check::ok(name, format!("ran a guest of 20 million turns in {} ms", took.as_millis())),
        Err(why) => {
            let advice = match attempt.accelerator {
                Accelerator::Kvm => "Pods are translated instead (TCG): they work and compute several times slower",
                Accelerator::Tcg => "look at the message of QEMU",
            };
            Check::warning(name, format!("did not run a guest: {}", why.replace('\n', "; ")), advice)
        }
    }
}

/// An error with its causes in one line.
fn whole(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::{control_groups, memory, program};

    #[test]
    fn both_versions_of_control_groups_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cpu", "memory"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("cpu/tasks"), "").unwrap();
        let one = control_groups(folder.path());
        assert_eq!((one.verdict, one.found.as_str()), (Verdict::Failed, "version 1, without memory"));
        std::fs::write(folder.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        let two = control_groups(folder.path());
        assert_eq!((two.verdict, two.found.as_str()), (Verdict::Ok, "version 2, with cpu and memory"));
    }

    #[test]
    fn little_memory_is_a_warning() {
        let check = memory("MemTotal:  100 kB\nMemAvailable:    1048576 kB\n");
        assert_eq!((check.verdict, check.found.as_str()), (Verdict::Warning, "1.0 GiB free for Pods"));
        assert_eq!(memory("MemAvailable:   16777216 kB\n").verdict, Verdict::Ok);
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let check = program("no-such-program-here", "some-package");
        assert_eq!(check.verdict, Verdict::Failed);
        assert_eq!(check.advice.unwrap(), "install the package some-package");
    }
}
