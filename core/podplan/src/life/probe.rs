//! The probes of one running instance: when each is due, and what its answers add up to.
//!
//! Each kind counts answers in a row and changes its verdict at its thresholds. A startup probe ends with its first
//! verdict; the other two wait for it. A failed liveness probe rests until there is a new instance.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};

use super::action::ProbeKind;
use super::event::ProbeOutcome;
use super::time::{later, seconds, sooner};

/// Probes of an instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes {
    workers: Vec<Worker>,
}

#[derive(Clone, Debug)]
struct Worker {
    kind: ProbeKind,
    spec: Probe,
    verdict: Verdict,
    last_answer: Option<bool>,
    /// How often in a row the last answer was given.
    run: i32,
    next_at: Timestamp,
    is_asked: bool,
    is_resting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Unknown,
    Good,
    Bad,
}

/// What an answer leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Nothing to be done.
    Fine,
    /// The instance has to be killed.
    Unhealthy,
}

impl Probes {
    /// Of an instance that runs since a time, from now on.
    pub(super) fn new(container: &Container, started_at: Timestamp, now: Timestamp) -> Self {
        let specs = [
            (ProbeKind::Startup, &container.startup_probe, Verdict::Unknown),
            (ProbeKind::Liveness, &container.liveness_probe, Verdict::Good),
            (ProbeKind::Readiness, &container.readiness_probe, Verdict::Bad),
        ];
        let workers = specs.into_iter().filter_map(|(kind, spec, verdict)| {
            let spec = spec.clone()?;
            let delay = seconds(i64::from(spec.initial_delay_seconds.unwrap_or(0)));
            let next_at = later(started_at, delay).max(now);
            let (last_answer, run) = (None, 0);
            Some(Worker { kind, spec, verdict, last_answer, run, next_at, is_asked: false, is_resting: false })
        });
        Self { workers: workers.collect() }
    }

    /// As a former daemon left them: what was good then is good until an answer says otherwise.
    pub(super) fn recall(&mut self, has_started: bool, is_ready: bool) {
        for worker in &mut self.workers {
            match worker.kind {
                ProbeKind::Startup if has_started => {
                    worker.verdict = Verdict::Good;
                    worker.is_resting = true;
                }
                ProbeKind::Readiness if is_ready => worker.verdict = Verdict::Good,
                ProbeKind::Startup | ProbeKind::Liveness | ProbeKind::Readiness => {}
            }
        }
    }

    /// Whether the startup probe, if there is one, has passed.
    pub(super) fn has_started(&self) -> bool {
        self.verdict(ProbeKind::Startup).is_none_or(|verdict| verdict == Verdict::Good)
    }

    /// Whether the readiness probe, if there is one, has passed.
    pub(super) fn is_ready(&self) -> bool {
        self.verdict(ProbeKind::Readiness).is_none_or(|verdict| verdict == Verdict::Good)
    }

    /// Which probes are to be run now. They count as asked, and are not due before they are answered and a period is over.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<(ProbeKind, Probe)> {
        let has_started = self.has_started();
        let due = self.workers.iter_mut().filter(|worker| worker.may_run(has_started) && worker.next_at <= now);
        due.map(|worker| {
            worker.is_asked = true;
            worker.next_at = later(now, worker.period());
            (worker.kind, worker.spec.clone())
        })
        .collect()
    }

    /// When the next probe is due.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let has_started = self.has_started();
        let waiting = self.workers.iter().filter(|worker| worker.may_run(has_started));
        waiting.fold(None, |wake, worker| sooner(wake, worker.next_at))
    }

    /// Takes an answer in. An answer that nobody asked for changes nothing.
    pub(super) fn answer(&mut self, kind: ProbeKind, outcome: &ProbeOutcome) -> Judgement {
        let asked = self.workers.iter_mut().find(|worker| worker.kind == kind && worker.is_asked);
        asked.map_or(Judgement::Fine, |worker| worker.answer(outcome))
    }

    /// Whether an answer is waited for.
    pub(super) fn is_asked(&self, kind: ProbeKind) -> bool {
        self.workers.iter().any(|worker| worker.kind == kind && worker.is_asked)
    }

    /// Ends those that could kill the instance, since it is being stopped anyway.
    pub(super) fn rest(&mut self) {
        for worker in &mut self.workers {
            worker.is_resting |= worker.kind != ProbeKind::Readiness;
        }
    }

    fn verdict(&self, kind: ProbeKind) -> Option<Verdict> {
        self.workers.iter().find(|worker| worker.kind == kind).map(|worker| worker.verdict)
    }
}

impl Worker {
    fn may_run(&self, has_started: bool) -> bool {
        !self.is_asked && !self.is_resting && has_started == (self.kind != ProbeKind::Startup)
    }

    fn period(&self) -> Duration {
        seconds(i64::from(positive(self.spec.period_seconds, 10)))
    }

    fn answer(&mut self, outcome: &ProbeOutcome) -> Judgement {
        self.is_asked = false;
        let is_good = match outcome {
            ProbeOutcome::Success | ProbeOutcome::Warning(_) => true,
            ProbeOutcome::Failure(_) => false,
            // It says nothing about the container.
            ProbeOutcome::Error(_) => return Judgement::Fine,
        };
        self.run = if self.last_answer == Some(is_good) { self.run.saturating_add(1) } else { 1 };
        self.last_answer = Some(is_good);
        let threshold = match is_good {
            true => positive(self.spec.success_threshold, 1),
            false => positive(self.spec.failure_threshold, 3),
        };
        if self.run < threshold {
            return Judgement::Fine;
        }
        self.verdict = if is_good { Verdict::Good } else { Verdict::Bad };
        let is_unhealthy = !is_good && self.kind != ProbeKind::Readiness;
        if is_unhealthy || self.kind == ProbeKind::Startup {
            self.is_resting = true;
            self.run = 0;
        }
        if is_unhealthy { Judgement::Unhealthy } else { Judgement::Fine }
    }
}

/// A number of a Pod, where an unset or senseless one is as the API server would fill it in.
fn positive(value: Option<i32>, default: i32) -> i32 {
    value.filter(|value| *value > 0).unwrap_or(default)
}

/// How long a probe may take.
pub(super) fn timeout(spec: &Probe) -> Duration {
    seconds(i64::from(positive(spec.timeout_seconds, 1)))
}
