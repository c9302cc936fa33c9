//! How the daemon fares, for Prometheus and probes.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use monopod_http_serve::{serve_pages, text};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::host::Host;

/// Upper bounds of the histograms in seconds: from what a stage takes at best to a start without KVM on a busy machine.
const BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Stage {
    stage: String,
}

/// What is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    stages: Family<Stage, Histogram>,
    starts: Histogram,
    running: Gauge,
    ended: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("monopod_host");
        let stages = Family::<Stage, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let (starts, running, ended) = (Histogram::new(BUCKETS), Gauge::default(), Gauge::default());
        registry.register("start_stage_seconds", "Time of one stage of a Pod's start", stages.clone());
        registry.register("start_seconds", "Time from a Pod's admission until all its containers ran", starts.clone());
        registry.register("pods_running", "Pods that have not ended", running.clone());
        registry.register("pods_ended", "Pods that have ended and are not removed yet", ended.clone());
        Self { registry, stages, starts, running, ended }
    }

    /// A stage of a start is done. `since_start` counts from the Pod's admission.
    pub(crate) fn stage(&self, name: &str, took: Duration, since_start: Duration) {
        let stage = Stage { stage: name.to_owned() };
        self.stages.get_or_create(&stage).observe(took.as_secs_f64());
        if name == "started" {
            self.starts.observe(since_start.as_secs_f64());
        }
    }

    fn text(&self, host: &Host) -> String {
        let pods = host.pods();
        let ended = pods.iter().filter(|handle| handle.shared.news.finished().is_some()).count();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.running.set(number(pods.len().saturating_sub(ended)));
        self.ended.set(number(ended));
        monopod_http_serve::metrics(&self.registry)
    }
}

/// Serves `/livez`, `/readyz` and `/metrics` until told to stop.
pub async fn serve_status(host: Arc<Host>, listener: TcpListener, stop: CancellationToken) {
    let answer = move |path: &str| match path {
        "/livez" | "/healthz" | "/readyz" => text(StatusCode::OK, "ok\n"),
        "/metrics" => text(StatusCode::OK, host.machine.metrics.text(&host)),
        _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n"),
    };
    serve_pages(listener, stop, answer).await;
}
