//! Pods on two hosts in two zones, Services of all kinds, names.

use anyhow::{Context as _, Result, ensure};
use monopod_testkit::cluster::COREDNS;
use monopod_testkit::wait::wait_for;

use crate::stage::{PATIENCE, Stage, on_stage};

const WORKLOADS: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: db}}}
      containers:
        - name: db
          image: monopod.local/agnhost:2.66.1
          args: [netexec, --http-port=8080]
          readinessProbe: {exec: {command: [test, "!", -e, /tmp/not-ready]}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {type: NodePort, selector: {app: db}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: client
      image: monopod.local/python:3
      # Without a handler, PID 1 takes no SIGTERM.
      command: [python3, -c, "import signal; signal.sigwait([signal.SIGTERM])"]
"#;

/// Fetches a page of netexec from within a Pod.
async fn fetch(stage: &Stage<'_>, url: &str) -> Result<String> {
    let program = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode(), end='')";
    let arguments = ["exec", "-n", "shop", "client", "--", "python3", "-c", program, url];
    stage.kubectl(&arguments).await.with_context(|| format!("{url} from a Pod"))
}

#[tokio::test]
async fn cluster_pods_of_two_hosts_reach_each_other_and_services_by_name() -> Result<()> {
    on_stage(2, async |stage| {
        stage.give_services().await?;
        stage.apply(COREDNS).await?;
        stage.apply(WORKLOADS).await?;
        stage.kubectl(&["rollout", "status", "-n", "kube-system", "deployment/coredns", PATIENCE]).await?;
        stage.kubectl(&["rollout", "status", "-n", "shop", "statefulset/db", PATIENCE]).await?;
        stage.kubectl(&["wait", "-n", "shop", "pod/client", "--for=condition=Ready", PATIENCE]).await?;

        let pods = stage.get(&["pods", "-n", "shop", "-l", "app=db"]).await?;
        let hosts: Vec<_> = pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| &pod["metadata"]["labels"]["monopod.dev/host"])
            .collect();
        ensure!(hosts.len() == 2 && hosts[0] != hosts[1], "one Pod in each zone: {hosts:?}");

        for name in ["db-0", "db-1"] {
            let said = fetch(stage, &format!("http://{name}.db.shop.svc.cluster.local:8080/hostname")).await?;
            ensure!(said == name, "{name} by its stable name: {said}");
        }
        let said = fetch(stage, "http://front/hostname").await?;
        ensure!(said.starts_with("db-"), "the Service by its short name: {said}");
        for host in &stage.hosts {
            let url = format!("http://{}:30080/hostname", host.address());
            let output = stage.cluster.namespace().run("curl", &["-sS", "--max-time", "10", &url]);
            let said = output.with_context(|| format!("{url} from outside"))?;
            ensure!(said.starts_with("db-"), "{url} from outside: {said}");
            let said = fetch(stage, &url).await?;
            ensure!(said.starts_with("db-"), "{url} from a Pod: {said}");
        }
        // Each reaches the other by its own address, with the routes between hosts and nothing else.
        for (from, to) in [("db-0", "db-1"), ("db-1", "db-0")] {
            let address = stage.kubectl(&["get", "pod", "-n", "shop", to, "-o", "jsonpath={.status.podIP}"]).await?;
            let url = format!("http://{address}:8080/hostname");
            let said = stage.kubectl(&["exec", "-n", "shop", from, "--", "wget", "-qO-", &url]).await?;
            ensure!(said == to, "{from} asks {to} at {address}: {said}");
        }

        // A Pod that is not ready gets no requests.
        stage.kubectl(&["exec", "-n", "shop", "db-0", "--", "touch", "/tmp/not-ready"]).await?;
        stage.kubectl(&["wait", "-n", "shop", "pod/db-0", "--for=condition=Ready=false", PATIENCE]).await?;
        let slices = ["get", "endpointslices", "-n", "shop", "-l", "kubernetes.io/service-name=front", "-o"];
        let ready = "jsonpath={.items[*].endpoints[?(@.conditions.ready==true)].targetRef.name}";
        stage.wait_printed("only db-1 is ready", &[&slices[..], &[ready]].concat(), |text| text == "db-1").await;
        // kube-proxy hears of it a moment later.
        wait_for("five requests in a row come to db-1", async || {
            for _ in 0..5 {
                match fetch(stage, "http://front/hostname").await {
                    Ok(said) if said == "db-1" => {}
                    other => return Err(format!("{other:?}")),
                }
            }
            Ok(())
        })
        .await;
        Ok(())
    })
    .await
}
