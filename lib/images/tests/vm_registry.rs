//! Pulls from a real registry that is closed, slow, broken or hostile.

mod support;

use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;
use monopod_images::{Credentials, ImageError, Login, Progress, PullPolicy, Reference, Registries, Retry, Stage};
use monopod_testkit::images::{Compression, Dialect, LayerBuilder, StoredImage, TestImage, index};
use monopod_testkit::registry::{Door, Fault, Front, LOGIN, TestRegistry, Tls};

use support::Store;

/// A registry with an image of two layers, one of them of some size, and a front before it.
struct Scene {
    registry: TestRegistry,
    front: Front,
    image: StoredImage,
    reference: Reference,
}

impl Scene {
    async fn new() -> Result<Self> {
        let registry = TestRegistry::start().await?;
        let image = image().stored(Compression::Plain, Dialect::Oci)?;
        registry.push("shop/web", "1", &image).await?;
        let front = Front::of(registry.address()).await?;
        let reference = format!("{}/shop/web:1", front.host()).parse()?;
        Ok(Self { registry, front, image, reference })
    }

    fn login(&self) -> Credentials {
        let mut credentials = Credentials::none();
        let (user, password) = LOGIN;
        credentials.add(&self.front.host(), Login { user: user.to_owned(), password: password.to_owned() });
        credentials
    }

    /// The path of the large layer.
    fn layer(&self) -> &str {
        &self.image.layers[0].digest
    }

    async fn pull(&self, store: &Store, credentials: &Credentials) -> Result<monopod_images::Image, ImageError> {
        store.images.ensure(&self.reference, PullPolicy::Always, credentials, |_| {}).await
    }
}

fn image() -> TestImage {
    let noise: Vec<u8> = (0..300_000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let large = LayerBuilder::new().file("large", 0o644, &noise);
    TestImage::named("shop/web:1").layer(large).layer(LayerBuilder::new().file("small", 0o644, b"1"))
}

#[tokio::test]
async fn vm_logins_open_every_kind_of_door() -> Result<()> {
    let scene = Scene::new().await?;
    for door in [Door::Open, Door::Basic, Door::Token, Door::AnonymousToken] {
        scene.front.set_door(door);
        let pulled = scene.pull(&Store::new()?, &scene.login()).await?;
        assert_eq!(pulled.digest.to_string(), scene.image.manifest.digest, "{door:?}");
    }
    // Anonymous tokens are for those who have nothing to show.
    scene.pull(&Store::new()?, &Credentials::none()).await?;
    Ok(())
}

#[tokio::test]
async fn vm_without_the_right_login_access_is_denied() -> Result<()> {
    let scene = Scene::new().await?;
    let mut wrong = Credentials::none();
    wrong.add(&scene.front.host(), Login { user: "me".to_owned(), password: "wrong".to_owned() });
    for door in [Door::Basic, Door::Token] {
        scene.front.set_door(door);
        for credentials in [&wrong, &Credentials::none()] {
            let error = scene.pull(&Store::new()?, credentials).await.unwrap_err();
            assert!(matches!(error, ImageError::Denied { .. }), "{door:?} {error:?}");
            assert_eq!((error.reason(), error.retry()), ("ErrImagePull", Retry::After(None)));
            assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
        }
    }
    // A wrong login does not stand in the way of a right one, whichever comes first.
    scene.front.set_door(Door::Token);
    let mut both = scene.login();
    both.add(
        &format!("{}/shop/web", scene.front.host()),
        Login { user: "me".to_owned(), password: "wrong".to_owned() },
    );
    scene.pull(&Store::new()?, &both).await?;
    Ok(())
}

#[tokio::test]
async fn vm_a_broken_download_goes_on_where_it_stopped() -> Result<()> {
    let scene = Scene::new().await?;
    let store = Store::new()?;
    scene.front.spoil(scene.layer(), Fault::Cut(400_000), 2);
    scene.pull(&store, &Credentials::none()).await?;
    let asked: Vec<_> = scene.front.asked().into_iter().filter(|asked| asked.path.contains(scene.layer())).collect();
    let ranges: Vec<_> = asked.iter().map(|asked| asked.range.as_deref()).collect();
    assert_eq!(ranges, [None, Some("bytes=400000-"), Some("bytes=800000-")]);
    Ok(())
}

#[tokio::test]
async fn vm_a_registry_without_ranges_starts_again() -> Result<()> {
    let scene = Scene::new().await?;
    let store = Store::new()?;
    scene.front.spoil(scene.layer(), Fault::Cut(400_000), 1);
    scene.front.spoil(scene.layer(), Fault::ForgetRange, 1);
    let most = Mutex::new(0);
    let progress = |now: Progress| {
        let mut most = most.lock().expect("nobody panics");
        *most = (*most).max(now.bytes);
        assert!(now.bytes <= now.total_bytes || now.total_bytes == 0, "{now:?}");
    };
    store.images.ensure(&scene.reference, PullPolicy::Always, &Credentials::none(), progress).await?;
    let total: usize = scene.image.layers.iter().map(|layer| layer.bytes.len()).sum();
    assert_eq!(most.into_inner()?, total as u64);
    Ok(())
}

#[tokio::test]
async fn vm_a_stalled_download_is_asked_for_again() -> Result<()> {
    let scene = Scene::new().await?;
    let store = Store::with(|config| config.patience.stall = Duration::from_millis(500))?;
    scene.front.spoil(scene.layer(), Fault::Stall(100_000), 1);
    scene.pull(&store, &Credentials::none()).await?;
    // One that never moves is given up.
    scene.front.spoil(scene.layer(), Fault::Stall(0), 100);
    let store = Store::with(|config| config.patience.stall = Duration::from_millis(200))?;
    let error = scene.pull(&store, &Credentials::none()).await.unwrap_err();
    assert!(matches!(error, ImageError::Stalled { .. }), "{error:?}");
    assert_eq!(store.names("work")?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn vm_wrong_bytes_are_fetched_once_more_and_then_refused() -> Result<()> {
    let scene = Scene::new().await?;
    scene.front.spoil(scene.layer(), Fault::Corrupt(70_000), 1);
    scene.pull(&Store::new()?, &Credentials::none()).await?;
    scene.front.spoil(scene.layer(), Fault::Corrupt(70_000), 100);
    let error = scene.pull(&Store::new()?, &Credentials::none()).await.unwrap_err();
    assert!(matches!(error, ImageError::WrongDigest { .. }), "{error:?}");
    let scene = Scene::new().await?;
    let digest = scene.reference.at(scene.image.manifest.digest.parse()?);
    for part in ["/manifests/", scene.image.config.digest.as_str()] {
        scene.front.spoil(part, Fault::Corrupt(20), 1);
        let store = Store::new()?;
        let error = store.images.ensure(&digest, PullPolicy::Always, &Credentials::none(), |_| {}).await.unwrap_err();
        assert!(matches!(error, ImageError::WrongDigest { .. }), "{part} {error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn vm_answers_without_end_are_cut_off() -> Result<()> {
    let scene = Scene::new().await?;
    for part in ["/manifests/", scene.image.config.digest.as_str(), scene.layer()] {
        scene.front.spoil(part, Fault::Endless, 1);
        let store = Store::with(|config| config.patience.attempts = 1)?;
        let error = scene.pull(&store, &Credentials::none()).await.unwrap_err();
        let is_cut = matches!(error, ImageError::TooLarge { .. } | ImageError::Protocol { .. });
        assert!(is_cut, "{part} {error:?}");
    }
    scene.front.spoil("/manifests/", Fault::Huge(500, 8 << 20), 1);
    let error = scene.pull(&Store::new()?, &Credentials::none()).await.unwrap_err();
    assert!(error.to_string().len() < 1000, "{error}");
    scene.front.set_door(Door::Token);
    scene.front.spoil("/token", Fault::Huge(200, 8 << 20), 1);
    let error = scene.pull(&Store::new()?, &scene.login()).await.unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn vm_what_the_registry_says_becomes_the_right_error() -> Result<()> {
    let scene = Scene::new().await?;
    let store = Store::with(|config| config.patience.attempts = 1)?;
    let unknown: Reference = format!("{}/shop/web:2", scene.front.host()).parse()?;
    let ensure = |reference: Reference, policy: PullPolicy| {
        let images = store.images.clone();
        async move { images.ensure(&reference, policy, &Credentials::none(), |_| {}).await }
    };
    let error = ensure(unknown.clone(), PullPolicy::IfNotPresent).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{unknown}: not found"));
    let error = ensure(unknown.clone(), PullPolicy::Never).await.unwrap_err();
    let words = format!("Container image \"{unknown}\" is not present with pull policy of Never");
    assert_eq!((error.reason(), error.to_string()), ("ErrImageNeverPull", words));
    scene.front.spoil("/manifests/", Fault::Status(429), 1);
    let error = ensure(unknown.clone(), PullPolicy::Always).await.unwrap_err();
    assert_eq!(error.retry(), Retry::After(Some(Duration::from_secs(7))));
    scene.front.spoil("/manifests/", Fault::Redirect("/v2/"), 1);
    assert_eq!(ensure(unknown.clone(), PullPolicy::Always).await.unwrap_err().reason(), "ErrImagePull");
    // A port where nobody listens.
    let closed = TestRegistry::start().await?.host();
    let gone: Reference = format!("{closed}/shop/web:1").parse()?;
    let error = ensure(gone, PullPolicy::Always).await.unwrap_err();
    assert!(matches!(error, ImageError::Transport { .. }), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn vm_an_index_gives_the_image_for_this_machine() -> Result<()> {
    let registry = TestRegistry::start().await?;
    let ours = image().stored(Compression::Gzip, Dialect::Oci)?;
    let other = TestImage::named("x").stored(Compression::Gzip, Dialect::Oci)?;
    for (tag, image) in [("a", &ours), ("b", &other)] {
        registry.push("shop/web", tag, image).await?;
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let both = index(&[("linux/arm64", &other), ("linux/amd64", &ours)]);
    registry.push_manifest("shop/web", "both", kind, &both).await?;
    registry.push_manifest("shop/web", "arm", kind, &index(&[("linux/arm64", &other)])).await?;
    let store = Store::new()?;
    let reference: Reference = format!("{}/shop/web:both", registry.host()).parse()?;
    let pulled = store.images.ensure(&reference, PullPolicy::Always, &Credentials::none(), |_| {}).await?;
    assert_eq!((pulled.id.to_string(), pulled.digest.to_string()), (ours.config.digest, both.digest));
    assert_eq!(pulled.image_id(), format!("{}/shop/web@{}", registry.host(), pulled.digest));
    // By the index's digest it is here.
    let by_digest = reference.at(pulled.digest);
    store.images.ensure(&by_digest, PullPolicy::Never, &Credentials::none(), |_| {}).await?;
    let arm: Reference = format!("{}/shop/web:arm", registry.host()).parse()?;
    let error = store.images.ensure(&arm, PullPolicy::Always, &Credentials::none(), |_| {}).await.unwrap_err();
    assert!(matches!(error, ImageError::NoPlatform { .. }), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn vm_mirrors_stand_in_and_step_aside() -> Result<()> {
    let scene = Scene::new().await?;
    let name: Reference = "registry.example.com/shop/web:1".parse()?;
    let closed = TestRegistry::start().await?.host();
    let text = format!(
        "registries: {{registry.example.com: {{mirrorsOnly: true, mirrors: [{{url: 'http://{closed}'}}, {{url: 'http://{}'}}]}}}}",
        scene.front.host()
    );
    let store = Store::with(|config| config.registries = Registries::parse(&text).expect("it is well-formed"))?;
    // The registry's own login is not for mirrors.
    let mut credentials = Credentials::none();
    credentials.add("registry.example.com", Login { user: "me".to_owned(), password: "hunter2".to_owned() });
    scene.front.set_door(Door::Basic);
    let pull = |credentials: Credentials| {
        let (images, name) = (store.images.clone(), name.clone());
        async move { images.ensure(&name, PullPolicy::Always, &credentials, |_| {}).await }
    };
    assert!(matches!(pull(credentials).await.unwrap_err(), ImageError::Denied { .. }));
    assert!(scene.front.asked().iter().all(|asked| !asked.had_login && asked.path.contains("ns=registry.example.com")));
    let pulled = pull(scene.login()).await?;
    assert_eq!(pulled.reference, name);
    drop(scene.registry);
    Ok(())
}

#[tokio::test]
async fn vm_tls_is_as_the_file_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    std::fs::write(path("cert.pem"), made.cert.pem())?;
    std::fs::write(path("key.pem"), made.signing_key.serialize_pem())?;
    let tls = Tls { certificate: path("cert.pem"), key: path("key.pem"), clients: Some(path("cert.pem")) };
    let registry = TestRegistry::start_with(Some(&tls)).await?;
    let port = registry.address().port();
    let host = format!("localhost:{port}");
    let certificate = format!("clientCertificate: {:?}, clientKey: {:?}", path("cert.pem"), path("key.pem"));
    let ca = format!("ca: {:?}", path("cert.pem"));
    for (settings, is_reached) in [
        (format!("{ca}, {certificate}"), true),
        (format!("skipVerify: true, {certificate}"), true),
        (ca, false),
        (certificate, false),
    ] {
        let text = format!("registries: {{'{host}': {{server: {{url: 'https://{host}', {settings}}}}}}}");
        let registries = Registries::parse(&text).map_err(anyhow::Error::msg)?;
        let store = Store::with(|config| config.registries = registries)?;
        let reference: Reference = format!("{host}/shop/web:1").parse()?;
        let error =
            store.images.ensure(&reference, PullPolicy::Always, &Credentials::none(), |_| {}).await.unwrap_err();
        // Nothing was pushed: who comes through hears so.
        let was_reached = matches!(error, ImageError::NotFound { .. });
        assert_eq!(was_reached, is_reached, "{settings}: {error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn vm_progress_goes_from_asking_to_done() -> Result<()> {
    let scene = Scene::new().await?;
    let store = Store::new()?;
    let seen = Mutex::new(Vec::new());
    let note = |now: Progress| seen.lock().expect("nobody panics").push(now);
    let pulled = store.images.ensure(&scene.reference, PullPolicy::IfNotPresent, &Credentials::none(), note).await?;
    let seen = seen.into_inner()?;
    assert_eq!(seen.first().map(|now| now.stage), Some(Stage::Resolving));
    assert!(seen.windows(2).all(|pair| pair[0].stage <= pair[1].stage && pair[0].layers <= pair[1].layers), "{seen:?}");
    let total: usize = scene.image.layers.iter().map(|layer| layer.bytes.len()).sum();
    assert_eq!(pulled.pulled.map(|report| report.bytes), Some(total as u64));
    // It is here now: nobody is asked, and nothing was pulled.
    let before = scene.front.asked().len();
    let again = store.images.ensure(&scene.reference, PullPolicy::IfNotPresent, &Credentials::none(), |_| {}).await?;
    assert_eq!((again.pulled, scene.front.asked().len()), (None, before));
    Ok(())
}
