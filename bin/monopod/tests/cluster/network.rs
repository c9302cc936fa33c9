//! Pods on two hosts in two zones, Services of all kinds, names.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use monopod_testkit::cluster::{API_ADDRESS, COREDNS};
use monopod_testkit::wait::wait_for;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

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

/// A program in Python that fetches a page.
const FETCH: &str =
    "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode(), end='')";

/// Fetches a page of netexec from within a Pod.
async fn fetch(stage: &Stage<'_>, url: &str) -> Result<String> {
    let arguments = ["exec", "-n", "shop", "client", "--", "python3", "-c", FETCH, url];
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
        // That is also what it gets itself.
        let itself = ["exec", "-n", "shop", "db-1", "--", "wget", "-qO-", "http://front/hostname"];
        let said = stage.kubectl(&itself).await.context("a Pod asks a Service that leads to it")?;
        ensure!(said == "db-1", "a Pod reaches itself by its Service: {said}");
        Ok(())
    })
    .await
}

/// Where somebody in the control plane's network tells who comes the address that they come from.
const MIRROR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(API_ADDRESS), 9000);

async fn mirror(listener: TcpListener) -> Result<()> {
    loop {
        let (mut stream, from) = listener.accept().await?;
        stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{}", from.ip()).as_bytes()).await?;
    }
}

/// A Pod that resolves names as its Subnet or its host does.
fn looking_outside(name: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop}}
spec:
  dnsPolicy: Default
  terminationGracePeriodSeconds: 1
  containers: [{{name: web, image: 'monopod.local/python:3', command: [python3, -m, http.server]}}]
"
    )
}

#[tokio::test]
async fn cluster_subnets_say_how_pods_reach_the_outside_and_resolve_names() -> Result<()> {
    on_stage(1, async |stage| {
        stage.give_services().await?;
        let listener = stage.cluster.namespace().block_on(async || std::net::TcpListener::bind(MIRROR))??;
        listener.set_nonblocking(true)?;
        let _mirror = tokio::task::JoinSet::from_iter([mirror(TcpListener::from_std(listener)?)]);
        stage.apply(&looking_outside("early")).await?;
        stage.kubectl(&["wait", "-n", "shop", "pod/early", "--for=condition=Ready", PATIENCE]).await?;
        let address = stage.kubectl(&["get", "pod", "-n", "shop", "early", "-o", "jsonpath={.status.podIP}"]).await?;
        let host = stage.hosts[0].address().to_string();
        let url = format!("http://{MIRROR}/");
        let look = ["exec", "-n", "shop", "early", "--", "python3", "-c", FETCH, &url];
        ensure!(stage.kubectl(&look).await? == host, "the Subnet has a NAT gateway");
        let names =
            async |pod: &str| stage.kubectl(&["exec", "-n", "shop", pod, "--", "cat", "/etc/resolv.conf"]).await;
        let before = names("early").await?;

        let change =
            r#"{"spec": {"natGateway": false, "dns": {"nameservers": ["192.0.2.53"], "search": ["corp.example"]}}}"#;
        stage.kubectl(&["patch", "subnet", "private-a", "--type=merge", "-p", change]).await?;
        stage.wait_printed("the Pod is seen under its own address", &look, |seen| seen == address).await;
        stage.apply(&looking_outside("late")).await?;
        stage.kubectl(&["wait", "-n", "shop", "pod/late", "--for=condition=Ready", PATIENCE]).await?;
        let (early, late) = (names("early").await?, names("late").await?);
        ensure!(late == "search corp.example\nnameserver 192.0.2.53\n", "{late}");
        ensure!(early == before && early != late, "{early}");

        stage.hosts[0].kill_daemon()?;
        stage.restart_daemon(0)?;
        stage.wait_printed("the next daemon does the same", &look, |seen| seen == address).await;
        Ok(())
    })
    .await
}
