//! When a cluster is ready, and what is told when it is not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::parts::Part;
use super::process::{Process, tail};

/// How long a control plane may take for its next step, on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);
/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Asks until a condition holds. A part that ends meanwhile is an error.
pub(super) async fn wait_for<F>(
    what: &str,
    parts: &mut BTreeMap<Part, Process>,
    condition: impl Fn() -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Err(status) = timeout(ANSWER, condition()).await.context("no answer").and_then(|answer| answer) else {
            return Ok(());
        };
        for (part, process) in &mut *parts {
            if let Some(how) = process.ended()? {
                bail!("{} ended with {how}; it said:\n{}", part.program(), process.last_words());
            }
        }
        if Instant::now() > deadline {
            let words = parts.iter().map(|(part, one)| format!("\n{}:\n{}", part.program(), one.last_words()));
            bail!("waited in vain: {what}: {status:#}{}", words.collect::<String>());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

pub(super) async fn is_ready(client: Client) -> Result<()> {
    let request = http::Request::get("/readyz").body(Vec::new())?;
    let answer = client.request_text(request).await?;
    ensure!(answer == "ok", "{answer}");
    Ok(())
}

/// The controllers have made what a Pod refers to.
pub(super) async fn pods_can_be_made(client: Client) -> Result<()> {
    Api::<ServiceAccount>::default_namespaced(client.clone()).get("default").await?;
    Api::<ConfigMap>::default_namespaced(client).get("kube-root-ca.crt").await?;
    Ok(())
}

/// The API server may ask kubelets, as an administrator must allow it on every cluster.
pub(super) async fn let_api_server_ask_kubelets(client: &Client, user: &str) -> Result<()> {
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "kube-apiserver-kubelets"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kubelet-api-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }))?;
    match Api::all(client.clone()).create(&PostParams::default(), &binding).await {
        // A folder with data of an earlier run has it already.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        made => made.map(drop).context("failed to let the API server ask kubelets"),
    }
}

/// Tells the ends of all logs when dropped.
#[derive(Debug)]
pub(super) struct LastWords {
    logs: Option<PathBuf>,
}

impl LastWords {
    pub(super) fn of(logs: &Path) -> Self {
        Self { logs: Some(logs.to_owned()) }
    }

    /// All went well.
    pub(super) fn forget(mut self) {
        self.logs = None;
    }
}

impl Drop for LastWords {
    #[expect(clippy::print_stderr, reason = "a failed test tells what is known")]
    fn drop(&mut self) {
        let Some(logs) = &self.logs else { return };
        let entries = fs::read_dir(logs).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name() != "audit.log") {
            eprintln!("── {}:\n{}", entry.file_name().to_string_lossy(), tail(&entry.path()));
        }
    }
}
