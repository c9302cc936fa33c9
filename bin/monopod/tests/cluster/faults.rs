//! What breaks, and what must not.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use monopod_testkit::cluster::Part;
use monopod_testkit::wait::wait_for;
use serde_json::Value;

use crate::stage::{PATIENCE, Stage, WEB, on_stage, on_stage_with};

#[tokio::test]
async fn cluster_killed_daemons_and_an_absent_api_server_stop_no_pod() -> Result<()> {
    on_stage(1, async |stage| {
        stage.apply(WEB).await?;
        stage.web_rolled_out().await?;
        let before = stage.web_containers().await?;
        let first = before[0].split(' ').next().context("a Pod has a name")?.to_owned();

        // The host daemon is killed; a Pod is deleted while it is away.
        stage.hosts[0].kill_daemon()?;
        stage.kubectl(&["delete", "pod", "-n", "shop", &first, "--wait=false"]).await?;
        stage.restart_daemon(0)?;
        stage.kubectl(&["wait", "-n", "shop", &format!("pod/{first}"), "--for=delete", PATIENCE]).await?;
        stage.web_rolled_out().await?;
        let after = stage.web_containers().await?;
        ensure!(after.contains(&before[1]), "the other Pod has run on: {before:?} {after:?}");

        // The controller is killed; what was asked meanwhile happens when there is one again.
        stage.kill_controller()?;
        stage.kubectl(&["scale", "-n", "shop", "deployment/web", "--replicas=3"]).await?;
        stage.start_controller("two")?;
        // While no webhook answered, Pods passed as ordinary ones, which nobody runs here.
        stage
            .kubectl(&[
                "delete",
                "pods",
                "-n",
                "shop",
                "--field-selector=spec.schedulerName=default-scheduler",
                "--wait=false",
            ])
            .await?;
        stage.web_rolled_out().await?;
        let scaled = stage.web_containers().await?;
        ensure!(scaled.len() == 3 && after.iter().all(|one| scaled.contains(one)), "{after:?} {scaled:?}");

        // The API server goes away; a container is restarted meanwhile, which is told when it is back.
        let name = scaled[0].split(' ').next().context("a Pod has a name")?.to_owned();
        stage.cluster.kill(Part::ApiServer)?;
        let sick = stage.hosts[0].monopod(&["exec", &format!("shop/{name}"), "--", "touch", "/tmp/sick"]).output()?;
        ensure!(sick.status.success(), "{}", String::from_utf8_lossy(&sick.stderr));
        stage.cluster.kill(Part::Etcd)?;
        stage.cluster.spawn(Part::Etcd)?;
        stage.cluster.spawn(Part::ApiServer)?;
        stage.cluster.wait_ready().await?;
        let restarts =
            ["get", "pod", &name, "-n", "shop", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"];
        stage.wait_printed("the restart is told", &restarts, |text| text == "1").await;
        let settled = stage.web_containers().await?;
        ensure!(scaled[1..].iter().all(|one| settled.contains(one)), "the others have run on: {scaled:?} {settled:?}");
        let addresses =
            stage.kubectl(&["get", "pods", "-n", "shop", "-o", "jsonpath={.items[*].status.podIP}"]).await?;
        let mut unique: Vec<&str> = addresses.split(' ').collect();
        unique.sort_unstable();
        unique.dedup();
        ensure!(unique.len() == 3, "no address is given twice: {addresses}");

        stage.kubectl(&["delete", "-n", "shop", "deployment/web"]).await?;
        stage.wait_nothing_left().await
    })
    .await
}

/// Pods that leave a node soon after nobody hears of it.
const STATELESS: &str = r#"
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
      tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}]
      containers: [{name: web, image: "monopod.local/agnhost:2.66.1", args: [pause]}]
"#;

/// The same, of which there is never a second one.
const STATEFUL: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}]
      containers: [{name: db, image: "monopod.local/agnhost:2.66.1", args: [pause]}]
"#;

/// How long Kubernetes may take to remove Pods of a Node that is gone.
const QUARANTINE: Duration = Duration::from_secs(240);

/// Where a Pod is.
fn host_of(pod: &Value) -> &str {
    pod["metadata"]["labels"]["monopod.dev/host"].as_str().unwrap_or_default()
}

/// Pods of the Deployment that nobody wants to end, on a host.
async fn staying_on(stage: &Stage<'_>, host: &str) -> Result<usize> {
    let pods = stage.get(&["pods", "-n", "shop", "-l", "app=web"]).await?;
    let pods = pods["items"].as_array().context("a list has items")?;
    let staying = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null() && host_of(pod) == host);
    Ok(staying.count())
}

#[tokio::test]
async fn cluster_a_lost_host_loses_its_pods_to_another_and_none_runs_twice() -> Result<()> {
    let impatient = (Part::ControllerManager, "--node-monitor-grace-period=25s".to_owned());
    on_stage_with(vec![impatient], 2, async |stage| {
        // One after the other: the Pods of a profile are spread over zones, whosever they are.
        stage.apply(STATELESS).await?;
        stage.web_rolled_out().await?;
        stage.apply(STATEFUL).await?;
        stage.kubectl(&["rollout", "status", "-n", "shop", "statefulset/db", PATIENCE]).await?;
        let db = stage.get(&["pod", "-n", "shop", "db-0"]).await?;
        let lost = stage.hosts.iter().position(|host| host.name() == host_of(&db)).context("db-0 is on a host")?;
        let (name, other) = (stage.hosts[lost].name().to_owned(), stage.hosts[1 - lost].name().to_owned());
        ensure!(staying_on(stage, &name).await? == 1, "a profile's Pods are spread over zones");

        stage.hosts[lost].lose_power();
        stage.kubectl(&["wait", &format!("host/{name}"), "--for=condition=Ready=Unknown", PATIENCE]).await?;
        wait_for("the other host has the Deployment", async || match staying_on(stage, &other).await {
            Ok(2) => stage.web_rolled_out().await.map_err(|error| format!("{error:#}")),
            counted => Err(format!("{counted:?}")),
        })
        .await;
        // Nobody knows yet whether it still runs, so there must be no second one.
        let deleted = "--for=jsonpath={.metadata.deletionTimestamp}";
        stage.kubectl(&["wait", "-n", "shop", "pod/db-0", deleted, PATIENCE]).await?;
        let same = stage.get(&["pod", "-n", "shop", "db-0"]).await?;
        ensure!(same["metadata"]["uid"] == db["metadata"]["uid"], "{same}");

        // Somebody says that the machine is gone for good.
        stage.kubectl(&["delete", "host", &name]).await?;
        let place = ["get", "pod", "-n", "shop", "db-0", "-o", "jsonpath={.metadata.labels.monopod\\.dev/host}"];
        // Kubernetes removes Pods of a Node that is gone after 40 to 80 seconds.
        stage.wait_long("the StatefulSet's Pod is on the other host", &place, QUARANTINE, |host| host == other).await?;
        stage.kubectl(&["rollout", "status", "-n", "shop", "statefulset/db", PATIENCE]).await?;

        // It was not, and comes back: nothing of what it had goes on.
        stage.restart_daemon(lost)?;
        stage.kubectl(&["wait", &format!("host/{name}"), "--for=create", PATIENCE]).await?;
        wait_for("the host has no Pods any more", async || {
            let shown = stage.hosts[lost].monopod(&["ps", "--quiet"]).output();
            let shown = shown.map_err(|error| error.to_string())?;
            if shown.status.success() && shown.stdout.is_empty() { Ok(()) } else { Err(format!("{shown:?}")) }
        })
        .await;
        stage.kubectl(&["delete", "-n", "shop", "deployment/web", "statefulset/db"]).await?;
        stage.wait_nothing_left().await
    })
    .await
}
