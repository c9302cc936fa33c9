//! A machine for a test: a network namespace, folders and a host daemon of its own, and the command line to ask it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use monopod_testkit::images::{self, TestImage};
use monopod_testkit::netns::Namespace;
use monopod_testkit::remains::{Remains, remove_at_end};
use serde_json::Value;

/// How long anything here may take; generous, for slow machines without KVM.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A machine that runs Pods. Dropping it removes its Pods, ends its daemon, and removes the rest.
#[derive(Debug)]
pub(crate) struct Machine {
    namespace: Namespace,
    folder: tempfile::TempDir,
    run: tempfile::TempDir,
    daemon: Option<Child>,
    /// More for the environment of the daemon.
    environment: Vec<(String, PathBuf)>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Machine {
    /// A machine whose daemon answers.
    pub(crate) fn start() -> Self {
        let mut machine = Self::without_daemon();
        machine.start_daemon();
        machine
    }

    /// A machine on which no daemon runs yet.
    pub(crate) fn without_daemon() -> Self {
        let namespace = Namespace::new().expect("a network namespace can be made; these tests need root");
        let folder = tempfile::tempdir().unwrap();
        let run = tempfile::Builder::new().prefix("monopod-test-").tempdir_in("/run").unwrap();
        remove_at_end(Remains::Group(run.path().file_name().unwrap().to_str().unwrap())).unwrap();
        remove_at_end(Remains::Folder(run.path())).unwrap();
        remove_at_end(Remains::Folder(folder.path())).unwrap();
        Self { namespace, folder, run, daemon: None, environment: Vec::new() }
    }

    /// Daemons have this in their environment from now on.
    pub(crate) fn set(&mut self, variable: &str, value: PathBuf) {
        self.environment.push((variable.to_owned(), value));
    }

    /// Starts the daemon; one that was killed before has left its folders.
    pub(crate) fn start_daemon(&mut self) {
        let log = File::options().create(true).append(true).open(self.daemon_log()).unwrap();
        let mut command = self.inside(env!("CARGO_BIN_EXE_monopod"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("host").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.spawn().expect("the daemon can be started"));
        self.wait_for("the daemon answers", |machine| {
            let answer = machine.monopod(&["ps"]);
            if answer.code == 0 { Ok(()) } else { Err(format!("{}\n{}", answer.stderr, machine.daemon_words())) }
        });
    }

    /// Ends the daemon as a crash would.
    pub(crate) fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// What the daemon has logged.
    pub(crate) fn daemon_words(&self) -> String {
        std::fs::read_to_string(self.daemon_log()).unwrap_or_default()
    }

    fn daemon_log(&self) -> PathBuf {
        self.folder.path().join("host.log")
    }

    /// Folder for what outlives the daemon.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A program on the machine. Not by `ip netns exec`, which hides the control groups.
    pub(crate) fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace.name())).args(["--", program]);
        command.env("MONOPOD_ROOT", self.root()).env("MONOPOD_RUN", self.run.path()).env("NO_COLOR", "1");
        // So that every process of a VMM is a Pod's.
        command.env("MONOPOD_SPARES", "0");
        command
    }

    /// Runs `monopod` to its end.
    pub(crate) fn monopod(&self, arguments: &[&str]) -> Answer {
        answer(self.inside(env!("CARGO_BIN_EXE_monopod")).args(arguments).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs `monopod` to its end, with an input.
    pub(crate) fn monopod_with(&self, arguments: &[&str], input: &[u8]) -> Answer {
        let mut command = self.inside(env!("CARGO_BIN_EXE_monopod"));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A program that ends early does not read all of it.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        answer(output)
    }

    /// Runs `monopod`, which must succeed; what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let answer = self.monopod(arguments);
        assert_eq!(answer.code, 0, "monopod {arguments:?}: {}\n{}", answer.stderr, self.daemon_words());
        answer.stdout
    }

    /// Runs the Pod of a manifest to its end, from the image `busybox`.
    pub(crate) fn run(&self, manifest: &str) -> Answer {
        let image = self.image();
        self.monopod_with(&["run", "-", "--image-archive", &image], manifest.as_bytes())
    }

    /// Starts the Pod of a manifest, from the image `busybox`, and leaves it running.
    pub(crate) fn detached(&self, manifest: &str, more: &[&str]) {
        let image = self.image();
        let arguments = [&["run", "-", "--detach", "--image-archive", &image], more].concat();
        let answer = self.monopod_with(&arguments, manifest.as_bytes());
        assert_eq!(answer.code, 0, "{}\n{}", answer.stderr, self.daemon_words());
    }

    /// Path of an archive with the image `monopod.local/busybox:1`.
    fn image(&self) -> String {
        let path = self.folder.path().join("busybox.tar");
        if !path.exists() {
            let image: TestImage = images::busybox().unwrap();
            image.write_docker_archive(&path).unwrap();
        }
        path.to_str().unwrap().to_owned()
    }

    /// All there is to know of a Pod.
    pub(crate) fn inspect(&self, pod: &str) -> Value {
        serde_json::from_str(&self.ok(&["inspect", pod, "-o", "json"])).unwrap()
    }

    /// Runs a program in a container of a Pod, which must succeed; what it printed.
    pub(crate) fn exec(&self, pod: &str, command: &[&str]) -> String {
        self.ok(&[&["exec", pod, "--"], command].concat())
    }

    /// Waits until a condition holds, and returns what it found.
    pub(crate) fn wait_for<T>(&self, what: &str, condition: impl Fn(&Self) -> Result<T, String>) -> T {
        let started = Instant::now();
        loop {
            match condition(self) {
                Ok(found) => return found,
                Err(status) => {
                    assert!(started.elapsed() < PATIENCE, "waited in vain: {what}: {status}\n{}", self.daemon_words());
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a Pod has ended; its status then.
    pub(crate) fn wait_failed(&self, pod: &str) -> Value {
        self.wait_for("the Pod has failed", |machine| {
            let status = machine.inspect(pod)["pod"]["status"].clone();
            if status["phase"] == "Failed" { Ok(status) } else { Err(status.to_string()) }
        })
    }

    /// The daemon's process.
    pub(crate) fn daemon_process(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// What there is of Pods on this machine: processes, disks, folders, control groups.
    pub(crate) fn traces(&self) -> Vec<String> {
        let mut traces: Vec<_> = self.vm_processes().into_iter().map(|pid| format!("process {pid}")).collect();
        let root = self.root();
        let folders = ["scratch/pods", "pods", "logs/pods"].map(|folder| root.join(folder));
        let groups = ["cpu", "memory", "pids", "."]
            .map(|controller| Path::new("/sys/fs/cgroup").join(controller).join(self.run.path().file_name().unwrap()));
        for folder in folders.into_iter().chain([self.run.path().join("vms")]).chain(groups) {
            let entries = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
            let entries =
                entries.filter(|path| !folder.starts_with("/sys") && !folder.ends_with("vms") || path.is_dir());
            traces.extend(entries.map(|path| path.display().to_string()));
        }
        traces
    }

    /// Interfaces, routes and packet filter of the machine's network.
    pub(crate) fn network(&self) -> String {
        let show =
            |program: &str, arguments: &[&str]| answer(self.inside(program).args(arguments).output().unwrap()).stdout;
        [show("ip", &["-br", "link"]), show("ip", &["route"]), show("nft", &["list", "ruleset"])].concat()
    }

    /// Processes of microVMs of this machine.
    pub(crate) fn vm_processes(&self) -> Vec<u32> {
        // Each microVM lies below the control group that is named after the run folder.
        let mark = format!("/{}/", self.run.path().file_name().unwrap().to_str().unwrap());
        let processes =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let is_vm = |pid: &u32| {
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("cgroup").contains(&mark) && read("comm").starts_with("qemu")
        };
        processes.filter(is_vm).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.daemon.is_none() && !std::thread::panicking() {
            self.start_daemon();
        }
        if self.daemon.is_some() {
            for pod in self.monopod(&["ps", "--quiet"]).stdout.lines() {
                self.monopod(&["rm", "--force", pod]);
            }
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status();
            let asked = Instant::now();
            while matches!(daemon.try_wait(), Ok(None)) {
                if asked.elapsed() > Duration::from_secs(30) {
                    let _ = daemon.kill();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        // What a daemon that had to be killed could not end.
        for pid in self.vm_processes() {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
    }
}

fn answer(output: Output) -> Answer {
    Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A Pod with one container that runs a shell script, and more fields of its spec as YAML.
pub(crate) fn script_pod(name: &str, script: &str, more: &str) -> String {
    let script = serde_json::to_string(script).unwrap();
    let more: String = more.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n{more}  containers:\n  - name: main\n    image: monopod.local/busybox:1\n    command: [sh, -c, {script}]\n"
    )
}
