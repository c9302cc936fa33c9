//! A profile, a Deployment, and what kubectl shows of it.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use monopod_api::Host;
use monopod_testkit::cluster::HOST_STATUS_PORT;
use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage, on_stage};

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
      containers:
        - name: web
          image: monopod.local/agnhost:2.66.1
          args: [netexec, --http-port=8080]
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
"#;

#[tokio::test]
async fn cluster_a_deployment_runs_in_microvms_and_kubectl_does_not_notice() -> Result<()> {
    on_stage(1, async |stage| {
        let all = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
        stage.kubectl(&["apply", "-k", all, "--dry-run=server"]).await.context("the whole of deploy/ is taken")?;
        stage.apply(WEB).await?;
        stage.kubectl(&["rollout", "status", "-n", "shop", "deployment/web", PATIENCE]).await?;
        let nodes = stage.kubectl(&["get", "nodes", "-o", "wide"]).await?;
        ensure!(nodes.matches("fargate-ip-10-70-0-").count() == 2 && nodes.matches(" Ready ").count() == 2, "{nodes}");
        let pods = stage.get(&["pods", "-n", "shop"]).await?;
        let (metadata, spec) = (&pods["items"][0]["metadata"], &pods["items"][0]["spec"]);
        ensure!(metadata["labels"]["eks.amazonaws.com/fargate-profile"] == "shop", "{metadata}");
        ensure!(metadata["annotations"]["CapacityProvisioned"] == "0.25vCPU 0.5GB", "{metadata}");
        ensure!(spec["schedulerName"] == "fargate-scheduler" && spec["priority"] == 2_000_001_000, "{spec}");
        let conditions = pods["items"][0]["status"]["conditions"].as_array().context("a Pod has conditions")?;
        let is_stale = |one: &&Value| one["status"] == "True" && one["reason"] == "ContainersNotReady";
        ensure!(
            !conditions.iter().any(|one| is_stale(&one)),
            "no condition keeps a reason that is past: {conditions:?}"
        );
        let name = metadata["name"].as_str().unwrap();
        let writes = stage.writes_about(name, spec["nodeName"].as_str().unwrap())?;
        let count = |what: &str| writes.iter().filter(|write| write.starts_with(what)).count();
        // Two where the start is quick; a slow one is told once more.
        ensure!((1..=3).contains(&count("patch pods/status")), "the Pod's status is told seldom: {writes:#?}");
        for once in ["patch pods/ ", "create nodes/ ", "create pods/binding ", "patch nodes/status "] {
            ensure!(count(once) == 1, "{once} is written once: {writes:#?}");
        }
        let logs = stage.kubectl(&["logs", "-n", "shop", name]).await?;
        ensure!(logs.contains("Started HTTP server on port 8080"), "{logs}");
        let said = stage
            .kubectl(&[
                "exec",
                "-n",
                "shop",
                name,
                "--",
                "sh",
                "-c",
                "echo $KUBERNETES_SERVICE_HOST; ls /var/run/secrets/kubernetes.io/serviceaccount",
            ])
            .await?;
        ensure!(said.starts_with("10.96.0.1\n") && said.contains("token") && said.contains("ca.crt"), "{said}");
        let events = stage.kubectl(&["events", "-n", "shop", "--for", &format!("pod/{name}")]).await?;
        for reason in ["Scheduled", "Pulling", "Pulled", "Created", "Started"] {
            ensure!(events.contains(reason), "{reason}: {events}");
        }
        stages_are_told(stage, name).await?;
        a_host_speaks_for_itself_only(stage).await?;
        stage.kubectl(&["delete", "-n", "shop", "deployment/web"]).await?;
        stage.wait_nothing_left().await
    })
    .await
}

/// The stages of a start are conditions with times, one event, and figures for Prometheus.
async fn stages_are_told(stage: &Stage<'_>, pod: &str) -> Result<()> {
    let described = stage.kubectl(&["describe", "pod", "-n", "shop", pod]).await?;
    let stages =
        ["admitted", "sized", "placed", "image", "network", "vm", "agent", "volumes", "init", "started", "ready"];
    for name in stages {
        ensure!(described.contains(&format!("start.monopod.dev/{name} ")), "{name}: {described}");
    }
    ensure!(described.matches("MicroVMReady").count() == 1, "{described}");
    let status = std::net::SocketAddr::from((stage.hosts[0].address(), HOST_STATUS_PORT));
    let (_, figures) = stage.cluster.page(status, "/metrics").await?;
    for name in stages {
        ensure!(figures.contains(&format!("monopod_host_start_stage_seconds_count{{stage=\"{name}\"}} ")), "{figures}");
    }
    ensure!(figures.contains("monopod_host_pods_running 2\n"), "{figures}");
    let free = ["get", "hosts", "-o", "jsonpath={.items[*].status.free.cpu}"];
    stage.wait_printed("the host says what is free", &free, |text| text == "7500m").await;
    Ok(())
}

/// A machine that was stolen cannot write for another, nor give itself addresses.
async fn a_host_speaks_for_itself_only(stage: &Stage<'_>) -> Result<()> {
    let own = stage.hosts[0].name();
    let client = async |name: &str| stage.cluster.client_of(&format!("monopod:host:{name}"), &["monopod:hosts"]).await;
    let (itself, other) = (client(own).await?, client("host-9").await?);
    let params = PatchParams::default();
    let status = async |client: &Client, status: Value| {
        let patch = Patch::Merge(json!({ "status": status }));
        Api::<Host>::all(client.clone()).patch_status(own, &params, &patch).await.map(drop)
    };
    status(&itself, json!({"guestKernel": "6.12"})).await.context("it may write its own")?;
    let block = json!({"subnet": "private-b", "cidr": "10.71.0.0/24", "free": 9});
    let beat = Patch::Merge(json!({"spec": {"holderIdentity": "x"}}));
    let leases = Api::<Lease>::namespaced(other.clone(), "monopod-hosts");
    for (refused, why) in [
        (status(&other, json!({"address": "192.0.2.9"})).await, "a host writes its own object only"),
        (
            status(&itself, json!({"addressBlocks": [block]})).await,
            "status.addressBlocks is written by the controller only",
        ),
        (leases.patch(own, &params, &beat).await.map(drop), "a host renews its own heartbeat only"),
    ] {
        let words = refused.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(words.contains(why), "{why}: {words}");
    }
    Ok(())
}
