//! Two replicas of the controller behind their Service: what a restart in turn and another certificate cost those who make Pods.
//!
//! The host is an object and nothing more: it is about who decides, not about who runs.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use monopod_testkit::cluster::{Cluster, Options, Part, Process, with_cluster};
use monopod_testkit::wait::wait_for;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};
use time::{Duration as Days, OffsetDateTime};

use crate::stage::{deploy, program};

/// Where the replicas are.
const REPLICAS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2)];
/// Pods are asked for in so many lanes, each at this pace: 100 a second.
const LANES: u32 = 10;
const PACE: Duration = Duration::from_millis(100);
/// Between Pods that are really made.
const MADE: Duration = Duration::from_millis(500);
/// A Pod is bound sooner than this. A leader that does not hand over is waited for longer: its Lease lasts fifteen seconds.
const PATIENCE: Duration = Duration::from_secs(14);
/// How long the certificate may take to be another: a new authority signs nothing for a minute, and the replicas look every half.
const ROTATION: Duration = Duration::from_secs(180);

const OBJECTS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: monopod-webhook, namespace: monopod-system}
spec: {ports: [{name: webhooks, port: 443, targetPort: 9443}]}
---
apiVersion: monopod.dev/v1
kind: Subnet
metadata: {name: wide}
spec: {cidr: 10.70.0.0/16, zone: zone-a, private: true, natGateway: true}
---
apiVersion: monopod.dev/v1
kind: Subnet
metadata: {name: tight}
spec: {cidr: 10.71.0.0/28, zone: zone-a, private: true, natGateway: true}
---
apiVersion: monopod.dev/v1
kind: FargateProfile
metadata: {name: shop}
spec: {selectors: [{namespace: shop}], subnets: [wide]}
---
apiVersion: monopod.dev/v1
kind: FargateProfile
metadata: {name: tight}
spec: {selectors: [{namespace: tight}], subnets: [tight]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: tight}
---
apiVersion: monopod.dev/v1
kind: Host
metadata: {name: paper}
spec: {zone: zone-a}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: paper, namespace: monopod-hosts}
spec: {holderIdentity: paper, leaseDurationSeconds: 36000, renewTime: "2026-01-01T00:00:00.000000Z"}
"#;

/// What a host would say of itself.
const HOST_STATUS: &str = r#"{"status":{"capacity":{"cpu":"500","memory":"2000Gi","ephemeralStorage":"90000Gi"},"conditions":[
  {"type":"Ready","status":"True","reason":"HostReady","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;

fn pod(name: &str) -> Result<Pod> {
    let container = json!({"name": "main", "image": "monopod.local/busybox:1"});
    Ok(serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"containers": [container]}}))?)
}

/// The address at which a replica says how it fares.
fn status_of(replica: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((replica, 9440))
}

async fn wait_ready(cluster: &Cluster, replica: Ipv4Addr) {
    wait_for("a replica is ready", async || match cluster.page(status_of(replica), "/readyz").await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// Does what the kubelet and Kubernetes' controllers do for a Deployment: the Service leads to the replicas that are ready.
async fn keep_endpoints(cluster: &Cluster) -> Result<()> {
    let mut known = None;
    loop {
        let mut ready = Vec::new();
        for replica in REPLICAS {
            if matches!(cluster.page(status_of(replica), "/readyz").await, Ok((200, _))) {
                ready.push(replica);
            }
        }
        if known.as_ref() != Some(&ready) {
            let endpoints: Vec<Value> =
                ready.iter().map(|one| json!({"addresses": [one], "conditions": {"ready": true}})).collect();
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
                "metadata": {
                    "name": "monopod-webhook", "namespace": "monopod-system",
                    "labels": {"kubernetes.io/service-name": "monopod-webhook"},
                },
                "ports": [{"name": "webhooks", "port": 9443, "protocol": "TCP"}],
            });
            cluster.kubectl_with(&["apply", "-f", "-"], &slice.to_string()).await?;
            known = Some(ready);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A certificate of the webhooks that has come to its last days, and so has its authority.
fn old_certificate() -> Result<Secret> {
    let now = OffsetDateTime::now_utc();
    let lasting = |params: &mut CertificateParams, from: i64, until: i64| {
        (params.not_before, params.not_after) = (now - Days::days(from), now + Days::days(until));
    };
    let named = |name: &str, hosts: Vec<String>| -> Result<CertificateParams> {
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(params)
    };
    let mut authority = named("monopod-webhook-1", Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    lasting(&mut authority, 700, 30);
    let authority_key = KeyPair::generate()?;
    let mut server = named("monopod-webhook", vec!["monopod-webhook.monopod-system.svc".to_owned()])?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    lasting(&mut server, 80, 10);
    let server_key = KeyPair::generate()?;
    let authority_text = authority.self_signed(&authority_key)?.pem();
    let server_text = server
        .signed_by(&server_key, &Issuer::new(authority, KeyPair::from_pem(&authority_key.serialize_pem())?))?
        .pem();
    Ok(serde_json::from_value(json!({
        "metadata": {"name": "monopod-webhook", "namespace": "monopod-system"},
        "data": {},
        "stringData": {
            "ca.crt": authority_text, "ca.key": authority_key.serialize_pem(),
            "tls.crt": server_text, "tls.key": server_key.serialize_pem(),
        },
    }))?)
}

/// Those who make Pods.
struct Load {
    pods: Api<Pod>,
    stop: Cell<bool>,
    asked: Cell<u32>,
}

impl Load {
    /// Asks for Pods without making them; each must come back as a profile's.
    async fn ask(&self) -> Result<()> {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        while !self.stop.get() {
            let next = tokio::time::Instant::now() + PACE;
            let made = self.pods.create(&params, &pod(&format!("asked-{}", self.asked.get()))?).await?;
            let scheduler = made.spec.and_then(|spec| spec.scheduler_name).unwrap_or_default();
            ensure!(scheduler == "fargate-scheduler", "after {} Pods one was missed: {scheduler}", self.asked.get());
            self.asked.set(self.asked.get() + 1);
            tokio::time::sleep_until(next).await;
        }
        Ok(())
    }

    /// Makes Pods, and waits for each until it has a place; the longest wait.
    async fn make(&self) -> Result<(u32, Duration)> {
        let (mut count, mut longest) = (0, Duration::ZERO);
        while !self.stop.get() {
            let (next, begun) = (tokio::time::Instant::now() + MADE, Instant::now());
            let name = format!("made-{count}");
            self.pods.create(&PostParams::default(), &pod(&name)?).await?;
            let bound = await_condition(self.pods.clone(), &name, |pod: Option<&Pod>| {
                pod.is_some_and(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()))
            });
            let bound = tokio::time::timeout(PATIENCE, bound).await;
            bound.with_context(|| format!("Pod {name} has no place after {PATIENCE:?}"))??;
            (count, longest) = (count + 1, longest.max(begun.elapsed()));
            tokio::time::sleep_until(next).await;
        }
        Ok((count, longest))
    }
}

/// Restarts one replica after the other, then waits until both have another certificate.
async fn restart_and_rotate(cluster: &Cluster, replicas: &mut [Option<Process>; 2], before: &str) -> Result<()> {
    for (number, address) in REPLICAS.into_iter().enumerate() {
        let replica = replicas[number].take().context("a replica runs")?;
        replica.stop().await?;
        replicas[number] = Some(cluster.start_replica(program(), &format!("again-{number}"), address)?);
        wait_ready(cluster, address).await;
    }
    let certificate = ["get", "secret", "-n", "monopod-system", "monopod-webhook", "-o", "jsonpath={.data.tls\\.crt}"];
    let deadline = Instant::now() + ROTATION;
    while cluster.kubectl(&certificate).await? == before {
        ensure!(Instant::now() < deadline, "the certificate is the old one after {ROTATION:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let has_another = |replica: &Option<Process>| {
        replica.as_ref().is_some_and(|one| one.last_words().contains("webhooks have another certificate"))
    };
    while !replicas.iter().any(has_another) {
        ensure!(Instant::now() < deadline, "no replica has taken the new certificate");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

#[tokio::test]
async fn cluster_replicas_restart_and_change_their_certificate_and_no_pod_is_missed() -> Result<()> {
    let routing = vec![(Part::ApiServer, "--enable-aggregator-routing=true".to_owned())];
    with_cluster(Options { arguments: routing, ..Options::default() }, async |cluster| {
        cluster.install_monopod(deploy()).await?;
        let secrets = Api::<Secret>::namespaced(cluster.client(), "monopod-system");
        secrets.create(&PostParams::default(), &old_certificate()?).await?;
        let certificate =
            ["get", "secret", "-n", "monopod-system", "monopod-webhook", "-o", "jsonpath={.data.tls\\.crt}"];
        let old = cluster.kubectl(&certificate).await?;
        let mut replicas = [None, None];
        for (number, address) in REPLICAS.into_iter().enumerate() {
            replicas[number] = Some(cluster.start_replica(program(), &format!("first-{number}"), address)?);
        }
        let cluster: &Cluster = cluster;
        let test = async {
            for replica in REPLICAS {
                wait_ready(cluster, replica).await;
            }
            prepare(cluster).await?;
            under_load(cluster, &mut replicas, &old).await?;
            addresses_run_out(cluster.client()).await
        };
        tokio::select! {
            tested = test => tested,
            failed = keep_endpoints(cluster) => failed,
        }
    })
    .await
}

async fn prepare(cluster: &Cluster) -> Result<()> {
    // The webhooks of our own objects must be found first.
    wait_for("the objects are taken", async || {
        cluster.kubectl_with(&["apply", "-f", "-"], OBJECTS).await.map_err(|error| format!("{error:#}"))
    })
    .await;
    cluster.kubectl(&["patch", "host", "paper", "--subresource=status", "--type=merge", "-p", HOST_STATUS]).await?;
    for what in [
        &["host/paper", "--for=jsonpath={.status.addressBlocks[1]}"][..],
        &["fargateprofile/shop", "fargateprofile/tight", "--for=jsonpath={.status.phase}=ACTIVE"],
        &["-n", "shop", "serviceaccount/default", "--for=create"],
        &["-n", "tight", "serviceaccount/default", "--for=create"],
    ] {
        cluster.kubectl(&[&["wait", "--timeout=60s"], what].concat()).await?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what was measured")]
async fn under_load(cluster: &Cluster, replicas: &mut [Option<Process>; 2], old: &str) -> Result<()> {
    let pods = Api::<Pod>::namespaced(cluster.client(), "shop");
    let load = Load { pods, stop: Cell::new(false), asked: Cell::new(0) };
    let asking = futures_util::future::try_join_all((0..LANES).map(|_| load.ask()));
    let changing = async {
        let changed = restart_and_rotate(cluster, replicas, old).await;
        load.stop.set(true);
        changed
    };
    let (_, (made, longest), ()) = tokio::try_join!(asking, load.make(), changing)?;
    println!("{} Pods were asked for, {made} made; the longest had its place after {longest:?}", load.asked.get());
    ensure!(load.asked.get() > 500 && made > 20, "there was no load");
    Ok(())
}

/// A subnet of fourteen addresses: the fifteenth Pod waits until one is gone.
async fn addresses_run_out(client: Client) -> Result<()> {
    let pods = Api::<Pod>::namespaced(client, "tight");
    let name = |number: u32| format!("tight-{number}");
    let is_bound =
        |pod: Option<&Pod>| pod.is_some_and(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()));
    for number in 0..14 {
        pods.create(&PostParams::default(), &pod(&name(number))?).await?;
        tokio::time::timeout(PATIENCE, await_condition(pods.clone(), &name(number), is_bound)).await??;
    }
    pods.create(&PostParams::default(), &pod("last")?).await?;
    let says_why = |pod: Option<&Pod>| {
        let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
        conditions.into_iter().flatten().any(|one| {
            one.type_ == "PodScheduled"
                && one.message.as_deref().is_some_and(|text| text.contains("1 has no free address in subnet tight"))
        })
    };
    let told = tokio::time::timeout(PATIENCE, await_condition(pods.clone(), "last", says_why)).await;
    told.with_context(|| "the fifteenth Pod is told that there is no address".to_owned())??;
    pods.delete(&name(3), &DeleteParams::default().grace_period(0)).await?;
    tokio::time::timeout(PATIENCE, await_condition(pods.clone(), "last", is_bound)).await??;
    Ok(())
}
