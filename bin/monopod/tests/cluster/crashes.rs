//! Daemons that are killed at every stage of a Pod's start and end: the Pod runs once, and nothing is left of it.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::stage::{CONTROLLER, PATIENCE, Stage, on_stage};

/// Where the controller is killed while it places a Pod.
const PLACING: [&str; 4] = ["decided", "labelled", "node-made", "bound"];
/// Where the host's daemon is killed while it starts one.
const STARTING: [&str; 11] =
    ["identified", "read", "admitted", "image", "network", "vm", "agent", "volumes", "created", "started", "told"];
/// Where it is killed while it ends one.
const ENDING: [&str; 2] = ["ended", "removed"];

fn manifest(name: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: main, image: "monopod.local/agnhost:2.66.1", args: [pause]}}]
"#
    )
}

/// Waits until a Pod runs; its node and container, which must be its first.
async fn running(stage: &Stage<'_>, name: &str) -> Result<(String, String)> {
    stage.kubectl(&["wait", "-n", "shop", &format!("pod/{name}"), "--for=condition=Ready", PATIENCE]).await?;
    let pod = stage.get(&["pod", "-n", "shop", name]).await?;
    let container = &pod["status"]["containerStatuses"][0];
    // An instance that was made and never started is made anew, which counts.
    let is_first = container["restartCount"] == 0 || name == "created";
    ensure!(is_first && container["lastState"] == json!({}), "the container of {name} was started once: {container}");
    let text = |value: &Value| value.as_str().map(str::to_owned).context("it is text");
    Ok((text(&pod["spec"]["nodeName"])?, text(&container["containerID"])?))
}

/// Exactly one microVM and Node belong to the Pods of these names, and each is known to the host once.
async fn ensure_once(stage: &Stage<'_>, names: &[&str]) -> Result<()> {
    let nodes = stage.kubectl(&["get", "nodes", "-o", "name"]).await?;
    ensure!(nodes.lines().count() == names.len(), "each Pod has one Node: {nodes}");
    let mut pods = stage.pods_of_hosts()?;
    pods.sort();
    let wanted: Vec<String> = names.iter().map(|name| format!("shop/{name}")).collect();
    ensure!(pods == wanted, "the host has each Pod once: {pods:?}");
    Ok(())
}

#[tokio::test]
async fn cluster_a_controller_that_is_killed_at_any_write_places_each_pod_once() -> Result<()> {
    on_stage(1, async |stage| {
        for point in PLACING {
            stage.start_doomed_controller(&format!("controller/{point}"))?;
            stage.wait_webhooks().await;
            stage.apply(&manifest(point)).await?;
            stage.wait_controller_dead().await.with_context(|| point.to_owned())?;
            stage.start_controller(CONTROLLER)?;
            running(stage, point).await.with_context(|| point.to_owned())?;
            ensure_once(stage, &[point]).await?;
            stage.kubectl(&["delete", "pod", "-n", "shop", point]).await?;
            stage.wait_nothing_left().await?;
        }
        // The last one is killed when a Pod is gone, before its Node is.
        stage.apply(&manifest("gone")).await?;
        running(stage, "gone").await?;
        stage.start_doomed_controller("controller/orphan-found")?;
        stage.kubectl(&["delete", "pod", "-n", "shop", "gone"]).await?;
        stage.wait_controller_dead().await?;
        stage.start_controller(CONTROLLER)?;
        stage.wait_nothing_left().await
    })
    .await
}

#[tokio::test]
async fn cluster_a_host_daemon_that_is_killed_at_any_stage_runs_each_pod_once() -> Result<()> {
    on_stage(1, async |stage| {
        for point in STARTING {
            stage.hosts[0].kill_daemon()?;
            stage.start_doomed_daemon(0, &format!("host/{point}"))?;
            stage.apply(&manifest(point)).await?;
            stage.wait_daemon_dead(0).await.with_context(|| point.to_owned())?;
            stage.restart_daemon(0)?;
            let before = running(stage, point).await.with_context(|| point.to_owned())?;
            ensure_once(stage, &[point]).await?;
            stage.kubectl(&["delete", "pod", "-n", "shop", point]).await?;
            stage.wait_nothing_left().await.with_context(|| format!("{point}: {before:?}"))?;
        }
        for point in ENDING {
            stage.apply(&manifest(point)).await?;
            running(stage, point).await?;
            stage.hosts[0].kill_daemon()?;
            stage.start_doomed_daemon(0, &format!("host/{point}"))?;
            stage.kubectl(&["delete", "pod", "-n", "shop", point, "--wait=false"]).await?;
            stage.wait_daemon_dead(0).await.with_context(|| point.to_owned())?;
            stage.restart_daemon(0)?;
            stage.wait_nothing_left().await.with_context(|| point.to_owned())?;
        }
        Ok(())
    })
    .await
}
