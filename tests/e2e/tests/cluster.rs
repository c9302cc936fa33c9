//! The control plane that the other cluster tests stand on: it starts, is set up as clusters are, and survives faults.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use monopod_testkit::cluster::{API_SERVICE, Cluster, Options, Part, with_cluster};
use monopod_testkit::wait::wait_for;
use serde_json::{Value, json};

/// Waits until all Pods of the namespace `default` are as wanted.
async fn pods(client: &Client, what: &str, wanted: impl Fn(&[Pod]) -> bool) -> Vec<Pod> {
    let api = Api::<Pod>::default_namespaced(client.clone());
    wait_for(what, async || {
        let pods = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let phases: Vec<_> = pods.iter().map(phase).collect();
        if wanted(&pods) { Ok(pods) } else { Err(format!("{phases:?}")) }
    })
    .await
}

fn phase(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default()
}

fn deployment(replicas: u8) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "monopod.local/web:1"}]},
            },
        },
    })
    .to_string()
}

fn plain_node(name: &str) -> Result<Node> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110"}},
    }))?)
}

/// A server version, a Deployment whose Pods wait for a node, a Node, and memory: the least a cluster must do.
#[tokio::test]
async fn cluster_a_deployment_makes_pods_and_kubectl_sees_them() -> Result<()> {
    let started = Instant::now();
    with_cluster(Options::default(), async |cluster| {
        println!(
            "ready after {:.1} s, {} MiB resident",
            started.elapsed().as_secs_f64(),
            cluster.resident_kib() / 1024
        );
        let version: Value = serde_json::from_str(&cluster.kubectl(&["version", "-o", "json"]).await?)?;
        ensure!(version["serverVersion"]["gitVersion"] == "v1.37.2", "{version}");
        ensure!(cluster.kubectl(&["get", "nodes"]).await?.is_empty(), "a new cluster has no nodes");

        cluster.kubectl_with(&["apply", "-f", "-"], &deployment(2)).await?;
        let client = cluster.client();
        let unscheduled = |pod: &Pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|condition| condition.reason.as_deref() == Some("Unschedulable"))
        };
        pods(&client, "two Pods wait for a node", |pods| pods.len() == 2 && pods.iter().all(unscheduled)).await;
        let table = cluster.kubectl(&["get", "pods"]).await?;
        ensure!(table.matches("Pending").count() == 2, "{table}");
        println!("with a Deployment {} MiB resident", cluster.resident_kib() / 1024);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn cluster_who_has_no_rights_is_refused_and_a_node_sees_only_what_is_its_own() -> Result<()> {
    with_cluster(Options::default(), async |cluster| {
        let nobody = cluster.kubeconfig_of("nobody", &["passers-by"])?;
        let output = cluster.kubectl_output(&nobody, &["get", "pods"], "").await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains("User \"nobody\" cannot list resource \"pods\""), "{said}");

        let node = cluster.client_of("system:node:one", &["system:nodes"]).await?;
        let nodes = Api::<Node>::all(node.clone());
        nodes.create(&PostParams::default(), &plain_node("one")?).await.context("a node may make its own Node")?;
        let error = nodes.create(&PostParams::default(), &plain_node("two")?).await.err();
        let said = error.map(|error| error.to_string()).unwrap_or_default();
        ensure!(said.contains("node \"one\" is not allowed to modify node \"two\""), "NodeRestriction is off: {said}");
        let error = Api::<ConfigMap>::namespaced(node, "kube-system").get("kube-root-ca.crt").await.err();
        let said = error.map(|error| error.to_string()).unwrap_or_default();
        ensure!(said.contains("no relationship found between node 'one' and this object"), "{said}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn cluster_etcd_and_the_api_server_may_die_and_nothing_is_lost() -> Result<()> {
    with_cluster(Options { fsync: true, ..Options::default() }, async |cluster: &mut Cluster| {
        cluster.kubectl_with(&["apply", "-f", "-"], &deployment(1)).await?;
        let client = cluster.client();
        pods(&client, "one Pod", |pods| pods.len() == 1).await;

        cluster.kill(Part::Etcd)?;
        cluster.spawn(Part::Etcd)?;
        cluster.wait_ready().await?;
        cluster.kill(Part::ApiServer)?;
        let said = Api::<Pod>::default_namespaced(client.clone()).list(&ListParams::default()).await;
        ensure!(said.is_err(), "a killed API server answers");
        cluster.spawn(Part::ApiServer)?;
        cluster.wait_ready().await?;
        // The controllers go on by themselves.
        cluster.kubectl(&["scale", "deployment/web", "--replicas=3"]).await?;
        pods(&client, "three Pods", |pods| pods.len() == 3).await;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn cluster_plain_nodes_run_other_pods_and_machines_reach_services_and_images() -> Result<()> {
    with_cluster(Options { audit: true, ..Options::default() }, async |cluster| {
        let mut machine = cluster.join(2)?;
        let _plain = cluster.plain_nodes()?;
        cluster.add_plain_node("plain", machine.address()).await?;
        cluster.kubectl_with(&["apply", "-f", "-"], &deployment(2)).await?;
        let run = |pods: &[Pod]| pods.len() == 2 && pods.iter().all(|pod| phase(pod) == "Running");
        let pods = pods(&cluster.client(), "two Pods run", run).await;
        let nodes: Vec<_> = pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()).collect();
        ensure!(nodes == ["plain", "plain"], "{nodes:?}");

        cluster.start_proxy(&mut machine, "plain").await?;
        machine.connect(format!("{API_SERVICE}:443").parse()?).await.context("the Service of the API server")?;
        let images = cluster.serve_images().await?;
        machine.connect(images.address()).await.context("the registry")?;

        let audit = std::fs::read_to_string(cluster.audit_log())?;
        ensure!(
            audit.lines().any(|line| line.contains(r#""verb":"create""#) && line.contains(r#""resource":"nodes""#))
        );
        Ok(())
    })
    .await
}
