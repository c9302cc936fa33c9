//! A thousand Pods come and go, on a machine without guests, and nothing of them stays.

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use monopod_e2e::client::{Run, until_finished};
use monopod_e2e::fake::{Daemon, Stage};
use monopod_e2e::pods::pod;
use monopod_testkit::guest::Script;
use monopod_testkit::wait::wait_for;

/// Pods that live at once.
const LANES: usize = 4;
/// Most that the daemon may grow by over all Pods: its allocator's own arithmetic, and what the fakes write down.
const GROWTH_KIB: usize = 12 << 10;

/// What the process holds: open files, tasks of the daemon, KiB of memory.
fn held(daemon: &Daemon) -> Result<[usize; 3]> {
    let files = std::fs::read_dir("/proc/self/fd")?.count();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    Ok([files, daemon.tasks(), memory.context("the system tells of memory")?.parse()?])
}

async fn one(stage: &Stage, daemon: &Daemon, name: &str) -> Result<()> {
    stage.guest(&format!("uid-{name}")).script("main", Script::runs().prints("hello").exits(0));
    let run = Run { pod: pod(name, "Never"), ..Run::default() };
    let (finished, _) = until_finished(&mut daemon.client.run(run).await?).await?;
    ensure!(finished.phase == "Succeeded", "{name}: {finished:?}");
    daemon.client.remove(name).await
}

/// So many Pods, some of them at once.
async fn pods(stage: &Stage, daemon: &Daemon, from: usize, to: usize) -> Result<()> {
    let lanes = (0..LANES).map(|lane| async move {
        for number in (from + lane..to).step_by(LANES) {
            one(stage, daemon, &format!("pod-{number}")).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(lanes).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vm_a_thousand_pods_leave_nothing() -> Result<()> {
    let stage = Stage::new()?;
    let daemon = stage.daemon().await?;
    let mut first = daemon.client.run(stage.run(pod("first", "Never"))).await?;
    daemon.client.wait_ready("first").await;
    daemon.client.stop("first", Some(0)).await?;
    until_finished(&mut first).await?;
    daemon.client.remove("first").await?;
    pods(&stage, &daemon, 0, 100).await?;
    let [files, tasks, memory] = held(&daemon)?;
    pods(&stage, &daemon, 100, 1000).await?;
    wait_for("files and tasks are as many as before", async || match held(&daemon) {
        Ok([now, alive, _]) if now <= files && alive <= tasks => Ok(()),
        other => Err(format!("{other:?}, {files} files and {tasks} tasks before")),
    })
    .await;
    let after = held(&daemon)?[2];
    println!("after 100 Pods {memory} KiB, after 1000 {after} KiB");
    assert!(after < memory + GROWTH_KIB, "{memory} KiB after 100 Pods, {after} KiB after 1000");
    assert_eq!((stage.machine.running(), stage.net.attached()), (Vec::new(), Vec::new()));
    for folder in ["pods", "logs/pods", "disks/pods", "images/work"] {
        assert_eq!(stage.names(folder), [""; 0], "{folder}");
    }
    Ok(())
}
