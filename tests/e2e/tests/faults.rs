//! What becomes of Pods when something under them breaks, on a machine without guests: registries, disks, guests, daemons.
//! The images are real, so mkfs.erofs, mkfs.ext4 and docker-registry are needed, and root for disks that can be filled.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use monopod_agent_client::Deadlines;
use monopod_e2e::client::{Client, Run, until_finished};
use monopod_e2e::fake::{Stage, with_disks};
use monopod_e2e::pods::{pod, waiting};
use monopod_host::Settings;
use monopod_testkit::disk;
use monopod_testkit::guest::Manner;
use monopod_testkit::images::{Compression, Dialect, LayerBuilder, TestImage};
use monopod_testkit::registry::{Fault, Front, TestRegistry};
use monopod_testkit::vmm::NextStart;
use monopod_testkit::wait::{wait_for, wait_until};
use monopod_vmm::{VmError, VmExit, VmId};
use serde_json::{Value, json};

/// Most that an answer may take that must not wait for what is broken.
const SOON: Duration = Duration::from_secs(30);

/// A registry with an image whose only layer has four megabytes of noise.
struct Shop {
    registry: TestRegistry,
    front: Front,
    layer: String,
}

impl Shop {
    async fn open() -> Result<Self> {
        let noise: Vec<u8> = (0..1_000_000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let image = TestImage::named("shop/web:1").layer(LayerBuilder::new().file("large", 0o644, &noise));
        let image = image.stored(Compression::Plain, Dialect::Oci)?;
        let registry = TestRegistry::start().await?;
        registry.push("shop/web", "1", &image).await?;
        let front = Front::of(registry.address()).await?;
        Ok(Self { registry, front, layer: image.layers[0].digest.clone() })
    }

    /// A Pod that runs the image.
    fn pod(&self, name: &str) -> Run {
        let mut pod = pod(name, "Always");
        pod["spec"]["containers"][0]["image"] = json!(format!("{}/shop/web:1", self.front.host()));
        Run { pod, ..Run::default() }
    }
}

/// Waits for little, and tries again soon.
fn impatient(settings: &mut Settings) {
    settings.life.image.initial = Duration::from_millis(50);
    settings.life.setup.initial = Duration::from_millis(50);
    settings.life.kill_patience = Duration::from_millis(500);
    settings.shutdown_patience = Duration::from_millis(500);
    settings.boot_patience = Duration::from_secs(2);
    settings.adopt_patience = Duration::from_secs(2);
    settings.kill_order_patience = Duration::from_secs(5);
    let second = Duration::from_secs(1);
    settings.deadlines = Deadlines { connect: second, call: 2 * second, long_call: 2 * second, ..Deadlines::default() };
}

async fn wait_pull_failure(client: &Client, name: &str, words: &str) {
    let has_failed = |status: &_| {
        let (reason, message) = waiting(status);
        ["ErrImagePull", "ImagePullBackOff"].contains(&reason.as_str()) && message.contains(words)
    };
    client.wait_status(name, &format!("the pull has failed: {words}"), has_failed).await;
}

/// All events of a Pod so far: reason and message.
async fn events(client: &Client, name: &str) -> Result<Vec<String>> {
    let events = client.inspect(name).await?.events.into_iter().filter_map(|timed| timed.event);
    Ok(events.map(|event| format!("{}: {}", event.reason, event.message)).collect())
}

async fn wait_event(client: &Client, name: &str, words: &str) {
    wait_for(&format!("the event is told: {words}"), async || {
        let events = events(client, name).await.map_err(|error| error.to_string())?;
        if events.iter().any(|event| event.contains(words)) { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
}

fn assert_nothing_is_left(stage: &Stage) {
    assert_eq!(stage.machine.running(), []);
    assert_eq!(stage.net.attached(), []);
    assert_eq!(stage.names("disks/pods"), [""; 0]);
    assert_eq!(stage.names("images/work"), [""; 0]);
}

#[tokio::test]
async fn vm_a_registry_that_is_down_is_told_and_asked_until_it_is_up() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.tune = impatient;
    stage.tune_images = |images| images.patience.attempts = 1;
    let Shop { registry, front, layer } = Shop::open().await?;
    let (address, shop) = (front.address(), Shop { registry, front, layer });
    let web = shop.pod("web");
    drop(shop.front);
    let daemon = stage.daemon().await?;
    daemon.client.run(web).await?;
    wait_pull_failure(&daemon.client, "web", &address.to_string()).await;
    let registry = shop.registry.address();
    let _front = wait_for("the registry has its port again", async || {
        Front::at(address, registry).await.map_err(|error| format!("{error:#}"))
    })
    .await;
    daemon.client.wait_ready("web").await;
    daemon.client.stop("web", Some(0)).await?;
    assert_nothing_is_left(&stage);
    Ok(())
}

#[tokio::test]
async fn vm_a_layer_that_stalls_is_fetched_on_and_nobody_hears_of_it() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.tune_images = |images| {
        images.patience.stall = Duration::from_millis(500);
        images.patience.pause = Duration::from_millis(5);
    };
    let shop = Shop::open().await?;
    shop.front.spoil(&shop.layer, Fault::Stall(1_000_000), 1);
    shop.front.spoil(&shop.layer, Fault::Cut(1_000_000), 1);
    let daemon = stage.daemon().await?;
    daemon.client.run(shop.pod("web")).await?;
    daemon.client.wait_ready("web").await;
    let asked: Vec<_> = shop.front.asked().into_iter().filter(|asked| asked.path.contains(&shop.layer)).collect();
    let ranges: Vec<_> = asked.iter().map(|asked| asked.range.as_deref()).collect();
    assert_eq!(ranges, [None, Some("bytes=1000000-"), Some("bytes=2000000-")]);
    let events = events(&daemon.client, "web").await?;
    assert!(!events.iter().any(|event| event.starts_with("Failed")), "{events:?}");
    daemon.client.stop("web", Some(0)).await?;
    assert_nothing_is_left(&stage);
    Ok(())
}

#[tokio::test]
async fn vm_a_registry_that_falls_silent_holds_up_no_stop() -> Result<()> {
    let stage = Stage::new()?;
    let shop = Shop::open().await?;
    shop.front.spoil(&shop.layer, Fault::Stall(1_000), 100);
    let daemon = stage.daemon().await?;
    daemon.client.run(shop.pod("web")).await?;
    wait_until("the layer is asked for", || shop.front.asked().iter().any(|asked| asked.path.contains(&shop.layer)))
        .await;
    let asked = Instant::now();
    daemon.client.stop("web", None).await?;
    assert!(asked.elapsed() < SOON, "the stop took {:?}", asked.elapsed());
    wait_until("the half-made image is gone", || stage.names("images/work").is_empty()).await;
    assert_nothing_is_left(&stage);
    Ok(())
}

#[test]
fn vm_a_disk_that_is_too_small_for_an_image_is_told_and_tried_again() -> Result<()> {
    with_disks(|| async {
        let mut stage = Stage::new()?;
        stage.tune = impatient;
        stage.tune_images = |images| images.limits.keep_free = 0;
        let images = stage.root().join("images");
        let _disk = disk::mount_in_memory(&images, 3 << 20)?;
        let (shop, daemon) = (Shop::open().await?, stage.daemon().await?);
        daemon.client.run(shop.pod("web")).await?;
        wait_pull_failure(&daemon.client, "web", "no space left").await;
        disk::resize_in_memory(&images, 64 << 20)?;
        daemon.client.wait_ready("web").await;
        daemon.client.stop("web", Some(0)).await?;
        assert_nothing_is_left(&stage);
        Ok(())
    })
}

#[test]
fn vm_a_disk_that_is_too_small_for_a_scratch_disk_is_told_and_tried_again() -> Result<()> {
    with_disks(|| async {
        let mut stage = Stage::new()?;
        stage.tune = impatient;
        let disks = stage.root().join("disks");
        let _disk = disk::mount_in_memory(&disks, 64 << 20)?;
        let daemon = stage.daemon().await?;
        daemon.client.run(stage.run(pod("web", "Always"))).await?;
        wait_event(&daemon.client, "web", "FailedCreatePodSandBox").await;
        let events = events(&daemon.client, "web").await?;
        assert!(events.iter().any(|event| event.contains(&disks.display().to_string())), "{events:?}");
        assert_eq!((stage.machine.running(), stage.net.attached()), (Vec::new(), Vec::new()));
        // With the gigabyte that always stays free.
        disk::resize_in_memory(&disks, 2 << 30)?;
        daemon.client.wait_ready("web").await;
        daemon.client.stop("web", Some(0)).await?;
        assert_nothing_is_left(&stage);
        Ok(())
    })
}

#[test]
fn vm_a_full_disk_holds_logs_up_and_loses_none() -> Result<()> {
    with_disks(|| async {
        let stage = Stage::new()?;
        let logs = stage.root().join("logs");
        let _disk = disk::mount_in_memory(&logs, 1 << 20)?;
        let (daemon, guest) = (stage.daemon().await?, stage.guest("uid-talk"));
        daemon.client.run(stage.run(pod("talk", "Always"))).await?;
        daemon.client.wait_ready("talk").await;
        let id = guest.containers().into_keys().next().unwrap_or_default();
        let filler = logs.join("filler");
        disk::fill(&logs, &filler)?;
        let line = |number: usize| format!("{number} {}", "x".repeat(3000));
        (0..100).for_each(|number| guest.print(&id, &line(number)));
        // The first that could not be written stays with the guest, and the container lives on.
        wait_until("the log has been tried", || {
            guest.calls().iter().filter(|call| call.starts_with("ReadLogs")).count() > 2
        })
        .await;
        assert!(guest.kept_log_entries(&id) > 0);
        std::fs::remove_file(&filler)?;
        let all: String = (0..100).map(|number| line(number) + "\n").collect();
        wait_for("every line is there, once", async || match daemon.client.logs_of("talk").await {
            Ok(text) if text == all => Ok(()),
            Ok(text) => Err(format!("{} of {} bytes", text.len(), all.len())),
            Err(error) => Err(error.to_string()),
        })
        .await;
        wait_until("all is acknowledged", || guest.kept_log_entries(&id) == 0).await;
        daemon.client.stop("talk", Some(0)).await?;
        Ok(())
    })
}

#[test]
fn vm_a_journal_that_could_not_be_written_is_written_later() -> Result<()> {
    with_disks(|| async {
        let stage = Stage::new()?;
        let (pods, filler) = (stage.root().join("pods"), stage.root().join("pods/filler"));
        let _disk = disk::mount_in_memory(&pods, 1 << 20)?;
        let (daemon, guest) = (stage.daemon().await?, stage.guest("uid-job"));
        let mut news = daemon.client.run(stage.run(pod("job", "Never"))).await?;
        daemon.client.wait_ready("job").await;
        disk::fill(&pods, &filler)?;
        let id = guest.containers().into_keys().next().unwrap_or_default();
        guest.end(&id, 7);
        assert_eq!(until_finished(&mut news).await?.0.exit_code, 7);
        // Another Pod cannot be taken: what is not written down would be lost with the daemon.
        let refused = daemon.client.run(stage.run(pod("late", "Never"))).await.expect_err("there is no room");
        assert!(refused.message().contains("No space left"), "{}", refused.message());
        std::fs::remove_file(&filler)?;
        wait_until("the end is written down", || is_finished(&pods.join("uid-job/state.json"))).await;
        daemon.kill();
        let after = stage.daemon().await?;
        let status = after.client.pod("job").await?.status.unwrap_or_default();
        let end = monopod_e2e::pods::state(&status).terminated.map(|end| end.exit_code);
        assert_eq!((status.phase.as_deref(), end), (Some("Failed"), Some(7)));
        assert_nothing_is_left(&stage);
        Ok(())
    })
}

fn is_finished(state: &Path) -> bool {
    let state: Option<Value> = std::fs::read(state).ok().and_then(|text| serde_json::from_slice(&text).ok());
    state.is_some_and(|state| state["finished"].is_object())
}

#[tokio::test]
async fn vm_a_guest_that_is_no_agent_is_told_and_replaced() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.tune = impatient;
    let daemon = stage.daemon().await?;
    let manners = [
        ("silent", Manner::Silent),
        ("hanging", Manner::Hanging),
        ("garbage", Manner::Garbage),
        ("late-garbage", Manner::GarbageAfterHandshake),
    ];
    for (name, manner) in manners {
        // The VM that follows is another one, whose guest is as it must be.
        stage.guest(&format!("uid-{name}")).set_manner(manner);
        daemon.client.run(stage.run(pod(name, "Always"))).await?;
    }
    for (name, _) in manners {
        daemon.client.wait_ready(name).await;
        wait_event(&daemon.client, name, "FailedCreatePodSandBox").await;
        wait_event(&daemon.client, name, "guest agent").await;
        let starts = stage.machine.calls().iter().filter(|call| **call == format!("start uid-{name}")).count();
        assert_eq!(starts, 2, "{name}");
        daemon.client.stop(name, Some(0)).await?;
    }
    assert_nothing_is_left(&stage);
    Ok(())
}

#[tokio::test]
async fn vm_an_agent_that_hangs_harms_only_its_pod_which_can_be_stopped() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.tune = impatient;
    let daemon = stage.daemon().await?;
    for name in ["sane", "stuck"] {
        daemon.client.run(stage.run(pod(name, "Always"))).await?;
        daemon.client.wait_ready(name).await;
    }
    stage.guest("uid-stuck").set_manner(Manner::Hanging);
    let asked = Instant::now();
    assert!(daemon.client.exec("stuck", &["true"], b"").await.is_err());
    assert!(asked.elapsed() < SOON, "exec took {:?}", asked.elapsed());
    let (code, ..) = daemon.client.exec("sane", &["true"], b"").await?;
    assert_eq!(code, 0);
    let asked = Instant::now();
    let finished = daemon.client.stop("stuck", Some(1)).await?;
    assert!(asked.elapsed() < SOON, "the stop took {:?}", asked.elapsed());
    assert_eq!((finished.exit_code, finished.phase.as_str()), (137, "Failed"));
    assert_eq!(stage.machine.running(), [VmId::new("uid-sane")?]);
    daemon.client.stop("sane", Some(0)).await?;
    assert_nothing_is_left(&stage);
    Ok(())
}

#[tokio::test]
async fn vm_a_guest_that_does_not_take_the_order_to_kill_is_lost_with_its_pod() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.tune = impatient;
    let daemon = stage.daemon().await?;
    let mut stuck = pod("stuck", "Always");
    stuck["spec"]["terminationGracePeriodSeconds"] = json!(1);
    // Nobody listens there, so the container is soon to be restarted.
    let probe = json!({"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 1, "initialDelaySeconds": 3});
    stuck["spec"]["containers"][0]["livenessProbe"] = probe;
    let mut news = daemon.client.run(stage.run(stuck)).await?;
    daemon.client.wait_ready("stuck").await;
    stage.guest("uid-stuck").set_manner(Manner::Hanging);
    let (finished, _) = until_finished(&mut news).await?;
    assert_eq!((finished.phase.as_str(), finished.reason.as_str()), ("Failed", "GuestUnresponsive"));
    assert!(finished.message.contains("did not take the order to kill"), "{}", finished.message);
    assert_nothing_is_left(&stage);
    Ok(())
}

#[tokio::test]
async fn vm_a_guest_that_says_garbage_to_the_next_daemon_harms_only_its_pod() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.tune = impatient;
    let first = stage.daemon().await?;
    for name in ["sane", "mad", "mute"] {
        first.client.run(stage.run(pod(name, "Always"))).await?;
        first.client.wait_ready(name).await;
    }
    first.kill();
    stage.guest("uid-mad").set_manner(Manner::Garbage);
    stage.guest("uid-mute").set_manner(Manner::Silent);
    let second = stage.daemon().await?;
    second.client.wait_ready("sane").await;
    for name in ["mad", "mute"] {
        let has_failed = |status: &k8s_openapi::api::core::v1::PodStatus| status.phase.as_deref() == Some("Failed");
        let status = second.client.wait_status(name, "it has failed", has_failed).await;
        assert!(status.message.is_some_and(|message| !message.is_empty()), "{name}");
    }
    assert_eq!(stage.machine.running(), [VmId::new("uid-sane")?]);
    second.client.stop("sane", Some(0)).await?;
    assert_nothing_is_left(&stage);
    Ok(())
}

#[tokio::test]
async fn vm_the_last_words_of_a_kernel_are_in_the_status() -> Result<()> {
    let stage = Stage::new()?;
    let daemon = stage.daemon().await?;
    let mut news = daemon.client.run(stage.run(pod("lost", "Always"))).await?;
    daemon.client.wait_ready("lost").await;
    let words = "Kernel panic - not syncing: Attempted to kill init!";
    stage.machine.end(&VmId::new("uid-lost")?, VmExit::Panicked(words.to_owned()));
    let (finished, _) = until_finished(&mut news).await?;
    assert_eq!((finished.phase.as_str(), finished.reason.as_str()), ("Failed", "GuestPanicked"));
    assert!(finished.message.contains(words), "{}", finished.message);
    assert_nothing_is_left(&stage);
    Ok(())
}

#[tokio::test]
async fn vm_a_microvm_that_does_not_start_is_told_and_tried_again() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.tune = impatient;
    let daemon = stage.daemon().await?;
    for _ in 0..2 {
        stage.machine.next_start(NextStart::Fails(VmError::Died { how: "exit status 1".to_owned() }));
    }
    daemon.client.run(stage.run(pod("web", "Always"))).await?;
    daemon.client.wait_ready("web").await;
    wait_event(&daemon.client, "web", "exit status 1").await;
    assert_eq!((stage.machine.running().len(), stage.net.attached().len()), (1, 1));
    daemon.client.stop("web", Some(0)).await?;
    assert_nothing_is_left(&stage);
    Ok(())
}

#[tokio::test]
async fn vm_a_pod_whose_daemon_was_killed_during_its_start_is_started_by_the_next() -> Result<()> {
    let stage = Stage::new()?;
    let first = stage.daemon().await?;
    stage.machine.next_start(NextStart::Takes(Duration::from_secs(3600)));
    first.client.run(stage.run(pod("web", "Always"))).await?;
    wait_until("its microVM starts", || !stage.machine.running().is_empty()).await;
    first.kill();
    let second = stage.daemon().await?;
    second.client.wait_ready("web").await;
    assert_eq!((stage.machine.running().len(), stage.net.attached().len()), (1, 1));
    assert_eq!(stage.names("disks/pods").len(), 1);
    second.client.stop("web", Some(0)).await?;
    assert_nothing_is_left(&stage);
    Ok(())
}
