//! Gets the images of a Pod. They are asked for at once when the Pod begins, beside the start of its microVM; when the
//! machine asks for one, it is there already or under way.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Secret};
use monopod_images::{Credentials, Image, ImageError, Images, Progress, PullPolicy, Stage};
use monopod_podplan::life::{self, ContainerName, Event, ImageFacts, Pulled};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::task::Note;
use super::work::{Work, chain};
use crate::news::{Item, PullProgress};

/// Pulls that were begun before they were asked for.
#[derive(Debug, Default)]
pub(super) struct Early {
    pulls: BTreeMap<ContainerName, Pull>,
}

/// A pull under way.
#[derive(Debug)]
pub(super) struct Pull {
    image: String,
    /// Set once a registry is asked.
    is_pulling: watch::Receiver<bool>,
    /// Whoever does not wait for it any more ends it.
    result: AbortOnDropHandle<Result<Image, ImageError>>,
}

/// Between two reports of progress.
const REPORT_PERIOD: Duration = Duration::from_millis(100);

impl Early {
    /// Begins to get all images that the Pod starts with.
    pub(super) fn begin(work: &Work) -> Self {
        let spec = work.pod.spec.as_ref();
        let containers = spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        let pulls = containers.map(|container| {
            let name = ContainerName::new(container.name.clone());
            (name, Pull::begin(work, container.image.as_deref().unwrap_or_default(), policy(container)))
        });
        Self { pulls: pulls.collect() }
    }

    /// The pull for a container, if it was begun early and not asked for yet.
    pub(super) fn take(&mut self, container: &ContainerName) -> Option<Pull> {
        self.pulls.remove(container)
    }
}

impl Pull {
    fn begin(work: &Work, image: &str, policy: PullPolicy) -> Self {
        let (tell, is_pulling) = watch::channel(false);
        let (work, name) = (work.clone(), image.to_owned());
        let result = AbortOnDropHandle::new(tokio::spawn(async move { get(&work, &name, policy, tell).await }));
        Self { image: image.to_owned(), is_pulling, result }
    }
}

/// Answers the machine's wish for an image.
pub(super) async fn pull(
    work: &Work,
    early: Option<Pull>,
    container: ContainerName,
    image: String,
    policy: life::PullPolicy,
) {
    let begun = Instant::now();
    let policy = match policy {
        life::PullPolicy::Always => PullPolicy::Always,
        life::PullPolicy::IfNotPresent => PullPolicy::IfNotPresent,
        life::PullPolicy::Never => PullPolicy::Never,
    };
    let early = early.filter(|early| early.image == image);
    let Pull { mut is_pulling, result, .. } = early.unwrap_or_else(|| Pull::begin(work, &image, policy));
    // The sender goes with the pull, so this ends when nothing was pulled.
    if is_pulling.wait_for(|is_pulling| *is_pulling).await.is_ok() {
        work.tell(Event::ImagePulling { container: container.clone() }).await;
    }
    match result.await {
        Ok(Ok(image)) => {
            work.shared.stage("image", begun);
            let facts = facts(&image, begun);
            work.note(Note::Image { container: container.clone(), image: Box::new(image) }).await;
            work.tell(Event::ImageReady { container, image: facts }).await;
        }
        Ok(Err(error)) => {
            if matches!(error, ImageError::DiskFull { .. }) {
                work.machine.room_wanted.notify_one();
            }
            let (reason, message) = (error.reason().to_owned(), chain(&error));
            work.tell(Event::ImageFailed { container, reason, message }).await;
        }
        Err(failed) => {
            let (reason, message) = ("ErrImagePull".to_owned(), format!("the pull broke off: {failed}"));
            work.tell(Event::ImageFailed { container, reason, message }).await;
        }
    }
}

/// The images that are here and need no question to a registry, so that the microVM can have them from its begin.
pub(super) async fn at_hand(work: &Work) -> Vec<Image> {
    let spec = work.pod.spec.as_ref();
    let containers = spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let unasked = containers.filter(|container| policy(container) != PullPolicy::Always);
    let names: Vec<_> = unasked.filter_map(|container| container.image.clone()).collect();
    let mut images = Vec::new();
    for name in names {
        let Ok(reference) = Images::reference(&name) else { continue };
        let (credentials, silent) = (Credentials::none(), |_: Progress| {});
        let here = work.machine.images.ensure(&reference, PullPolicy::Never, &credentials, &silent);
        images.extend(here.await.ok());
    }
    images
}

fn facts(image: &Image, begun: Instant) -> ImageFacts {
    let pulled = image.pulled.map(|report| Pulled {
        took: report.duration,
        took_with_waiting: report.duration.max(begun.elapsed()),
        bytes: image.size,
    });
    ImageFacts {
        image: image.reference.to_string(),
        image_id: image.image_id(),
        stop_signal: image.config.stop_signal.clone(),
        pulled,
    }
}

async fn get(work: &Work, name: &str, policy: PullPolicy, tell: watch::Sender<bool>) -> Result<Image, ImageError> {
    let reference = Images::reference(name)?;
    let credentials = credentials(work);
    let reported = Mutex::new(Instant::now());
    let progress = |progress: Progress| {
        tell.send_if_modified(|is_pulling| !std::mem::replace(is_pulling, true));
        let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.elapsed() >= REPORT_PERIOD || progress.stage == Stage::Done {
            *reported = Instant::now();
            work.shared.news.tell(Timestamp::now(), Item::Pull(report(name, progress)));
        }
    };
    work.machine.images.ensure(&reference, policy, &credentials, &progress).await
}

fn report(image: &str, progress: Progress) -> PullProgress {
    let step = match progress.stage {
        Stage::Resolving => "resolving",
        Stage::Fetching => "downloading",
        Stage::Unpacking => "unpacking",
        Stage::MakingDisk => "making disk",
        Stage::Done => "ready",
    };
    PullProgress { image: image.to_owned(), step, done: progress.bytes, total: progress.total_bytes }
}

fn policy(container: &Container) -> PullPolicy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some(_) | None => PullPolicy::IfNotPresent,
    }
}

/// The logins of the Pod's pull secrets. One that is none is passed over, as the kubelet does.
fn credentials(work: &Work) -> Credentials {
    let mut credentials = Credentials::none();
    for secret in work.objects.pull_secrets(&work.pod) {
        if let Err(error) = add_secret(&mut credentials, secret) {
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            tracing::warn!(pod = %work.shared.name, secret = name, error = &error as &dyn std::error::Error, "pull secret is of no use");
        }
    }
    credentials
}

fn add_secret(credentials: &mut Credentials, secret: &Secret) -> Result<(), ImageError> {
    let key = |key: &str| -> Option<Vec<u8>> {
        let text = secret.string_data.as_ref().and_then(|data| data.get(key)).map(|text| text.clone().into_bytes());
        text.or_else(|| secret.data.as_ref()?.get(key).map(|data| data.0.clone()))
    };
    if let Some(config) = key(".dockerconfigjson") {
        credentials.add_docker_config_json(&config)?;
    }
    if let Some(config) = key(".dockercfg") {
        credentials.add_dockercfg(&config)?;
    }
    Ok(())
}
