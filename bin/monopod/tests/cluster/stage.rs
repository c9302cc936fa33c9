//! A cluster with Monopod on it, for a test.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use monopod_testkit::cluster::{
    CONTROLLER_STATUS, Capacity, Cluster, HostMachine, ImageServer, Options, Part, Process, with_cluster,
};
use monopod_testkit::wait::wait_for;
use nix::sys::signal::Signal;
use serde_json::Value;

/// How long anything here may take; generous, for slow machines without KVM.
pub(crate) const PATIENCE: &str = "--timeout=180s";

/// The program under test.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_monopod"))
}

/// What there must be before controllers and hosts start.
pub(crate) fn deploy() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/base"))
}

/// The identity of the controller. One that has the identity of the last need not wait until its Lease expires.
pub(crate) const CONTROLLER: &str = "one";
/// Names the place at which a daemon is to die.
const FAULT_POINT: &str = "MONOPOD_FAULT_POINT";
/// How long a daemon may take until it has come to the place at which it dies.
const LIMIT: Duration = Duration::from_secs(120);

fn expect_killed(status: &std::process::ExitStatus) -> Result<()> {
    anyhow::ensure!(status.signal() == Some(Signal::SIGKILL as i32), "it was not killed at its place: {status}");
    Ok(())
}

/// A cluster with a controller and hosts. Hosts go before what they run on.
pub(crate) struct Stage<'a> {
    pub(crate) hosts: Vec<HostMachine>,
    controller: Option<Process>,
    pub(crate) images: ImageServer,
    pub(crate) cluster: &'a mut Cluster,
}

/// Two subnets in two zones, and a profile that takes the namespaces `shop` and `kube-system`.
pub(crate) const OBJECTS: &str = r#"
apiVersion: monopod.dev/v1
kind: Subnet
metadata: {name: private-a}
spec: {cidr: 10.70.0.0/24, zone: zone-a, private: true, natGateway: true}
---
apiVersion: monopod.dev/v1
kind: Subnet
metadata: {name: private-b}
spec: {cidr: 10.71.0.0/24, zone: zone-b, private: true, natGateway: true}
---
apiVersion: monopod.dev/v1
kind: FargateProfile
metadata: {name: shop}
spec: {selectors: [{namespace: shop}, {namespace: kube-system}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
"#;

/// Two Pods that are ready while they serve, and restarted once there is a file `/tmp/sick` in them.
pub(crate) const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: monopod.local/agnhost:2.66.1
          args: [netexec, --http-port=8080]
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
          livenessProbe: {exec: {command: [test, "!", -e, /tmp/sick]}, periodSeconds: 1, failureThreshold: 1}
"#;

/// Runs a test on a cluster with so many hosts, in zones in turn. What all parts said last is told when it fails.
pub(crate) async fn on_stage(hosts: u8, test: impl AsyncFnOnce(&mut Stage<'_>) -> Result<()>) -> Result<()> {
    on_stage_with(Vec::new(), hosts, test).await
}

/// The same with further arguments for parts of the control plane.
pub(crate) async fn on_stage_with(
    arguments: Vec<(Part, String)>,
    hosts: u8,
    test: impl AsyncFnOnce(&mut Stage<'_>) -> Result<()>,
) -> Result<()> {
    with_cluster(Options { audit: true, arguments, ..Options::default() }, async |cluster| {
        cluster.install_monopod(deploy()).await?;
        let images = cluster.serve_images().await?;
        let controller = cluster.start_controller(program(), CONTROLLER)?;
        cluster.kubectl_with(&["apply", "-f", "-"], OBJECTS).await?;
        let mut machines = Vec::new();
        for number in 0..hosts {
            let zone = if number % 2 == 0 { "zone-a" } else { "zone-b" };
            let host = cluster.start_host(program(), number + 2, zone, &images, Capacity::default())?;
            machines.push(host);
        }
        cluster.kubectl(&["wait", "fargateprofile/shop", "--for=jsonpath={.status.phase}=ACTIVE", PATIENCE]).await?;
        let mut stage = Stage { hosts: machines, controller: Some(controller), images, cluster };
        stage.wait_hosts().await?;
        test(&mut stage).await
    })
    .await
}

impl Stage<'_> {
    /// Starts a further host, which keeps everything in a folder.
    pub(crate) async fn add_host(&mut self, number: u8, zone: &str, folder: PathBuf) -> Result<()> {
        let (cluster, capacity) = (&self.cluster, Capacity::default());
        let host = cluster.start_host_in(program(), number, zone, &self.images, capacity, Some(folder))?;
        self.hosts.push(host);
        self.wait_hosts().await
    }

    /// Kills the controller and starts another one with variables for its environment.
    pub(crate) fn restart_controller_with(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        self.kill_controller()?;
        self.controller = Some(self.cluster.start_controller_with(program(), CONTROLLER, environment)?);
        Ok(())
    }

    /// What the controller said last.
    pub(crate) fn words_of_controller(&self) -> String {
        self.controller.as_ref().map(Process::last_words).unwrap_or_default()
    }

    /// Waits until all hosts have addresses and are ready.
    async fn wait_hosts(&mut self) -> Result<()> {
        let names: Vec<String> = self.hosts.iter().map(|host| format!("host/{}", host.name())).collect();
        for name in &names {
            let created = ["wait", name, "--for=create", PATIENCE];
            self.kubectl(&created).await.context("hosts register")?;
            self.kubectl(&["wait", name, "--for=condition=Ready", PATIENCE]).await.context("hosts are ready")?;
            self.kubectl(&["wait", name, "--for=jsonpath={.status.addressBlocks}", PATIENCE]).await?;
        }
        Ok(())
    }

    /// Kills the controller.
    pub(crate) fn kill_controller(&mut self) -> Result<()> {
        self.controller.take().map_or(Ok(()), |controller| controller.signal(Signal::SIGKILL))
    }

    /// Starts another controller.
    pub(crate) fn start_controller(&mut self, identity: &str) -> Result<()> {
        self.controller = Some(self.cluster.start_controller(program(), identity)?);
        Ok(())
    }

    /// Starts a controller that dies at a fault point.
    pub(crate) fn start_doomed_controller(&mut self, point: &str) -> Result<()> {
        self.restart_controller_with(&[(FAULT_POINT, point)])
    }

    /// Waits until the controller has died.
    pub(crate) async fn wait_controller_dead(&mut self) -> Result<()> {
        let mut controller = self.controller.take().context("a controller runs")?;
        expect_killed(&controller.wait(LIMIT).await?)
    }

    /// Starts the daemon of a host, to die at a fault point.
    pub(crate) fn start_doomed_daemon(&mut self, host: usize, point: &str) -> Result<()> {
        self.hosts[host].start_daemon_with(self.cluster, Capacity::default(), &[(FAULT_POINT, point)])
    }

    /// Waits until the daemon of a host has died.
    pub(crate) async fn wait_daemon_dead(&mut self, host: usize) -> Result<()> {
        let daemon = self.hosts[host].daemon().context("the daemon was started")?;
        expect_killed(&daemon.wait(LIMIT).await?)
    }

    /// Starts the daemon of a host again.
    pub(crate) fn restart_daemon(&mut self, host: usize) -> Result<()> {
        self.hosts[host].start_daemon(self.cluster, Capacity::default())
    }

    /// Gives Services to all hosts, and routes to their Pods to the control plane.
    pub(crate) async fn give_services(&mut self) -> Result<()> {
        for host in &mut self.hosts {
            host.give_services(self.cluster).await?;
            let object = self.cluster.kubectl(&["get", "host", host.name(), "-o", "json"]).await?;
            let object: Value = serde_json::from_str(&object)?;
            for block in object["status"]["addressBlocks"].as_array().context("a host has blocks")? {
                let range = block["cidr"].as_str().context("a block has a range")?.parse()?;
                self.cluster.route(range, host.address())?;
            }
        }
        Ok(())
    }

    /// What was written at the API server about a Pod, its node and the node's Lease, but for events: verb, kind and who.
    pub(crate) fn writes_about(&self, pod: &str, node: &str) -> Result<Vec<String>> {
        let log = std::fs::read_to_string(self.cluster.audit_log())?;
        let mut writes = Vec::new();
        for line in log.lines() {
            // The last line may be half written.
            let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (object, verb) = (&entry["objectRef"], text(&entry["verb"]));
            let is_about = object["name"] == pod || object["name"] == node;
            let is_write = matches!(&*verb, "create" | "update" | "patch" | "delete");
            if entry["stage"] == "ResponseComplete" && is_write && is_about && object["resource"] != "events" {
                let (kind, part) = (text(&object["resource"]), text(&object["subresource"]));
                writes.push(format!("{verb} {kind}/{part} by {}", text(&entry["user"]["username"])));
            }
        }
        Ok(writes)
    }

    /// Names of the Pods that the hosts' own command line knows.
    pub(crate) fn pods_of_hosts(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for host in &self.hosts {
            let output = host.monopod(&["ps", "--quiet"]).output()?;
            anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            names.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
        }
        Ok(names)
    }

    /// Runs kubectl, which must succeed; what it printed.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(arguments).await
    }

    /// Applies a manifest.
    pub(crate) async fn apply(&self, manifest: &str) -> Result<String> {
        self.cluster.kubectl_with(&["apply", "-f", "-"], manifest).await
    }

    /// An object as JSON.
    pub(crate) async fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "-o", "json"][..], arguments].concat()).await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The same for what takes Kubernetes itself long.
    pub(crate) async fn wait_long(
        &self,
        what: &str,
        arguments: &[&str],
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let begun = std::time::Instant::now();
        loop {
            let printed = self.kubectl(arguments).await;
            if printed.as_ref().is_ok_and(|text| wanted(text)) {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < limit, "waited in vain: {what}: {printed:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Waits until the Deployment `shop/web` is as it is to be.
    pub(crate) async fn web_rolled_out(&self) -> Result<()> {
        self.kubectl(&["rollout", "status", "-n", "shop", "deployment/web", PATIENCE]).await.map(drop)
    }

    /// Names, container ids and restarts of its Pods, in order.
    pub(crate) async fn web_containers(&self) -> Result<Vec<String>> {
        let columns = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{'\\n'}{end}";
        let printed = self.kubectl(&["get", "pods", "-n", "shop", "-l", "app=web", "-o", columns]).await?;
        let mut lines: Vec<String> = printed.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    }

    /// Waits until the webhooks answer.
    pub(crate) async fn wait_webhooks(&self) {
        wait_for("the webhooks answer", async || match self.cluster.page(CONTROLLER_STATUS.into(), "/readyz").await {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// Waits until nothing is left of any Pod: no Pod, no Node, nothing at the hosts.
    pub(crate) async fn wait_nothing_left(&self) -> Result<()> {
        let all = ["get", "pods,nodes", "-A", "-o", "name"];
        self.wait_printed("no Pod and no Node is left", &all, str::is_empty).await;
        wait_for("the hosts have no Pods", async || match self.pods_of_hosts() {
            Ok(pods) if pods.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        Ok(())
    }

    /// Waits until kubectl prints what is wanted.
    pub(crate) async fn wait_printed(&self, what: &str, arguments: &[&str], wanted: impl Fn(&str) -> bool) -> String {
        wait_for(what, async || match self.kubectl(arguments).await {
            Ok(text) if wanted(&text) => Ok(text),
            other => {
                // Each look starts a program.
                tokio::time::sleep(Duration::from_millis(200)).await;
                Err(format!("{other:?}"))
            }
        })
        .await
    }
}
