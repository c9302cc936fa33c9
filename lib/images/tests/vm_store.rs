//! The store under load, after crashes and without space.

mod support;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::join_all;
use monopod_images::{Credentials, ImageError, Images, PullPolicy, Reference, Watermarks};
use monopod_testkit::images::{Compression, Dialect, LayerBuilder, TestImage};
use monopod_testkit::registry::{Fault, Front, TestRegistry};

use support::{Store, config, sample};

async fn import(store: &Store, image: &TestImage) -> Result<monopod_images::Image> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("image.tar");
    image.write_docker_archive(&path)?;
    store.images.import_archive(&path, |_| {}).await?.pop().context("an image")
}

fn image(name: &str) -> TestImage {
    TestImage::named(name).layer(LayerBuilder::new().file("name", 0o644, name.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_a_hundred_who_ask_make_one_disk() -> Result<()> {
    let registry = TestRegistry::start().await?;
    registry.push("shop/web", "1", &sample().stored(Compression::Gzip, Dialect::Oci)?).await?;
    let front = Front::of(registry.address()).await?;
    let reference: Reference = format!("{}/shop/web:1", front.host()).parse()?;
    let store = Store::new()?;
    let credentials = Credentials::none();
    let asks = (0..100).map(|_| store.images.ensure(&reference, PullPolicy::Always, &credentials, |_| {}));
    for image in join_all(asks).await {
        assert!(image?.disk.exists());
    }
    let layers = front.asked().into_iter().filter(|asked| asked.path.contains("/blobs/")).map(|asked| asked.path);
    let mut layers: Vec<_> = layers.collect();
    layers.sort();
    let mut once = layers.clone();
    once.dedup();
    // Everyone asks for the small config; layers come once.
    let config = sample().stored(Compression::Gzip, Dialect::Oci)?.config.digest;
    layers.retain(|path| !path.contains(&config));
    assert_eq!((layers.len(), once.len()), (2, 3), "{layers:?}");
    assert_eq!(store.names("disks")?.len(), 2);
    assert_eq!(store.names("work")?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_all_who_wait_get_the_error_of_the_one_attempt() -> Result<()> {
    let registry = TestRegistry::start().await?;
    let stored = sample().stored(Compression::Gzip, Dialect::Oci)?;
    registry.push("shop/web", "1", &stored).await?;
    let front = Front::of(registry.address()).await?;
    front.spoil(&stored.layers[0].digest, Fault::Status(503), 1000);
    let reference: Reference = format!("{}/shop/web:1", front.host()).parse()?;
    let store = Store::new()?;
    let credentials = Credentials::none();
    let asks = (0..20).map(|_| store.images.ensure(&reference, PullPolicy::Always, &credentials, |_| {}));
    for result in join_all(asks).await {
        assert!(matches!(result, Err(ImageError::Status { status: 503, .. })));
    }
    assert_eq!(store.names("work")?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn vm_a_pull_that_nobody_waits_for_ends_and_the_next_one_goes_on() -> Result<()> {
    let registry = TestRegistry::start().await?;
    let noise: Vec<u8> = (0..100_000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let image = TestImage::named("x").layer(LayerBuilder::new().file("a", 0o644, &noise));
    let stored = image.stored(Compression::Plain, Dialect::Oci)?;
    registry.push("shop/web", "1", &stored).await?;
    let front = Front::of(registry.address()).await?;
    front.spoil(&stored.layers[0].digest, Fault::Stall(200_000), 1);
    let reference: Reference = format!("{}/shop/web:1", front.host()).parse()?;
    let store = Store::new()?;
    let credentials = Credentials::none();
    let (sender, mut arrived) = tokio::sync::watch::channel(0);
    let tell = |now: monopod_images::Progress| sender.send_modify(|bytes| *bytes = now.bytes);
    tokio::select! {
        result = store.images.ensure(&reference, PullPolicy::Always, &credentials, tell) => {
            anyhow::bail!("it cannot end: {result:?}")
        }
        seen = arrived.wait_for(|bytes| *bytes >= 200_000) => drop(seen?),
    }
    // What was unpacking is being removed by a thread of its own.
    support::wait_for("an empty work folder", || Ok(store.names("work")?.is_empty())).await?;
    store.images.ensure(&reference, PullPolicy::Always, &credentials, |_| {}).await?;
    let ranges: Vec<_> = front.asked().into_iter().filter_map(|asked| asked.range).collect();
    assert_eq!(ranges, ["bytes=200000-"]);
    Ok(())
}

#[tokio::test]
async fn vm_a_registry_that_stalls_holds_up_nobody_else() -> Result<()> {
    let registry = TestRegistry::start().await?;
    let stored = sample().stored(Compression::Gzip, Dialect::Oci)?;
    registry.push("shop/web", "1", &stored).await?;
    let front = Front::of(registry.address()).await?;
    let layer = stored.layers[0].digest.as_str();
    front.spoil(layer, Fault::Stall(0), 1000);
    let reference: Reference = format!("{}/shop/web:1", front.host()).parse()?;
    let store = Store::with(|config| config.parallel_images = 1)?;
    let credentials = Credentials::none();
    let other = async {
        let is_asked = || Ok(front.asked().iter().any(|asked| asked.path.contains(layer)));
        support::wait_for("the download that stalls", is_asked).await?;
        import(&store, &image("shop/other:1")).await
    };
    tokio::select! {
        result = store.images.ensure(&reference, PullPolicy::Always, &credentials, |_| {}) => {
            anyhow::bail!("the other image comes first: {result:?}")
        }
        other = other => assert!(other?.disk.exists()),
    }
    Ok(())
}

#[tokio::test]
async fn vm_what_a_crash_left_is_gone_after_the_next_start() -> Result<()> {
    let store = Store::new()?;
    let kept = import(&store, &image("shop/kept:1")).await?;
    let folder = store.folder.path();
    std::fs::create_dir_all(folder.join("work/image-dead/root/etc"))?;
    std::fs::write(folder.join("work/image-dead/disk"), "half")?;
    let half = "0".repeat(64);
    std::fs::write(folder.join(format!("disks/{half}.erofs")), "no config")?;
    std::fs::write(folder.join(format!("disks/{}.json", "1".repeat(64))), "no disk")?;
    std::fs::write(folder.join("references/broken.json"), "{")?;
    let images = Images::open(config(folder, |_| {}))?;
    assert_eq!(store.names("work")?, [""; 0]);
    assert_eq!((store.names("disks")?.len(), store.names("references")?.len()), (2, 1));
    assert_eq!(images.list()?.len(), 1);
    assert!(images.hold(&kept.reference, kept.digest, kept.id)?.is_some());
    Ok(())
}

#[tokio::test]
async fn vm_what_another_process_is_making_is_left_alone() -> Result<()> {
    let store = Store::new()?;
    let alive = store.folder.path().join("work/image-alive");
    std::fs::create_dir(&alive)?;
    // Another process, which holds the lock until it is killed.
    let mut other = Command::new("flock")
        .args(["--no-fork".as_ref(), alive.as_os_str(), "sleep".as_ref(), "60".as_ref()])
        .spawn()
        .context("flock")?;
    let is_locked = || {
        let status = Command::new("flock").arg("--nonblock").arg(&alive).arg("true").status()?;
        Ok(!status.success())
    };
    support::wait_for("the other process's lock", is_locked).await?;
    let opened = Images::open(config(store.folder.path(), |_| {}));
    let names = store.names("work");
    other.kill()?;
    other.wait()?;
    opened?;
    assert_eq!(names?, ["image-alive"]);
    Ok(())
}

#[tokio::test]
async fn vm_garbage_is_what_nobody_uses_oldest_first() -> Result<()> {
    let collect_all = Watermarks { high_percent: 0, low_percent: 0, minimum_age: Duration::ZERO };
    let store = Store::with(|config| config.watermarks = collect_all)?;
    let used = import(&store, &image("shop/used:1")).await?;
    let unused = import(&store, &image("shop/unused:1")).await?;
    let (unused_id, unused_name) = (unused.id, unused.reference.clone());
    drop(unused);
    let collected = store.images.collect_garbage().await?;
    assert_eq!(collected.removed, [unused_id]);
    assert!(collected.wanted > collected.freed && collected.freed > 0, "{collected:?}");
    assert!(used.disk.exists() && used.is_held());
    assert_eq!(store.images.local(&unused_name)?.map(|image| image.id), None);
    let names: Vec<_> = store.images.list()?.into_iter().map(|listed| listed.reference).collect();
    assert_eq!(names, std::slice::from_ref(&used.reference));
    // Another process sees the use as well.
    let other = Images::open(config(store.folder.path(), |_| {}))?;
    assert_eq!(other.prune().await?.removed, []);
    let error = other.remove(&used.reference).await.unwrap_err();
    assert_eq!(error.reason(), "ImageInUse");
    let name = used.reference.clone();
    drop(used);
    other.remove(&name).await?;
    assert!(matches!(other.remove(&name).await, Err(ImageError::NotFound { .. })));
    assert_eq!(store.names("disks")?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn vm_an_image_with_two_names_goes_with_the_second() -> Result<()> {
    let store = Store::new()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("image.tar");
    image("shop/one:1").write_docker_archive(&path)?;
    store.images.import_archive(&path, |_| {}).await?;
    let layer = LayerBuilder::new().file("name", 0o644, b"shop/one:1");
    import(&store, &TestImage::named("shop/two:1").layer(layer)).await?;
    assert_eq!((store.names("disks")?.len(), store.images.list()?.len()), (2, 2));
    store.images.remove(&"shop/one:1".parse()?).await?;
    assert_eq!((store.names("disks")?.len(), store.images.list()?.len()), (2, 1));
    store.images.remove(&"shop/two:1".parse()?).await?;
    assert_eq!(store.names("disks")?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn vm_an_image_that_lies_about_its_layers_is_refused() -> Result<()> {
    let store = Store::new()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("image.tar");
    let honest = image("shop/web:1").docker_archive()?;
    // Its config stays as it is, and a file in its layer is another one.
    let at = honest.windows(10).position(|bytes| bytes == b"shop/web:1").context("the file's content")?;
    let mut lying = honest;
    lying[at] = b'S';
    std::fs::write(&path, lying)?;
    let error = store.images.import_archive(&path, |_| {}).await.unwrap_err();
    assert!(matches!(error, ImageError::Layer { .. }), "{error:?}");
    assert_eq!((store.names("work")?.len(), store.names("disks")?.len()), (0, 0));
    Ok(())
}

/// Runs with a small disk of its own: a thread that has its own view of mounts, and everything that it starts.
fn on_a_small_disk(bytes: u64, test: impl FnOnce(&std::path::Path) -> Result<()> + Send) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    let thread = || {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        let options = format!("size={bytes}");
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))?;
        test(path)
    };
    std::thread::scope(|scope| scope.spawn(thread).join().expect("the test does not panic"))
}

#[test]
fn vm_a_full_disk_is_said_and_leaves_nothing_behind() -> Result<()> {
    let archive = tempfile::tempdir()?;
    let path = archive.path().join("image.tar");
    let noise: Vec<u8> = (0..1_000_000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let layer = LayerBuilder::new().file("a", 0o644, &noise);
    image("shop/web:1").layer(layer).write_docker_archive(&path)?;
    // Too small for the layers as the manifest has them; enough for these, but not for the disk beside them.
    for megabytes in [3, 6] {
        on_a_small_disk(megabytes << 20, |folder| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let images = Images::open(config(folder, |_| {}))?;
            let error = runtime.block_on(images.import_archive(&path, |_| {})).unwrap_err();
            assert!(matches!(error, ImageError::DiskFull { .. }), "{error:?}");
            assert_eq!(error.reason(), "ErrImagePull");
            drop(runtime);
            for name in ["work", "disks", "references"] {
                assert_eq!(std::fs::read_dir(folder.join(name))?.count(), 0, "{name}");
            }
            Ok(())
        })?;
    }
    Ok(())
}
