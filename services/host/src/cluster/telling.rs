//! What the API server knows of a Pod's status, and what it is to know.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use tokio::time::Instant;

use super::resizing;
use super::status::{is_contradicted, is_urgent, with_stages};
use crate::pod::PodHandle;

/// How long a status that nobody waits for may wait for the next.
const NOT_URGENT: Duration = Duration::from_secs(2);

/// What the API server knows, and is to know.
pub(super) struct Telling {
    /// The newest version of the Pod that we know.
    version: u64,
    pub(super) said: PodStatus,
    pub(super) wanted: Option<PodStatus>,
    pub(super) due: Option<Instant>,
    /// That a size is wanted which the Pod will not have.
    resize: Option<PodCondition>,
}

impl Telling {
    pub(super) fn new(pod: &Pod) -> Self {
        Self {
            version: version(pod),
            said: pod.status.clone().unwrap_or_default(),
            wanted: None,
            due: None,
            resize: None,
        }
    }

    /// Takes what the API server says, unless it is older than what we know.
    pub(super) fn see(&mut self, pod: &Pod) {
        if version(pod) >= self.version {
            self.version = version(pod);
            self.said = pod.status.clone().unwrap_or_default();
        }
    }

    /// Says again what somebody else has changed.
    pub(super) fn insist(&mut self, status: PodStatus) {
        // Before its task has said a word, there is nothing to insist on.
        if status.phase.is_some() && self.wanted.is_none() && is_contradicted(&status, &self.said) {
            self.want(status);
        }
    }

    /// Looks at the size that is wanted of a Pod; whether something new is to be told of it.
    pub(super) fn see_size(&mut self, wanted: &Pod, running: &Pod) -> bool {
        let Some(running) = &running.spec else { return false };
        self.resize = resizing::pending(wanted, running);
        let said = resizing::condition(&self.said);
        self.resize.as_ref().map(|one| one.observed_generation) != said.map(|one| one.observed_generation)
    }

    pub(super) fn want(&mut self, mut status: PodStatus) {
        let conditions = status.conditions.get_or_insert_default();
        conditions.retain(|one| one.type_ != resizing::PENDING);
        conditions.extend(self.resize.clone());
        let now = Instant::now();
        let due = if is_urgent(&self.said, &status) { now } else { now + NOT_URGENT };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
        self.wanted = Some(status);
    }
}

/// The newest status.
pub(super) fn last_status(handle: &PodHandle) -> PodStatus {
    handle.shared.news.pod().map(|pod| staged(handle, &pod)).unwrap_or_default()
}

/// What a Pod's status is, with the stages of its start.
pub(super) fn staged(handle: &PodHandle, pod: &Pod) -> PodStatus {
    let shared = &handle.shared;
    with_stages(pod.status.clone().unwrap_or_default(), shared.admitted_at, &shared.news.stages())
}

fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}
