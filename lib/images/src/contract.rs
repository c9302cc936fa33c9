//! What every [`ImageSource`] must do, as checks that any implementation can be put through.
//!
//! A test of an implementation gives a [`Subject`] and calls [`check_all`], or the checks one by one. They panic where
//! the contract is broken.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::timeout;

use crate::{Credentials, Image, ImageError, ImageSource, Progress, PullPolicy, Reference, Stage};

/// Most that one call may take, on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// Most characters of a serial that a guest finds a disk by.
const SERIAL: usize = 36;

/// An implementation and the images that it can be asked for.
pub struct Subject<'a> {
    /// The implementation. It has no image yet.
    pub source: &'a dyn ImageSource,
    /// An image of this name that can be pulled.
    pub image: &'a (dyn Fn(&str) -> Reference + Sync),
    /// One that nobody has.
    pub missing: Reference,
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("missing", &self.missing).finish_non_exhaustive()
    }
}

/// Names of the images that the checks ask for.
pub const NAMES: [&str; 4] = ["never", "pulled", "at-once", "given-up"];

/// All checks, one after the other.
///
/// # Panics
/// When the source does otherwise.
pub async fn check_all(subject: &Subject<'_>) {
    what_is_not_here_is_never_pulled_against_the_policy(subject).await;
    what_nobody_has_is_not_found(subject).await;
    what_was_pulled_is_here(subject).await;
    many_who_ask_at_once_get_one_image(subject).await;
    a_wish_that_is_given_up_harms_nobody(subject).await;
}

async fn ensure(subject: &Subject<'_>, image: &Reference, policy: PullPolicy) -> Result<Image, ImageError> {
    let credentials = Credentials::none();
    let asked = subject.source.ensure(image, policy, &credentials, &|_| {});
    timeout(LONG, asked).await.expect("an answer comes in time")
}

fn check(image: &Image, reference: &Reference) {
    assert_eq!(&image.reference, reference);
    assert!(image.disk.is_file(), "{} is no disk", image.disk.display());
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    assert!(image.serial.len() <= SERIAL && image.serial.bytes().all(is_fit), "{:?}", image.serial);
}

/// `Never` asks nobody.
///
/// # Panics
/// When the source does otherwise.
pub async fn what_is_not_here_is_never_pulled_against_the_policy(subject: &Subject<'_>) {
    let image = (subject.image)("never");
    for _ in 0..2 {
        let error = ensure(subject, &image, PullPolicy::Never).await.expect_err("it is not here");
        assert_eq!(error.reason(), "ErrImageNeverPull", "{error}");
    }
}

/// An image that nobody has is an error that says its name.
///
/// # Panics
/// When the source does otherwise.
pub async fn what_nobody_has_is_not_found(subject: &Subject<'_>) {
    for policy in [PullPolicy::IfNotPresent, PullPolicy::Always] {
        let error = ensure(subject, &subject.missing, policy).await.expect_err("nobody has it");
        assert_eq!(error.reason(), "ErrImagePull", "{error}");
        assert!(error.to_string().contains(&subject.missing.to_string()), "{error}");
    }
}

/// A pull reports its progress and what it cost; afterwards the image is here under every policy, the same one each time,
/// and only `Always` asks for it again.
///
/// # Panics
/// When the source does otherwise.
pub async fn what_was_pulled_is_here(subject: &Subject<'_>) {
    let reference = (subject.image)("pulled");
    let seen = Mutex::new(Vec::new());
    let note = |now: Progress| seen.lock().expect("nobody panics").push(now.stage);
    let credentials = Credentials::none();
    let asked = subject.source.ensure(&reference, PullPolicy::IfNotPresent, &credentials, &note);
    let first = timeout(LONG, asked).await.expect("an answer comes in time").expect("it can be pulled");
    check(&first, &reference);
    assert!(first.pulled.is_some(), "a pull tells what it cost");
    let seen = std::mem::take(&mut *seen.lock().expect("nobody panics"));
    assert_eq!((seen.first(), seen.last()), (Some(&Stage::Resolving), Some(&Stage::Done)));
    assert!(seen.is_sorted(), "{seen:?}");
    for policy in [PullPolicy::IfNotPresent, PullPolicy::Never, PullPolicy::Always] {
        let again = ensure(subject, &reference, policy).await.expect("it is here");
        check(&again, &reference);
        let same = |image: &Image| (image.digest, image.id, image.disk.clone(), image.serial.clone());
        assert_eq!(same(&again), same(&first), "{policy:?}");
        assert_eq!(again.config, first.config);
        assert_eq!(again.pulled.is_some(), policy == PullPolicy::Always, "{policy:?}");
    }
}

/// Whoever asks while others do gets the same image.
///
/// # Panics
/// When the source does otherwise.
pub async fn many_who_ask_at_once_get_one_image(subject: &Subject<'_>) {
    let reference = (subject.image)("at-once");
    let asking = (0..8).map(|_| ensure(subject, &reference, PullPolicy::IfNotPresent));
    let images = futures_util::future::try_join_all(asking).await.expect("it can be pulled");
    for image in &images {
        check(image, &reference);
        assert_eq!((&image.disk, &image.serial), (&images[0].disk, &images[0].serial));
    }
}

/// Dropping the future of a pull does no harm to the next one.
///
/// # Panics
/// When the source does otherwise.
pub async fn a_wish_that_is_given_up_harms_nobody(subject: &Subject<'_>) {
    let reference = (subject.image)("given-up");
    let credentials = Credentials::none();
    for patience in [0, 5] {
        let asked = subject.source.ensure(&reference, PullPolicy::Always, &credentials, &|_| {});
        drop(timeout(Duration::from_millis(patience), asked).await);
    }
    let image = ensure(subject, &reference, PullPolicy::IfNotPresent).await.expect("it can be pulled");
    check(&image, &reference);
}
