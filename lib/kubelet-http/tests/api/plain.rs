//! What is answered without streams.

use anyhow::Result;
use hyper::StatusCode;
use monopod_kubelet_http::{LogOptions, Target};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::support::{Served, request, text};

#[tokio::test]
async fn pods_are_a_list_of_the_api() -> Result<()> {
    let served = Served::new().await?;
    for path in ["/pods", "/pods/", "/runningpods/"] {
        let (status, body) = served.get(path).await?;
        let list: Value = serde_json::from_str(&body)?;
        assert_eq!((status, &list["kind"]), (StatusCode::OK, &Value::from("PodList")));
        assert_eq!(list["items"][0]["metadata"]["name"], "web");
    }
    Ok(())
}

#[tokio::test]
async fn each_page_is_where_the_kubelet_has_it() -> Result<()> {
    let served = Served::new().await?;
    for (path, part) in [
        ("/metrics", "kubelet_running_pods 1"),
        ("/metrics/probes", "prober_probe_total 1"),
        ("/metrics/resource", "node_cpu_usage_seconds_total"),
        ("/metrics/cadvisor", "machine_cpu_cores 2"),
        ("/stats/summary", "\"nodeName\":\"node-1\""),
        ("/configz", "{\"kubeletconfig\":{\"maxPods\":1}}"),
        ("/healthz/ping", "ok"),
        ("/healthz/syncloop", "ok"),
    ] {
        let (status, body) = served.get(path).await?;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(body.contains(part), "{path}: {body}");
    }
    for (path, expected) in [
        ("/", StatusCode::NOT_FOUND),
        ("/healthz/other", StatusCode::NOT_FOUND),
        ("/logs/", StatusCode::METHOD_NOT_ALLOWED),
        ("/run/shop/web/app?cmd=cat", StatusCode::METHOD_NOT_ALLOWED),
        ("/exec/shop/web", StatusCode::NOT_FOUND),
        ("/exec/shop/other/app?output=1", StatusCode::NOT_FOUND),
        ("/exec/shop/web/app?output=1", StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(served.get(path).await?.0, expected, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_a_node_is_for_its_log() -> Result<()> {
    let served = Served::new().await?;
    *served.backend.problem.lock().unwrap() = Some("stuck at 10.0.0.1".to_owned());
    let (status, body) = served.get("/healthz").await?;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(body, "[+]ping ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n");
    Ok(())
}

#[tokio::test]
async fn a_log_is_given_as_it_comes() -> Result<()> {
    let served = Served::new().await?;
    let (to, pieces) = mpsc::channel(1);
    *served.backend.log.lock().unwrap() = Some(pieces);
    let path = "/containerLogs/shop/web/app?follow=true&tailLines=5&timestamps=true";
    let request = request("GET", path, &[])?;
    let response = served.send(Some(served.authority.client("admin")?), request).await?;
    // The answer is there before the log is.
    assert_eq!(response.status(), StatusCode::OK);
    to.send(Ok("one\n".into())).await?;
    to.send(Ok("two\n".into())).await?;
    drop(to);
    assert_eq!(text(response).await?.1, "one\ntwo\n");
    let asked = served.backend.logs_asked.lock().unwrap().clone();
    let [namespace, pod, container] = ["shop", "web", "app"].map(str::to_owned);
    let options = LogOptions { follow: true, timestamps: true, tail_lines: Some(5), ..LogOptions::default() };
    assert_eq!(asked, [(Target { namespace, pod, container }, options)]);
    Ok(())
}

#[tokio::test]
async fn who_hangs_up_does_not_read_on() -> Result<()> {
    let served = Served::new().await?;
    let (to, pieces) = mpsc::channel(1);
    *served.backend.log.lock().unwrap() = Some(pieces);
    let request = request("GET", "/containerLogs/shop/web/app?follow=true", &[])?;
    let response = served.send(Some(served.authority.client("admin")?), request).await?;
    drop(response);
    tokio::time::timeout(crate::support::PATIENCE, to.closed()).await?;
    Ok(())
}

#[tokio::test]
async fn logs_that_are_not_there_are_explained() -> Result<()> {
    let served = Served::new().await?;
    for (path, expected) in [
        (
            "/containerLogs/shop/web/app",
            (StatusCode::BAD_REQUEST, "container \"app\" in pod \"web\" is waiting to start: ContainerCreating"),
        ),
        ("/containerLogs/shop/db/app", (StatusCode::NOT_FOUND, "pod \"db\" does not exist")),
        ("/containerLogs/shop/web/db", (StatusCode::NOT_FOUND, "container \"db\" not found in pod \"web\"")),
        (
            "/containerLogs/shop/web/app?limitBytes=0",
            (StatusCode::UNPROCESSABLE_ENTITY, "{\"message\": \"Invalid request.\"}"),
        ),
        (
            "/containerLogs/shop/web/app?tailLines=a",
            (StatusCode::BAD_REQUEST, "{\"message\": \"Unable to decode query.\"}"),
        ),
    ] {
        let (status, body) = served.get(path).await?;
        assert_eq!((status, body.as_str()), expected, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn run_gives_what_a_program_wrote() -> Result<()> {
    let served = Served::new().await?;
    let run = async |command: &str| {
        let request = request("POST", &format!("/run/shop/web/app?cmd={command}"), &[])?;
        text(served.send(Some(served.authority.client("admin")?), request).await?).await
    };
    assert_eq!(run("exit%200").await?, (StatusCode::OK, "outerr".to_owned()));
    let (status, body) = run("exit%204").await?;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(body, "command terminated with exit code 4: outerr");
    Ok(())
}
