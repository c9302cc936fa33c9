//! Which path is answered how.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use crate::backend::{BackendErrorKind, Exec, ProcessOutput, Target};
use crate::port_forward::{self, PodTarget};
use crate::query::Query;
use crate::remote::{self, Program};
use crate::reply::{Answer, failure, json, method_not_allowed, metrics, refuse, text};
use crate::server::Node;
use crate::{logs, stats};

/// The most that `/run` gives back.
const MAX_RUN_OUTPUT: usize = 16 << 20;

/// Answers a request that is allowed.
pub(crate) async fn answer(node: &Arc<Node>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let query = Query::parse(request.uri().query());
    let is_get = request.method() == Method::GET;
    let is_post = request.method() == Method::POST;
    let answered = match segments.as_slice() {
        ["exec" | "attach" | "portForward", ..] if !is_get && !is_post => Ok(method_not_allowed("GET, POST")),
        ["run", ..] if !is_post => Ok(method_not_allowed("POST")),
        ["exec", rest @ ..] => match container(node, rest) {
            Ok(target) => {
                let args = query.all("command").to_vec();
                remote::serve(node, request, target, Program::Exec(args), &query).await
            }
            Err(refusal) => Err(refusal),
        },
        ["attach", rest @ ..] => match container(node, rest) {
            Ok(target) => remote::serve(node, request, target, Program::Attach, &query).await,
            Err(refusal) => Err(refusal),
        },
        ["portForward", rest @ ..] => match pod_target(node, rest) {
            Ok(pod) => port_forward::serve(node, request, pod, &query).await,
            Err(refusal) => Err(refusal),
        },
        ["run", rest @ ..] => match container(node, rest) {
            Ok(target) => run(node, &target, &query).await,
            Err(refusal) => Err(refusal),
        },
        _ if !is_get => Ok(method_not_allowed("GET")),
        ["containerLogs", namespace, pod, container] => logs::serve(node, [namespace, pod, container], query).await,
        other => Ok(plain(node, other).await),
    };
    answered.unwrap_or_else(|refusal| *refusal)
}

/// Answers what needs nothing but the path.
async fn plain(node: &Node, segments: &[&str]) -> Answer {
    match segments {
        ["healthz"] => health(node, None).await,
        ["healthz", name] => health(node, Some(name)).await,
        ["pods"] => pods(node, |_| true),
        ["runningpods"] => pods(node, is_running),
        ["metrics"] => metrics(node.backend.metrics().await),
        ["metrics", "probes"] => metrics(node.backend.probe_metrics().await),
        ["metrics", "resource"] => with_stats(node, |all| metrics(stats::resource_metrics(all))).await,
        ["metrics", "cadvisor"] => with_stats(node, |all| metrics(stats::cadvisor_metrics(all))).await,
        ["stats", "summary"] => with_stats(node, |all| json(&stats::summary(&node.name, all))).await,
        ["configz"] => json(&serde_json::json!({ "kubeletconfig": node.backend.configuration() })),
        ["logs", ..] => text(StatusCode::METHOD_NOT_ALLOWED, "logs endpoint is disabled.\n"),
        ["debug", ..] => text(StatusCode::METHOD_NOT_ALLOWED, "profiling endpoint is disabled.\n"),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

async fn with_stats(node: &Node, show: impl FnOnce(&stats::NodeStats) -> Answer) -> Answer {
    match node.backend.stats().await {
        Ok(all) => show(&all),
        Err(error) => failure(&error, StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// One part of the health, or all of it; what is wrong is for the log.
async fn health(node: &Node, name: Option<&str>) -> Answer {
    let mut checks = node.backend.health().await;
    if name == Some("ping") {
        return text(StatusCode::OK, "ok");
    }
    if let Some(name) = name {
        checks.retain(|check| check.name == name);
        if checks.is_empty() {
            return text(StatusCode::NOT_FOUND, "404 page not found\n");
        }
    }
    if checks.iter().all(|check| check.problem.is_none()) {
        return text(StatusCode::OK, "ok");
    }
    let mut shown = String::from("[+]ping ok\n");
    for check in checks {
        match check.problem {
            None => shown.push_str(&format!("[+]{} ok\n", check.name)),
            Some(problem) => {
                tracing::warn!(node = node.name, check = check.name, problem, "the node is not healthy");
                shown.push_str(&format!("[-]{} failed: reason withheld\n", check.name));
            }
        }
    }
    shown.push_str("healthz check failed\n");
    text(StatusCode::INTERNAL_SERVER_ERROR, shown)
}

/// Pods as a list of the API.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PodList<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: serde_json::Map<String, serde_json::Value>,
    items: Vec<&'a Pod>,
}

fn pods(node: &Node, is_shown: impl Fn(&Pod) -> bool) -> Answer {
    let all = node.backend.pods();
    let items = all.iter().map(Arc::as_ref).filter(|pod| is_shown(pod)).collect();
    json(&PodList { kind: "PodList", api_version: "v1", metadata: serde_json::Map::new(), items })
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

/// Whether the Pod has a container of that name, of any kind.
pub(crate) fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ordinary = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|one| &one.name);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|one| &one.name);
    ordinary.chain(ephemeral).any(|one| one == name)
}

/// The container that `namespace/pod/container` or `namespace/pod/uid/container` names.
fn container(node: &Node, rest: &[&str]) -> Result<Target, Box<Answer>> {
    let (namespace, pod, uid, container) = match rest {
        [namespace, pod, container] => (namespace, pod, None, container),
        [namespace, pod, uid, container] => (namespace, pod, Some(*uid), container),
        _ => return Err(refuse(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())),
    };
    let found = find(node, namespace, pod, uid)?;
    if !has_container(&found, container) {
        // kubectl shows these words after "unable to upgrade connection".
        return Err(refuse(StatusCode::NOT_FOUND, format!("container not found ({container:?})")));
    }
    let [namespace, pod, container] = [namespace, pod, container].map(|text| (*text).to_owned());
    Ok(Target { namespace, pod, container })
}

fn pod_target(node: &Node, rest: &[&str]) -> Result<PodTarget, Box<Answer>> {
    let (namespace, name, uid) = match rest {
        [namespace, name] => (namespace, name, None),
        [namespace, name, uid] => (namespace, name, Some(*uid)),
        _ => return Err(refuse(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())),
    };
    let found = find(node, namespace, name, uid)?;
    let uid = found.metadata.uid.clone().unwrap_or_default();
    Ok(PodTarget { namespace: (*namespace).to_owned(), name: (*name).to_owned(), uid })
}

fn find(node: &Node, namespace: &str, name: &str, uid: Option<&str>) -> Result<Arc<Pod>, Box<Answer>> {
    let found = node.backend.pod(namespace, name);
    let found = found.ok_or_else(|| refuse(StatusCode::NOT_FOUND, "pod does not exist".to_owned()))?;
    if uid.is_some_and(|uid| found.metadata.uid.as_deref() != Some(uid)) {
        return Err(refuse(StatusCode::NOT_FOUND, "pod not found".to_owned()));
    }
    Ok(found)
}

/// Runs a program without input and gives what it wrote.
async fn run(node: &Node, target: &Target, query: &Query) -> Result<Answer, Box<Answer>> {
    let failed = |error| Box::new(failure(&error, StatusCode::INTERNAL_SERVER_ERROR));
    let args = query.first("cmd").unwrap_or_default().split(' ').map(str::to_owned).collect();
    let mut process = node.backend.exec(target, Exec { args, tty: false, stdin: false }).await.map_err(failed)?;
    let mut written = Vec::new();
    while let Some(event) = process.output.recv().await {
        match event.map_err(failed)? {
            ProcessOutput::Stdout(data) | ProcessOutput::Stderr(data) => written.extend_from_slice(&data),
            ProcessOutput::Exited { code: 0 } => return Ok(text(StatusCode::OK, written)),
            ProcessOutput::Exited { code } => {
                let shown = String::from_utf8_lossy(&written);
                let message = format!("command terminated with exit code {code}: {shown}");
                return Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, message));
            }
        }
        if written.len() > MAX_RUN_OUTPUT {
            let message = format!("the output is longer than {MAX_RUN_OUTPUT} bytes");
            return Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, message));
        }
    }
    let lost = "the connection to the Pod ended before the program did";
    Err(failed(crate::BackendError::new(BackendErrorKind::Failed, lost)))
}
