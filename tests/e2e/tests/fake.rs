//! What the daemon does with Pods, on a machine without guests. The images are real, so mkfs.erofs and mkfs.ext4 are needed.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::PodStatus;
use monopod_e2e::client::{Run, pod_name, until_finished};
use monopod_e2e::fake::Stage;
use monopod_e2e::pods::{pod, state};
use monopod_host_proto::v1::pod_event::Kind;
use monopod_host_proto::v1::{self as proto};
use monopod_testkit::guest::{ExecScript, Script};
use monopod_testkit::wait::{wait_for, wait_until};
use monopod_vmm::{VmExit, VmId};
use serde_json::json;

#[tokio::test]
async fn vm_a_pod_runs_prints_and_ends_with_its_code() -> Result<()> {
    let stage = Stage::new()?;
    let daemon = stage.daemon().await?;
    stage.guest("uid-job").script("main", Script::runs().prints("hello").complains("oh").exits(3));
    let mut news = daemon.client.run(stage.run(pod("job", "Never"))).await?;
    let (finished, news) = until_finished(&mut news).await?;
    assert_eq!((finished.exit_code, finished.phase.as_str()), (3, "Failed"));
    let stages: Vec<_> = news
        .iter()
        .filter_map(|kind| if let Kind::Stage(stage) = kind { Some(stage.name.as_str()) } else { None })
        .collect();
    for name in ["admitted", "sized", "placed", "image", "network", "vm", "agent", "volumes", "init", "started"] {
        assert!(stages.contains(&name), "{name} in {stages:?}");
    }
    assert_eq!(daemon.client.logs_of("job").await?, "hello\noh\n");
    assert_eq!(daemon.net.attached(), []);
    assert_eq!(stage.machine.running(), []);
    let terminated = state(&daemon.client.pod("job").await?.status.unwrap()).terminated.unwrap();
    assert_eq!((terminated.exit_code, terminated.reason.as_deref()), (3, Some("Error")));
    Ok(())
}

#[tokio::test]
async fn vm_a_running_pod_is_ready_and_stops_orderly() -> Result<()> {
    let stage = Stage::new()?;
    let (daemon, guest) = (stage.daemon().await?, stage.guest("uid-web"));
    daemon.client.run(stage.run(pod("web", "Always"))).await?;
    let status = daemon.client.wait_ready("web").await;
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert!(state(&status).running.is_some());
    let finished = daemon.client.stop("web", None).await?;
    assert_eq!(finished.exit_code, 143);
    assert!(guest.calls().iter().any(|call| call.starts_with("Shutdown")));
    assert_eq!(daemon.net.attached(), []);
    // The name is taken until the Pod is removed.
    assert_eq!(
        daemon.client.run(stage.run(pod("web", "Always"))).await.unwrap_err().code(),
        tonic::Code::AlreadyExists
    );
    let request = proto::RemovePodRequest { pod: Some(pod_name("web")), force: false };
    daemon.client.calls.clone().remove_pod(request).await?;
    assert!(daemon.client.pod("web").await.is_err());
    Ok(())
}

#[tokio::test]
async fn vm_a_pod_that_is_stopped_is_shown_as_kubectl_shows_one_that_is_deleted() -> Result<()> {
    let stage = Stage::new()?;
    let daemon = stage.daemon().await?;
    stage.guest("uid-web").script("main", Script::runs().ignores_sigterm());
    daemon.client.run(stage.run(pod("web", "Always"))).await?;
    daemon.client.wait_ready("web").await;
    assert_eq!(daemon.client.summary("web").await?.shown_status, "Running");
    let client = daemon.client.clone();
    let stopping = tokio::spawn(async move { client.stop("web", Some(2)).await });
    wait_for("it terminates", async || match daemon.client.summary("web").await {
        Ok(pod) if pod.shown_status == "Terminating" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let metadata = daemon.client.pod("web").await?.metadata;
    assert_eq!((metadata.deletion_grace_period_seconds, metadata.deletion_timestamp.is_some()), (Some(2), true));
    assert_eq!(stopping.await??.exit_code, 137);
    assert_eq!(daemon.client.summary("web").await?.shown_status, "Error");
    Ok(())
}

#[tokio::test]
async fn vm_a_refused_pod_is_told_why() -> Result<()> {
    let stage = Stage::new()?;
    let daemon = stage.daemon().await?;
    let mut refused = pod("bad", "Always");
    refused["spec"]["hostNetwork"] = json!(true);
    let error = daemon.client.run(stage.run(refused)).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition);
    assert_eq!(error.message(), "Pod not supported on Fargate: fields not supported: HostNetwork");
    assert_eq!(error.metadata().get("monopod-reason").unwrap(), "POD_UNSUPPORTED_ON_FARGATE");
    Ok(())
}

#[tokio::test]
async fn vm_a_container_that_ends_is_restarted_and_its_former_logs_stay() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.tune = |settings| settings.life.crash.initial = Duration::from_millis(50);
    let daemon = stage.daemon().await?;
    let guest = stage.guest("uid-loop");
    guest.script("main", Script::runs().prints("first").exits(1));
    daemon.client.run(stage.run(pod("loop", "Always"))).await?;
    let restarts = |status: &PodStatus| status.container_statuses.iter().flatten().any(|one| one.restart_count >= 2);
    daemon.client.wait_status("loop", "it has been restarted twice", restarts).await;
    guest.script("main", Script::runs().prints("last"));
    daemon.client.wait_status("loop", "it runs", |status| state(status).running.is_some()).await;
    let logs = proto::LogsRequest { pod: Some(pod_name("loop")), previous: true, ..proto::LogsRequest::default() };
    assert_eq!(daemon.client.logs(logs).await?, "first\n");
    daemon.client.stop("loop", Some(0)).await?;
    Ok(())
}

#[tokio::test]
async fn vm_a_microvm_that_dies_fails_its_pod_and_leaves_nothing() -> Result<()> {
    let stage = Stage::new()?;
    let daemon = stage.daemon().await?;
    let mut news = daemon.client.run(stage.run(pod("lost", "Always"))).await?;
    daemon.client.wait_ready("lost").await;
    stage.machine.end(&VmId::new("uid-lost")?, VmExit::VmmDied("signal 9".to_owned()));
    let (finished, _) = until_finished(&mut news).await?;
    assert_eq!((finished.phase.as_str(), finished.reason.as_str()), ("Failed", "VmmDied"));
    assert!(finished.message.contains("signal 9"), "{}", finished.message);
    assert_eq!(daemon.net.attached(), []);
    Ok(())
}

#[tokio::test]
async fn vm_logs_can_be_followed_to_the_end() -> Result<()> {
    let stage = Stage::new()?;
    let daemon = stage.daemon().await?;
    let guest = stage.guest("uid-talk");
    daemon.client.run(stage.run(pod("talk", "Never"))).await?;
    daemon.client.wait_ready("talk").await;
    let request = proto::LogsRequest { pod: Some(pod_name("talk")), follow: true, ..proto::LogsRequest::default() };
    let client = daemon.client.clone();
    let following = tokio::spawn(async move { client.logs(request).await });
    let id = guest.containers().into_keys().next().unwrap();
    for number in 0..100 {
        guest.print(&id, &format!("line {number}"));
    }
    // Before the end: the call ends with the container, and an acknowledgement on its way is not waited for.
    wait_until("all is acknowledged", || guest.kept_log_entries(&id) == 0).await;
    guest.end(&id, 0);
    let text = following.await??;
    assert_eq!(text, (0..100).map(|number| format!("line {number}\n")).collect::<String>());
    Ok(())
}

#[tokio::test]
async fn vm_a_killed_daemons_pods_run_on_and_are_adopted_without_a_gap() -> Result<()> {
    let stage = Stage::new()?;
    let guest = stage.guest("uid-web");
    let first = stage.daemon().await?;
    first.client.run(stage.run(pod("web", "Always"))).await?;
    let before = first.client.wait_ready("web").await;
    let id = guest.containers().into_keys().next().unwrap();
    guest.print(&id, "before");
    wait_for("the line is there", async || match first.client.logs_of("web").await {
        Ok(text) if text == "before\n" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    first.kill();
    guest.print(&id, "between");

    let second = stage.daemon().await?;
    let after = second.client.wait_ready("web").await;
    assert_eq!(before.container_statuses, after.container_statuses);
    assert_eq!(before.start_time, after.start_time);
    guest.print(&id, "after");
    wait_for("all lines are there, once", async || match second.client.logs_of("web").await {
        Ok(text) if text == "before\nbetween\nafter\n" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(guest.calls().iter().filter(|call| call.starts_with("CreateContainer")).count(), 1);
    second.client.stop("web", Some(1)).await?;
    assert_eq!(stage.machine.running(), []);
    Ok(())
}

#[tokio::test]
async fn vm_a_pod_whose_microvm_died_with_the_daemon_has_failed() -> Result<()> {
    let stage = Stage::new()?;
    let first = stage.daemon().await?;
    first.client.run(stage.run(pod("gone", "Always"))).await?;
    first.client.wait_ready("gone").await;
    first.kill();
    stage.machine.end(&VmId::new("uid-gone")?, VmExit::VmmDied("signal 9".to_owned()));
    let second = stage.daemon().await?;
    let status =
        second.client.wait_status("gone", "it has failed", |status| status.phase.as_deref() == Some("Failed")).await;
    assert!(state(&status).terminated.is_some(), "{status:?}");
    let third = {
        second.kill();
        stage.daemon().await?
    };
    assert_eq!(third.client.pod("gone").await?.status.unwrap().phase.as_deref(), Some("Failed"));
    Ok(())
}

#[tokio::test]
async fn vm_exec_probes_decide_readiness_and_volumes_follow_their_objects() -> Result<()> {
    let stage = Stage::new()?;
    let daemon = stage.daemon().await?;
    let guest = stage.guest("uid-web");
    let failing = ExecScript { stdout: "not yet".to_owned(), code: 1, ..ExecScript::default() };
    guest.script_exec("check", failing);
    let mut web = pod("web", "Always");
    web["spec"]["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["check"]}, "periodSeconds": 1});
    web["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "config", "mountPath": "/etc/web"}]);
    web["spec"]["volumes"] = json!([{"name": "config", "configMap": {"name": "web"}}]);
    let map = |value: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": "default"},
            "data": {"key": value}})
    };
    daemon.client.run(Run { objects: vec![map("old")], ..stage.run(web) }).await?;
    wait_for("the probe's words are told", async || {
        let events = daemon.client.inspect("web").await.map_err(|error| error.to_string())?.events;
        let messages: Vec<_> = events.into_iter().filter_map(|one| one.event).map(|event| event.message).collect();
        if messages.iter().any(|message| message.contains("not yet")) { Ok(()) } else { Err(format!("{messages:?}")) }
    })
    .await;
    guest.script_exec("check", ExecScript::default());
    daemon.client.wait_ready("web").await;

    let objects_json = vec![map("new").to_string().into_bytes()];
    let request = proto::ApplyObjectsRequest { objects_json, ..proto::ApplyObjectsRequest::default() };
    assert_eq!(daemon.client.calls.clone().apply_objects(request).await?.into_inner().pods, 1);
    wait_until("the volume has the new value", || {
        let volume = format!("{:?}", guest.volumes().get("config"));
        volume.contains(&format!("{:?}", b"new".to_vec()))
    })
    .await;
    let (code, stdout, _) = daemon.client.exec("web", &["cat"], b"typed").await?;
    assert_eq!(code, 0, "{stdout}");
    daemon.client.stop("web", Some(0)).await?;
    Ok(())
}
