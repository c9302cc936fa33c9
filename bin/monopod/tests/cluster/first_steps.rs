//! A profile, a Deployment, and what kubectl shows of it.

use anyhow::{Context as _, Result, ensure};

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
        stage.kubectl(&["delete", "-n", "shop", "deployment/web"]).await?;
        stage
            .wait_printed("no Pod and no Node is left", &["get", "pods,nodes", "-A", "-o", "name"], str::is_empty)
            .await;
        Ok(())
    })
    .await
}
