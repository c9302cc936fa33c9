//! What the kubelet does for one Pod: sources that change, init containers and sidecars, probes, and kubectl's ways in.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use monopod_testkit::cluster::METRICS_SERVER;
use monopod_testkit::wait::wait_for;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::stage::{PATIENCE, Stage, on_stage, program};

const POD: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {color: red}
---
apiVersion: v1
kind: Secret
metadata: {name: password, namespace: shop}
stringData: {password: first}
---
apiVersion: v1
kind: Pod
metadata: {name: whole, namespace: shop, labels: {app: whole}}
spec:
  terminationGracePeriodSeconds: 2
  initContainers:
    - name: first
      image: monopod.local/busybox:1
      command: [sh, -c, "echo prepared > /data/ready"]
      volumeMounts: [{name: data, mountPath: /data}]
    - name: sidecar
      image: monopod.local/busybox:1
      restartPolicy: Always
      command: [sh, -c, "trap 'exit 0' TERM; while true; do cat /data/ready; sleep 1; done"]
      volumeMounts: [{name: data, mountPath: /data}]
  containers:
    - name: main
      image: monopod.local/agnhost:2.66.1
      args: [netexec, --http-port=8080]
      env:
        - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
        - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
      volumeMounts:
        - {name: data, mountPath: /data}
        - {name: settings, mountPath: /settings}
        - {name: password, mountPath: /password}
        - {name: about, mountPath: /about}
      readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
      livenessProbe: {exec: {command: [test, "!", -e, /tmp/sick]}, periodSeconds: 1, failureThreshold: 1}
      # It is up at the second look.
      startupProbe: {exec: {command: [sh, -c, "test -e /tmp/up || ! touch /tmp/up"]}, periodSeconds: 1, failureThreshold: 3}
      resources: {requests: {cpu: 100m}}
  volumes:
    - {name: data, emptyDir: {}}
    - {name: settings, configMap: {name: settings}}
    - {name: password, secret: {secretName: password}}
    - {name: about, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: asks, namespace: shop}
spec:
  restartPolicy: Never
  containers:
    - {name: main, image: "monopod.local/busybox:1", stdin: true, stdinOnce: true, command: [sh, -c, "read line; echo got $line"]}
"#;

#[tokio::test]
async fn cluster_a_pod_is_kept_as_a_kubelet_keeps_it() -> Result<()> {
    on_stage(1, async |stage| {
        stage.apply(POD).await?;
        stage.kubectl(&["wait", "-n", "shop", "pod/whole", "--for=condition=Ready", PATIENCE]).await?;
        let exec = ["exec", "-n", "shop", "whole", "-c", "main", "--", "sh", "-c"];
        let inside = |script: &'static str| [&exec[..], &[script]].concat();
        let said = stage.kubectl(&inside("cat /data/ready; echo $COLOR $NODE; cat /password/password")).await?;
        ensure!(said.starts_with("prepared\nred fargate-ip-10-70-0-1.local.compute.internal\nfirst"), "{said}");
        let logs = stage.kubectl(&["logs", "-n", "shop", "whole", "-c", "sidecar", "--tail=1"]).await?;
        ensure!(logs == "prepared\n", "the sidecar's log: {logs}");

        // Files follow their objects and the Pod's labels.
        let patch = r#"{"data":{"color":"blue"}}"#;
        stage.kubectl(&["patch", "configmap", "-n", "shop", "settings", "--type=merge", "-p", patch]).await?;
        let patch = r#"{"stringData":{"password":"second"}}"#;
        stage.kubectl(&["patch", "secret", "-n", "shop", "password", "--type=merge", "-p", patch]).await?;
        stage.kubectl(&["label", "pod", "-n", "shop", "whole", "tier=gold"]).await?;
        let files = inside("cat /settings/color /password/password /about/labels");
        let is_new = |text: &str| text.contains("blue") && text.contains("second") && text.contains("tier=\"gold\"");
        stage.wait_printed("files have followed", &files, is_new).await;

        sizes_are_for_life(stage).await?;

        // Whoever may change labels cannot end a Pod by them.
        stage.kubectl(&["label", "pod", "-n", "shop", "whole", "monopod.dev/host-"]).await?;
        let label = ["get", "pod", "whole", "-n", "shop", "-o", "jsonpath={.metadata.labels.monopod\\.dev/host}"];
        stage.wait_printed("the label is back", &label, |text| text == "host-2").await;
        ways_in(stage).await?;

        // A liveness probe that fails restarts the container; the Pod stays where it is.
        stage.kubectl(&inside("touch /tmp/sick")).await?;
        let restarts = [
            "get",
            "pod",
            "whole",
            "-n",
            "shop",
            "-o",
            "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}",
        ];
        stage.wait_printed("the container was restarted", &restarts, |text| text == "1 true").await;
        let previous = stage.kubectl(&["logs", "-n", "shop", "whole", "-c", "main", "--previous"]).await?;
        ensure!(previous.contains("Started HTTP server"), "the log of the former container: {previous}");
        let described = stage.kubectl(&["describe", "pod", "-n", "shop", "whole"]).await?;
        for text in [
            "Liveness probe failed",
            "Startup probe failed",
            "Killing",
            "fargate-scheduler",
            "CapacityProvisioned: 0.25vCPU 0.5GB",
        ] {
            ensure!(described.contains(text), "{text}: {described}");
        }
        tokens_are_made_anew(stage).await
    })
    .await
}

/// A size that is wanted later is infeasible, and does not keep other changes from the Pod.
async fn sizes_are_for_life(stage: &Stage<'_>) -> Result<()> {
    let resize = async |cpu: &str| {
        let patch = format!(
            r#"{{"spec": {{"containers": [{{"name": "main", "resources": {{"requests": {{"cpu": "{cpu}"}}}}}}]}}}}"#
        );
        stage.kubectl(&["patch", "pod", "-n", "shop", "whole", "--subresource=resize", "-p", &patch]).await
    };
    resize("150m").await?;
    stage.kubectl(&["wait", "-n", "shop", "pod/whole", "--for=condition=PodResizePending", PATIENCE]).await?;
    let described = ["describe", "pod", "-n", "shop", "whole"];
    let is_told =
        |text: &str| text.contains("ResizeInfeasible") && text.contains("delete the Pod to have it made anew");
    stage.wait_printed("the resize is told to be infeasible", &described, is_told).await;
    stage.kubectl(&["label", "pod", "-n", "shop", "whole", "tier=silver", "--overwrite"]).await?;
    let labels = ["exec", "-n", "shop", "whole", "-c", "main", "--", "cat", "/about/labels"];
    stage.wait_printed("other changes come", &labels, |text| text.contains("tier=\"silver\"")).await;
    resize("100m").await?;
    let conditions = ["get", "pod", "-n", "shop", "whole", "-o", "jsonpath={.status.conditions[*].type}"];
    let is_over = |text: &str| text.contains("Ready") && !text.contains("PodResizePending");
    stage.wait_printed("nothing is pending any more", &conditions, is_over).await;
    Ok(())
}

/// A token is kept nowhere but in the microVM: the next daemon makes another, and the container finds that in its place.
async fn tokens_are_made_anew(stage: &mut Stage<'_>) -> Result<()> {
    let path = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let read = ["exec", "-n", "shop", "whole", "-c", "main", "--", "cat", path];
    let before = stage.kubectl(&read).await?;
    stage.hosts[0].kill_daemon()?;
    stage.restart_daemon(0)?;
    let is_another = |token: &str| token.matches('.').count() == 2 && token != before;
    stage.wait_printed("the container has another token", &read, is_another).await;
    let restarts = ["get", "pod", "whole", "-n", "shop", "-o", "jsonpath={.status.containerStatuses[*].restartCount}"];
    let restarts = stage.kubectl(&restarts).await?;
    ensure!(restarts == "1", "nothing was restarted for it: {restarts}");
    Ok(())
}

/// Attaching: what a container says, and what it is told.
async fn attaching(stage: &Stage<'_>) -> Result<()> {
    let attach = ["attach", "-n", "shop", "whole", "-c", "sidecar"];
    let attached = stage.cluster.kubectl_running("attach", &attach)?;
    wait_for("the sidecar is heard", async || {
        let said = attached.last_words();
        if said.contains("prepared") { Ok(()) } else { Err(said) }
    })
    .await;
    stage.kubectl(&["wait", "-n", "shop", "pod/asks", "--for=condition=Ready", PATIENCE]).await?;
    let said = stage.cluster.kubectl_with(&["attach", "-i", "-n", "shop", "asks"], "an answer\n").await?;
    ensure!(said.contains("got an answer"), "kubectl attach -i: {said}");
    Ok(())
}

/// Attaching, copying, forwarding and debugging.
async fn ways_in(stage: &Stage<'_>) -> Result<()> {
    attaching(stage).await?;
    let file = stage.cluster.folder().join("copied");
    std::fs::write(&file, "from outside\n")?;
    let from = file.to_str().context("a path is text")?;
    stage.kubectl(&["cp", "-n", "shop", "-c", "main", from, "whole:/tmp/copied"]).await?;
    let copied = ["exec", "-n", "shop", "whole", "-c", "main", "--", "cat", "/tmp/copied"];
    ensure!(stage.kubectl(&copied).await? == "from outside\n", "kubectl cp");
    let forwarding = ["port-forward", "-n", "shop", "pod/whole", "18080:8080"];
    let _forward = stage.cluster.kubectl_running("port-forward", &forwarding)?;
    let page = wait_for("the forwarded port answers", async || {
        let asked = async {
            let mut stream = stage.cluster.connect("127.0.0.1:18080".parse()?).await?;
            stream.write_all(b"GET /hostname HTTP/1.0\r\n\r\n").await?;
            let mut page = String::new();
            stream.read_to_string(&mut page).await?;
            anyhow::Ok(page)
        };
        asked.await.map_err(|error| format!("{error:#}"))
    })
    .await;
    ensure!(page.ends_with("whole"), "kubectl port-forward: {page}");
    let debug = |profile: &'static str, name: &'static str| {
        let image = "--image=monopod.local/busybox:1";
        [
            "debug",
            "-n",
            "shop",
            "whole",
            image,
            "--target=main",
            "-c",
            name,
            profile,
            "--",
            "sh",
            "-c",
            "ps; sleep 1000",
        ]
    };
    stage.kubectl(&debug("--profile=general", "tracer")).await?;
    let events = ["events", "-n", "shop", "--for", "pod/whole"];
    let refused = "ephemeral container tracer is not started";
    stage.wait_printed("a container that may not run is told", &events, |text| text.contains(refused)).await;
    stage.kubectl(&debug("--profile=baseline", "debugger")).await?;
    let logs = ["logs", "-n", "shop", "whole", "-c", "debugger"];
    stage.wait_printed("the ephemeral container sees its target", &logs, |text| text.contains("netexec")).await;
    Ok(())
}

const HUNGRY: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: hungry, namespace: shop}
spec:
  selector: {matchLabels: {app: hungry}}
  template:
    metadata: {labels: {app: hungry}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: monopod.local/busybox:1
          command: [sh, -c, "while true; do :; done"]
          resources: {requests: {cpu: 50m}, limits: {cpu: 200m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: hungry, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: hungry}
  minReplicas: 1
  maxReplicas: 2
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
"#;

const CLIENT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: main, image: "monopod.local/python:3", command: [python3, -c, "import time; time.sleep(3600)"]}
---
apiVersion: v1
kind: Pod
metadata: {name: client-go, namespace: shop}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: main, image: "monopod.local/agnhost:2.66.1", args: [inclusterclient, --poll-interval=1]}
"#;

/// Asks the API server who the Pod is, by the files and variables that every client uses in a cluster.
const WHO: &str = "
import os, ssl, urllib.request as u
d = '/var/run/secrets/kubernetes.io/serviceaccount/'
url = 'https://%s:%s/apis/authentication.k8s.io/v1/selfsubjectreviews' % (os.environ['KUBERNETES_SERVICE_HOST'], os.environ['KUBERNETES_SERVICE_PORT'])
headers = {'Authorization': 'Bearer ' + open(d + 'token').read(), 'Content-Type': 'application/json'}
body = b'{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"SelfSubjectReview\"}'
print(u.urlopen(u.Request(url, body, headers), context=ssl.create_default_context(cafile=d + 'ca.crt'), timeout=10).read().decode())
";

#[tokio::test]
async fn cluster_metrics_scale_a_deployment_and_pods_are_themselves_to_the_api_server() -> Result<()> {
    on_stage(1, async |stage| {
        stage.give_services().await?;
        stage.apply(METRICS_SERVER).await?;
        stage.apply(CLIENT).await?;
        stage.apply(HUNGRY).await?;
        stage.kubectl(&["wait", "-n", "shop", "pod/client", "--for=condition=Ready", PATIENCE]).await?;
        let who = stage.kubectl(&["exec", "-n", "shop", "client", "--", "python3", "-c", WHO]).await?;
        ensure!(who.contains("system:serviceaccount:shop:default") && who.contains("pod-uid"), "{who}");
        clients_of_kubernetes(stage).await?;

        stage.kubectl(&["rollout", "status", "-n", "kube-system", "deployment/metrics-server", PATIENCE]).await?;
        let replicas = ["get", "deployment", "hungry", "-n", "shop", "-o", "jsonpath={.status.readyReplicas}"];
        stage
            .wait_long("the autoscaler has doubled it", &replicas, Duration::from_secs(180), |text| text == "2")
            .await?;
        let top = stage.kubectl(&["top", "pods", "-n", "shop"]).await?;
        ensure!(top.contains("hungry-") && top.contains("client"), "{top}");
        let top = stage.kubectl(&["top", "nodes"]).await?;
        ensure!(top.contains("fargate-ip-10-70-0-"), "{top}");
        Ok(())
    })
    .await
}

/// client-go and kube-rs find the API server and themselves by what is in every Pod.
async fn clients_of_kubernetes(stage: &Stage<'_>) -> Result<()> {
    let logs = ["logs", "-n", "shop", "client-go"];
    let said =
        stage.wait_printed("client-go has asked twice", &logs, |text| text.matches("calling /healthz").count() > 1);
    let said = said.await;
    ensure!(!said.contains("status=failed"), "client-go in a Pod: {said}");

    // Programs of examples lie beside the one under test.
    let built = program().with_file_name("examples").join("in-cluster");
    let bare = stage.cluster.folder().join("in-cluster");
    let stripped = std::process::Command::new("strip").arg("-o").args([&bare, &built]).output()?;
    ensure!(stripped.status.success(), "{}", String::from_utf8_lossy(&stripped.stderr));
    let from = bare.to_str().context("a path is text")?;
    stage.kubectl(&["cp", "-n", "shop", from, "client:/tmp/in-cluster"]).await?;
    let said = stage.kubectl(&["exec", "-n", "shop", "client", "--", "/tmp/in-cluster"]).await?;
    ensure!(said == "system:serviceaccount:shop:default in shop\n", "kube-rs in a Pod: {said}");
    Ok(())
}
