//! A daemon to be measured, in a network namespace and folders of its own, and the Pods that it starts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use monopod_e2e::client::{Client, Run, pod_name};
use monopod_host_proto::v1::{self as proto, pod_event::Kind};
use monopod_testkit::images;
use monopod_testkit::netns::Namespace;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The daemon proves its accelerator by running a guest.
const READY_LIMIT: Duration = Duration::from_secs(180);
/// How long a start may take, others beside it, without KVM.
const START_LIMIT: Duration = Duration::from_secs(600);
/// How long the daemon may take to end.
const END_LIMIT: Duration = Duration::from_secs(60);

/// How the daemon makes its microVMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Boot,
    Template,
    Spare,
}

/// A daemon with what it needs. Dropping it ends its Pods and itself, and removes the rest.
#[derive(Debug)]
pub(crate) struct Place {
    program: PathBuf,
    way: Way,
    daemon: Option<Child>,
    client: Option<Client>,
    namespace: Namespace,
    folder: TempDir,
    run: TempDir,
}

/// How a start went.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// From the request until the news that all containers have started.
    pub(crate) total: Duration,
    /// The steps, as the daemon tells them.
    pub(crate) stages: Vec<(String, Duration)>,
    /// CPU time of the daemon in between.
    pub(crate) daemon_cpu: Duration,
}

impl Start {
    /// How long a step took; none where there was none of this name.
    pub(crate) fn stage(&self, name: &str) -> Option<Duration> {
        self.stages.iter().find(|(stage, _)| stage == name).map(|(_, took)| *took)
    }
}

/// A Pod that does nothing, of a size.
pub(crate) fn idle_pod(name: &str, cpu: &str, memory: &str) -> Value {
    let size = json!({"cpu": cpu, "memory": memory});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": "monopod.local/busybox:1", "command": ["sleep", "86400"],
                "resources": {"requests": size, "limits": size},
            }],
        },
    })
}

/// Starts a Pod by a client of one's own; how long it took until its containers had started.
pub(crate) async fn start_by(client: Client, pod: Value) -> Result<Duration> {
    let begun = Instant::now();
    tokio::time::timeout(START_LIMIT, until_started(&client, pod)).await.context("a Pod did not start in time")??;
    Ok(begun.elapsed())
}

/// Starts a Pod and waits until its containers have started; the steps until then.
async fn until_started(client: &Client, pod: Value) -> Result<Vec<(String, Duration)>> {
    let mut news = client.run(Run { pod, ..Run::default() }).await.context("the Pod was refused")?;
    let mut stages = Vec::new();
    while let Some(event) = news.message().await? {
        match event.kind {
            Some(Kind::Stage(stage)) => {
                let is_last = stage.name == "started";
                stages.push((stage.name, Duration::from_nanos(stage.nanoseconds)));
                if is_last {
                    return Ok(stages);
                }
            }
            Some(Kind::Finished(finished)) => bail!("the Pod has ended: {finished:?}"),
            Some(Kind::Admitted(_) | Kind::Pull(_) | Kind::Event(_) | Kind::Status(_) | Kind::Published(_)) | None => {}
        }
    }
    bail!("the daemon hung up")
}

impl Place {
    /// Starts the daemon and gives it the image.
    pub(crate) async fn new(program: &Path, way: Way) -> Result<Self> {
        let namespace = Namespace::new().context("a benchmark needs root")?;
        let folder = tempfile::tempdir()?;
        let run = tempfile::Builder::new().prefix("monopod-bench-").tempdir_in("/run")?;
        let mut place = Self { program: program.to_owned(), way, daemon: None, client: None, namespace, folder, run };
        let log = File::create(place.log())?;
        let mut command = place.monopod(&["host"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        place.daemon = Some(command.spawn().context("failed to start the daemon")?);
        let client = place.connected().await?;
        let archive = place.folder.path().join("busybox.tar");
        images::busybox()?.write_docker_archive(&archive)?;
        let request = proto::LoadImagesRequest { path: archive.display().to_string() };
        client.calls.clone().load_images(request).await.context("failed to load the image")?;
        place.client = Some(client);
        Ok(place)
    }

    async fn connected(&mut self) -> Result<Client> {
        let since = Instant::now();
        loop {
            if let Ok(client) = Client::connect(self.run.path()).await
                && client.calls.clone().info(proto::InfoRequest {}).await.is_ok()
            {
                return Ok(client);
            }
            let ended = self.daemon.as_mut().is_none_or(|daemon| !matches!(daemon.try_wait(), Ok(None)));
            if ended || since.elapsed() > READY_LIMIT {
                bail!("the host daemon did not start; it said:\n{}", fs::read_to_string(self.log())?);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("host.log")
    }

    /// `monopod` in the namespace. Not by `ip netns exec`, which hides the control groups.
    fn monopod(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace.name())).arg("--").arg(&self.program).args(arguments);
        command.env("MONOPOD_ROOT", self.folder.path().join("root")).env("MONOPOD_RUN", self.run.path());
        command.env("MONOPOD_SPARES", if self.way == Way::Spare { "1" } else { "0" });
        if self.way == Way::Boot {
            command.env("MONOPOD_NO_TEMPLATES", "true");
        }
        command
    }

    pub(crate) fn client(&self) -> Result<&Client> {
        self.client.as_ref().context("the daemon is connected to")
    }

    /// What the daemon says of itself.
    pub(crate) async fn info(&self) -> Result<proto::InfoResponse> {
        Ok(self.client()?.calls.clone().info(proto::InfoRequest {}).await?.into_inner())
    }

    /// Starts a Pod and waits until its containers have started.
    pub(crate) async fn start(&self, pod: Value) -> Result<Start> {
        let (cpu, begun) = (self.daemon_cpu()?, Instant::now());
        let started = tokio::time::timeout(START_LIMIT, until_started(self.client()?, pod)).await;
        let said = || fs::read_to_string(self.log()).unwrap_or_default();
        let stages = started.with_context(|| format!("a Pod did not start in time; the daemon said:\n{}", said()))?;
        let stages = stages.with_context(|| format!("a Pod did not start; the daemon said:\n{}", said()))?;
        Ok(Start { total: begun.elapsed(), stages, daemon_cpu: self.daemon_cpu()?.saturating_sub(cpu) })
    }

    /// Ends a Pod at once; nothing is left of it.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        let request = proto::RemovePodRequest { pod: Some(pod_name(name)), force: true };
        self.client()?.calls.clone().remove_pod(request).await?;
        Ok(())
    }

    /// CPU time that the daemon has used so far.
    fn daemon_cpu(&self) -> Result<Duration> {
        let pid = self.daemon.as_ref().context("the daemon runs")?.id();
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end in between.
            let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            nanoseconds += text.split_whitespace().next().and_then(|used| used.parse().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Waits until nothing but what waits for Pods to come is left of microVMs.
    pub(crate) async fn settled(&self) -> Result<()> {
        let expected = usize::from(self.way == Way::Spare);
        let since = Instant::now();
        while self.vm_processes().len() != expected {
            ensure!(since.elapsed() < END_LIMIT, "{:?} are left of the microVMs", self.vm_processes());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The processes of its microVMs: each lies below the control group that is named after the run folder.
    fn vm_processes(&self) -> Vec<u32> {
        let mark = self.run.path().file_name().map(|name| format!("/{}/", name.display())).unwrap_or_default();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let is_vm = |pid: &u32| {
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("cgroup").contains(&mark) && read("comm").starts_with("qemu")
        };
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_vm).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let pods = self.monopod(&["ps", "--quiet"]).output().map(|output| output.stdout).unwrap_or_default();
        for pod in String::from_utf8_lossy(&pods).lines() {
            let _ = self.monopod(&["rm", "--force", pod]).output();
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status();
            let asked = Instant::now();
            while matches!(daemon.try_wait(), Ok(None)) {
                if asked.elapsed() > END_LIMIT {
                    println!("the daemon did not end in time and is killed");
                    let _ = daemon.kill();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        // What a daemon that had to be killed could not end.
        for pid in self.vm_processes() {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
        // The daemon leaves the group of all its microVMs, which is empty now.
        let group = self.run.path().file_name().unwrap_or_default();
        for controller in ["cpu", "memory", "."] {
            let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(controller).join(group));
        }
    }
}
