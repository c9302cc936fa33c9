//! What goes away or is used up for a while: the API server, the right time, certificates, the host's disk.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use monopod_testkit::cluster::{Capacity, Part};
use monopod_testkit::disk::{mount_in_memory, with_mounts_of_its_own};
use monopod_testkit::wait::wait_for;

use crate::stage::{PATIENCE, Stage, WEB, on_stage, on_stage_with};

/// How long the API server is away.
const OUTAGE: Duration = Duration::from_secs(120);
/// How long certificates of nodes last, in seconds.
const SHORT_LIFE: u64 = 90;
/// The library that gives programs another time than the machine's.
const FAKE_TIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Asks every Pod of the first host for an answer, by the host's own command line.
fn ensure_all_answer(stage: &Stage<'_>, count: usize) -> Result<()> {
    let pods = stage.pods_of_hosts()?;
    ensure!(pods.len() == count, "the host runs {count} Pods: {pods:?}");
    for pod in pods {
        let answer = stage.hosts[0].monopod(&["exec", &pod, "--", "echo", "here"]).output()?;
        ensure!(answer.stdout == b"here\n", "{pod}: {}", String::from_utf8_lossy(&answer.stderr));
    }
    Ok(())
}

#[tokio::test]
async fn cluster_an_api_server_that_is_away_for_two_minutes_costs_no_pod() -> Result<()> {
    on_stage(1, async |stage| {
        stage.apply(WEB).await?;
        stage.web_rolled_out().await?;
        let before = stage.web_containers().await?;
        // One that starts anew remembers nothing from before the last write: watches are told that theirs is too old (410).
        stage.kubectl(&["create", "configmap", "-n", "shop", "last-write"]).await?;
        stage.cluster.kill(Part::ApiServer)?;
        let begun = Instant::now();
        while begun.elapsed() < OUTAGE {
            ensure_all_answer(stage, 2)?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        stage.cluster.spawn(Part::ApiServer)?;
        stage.cluster.wait_ready().await?;
        stage.kubectl(&["scale", "-n", "shop", "deployment/web", "--replicas=3"]).await?;
        stage.web_rolled_out().await?;
        let after = stage.web_containers().await?;
        ensure!(after.len() == 3 && before.iter().all(|one| after.contains(one)), "{before:?} {after:?}");
        ensure_all_answer(stage, 3)?;
        // Kubernetes has called Pods of silent nodes not ready.
        stage.kubectl(&["wait", "-n", "shop", "pods", "--all", "--for=condition=Ready", PATIENCE]).await?;
        let described = stage.kubectl(&["describe", "pods", "-n", "shop"]).await?;
        ensure!(!described.contains("Killing"), "nobody was ended for it: {described}");
        let log = |name: &str| std::fs::read_to_string(stage.cluster.folder().join("logs").join(name));
        for name in ["host-2.log", "controller-one.log"] {
            ensure!(log(name)?.contains("too old resource version"), "the watches of {name} had to begin anew");
        }
        stage.kubectl(&["delete", "-n", "shop", "deployment/web"]).await?;
        stage.wait_nothing_left().await
    })
    .await
}

#[tokio::test]
async fn cluster_certificates_that_run_out_are_renewed_under_running_pods() -> Result<()> {
    let short = (Part::ControllerManager, format!("--cluster-signing-duration={SHORT_LIFE}s"));
    on_stage_with(vec![short], 1, async |stage| {
        stage.apply(WEB).await?;
        stage.web_rolled_out().await?;
        let (begun, before) = (Instant::now(), stage.web_containers().await?);
        let ready = ["get", "pods", "-n", "shop", "-o", "jsonpath={.items[*].status.conditions[?(@.type=='Ready')]}"];
        let was_ready = stage.kubectl(&ready).await?;
        // All that there was at first has run out by then, and connections with it.
        while begun.elapsed() < Duration::from_secs(SHORT_LIFE + 20) {
            let pod = stage.kubectl(&["exec", "-n", "shop", "deployment/web", "--", "echo", "here"]).await?;
            ensure!(pod == "here\n", "{pod}");
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let leases = ["get", "leases", "-n", "kube-node-lease", "-o", "jsonpath={.items[*].spec.renewTime}"];
        let renewed = stage.kubectl(&leases).await?;
        let all_newer = |now: &str| {
            let newer = now.split(' ').zip(renewed.split(' ')).filter(|(now, before)| now > before);
            newer.count() == before.len()
        };
        stage.wait_printed("the Leases of both nodes are renewed", &leases, all_newer).await;
        stage.kubectl(&["scale", "-n", "shop", "deployment/web", "--replicas=3"]).await?;
        stage.web_rolled_out().await?;
        let after = stage.web_containers().await?;
        ensure!(before.iter().all(|one| after.contains(one)), "{before:?} {after:?}");
        let is_ready = stage.kubectl(&ready).await?;
        ensure!(
            was_ready.split("} {").all(|one| is_ready.contains(one.trim_matches(['{', '}']))),
            "{was_ready}: {is_ready}"
        );
        stage.kubectl(&["delete", "-n", "shop", "deployment/web"]).await?;
        stage.wait_nothing_left().await
    })
    .await
}

/// Gives a program the time that a file says.
fn with_time_of(file: &Path) -> Result<[(&str, &str); 4]> {
    ensure!(
        Path::new(FAKE_TIME).exists(),
        "there is no {FAKE_TIME}; install it with scripts/bootstrap (Debian: libfaketime)"
    );
    let file = file.to_str().context("a path is text")?;
    let library = ("LD_PRELOAD", FAKE_TIME);
    // Only the clock that people read: the other is never moved.
    Ok([library, ("FAKETIME_TIMESTAMP_FILE", file), ("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")])
}

#[tokio::test]
async fn cluster_clocks_that_are_moved_disturb_no_pod() -> Result<()> {
    on_stage(1, async |stage| {
        let file = stage.cluster.folder().join("time");
        std::fs::write(&file, "+0")?;
        let environment = with_time_of(&file)?;
        stage.hosts[0].kill_daemon()?;
        stage.hosts[0].start_daemon_with(stage.cluster, Capacity::default(), &environment)?;
        stage.restart_controller_with(&environment)?;
        stage.wait_webhooks().await;
        stage.apply(WEB).await?;
        stage.web_rolled_out().await?;
        let before = stage.web_containers().await?;
        for (time, replicas) in [("+2h", 3), ("-1h", 4)] {
            std::fs::write(&file, time)?;
            stage.kubectl(&["scale", "-n", "shop", "deployment/web", &format!("--replicas={replicas}")]).await?;
            stage.web_rolled_out().await.with_context(|| time.to_owned())?;
            let after = stage.web_containers().await?;
            ensure!(before.iter().all(|one| after.contains(one)), "{time}: {before:?} {after:?}");
            ensure_all_answer(stage, replicas)?;
        }
        // A silent host is one that does not renew its Lease, whatever its clock says.
        let ready =
            stage.kubectl(&["get", "hosts", "-o", "jsonpath={.items[0].status.conditions[?(@.type=='Ready')].status}"]);
        ensure!(ready.await? == "True", "the host is believed");
        ensure!(!stage.words_of_controller().contains("silent"), "{}", stage.words_of_controller());
        stage.kubectl(&["delete", "-n", "shop", "deployment/web"]).await?;
        stage.wait_nothing_left().await
    })
    .await
}

/// The disk of a host, and all but a little of it.
const DISK: u64 = 4 << 30;
const ALL_BUT_A_LITTLE: u64 = DISK / 20 * 19;

#[test]
fn cluster_a_host_without_disk_gets_no_pods_until_it_has_some() -> Result<()> {
    with_mounts_of_its_own(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let folder = tempfile::tempdir()?;
            let _disk = mount_in_memory(folder.path(), DISK)?;
            on_stage(0, async |stage| {
                stage.add_host(2, "zone-a", folder.path().to_owned()).await?;
                let filler = folder.path().join("filler");
                let free = nix::sys::statvfs::statvfs(folder.path())?;
                let used = DISK - free.blocks_available() * free.fragment_size();
                std::fs::File::create(&filler)?;
                fill(&filler, ALL_BUT_A_LITTLE.saturating_sub(used))?;
                stage.kubectl(&["wait", "host/host-2", "--for=condition=DiskPressure", PATIENCE]).await?;
                stage.apply(WEB).await?;
                let events = ["events", "-n", "shop"];
                let why = "0/1 hosts fit: 1 is not ready, or short of memory or disk";
                stage.wait_printed("the Pods are told why they wait", &events, |text| text.contains(why)).await;
                std::fs::remove_file(&filler)?;
                stage.web_rolled_out().await?;
                wait_for("the host has recovered", async || {
                    let conditions =
                        stage.kubectl(&["wait", "host/host-2", "--for=condition=DiskPressure=false", "--timeout=1s"]);
                    conditions.await.map_err(|error| format!("{error:#}"))
                })
                .await;
                Ok(())
            })
            .await
        })
    })
}

/// Takes up room in a file.
fn fill(file: &Path, bytes: u64) -> Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(file)?;
    let bytes = i64::try_from(bytes)?;
    Ok(nix::fcntl::posix_fallocate(&file, 0, bytes)?)
}
