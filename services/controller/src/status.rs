//! How the controller fares, for probes, Prometheus and people.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

/// Upper bounds of the histograms in seconds.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Review {
    path: String,
    outcome: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Attempt {
    result: String,
}

/// What one replica is and does.
#[derive(Debug)]
pub(crate) struct Status {
    identity: String,
    ready: AtomicBool,
    registry: Registry,
    reviews: Family<Review, Counter>,
    review_seconds: Histogram,
    attempts: Family<Attempt, Counter>,
    placing_seconds: Histogram,
    leading: Gauge,
    pods: Gauge,
    places: Gauge,
    waiting: Mutex<BTreeMap<String, Waiting>>,
}

/// Why a Pod waits.
#[derive(Clone, Debug)]
struct Waiting {
    pod: String,
    reason: String,
    message: String,
}

impl Status {
    pub(crate) fn new(identity: &str) -> Self {
        let mut registry = Registry::with_prefix("monopod");
        let histogram = || Histogram::new(BUCKETS);
        let (reviews, review_seconds) = (Family::default(), histogram());
        let (attempts, placing_seconds) = (Family::default(), histogram());
        let (leading, pods, places) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("webhook_reviews", "Admission reviews", reviews.clone());
        registry.register("webhook_review_seconds", "Time to answer a review", review_seconds.clone());
        registry.register("scheduling_attempts", "Answers of the scheduler about Pods", attempts.clone());
        registry.register(
            "scheduling_placement_seconds",
            "Time of the three writes of a placement",
            placing_seconds.clone(),
        );
        registry.register("leading", "Whether this replica leads", leading.clone());
        registry.register("scheduler_pods", "Pods that the scheduler knows", pods.clone());
        registry.register("scheduler_places", "Places that are taken", places.clone());
        Self {
            identity: identity.to_owned(),
            ready: AtomicBool::new(false),
            registry,
            reviews,
            review_seconds,
            attempts,
            placing_seconds,
            leading,
            pods,
            places,
            waiting: Mutex::default(),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    pub(crate) fn set_leading(&self, leading: bool) {
        self.leading.set(leading.into());
        if !leading {
            self.lock().clear();
        }
    }

    /// A review was answered, or not.
    pub(crate) fn reviewed(&self, path: &str, outcome: &str, took: Duration) {
        // Paths that are none of ours would each be a series.
        let path = if outcome == "UnknownPath" { "other" } else { path };
        let labels = Review { path: path.to_owned(), outcome: outcome.to_owned() };
        self.reviews.get_or_create(&labels).inc();
        self.review_seconds.observe(took.as_secs_f64());
    }

    /// The scheduler has an answer about a Pod.
    pub(crate) fn attempted(&self, result: &str) {
        self.attempts.get_or_create(&Attempt { result: result.to_owned() }).inc();
    }

    /// A placement was written.
    pub(crate) fn placed(&self, took: Duration) {
        self.placing_seconds.observe(took.as_secs_f64());
    }

    /// What the scheduler knows.
    pub(crate) fn knows(&self, pods: usize, places: usize) {
        self.pods.set(i64::try_from(pods).unwrap_or(i64::MAX));
        self.places.set(i64::try_from(places).unwrap_or(i64::MAX));
    }

    pub(crate) fn waits(&self, uid: &str, pod: &str, reason: &str, message: &str) {
        let (pod, reason, message) = (pod.to_owned(), reason.to_owned(), message.to_owned());
        self.lock().insert(uid.to_owned(), Waiting { pod, reason, message });
    }

    pub(crate) fn waits_no_more(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// For Prometheus.
    pub(crate) fn metrics(&self) -> String {
        monopod_http_serve::metrics(&self.registry)
    }

    /// For people: what it believes.
    pub(crate) fn state(&self) -> Value {
        let waiting = self.lock();
        let waiting = waiting.values().map(|one| json!({"pod": one.pod, "reason": one.reason, "message": one.message}));
        json!({
            "identity": self.identity,
            "version": env!("CARGO_PKG_VERSION"),
            "ready": self.is_ready(),
            "leading": self.leading.get() == 1,
            "scheduler": {
                "pods": self.pods.get(),
                "placesTaken": self.places.get(),
                "waiting": waiting.collect::<Vec<_>>(),
            },
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
