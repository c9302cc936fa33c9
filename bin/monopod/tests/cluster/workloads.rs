//! What controllers of Kubernetes do with Pods: Jobs, scaling, eviction, deletion.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::stage::{PATIENCE, Stage, on_stage};

const WORKLOADS: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: sum, namespace: shop}
spec:
  completions: 2
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: sum, image: "monopod.local/busybox:1", command: [sh, -c, "echo $((40 + 2))"]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: fails, namespace: shop}
spec:
  backoffLimit: 1
  template:
    spec:
      restartPolicy: Never
      containers: [{name: fails, image: "monopod.local/busybox:1", command: [sh, -c, "exit 3"]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: shop}
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec:
      ttlSecondsAfterFinished: 1
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{name: once, image: "monopod.local/busybox:1", command: ["true"]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: minutely, namespace: shop}
spec:
  schedule: "* * * * *"
  concurrencyPolicy: Forbid
  successfulJobsHistoryLimit: 1
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{name: once, image: "monopod.local/busybox:1", command: ["true"]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: rolled, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: rolled}}
  template:
    metadata: {labels: {app: rolled}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: "monopod.local/agnhost:2.66.1", args: [pause], env: [{name: VERSION, value: "1"}]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: many, namespace: shop}
spec:
  replicas: 0
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 2
      containers: [{name: main, image: "monopod.local/agnhost:2.66.1", args: [pause]}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: many, namespace: shop}
spec: {minAvailable: 19, selector: {matchLabels: {app: many}}}
"#;

/// Asks for the eviction of a Pod.
async fn evict(stage: &Stage<'_>, pod: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/shop/pods/{pod}/eviction");
    let metadata = json!({"name": pod, "namespace": "shop"});
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}).to_string();
    stage.cluster.kubectl_with(&["create", "--raw", &path, "-f", "-"], &eviction).await
}

#[tokio::test]
async fn cluster_jobs_end_deployments_scale_and_budgets_hold() -> Result<()> {
    on_stage(1, async |stage| {
        stage.apply(WORKLOADS).await?;
        stage.kubectl(&["wait", "-n", "shop", "job/sum", "--for=condition=Complete", PATIENCE]).await?;
        let logs = stage.kubectl(&["logs", "-n", "shop", "job/sum"]).await?;
        ensure!(logs.contains("42"), "the log of a Job that has ended: {logs}");
        stage.kubectl(&["wait", "-n", "shop", "job/fails", "--for=condition=Failed", PATIENCE]).await?;
        let failed = [
            "get",
            "pods",
            "-n",
            "shop",
            "-l",
            "job-name=fails",
            "-o",
            "jsonpath={.items[*].status.containerStatuses[0].state.terminated.exitCode}",
        ];
        let codes = stage.kubectl(&failed).await?;
        ensure!(codes == "3 3", "one attempt and one more: {codes}");
        stage.kubectl(&["create", "job", "-n", "shop", "tonight", "--from=cronjob/nightly"]).await?;
        let gone = ["get", "job", "tonight", "-n", "shop", "--ignore-not-found", "-o", "name"];
        stage.wait_printed("the job has ended and was removed", &gone, str::is_empty).await;

        rollouts(stage).await?;
        let scheduled = ["get", "cronjob", "minutely", "-n", "shop", "-o", "jsonpath={.status.lastSuccessfulTime}"];
        let is_time = |text: &str| !text.is_empty();
        stage.wait_long("a job ran by its schedule", &scheduled, Duration::from_secs(180), is_time).await?;
        stage.kubectl(&["delete", "cronjob", "-n", "shop", "minutely"]).await?;

        stage.kubectl(&["scale", "-n", "shop", "deployment/many", "--replicas=20"]).await?;
        stage.kubectl(&["rollout", "status", "-n", "shop", "deployment/many", PATIENCE]).await?;
        let names = stage
            .kubectl(&["get", "pods", "-n", "shop", "-l", "app=many", "-o", "jsonpath={.items[*].metadata.name}"])
            .await?;
        let names: Vec<&str> = names.split(' ').collect();
        evict(stage, names[0]).await?;
        let refused = evict(stage, names[1]).await;
        ensure!(refused.as_ref().is_err_and(|error| format!("{error:#}").contains("disruption budget")), "{refused:?}");
        stage.kubectl(&["wait", "-n", "shop", &format!("pod/{}", names[0]), "--for=delete", PATIENCE]).await?;
        stage.kubectl(&["rollout", "status", "-n", "shop", "deployment/many", PATIENCE]).await?;
        stage.kubectl(&["delete", "pod", "-n", "shop", names[2], "--force", "--grace-period=0"]).await?;
        stage.kubectl(&["rollout", "status", "-n", "shop", "deployment/many", PATIENCE]).await?;

        stage.kubectl(&["scale", "-n", "shop", "deployment/many", "--replicas=0"]).await?;
        stage.kubectl(&["delete", "job", "-n", "shop", "--all"]).await?;
        stage.wait_nothing_left().await
    })
    .await
}

/// A Deployment is changed, taken back and restarted.
async fn rollouts(stage: &Stage<'_>) -> Result<()> {
    let done = ["rollout", "status", "-n", "shop", "deployment/rolled", PATIENCE];
    let version = ["exec", "-n", "shop", "deployment/rolled", "--", "sh", "-c", "echo $VERSION"];
    stage.kubectl(&done).await?;
    stage.kubectl(&["set", "env", "-n", "shop", "deployment/rolled", "VERSION=2"]).await?;
    stage.kubectl(&done).await?;
    stage.wait_printed("the new version runs", &version, |text| text == "2\n").await;
    let history = stage.kubectl(&["rollout", "history", "-n", "shop", "deployment/rolled"]).await?;
    ensure!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    for change in ["undo", "restart"] {
        stage.kubectl(&["rollout", change, "-n", "shop", "deployment/rolled"]).await?;
        stage.kubectl(&done).await?;
        stage.wait_printed("the old version runs", &version, |text| text == "1\n").await;
    }
    stage.kubectl(&["delete", "deployment", "-n", "shop", "rolled"]).await?;
    Ok(())
}

const REFUSED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: privileged, namespace: shop}
spec: {containers: [{name: main, image: "monopod.local/busybox:1", securityContext: {privileged: true}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: waits, namespace: later}
spec:
  schedulerName: fargate-scheduler
  containers: [{name: main, image: "monopod.local/agnhost:2.66.1", args: [pause]}]
---
apiVersion: v1
kind: Pod
metadata: {name: huge, namespace: shop}
spec: {containers: [{name: main, image: "monopod.local/busybox:1", resources: {requests: {cpu: "16"}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere, namespace: default}
spec: {containers: [{name: main, image: "monopod.local/busybox:1"}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: shop}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {tolerations: [{operator: Exists}], containers: [{name: main, image: "monopod.local/busybox:1"}]}
"#;

const LATER: &str = r#"
apiVersion: monopod.dev/v1
kind: FargateProfile
metadata: {name: later}
spec: {selectors: [{namespace: later}]}
"#;

#[tokio::test]
async fn cluster_who_does_not_run_is_told_why_and_looked_at_again() -> Result<()> {
    on_stage(1, async |stage| {
        stage.kubectl(&["create", "namespace", "later"]).await?;
        stage.apply(REFUSED).await?;
        let said = |pod: &'static str, namespace: &'static str| ["events", "-n", namespace, "--for", pod];
        let text = "Pod not supported on Fargate: invalid SecurityContext fields: Privileged";
        stage.wait_printed("the privileged Pod is told why", &said("pod/privileged", "shop"), |all| all.contains(text)).await;
        let condition = ["get", "pod", "privileged", "-n", "shop", "-o", "jsonpath={.status.conditions[?(@.type=='PodScheduled')].reason}"];
        stage.wait_printed("its condition has the reason", &condition, |all| all == "POD_UNSUPPORTED_ON_FARGATE").await;
        let text = "Fargate capacity is unavailable at this time.";
        stage.wait_printed("the host is too small", &said("pod/huge", "shop"), |all| all.contains(text)).await;
        let rejected = ["get", "fargateprofile", "shop", "-o", "jsonpath={.status.rejected} {.status.lastRejections[0].pod}"];
        stage.wait_printed("the profile counts it", &rejected, |all| all == "1 privileged").await;

        // A Pod that waits for a profile is taken when one comes.
        let text = "no profile takes the Pod";
        stage.wait_printed("no profile takes it yet", &said("pod/waits", "later"), |all| all.contains(text)).await;
        stage.apply(LATER).await?;
        stage.kubectl(&["wait", "-n", "later", "pod/waits", "--for=condition=Ready", PATIENCE]).await?;
        // A profile takes its Pods along.
        stage.kubectl(&["delete", "fargateprofile", "later", PATIENCE]).await?;
        let left = stage.kubectl(&["get", "pods", "-n", "later", "-o", "name"]).await?;
        ensure!(left.is_empty(), "a profile that is gone has Pods: {left}");

        // Others are left alone, and DaemonSets keep off.
        let other = stage.get(&["pod", "elsewhere"]).await?;
        ensure!(other["spec"]["schedulerName"] == "default-scheduler", "{other}");
        let daemons = ["get", "daemonset", "agent", "-n", "shop", "-o", "jsonpath={.status.desiredNumberScheduled}"];
        stage.wait_printed("no DaemonSet Pod is made for microVMs", &daemons, |all| all == "0").await;
        let bad = "{apiVersion: monopod.dev/v1, kind: Subnet, metadata: {name: twice}, spec: {cidr: 10.70.0.0/25, zone: zone-a, private: true}}";
        let refused = stage.apply(bad).await;
        ensure!(refused.as_ref().is_err_and(|error| format!("{error:#}").contains("overlaps 10.70.0.0/24 of subnet private-a")), "{refused:?}");
        Ok(())
    })
    .await
}
