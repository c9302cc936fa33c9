//! The cluster of `make demo`: `demo PROGRAM DEPLOY FOLDER`.
//!
//! A control plane, two hosts in two zones, a name server and metrics in microVMs, and a small shop. It says on standard
//! output how far it is, then what runs where, and a last line that it is ready. It ends after an hour, or when it is asked to
//! (SIGTERM), and takes everything with it: what it starts dies with it, its networks are namespaces of its own.
#![expect(clippy::print_stdout, reason = "a demo talks to the terminal")]

mod shown;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use monopod_testkit::cluster::{
    COREDNS, Capacity, Cluster, HostMachine, ImageServer, METRICS_SERVER, Options, Process, program,
};
use tokio::signal::unix::{SignalKind, signal};

/// How long it stays.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// How long each step may take.
const PATIENCE: &str = "--timeout=240s";
/// What the last line begins with; `cargo xtask demo` waits for it.
const READY: &str = "The demo is ready";

/// Everything that runs; dropped in this order.
struct Demo {
    hosts: Vec<HostMachine>,
    _controller: Process,
    _images: ImageServer,
    cluster: Cluster,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let mut next = || arguments.next().context("usage: demo PROGRAM DEPLOY FOLDER");
    let (monopod, deploy, folder) = (next()?, next()?, next()?);
    let mut told = signal(SignalKind::terminate())?;
    let work = async {
        let begun = Instant::now();
        let demo = start(&monopod, &deploy, &folder).await?;
        shown::all(&demo.cluster, &demo.hosts).await?;
        let kubectl = folder.join("kubectl");
        println!("\nTry it:\n");
        println!("  alias kubectl={}", kubectl.display());
        println!("  kubectl get pods,nodes -A -o wide");
        println!("  kubectl exec -n shop -it deploy/web -- sh");
        println!("  kubectl logs -n shop job/prices");
        println!("  kubectl top pods -A");
        println!("  kubectl scale -n shop deploy/web --replicas=5; kubectl get pods -n shop -w");
        println!("  kubectl describe pod -n shop node-shell");
        println!("  kubectl get fargateprofiles,hosts.monopod.dev,subnets");
        println!(
            "\n{READY}, after {} s. It ends by itself in an hour, or with `make demo-down`.",
            begun.elapsed().as_secs()
        );
        anyhow::Ok(demo)
    };
    let demo = tokio::select! {
        started = work => started?,
        _ = told.recv() => return Ok(()),
    };
    tokio::select! {
        _ = told.recv() => {}
        () = tokio::time::sleep(LIFE) => {}
    }
    drop(demo);
    Ok(())
}

async fn start(monopod: &Path, deploy: &Path, folder: &Path) -> Result<Demo> {
    println!("Starting a control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler");
    let keys = folder.join("cluster");
    let options = Options { fsync: true, folder: Some(keys), ..Options::default() };
    let cluster = Cluster::start(options).await?;
    write_kubectl(&cluster, &folder.join("kubectl"))?;
    cluster.install_monopod(&deploy.join("base")).await?;
    let images = cluster.serve_images().await?;
    println!("Starting the controller, and two hosts in two zones");
    let controller = cluster.start_controller(monopod, "demo")?;
    let mut hosts = Vec::new();
    for (number, zone) in [(2, "zone-a"), (3, "zone-b")] {
        let root = folder.join(format!("host-{number}"));
        hosts.push(cluster.start_host_in(monopod, number, zone, &images, Capacity::default(), Some(root))?);
    }
    for webhook in ["mutatingwebhookconfiguration/0500-amazon-eks-fargate-mutation.amazonaws.com"] {
        cluster.kubectl(&["wait", webhook, "--for=create", PATIENCE]).await?;
    }
    apply(&cluster, include_str!("objects.yaml")).await?;
    cluster.kubectl(&["wait", "fargateprofile/shop", "--for=jsonpath={.status.phase}=ACTIVE", PATIENCE]).await?;
    for host in &mut hosts {
        let name = format!("hosts.monopod.dev/{}", host.name());
        cluster.kubectl(&["wait", &name, "--for=create", PATIENCE]).await?;
        cluster.kubectl(&["wait", &name, "--for=jsonpath={.status.addressBlocks}", PATIENCE]).await?;
        host.give_services(&cluster).await?;
        let block = cluster.kubectl(&["get", &name, "-o", "jsonpath={.status.addressBlocks[0].cidr}"]).await?;
        cluster.route(block.parse()?, host.address())?;
    }
    println!(
        "Applying a shop: a Deployment, a StatefulSet, a Job, Services; CoreDNS and metrics-server in microVMs, too"
    );
    for manifest in [COREDNS, METRICS_SERVER, include_str!("shop.yaml")] {
        apply(&cluster, manifest).await?;
    }
    for (namespace, workload) in [
        ("kube-system", "deployment/coredns"),
        ("shop", "deployment/web"),
        ("shop", "statefulset/carts"),
        ("kube-system", "deployment/metrics-server"),
    ] {
        cluster.kubectl(&["rollout", "status", "-n", namespace, workload, PATIENCE]).await?;
        println!("  {workload} is there");
    }
    cluster.kubectl(&["wait", "-n", "shop", "job/prices", "--for=condition=Complete", PATIENCE]).await?;
    println!("  job/prices is done");
    Ok(Demo { hosts, _controller: controller, _images: images, cluster })
}

async fn apply(cluster: &Cluster, manifest: &str) -> Result<()> {
    cluster.kubectl_with(&["apply", "-f", "-"], manifest).await.map(drop)
}

/// A kubectl for this cluster, whose network is a namespace of its own.
fn write_kubectl(cluster: &Cluster, file: &Path) -> Result<()> {
    let (namespace, kubeconfig) = (cluster.namespace().name(), cluster.kubeconfig().display());
    let kubectl = program("kubeplane", "kubectl")?;
    let script = format!(
        "#!/bin/sh\n# kubectl for the cluster of the demo, which is in a network namespace of its own.\n\
         export KUBECONFIG={kubeconfig}\nexec nsenter --net=/run/netns/{namespace} -- {} \"$@\"\n",
        kubectl.display()
    );
    fs::write(file, script).with_context(|| format!("failed to write {}", file.display()))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
