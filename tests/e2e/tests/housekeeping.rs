//! What the daemon takes away by itself, on a machine without guests. The images are real, and their disk can be filled.

use std::time::Duration;

use anyhow::Result;
use monopod_e2e::client::Run;
use monopod_e2e::fake::{Stage, with_disks};
use monopod_e2e::pods::pod;
use monopod_testkit::disk;
use monopod_testkit::images::{Compression, Dialect, LayerBuilder, TestImage};
use monopod_testkit::registry::TestRegistry;
use monopod_testkit::wait::wait_until;
use serde_json::json;

/// Puts an image with four megabytes of noise into a registry.
async fn push(registry: &TestRegistry, tag: &str, seed: u32) -> Result<()> {
    let noise: Vec<u8> =
        (0..1_000_000_u32).flat_map(|at| (at ^ seed).wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let image = TestImage::named("shop/web").layer(LayerBuilder::new().file("large", 0o644, &noise));
    registry.push("shop/web", tag, &image.stored(Compression::Plain, Dialect::Oci)?).await?;
    Ok(())
}

fn run(registry: &TestRegistry, name: &str, tag: &str) -> Run {
    let mut pod = pod(name, "Always");
    pod["spec"]["containers"][0]["image"] = json!(format!("{}/shop/web:{tag}", registry.address()));
    Run { pod, ..Run::default() }
}

#[test]
fn vm_an_image_that_nobody_uses_makes_room_for_one_that_is_needed() -> Result<()> {
    with_disks(|| async {
        let mut stage = Stage::new()?;
        stage.tune = |settings| settings.life.image.initial = Duration::from_millis(50);
        stage.tune_images = |images| images.limits.keep_free = 0;
        let images = stage.root().join("images");
        // Enough to make one of the two images while the layers of one are kept, not for both.
        let _disk = disk::mount_in_memory(&images, 15 << 20)?;
        let registry = TestRegistry::start().await?;
        push(&registry, "1", 1).await?;
        push(&registry, "2", 2).await?;
        let daemon = stage.daemon().await?;
        daemon.client.run(run(&registry, "first", "1")).await?;
        daemon.client.wait_ready("first").await;
        daemon.client.stop("first", Some(0)).await?;
        daemon.client.run(run(&registry, "second", "2")).await?;
        daemon.client.wait_ready("second").await;
        daemon.client.stop("second", Some(0)).await?;
        Ok(())
    })
}

#[test]
fn vm_logs_that_a_killed_daemon_left_go_with_the_next() -> Result<()> {
    with_disks(|| async {
        let stage = Stage::new()?;
        let left = stage.root().join("logs/pods/shop_gone_00000000-0000-4000-8000-000000000001/app");
        std::fs::create_dir_all(&left)?;
        let _daemon = stage.daemon().await?;
        wait_until("the logs are gone", || stage.names("logs/pods").is_empty()).await;
        Ok(())
    })
}
