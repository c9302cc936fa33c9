//! Where the demo runs: a network namespace, folders and a daemon of its own.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::cache_folder;
use crate::workspace::Workspace;

/// The daemon proves its accelerator by starting a guest, which takes a while where there is no KVM.
const START_LIMIT: Duration = Duration::from_secs(180);
/// How long the daemon may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A place for the demo; gone when it is dropped.
pub(super) struct Place {
    root: PathBuf,
    program: PathBuf,
    namespace: String,
    state: PathBuf,
    run: PathBuf,
    daemon: Option<Child>,
}

impl Place {
    /// Makes the namespace and starts the daemon in it.
    ///
    /// # Errors
    /// When we are not root, a namespace cannot be made, or the daemon does not start.
    pub(super) fn new(workspace: &Workspace, program: PathBuf) -> Result<Self> {
        let id = std::process::id();
        let mut place = Self {
            root: workspace.root.clone(),
            program,
            namespace: format!("monopod-demo-{id}"),
            state: cache_folder()?.join("demo"),
            run: PathBuf::from(format!("/run/monopod-demo-{id}")),
            daemon: None,
        };
        let made = Command::new("ip").args(["netns", "add", &place.namespace]).status().context("failed to run ip")?;
        if !made.success() {
            bail!("a network namespace cannot be made; run `make demo` as root");
        }
        place.quiet(&["ip", "link", "set", "lo", "up"])?;
        std::fs::create_dir_all(&place.run).context("failed to make a folder below /run")?;
        place.start_daemon()?;
        Ok(place)
    }

    fn start_daemon(&mut self) -> Result<()> {
        let path = self.run.join("host.log");
        let log = File::create(&path).with_context(|| format!("failed to make {}", path.display()))?;
        let program = self.program.display().to_string();
        let mut command = self.inside(&[&program, "host"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.daemon = Some(command.spawn().context("failed to start the daemon")?);
        let started = Instant::now();
        while self.quiet(&[&program, "ps"]).is_err() {
            let ended = self.daemon.as_mut().is_none_or(|daemon| matches!(daemon.try_wait(), Ok(Some(_)) | Err(_)));
            if ended || started.elapsed() > START_LIMIT {
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                bail!("the host daemon did not start; it said:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Shows and runs `monopod` with these arguments; what it printed.
    pub(super) fn monopod(&self, arguments: &[&str]) -> Result<String> {
        self.monopod_with(arguments, 0)
    }

    /// Likewise, with an exit code that is meant.
    pub(super) fn monopod_with(&self, arguments: &[&str], code: i32) -> Result<String> {
        println!("$ monopod {}", typed(arguments));
        let program = self.program.display().to_string();
        self.captured(&[&[&*program], arguments].concat(), code)
    }

    /// Shows and runs a program; what it printed.
    pub(super) fn shown(&self, command: &[&str]) -> Result<String> {
        println!("$ {}", typed(command));
        self.captured(command, 0)
    }

    fn captured(&self, command: &[&str], code: i32) -> Result<String> {
        let output = self.inside(command).stderr(Stdio::inherit()).output().context("failed to run nsenter")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("{text}");
        if output.status.code() != Some(code) {
            bail!("`{}` ended with {}, not with exit code {code}", command.join(" "), output.status);
        }
        Ok(text)
    }

    fn quiet(&self, command: &[&str]) -> Result<()> {
        let output = self.inside(command).output().context("failed to run nsenter")?;
        if !output.status.success() {
            bail!("{}: {}", command.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// A program in the namespace. Not by `ip netns exec`, which hides the machine's control groups.
    fn inside(&self, command: &[&str]) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--net=/run/netns/{}", self.namespace)).arg("--").args(command).current_dir(&self.root);
        nsenter.env("MONOPOD_ROOT", &self.state).env("MONOPOD_RUN", &self.run);
        nsenter
    }
}

impl Drop for Place {
    /// Ends what is left of the Pods, then the daemon, then removes the rest. What cannot be removed is told.
    fn drop(&mut self) {
        let program = self.program.display().to_string();
        if let Ok(pods) = self.inside(&[&program, "ps", "--quiet"]).output() {
            for pod in String::from_utf8_lossy(&pods.stdout).lines() {
                let _ = self.quiet(&[&program, "rm", "--force", pod]);
            }
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status();
            let asked = Instant::now();
            while matches!(daemon.try_wait(), Ok(None)) {
                if asked.elapsed() > STOP_LIMIT {
                    println!("the daemon did not end in time and is killed");
                    let _ = daemon.kill();
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
        if let Err(error) = std::fs::remove_dir_all(&self.run) {
            println!("{} is left behind: {error}", self.run.display());
        }
    }
}

/// A command as people type it.
fn typed(command: &[&str]) -> String {
    let word = |word: &&str| if word.contains([' ', ';']) { format!("'{word}'") } else { (*word).to_owned() };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}
