//! What breaks, and what must not.

use anyhow::{Context as _, Result, ensure};
use monopod_testkit::cluster::Part;

use crate::stage::{PATIENCE, on_stage};

const WEB: &str = r#"
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
          livenessProbe: {exec: {command: [test, "!", -e, /tmp/sick]}, periodSeconds: 1, failureThreshold: 1}
"#;

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
        stage
            .wait_printed("no Pod and no Node is left", &["get", "pods,nodes", "-A", "-o", "name"], str::is_empty)
            .await;
        ensure!(stage.pods_of_hosts()?.is_empty(), "the host has Pods left: {:?}", stage.pods_of_hosts()?);
        Ok(())
    })
    .await
}
