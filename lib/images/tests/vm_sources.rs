//! One image, three ways in: from a real registry, from an OCI layout and from a `docker save` archive.

mod support;

use anyhow::Result;
use monopod_images::{Credentials, PullPolicy, contract};
use monopod_testkit::images::{Compression, Dialect, LayerBuilder, TestImage};
use monopod_testkit::registry::TestRegistry;

use support::{Store, files_of, sample, sha256};

#[tokio::test]
async fn vm_the_same_image_makes_the_same_disk_whichever_way_it_comes() -> Result<()> {
    let image = sample();
    let registry = TestRegistry::start().await?;
    let mut disks = Vec::new();
    for (compression, dialect) in [
        (Compression::Gzip, Dialect::Docker),
        (Compression::Gzip, Dialect::Oci),
        (Compression::Zstd, Dialect::Oci),
        (Compression::Plain, Dialect::Oci),
    ] {
        let tag = format!("{compression:?}-{dialect:?}").to_lowercase();
        registry.push("shop/web", &tag, &image.stored(compression, dialect)?).await?;
        let store = Store::new()?;
        let reference = format!("{}/shop/web:{tag}", registry.host()).parse()?;
        let pulled = store.images.ensure(&reference, PullPolicy::Always, &Credentials::none(), |_| {}).await?;
        disks.push((tag, sha256(&pulled.disk)?, pulled.id));
    }
    let folder = tempfile::tempdir()?;
    let docker = folder.path().join("saved.tar");
    image.write_docker_archive(&docker)?;
    let compressed = folder.path().join("saved.tar.zst");
    std::fs::write(&compressed, zstd::encode_all(image.docker_archive()?.as_slice(), 1)?)?;
    let layout = folder.path().join("layout");
    image.write_oci_layout(&layout, Compression::Gzip)?;
    let archive = folder.path().join("layout.tar");
    std::fs::write(&archive, image.oci_archive(Compression::Zstd)?)?;
    for path in [docker, compressed, layout, archive] {
        let store = Store::new()?;
        let imported = store.images.import_archive(&path, |_| {}).await?;
        let [one] = imported.as_slice() else { anyhow::bail!("{} images in {}", imported.len(), path.display()) };
        assert_eq!(one.reference.to_string(), image.name());
        disks.push((path.display().to_string(), sha256(&one.disk)?, one.id));
        let local = store.images.local(&one.reference)?.expect("an imported image is there");
        assert_eq!(local.config.entrypoint, ["/bin/serve"]);
    }
    for (way, disk, id) in &disks {
        assert_eq!((disk, id), (&disks[0].1, &disks[0].2), "{way} differs from {}", disks[0].0);
    }
    Ok(())
}

#[tokio::test]
async fn vm_a_disk_has_what_the_layers_say() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("saved.tar");
    sample().write_docker_archive(&path)?;
    let store = Store::new()?;
    let imported = store.images.import_archive(&path, |_| {}).await?;
    let files = files_of(&imported[0].disk)?;
    let expected = "\
'.' drwxr-xr-x 0:0 0 links=8 0,0
'./bin' drwxr-xr-x 0:0 1577836800 links=2 0,0
'./bin/copy' -rwsr-xr-x 0:0 1577836800 links=2 0,0
'./bin/serve' -rwsr-xr-x 0:0 1577836800 links=2 0,0
'./dev' drwxr-xr-x 0:0 1577836800 links=2 0,0
'./dev/null' crw-rw-rw- 0:0 1577836800 links=1 1,3
'./etc' drwxr-xr-x 0:0 1577836800 links=2 0,0
'./etc/mine' -rw-r----- 1000:1001 1600000000 links=1 0,0
'./etc/site' -> '/var/www' lrwxrwxrwx 0:0 1577836800 links=1 0,0
'./implied' drwxr-xr-x 0:0 0 links=3 0,0
'./implied/deep' drwxr-xr-x 0:0 0 links=2 0,0
'./implied/deep/file' -rw-r--r-- 0:0 1577836800 links=1 0,0
'./run' drwxr-xr-x 0:0 1577836800 links=2 0,0
'./run/pipe' prw------- 0:0 1577836800 links=1 0,0
'./var' drwxr-xr-x 0:0 1577836800 links=3 0,0
'./var/www' drwxr-xr-x 0:0 1600000000 links=2 0,0
'./var/www/new' -rw-r--r-- 0:0 1577836800 links=1 0,0
";
    assert_eq!(files, expected);
    Ok(())
}

#[tokio::test]
async fn vm_a_registry_and_a_store_keep_the_contract_of_sources() -> Result<()> {
    let registry = TestRegistry::start().await?;
    for name in contract::NAMES {
        let layer = LayerBuilder::new().file("name", 0o644, name.as_bytes());
        let image = TestImage::named(name).layer(layer).stored(Compression::Gzip, Dialect::Oci)?;
        registry.push(name, "1", &image).await?;
    }
    let store = Store::new()?;
    let image = |name: &str| format!("{}/{name}:1", registry.host()).parse().expect("it is a reference");
    let missing = image("missing");
    contract::check_all(&contract::Subject { source: &store.images, image: &image, missing }).await;
    Ok(())
}
