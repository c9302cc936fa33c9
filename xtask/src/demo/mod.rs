//! `make demo`: a cluster with Monopod on it, a small shop in microVMs, and what to try next.
//!
//! What runs is one process, the driver in tests/testkit/examples/demo, and what it has started: all of it ends with it. It
//! goes on when this program has shown what it says, until `make demo-down`, or for an hour.
//!
//! ```text
//! ~/.cache/monopod/demo/cluster  keys, data and logs of the control plane; new with each demo
//!                      /host-N   images and templates of the hosts; kept, so that the next demo is quick
//!                      /kubectl  for the demo's cluster
//!                      /log, pid of the driver
//! ```

mod local;
mod place;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::process::{cache_folder, cargo, output, run};
use crate::workspace::Workspace;
use crate::{guest, kubeplane};

pub(crate) use local::run_all as run_local;

/// Building the program from nothing.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How long the driver may take until it is ready.
const START_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How long it may take to end.
const END_LIMIT: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What the driver's last line begins with.
const READY: &str = "The demo is ready";
/// What each demo begins without: records of Pods and certificates of the cluster before.
const NOT_KEPT: [&str; 3] = ["nodes", "pods", "scratch"];

/// Starts the demo, shows what it says, and leaves it running.
///
/// # Errors
/// When something is missing or does not build, or the demo does not come up.
pub(crate) fn up(workspace: &Workspace) -> Result<()> {
    let folder = cache_folder()?.join("demo");
    if let Some(pid) = running(&folder) {
        println!("{}", fs::read_to_string(folder.join("log")).unwrap_or_default());
        println!("That demo runs already, process {pid}. `make demo-down` ends it.");
        return Ok(());
    }
    check_machine()?;
    let build = ["build", "--locked", "--release", "-p"];
    run(cargo().args(build).arg("monopod"), BUILD_LIMIT)?;
    run(cargo().args(build).args(["monopod-testkit", "--example", "demo"]), BUILD_LIMIT)?;
    guest::build(workspace, false)?;
    kubeplane::build(workspace)?;
    clean(&folder)?;
    let log = folder.join("log");
    let written = File::create(&log).with_context(|| format!("failed to make {}", log.display()))?;
    let mut driver = Command::new(workspace.target.join("release/examples/demo"));
    driver.arg(workspace.target.join("release/monopod")).arg(workspace.root.join("deploy")).arg(&folder);
    // A group of its own, so that a Ctrl-C meant for us does not reach it.
    driver.stdin(Stdio::null()).stdout(written.try_clone()?).stderr(written).process_group(0);
    let mut child = driver.spawn().context("failed to start the demo")?;
    fs::write(pid_file(&folder), child.id().to_string()).context("failed to write the demo's pid")?;
    let mut shown = File::open(&log)?;
    let begun = Instant::now();
    let mut text = String::new();
    loop {
        let ended = child.try_wait().context("failed to wait for the demo")?;
        let mut news = String::new();
        shown.read_to_string(&mut news)?;
        print!("{news}");
        std::io::stdout().flush()?;
        text.push_str(&news);
        if text.lines().any(|line| line.starts_with(READY)) {
            return Ok(());
        }
        if let Some(status) = ended {
            fs::remove_file(pid_file(&folder)).ok();
            bail!("the demo ended with {status}; what it said is above, and in {}", log.display());
        }
        if begun.elapsed() > START_LIMIT {
            down()?;
            bail!(
                "the demo was not ready after {} minutes; its logs are in {}",
                START_LIMIT.as_secs() / 60,
                folder.display()
            );
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Ends the demo, and removes what it has made.
///
/// # Errors
/// When it does not end.
pub(crate) fn down() -> Result<()> {
    let folder = cache_folder()?.join("demo");
    let Some(pid) = running(&folder) else {
        println!("No demo runs.");
        return clean(&folder);
    };
    run(Command::new("kill").args(["-TERM", &pid.to_string()]), Duration::from_secs(10))?;
    let begun = Instant::now();
    while running(&folder).is_some() {
        if begun.elapsed() > END_LIMIT {
            bail!("the demo, process {pid}, does not end; its log is {}", folder.join("log").display());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    clean(&folder)?;
    println!("The demo is gone. Images and templates are kept in {} for the next one.", folder.display());
    Ok(())
}

/// Says what this machine lacks, and how to get it.
fn check_machine() -> Result<()> {
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("the demo makes network namespaces and microVMs, so it needs root; run it with sudo");
    }
    if !Path::new("/dev/net/tun").exists() {
        bail!("there is no /dev/net/tun, by which microVMs are connected; load it with `modprobe tun`");
    }
    Ok(())
}

fn pid_file(folder: &Path) -> PathBuf {
    folder.join("pid")
}

/// The process of a demo that runs. A number that is another program's by now is none.
fn running(folder: &Path) -> Option<u32> {
    let pid = fs::read_to_string(pid_file(folder)).ok()?.trim().parse().ok()?;
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let is_ours = command.contains("release/examples/demo");
    // One that has ended and was not waited for has no command.
    is_ours.then_some(pid)
}

/// Removes what a demo leaves, but for images and templates.
fn clean(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let mut gone = vec![folder.join("cluster"), folder.join("log"), folder.join("pid"), folder.join("kubectl")];
    for host in ["host-2", "host-3"] {
        gone.extend(NOT_KEPT.iter().map(|name| folder.join(host).join(name)));
    }
    for path in gone {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("failed to remove {}", path.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
