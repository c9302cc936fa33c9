//! Probes of all running containers, and what follows from a bad answer.

use jiff::Timestamp;

use super::action::{Action, Notice, ProbeKind};
use super::event::ProbeOutcome;
use super::probe::{self, Judgement};
use super::setup::Vm;
use super::time::{seconds, sooner};
use super::unit::{Role, Unit};
use super::{PodLife, handler, policy};

impl PodLife {
    /// Asks for every probe that is due.
    pub(super) fn drive_probes(&mut self, now: Timestamp) {
        if self.setup.vm != Vm::Ready || self.failure.is_some() {
            return;
        }
        let pod_ip = self.pod_ip();
        for index in 0..self.units.len() {
            let unit = &mut self.units[index];
            let Some(id) = unit.running().map(|(id, _)| id.clone()) else { continue };
            let due = unit.probes_mut().map(|probes| probes.take_due(now)).unwrap_or_default();
            for (kind, spec) in due {
                let (container, timeout) = (self.units[index].name.clone(), probe::timeout(&spec));
                match handler::of_probe(&spec, &self.units[index].spec, &pod_ip) {
                    Ok(handler) => {
                        self.act(Action::RunProbe { id: id.clone(), container, kind, handler, timeout });
                    }
                    Err(error) => self.probe_answered(index, kind, &ProbeOutcome::Error(error), now),
                }
            }
            let next = self.units[index].running().and_then(|(_, probes)| probes.wake_at());
            self.wake = next.map_or(self.wake, |next| sooner(self.wake, next));
        }
    }

    /// Takes a probe's answer in; kills the container that it condemns.
    pub(super) fn probe_answered(&mut self, index: usize, kind: ProbeKind, outcome: &ProbeOutcome, now: Timestamp) {
        let unit = &mut self.units[index];
        let Some(probes) = unit.probes_mut().filter(|probes| probes.is_asked(kind)) else { return };
        let judgement = probes.answer(kind, outcome);
        let notice = Notice::of_probe(unit, kind, outcome);
        notice.into_iter().for_each(|notice| self.tell(notice));
        if judgement == Judgement::Unhealthy && self.ending.is_none() {
            self.kill_unhealthy(index, kind, now);
        }
    }

    fn kill_unhealthy(&mut self, index: usize, kind: ProbeKind, now: Timestamp) {
        let unit = &mut self.units[index];
        let (subject, is_restarted) = match unit.role {
            Role::Sidecar | Role::Init => ("Init container", true),
            Role::Main | Role::Ephemeral => ("Container", policy::restarts_when_unhealthy(&unit.spec, &self.spec)),
        };
        unit.must_restart = is_restarted;
        let probe = kind.as_str().to_lowercase();
        let clause = if is_restarted && subject == "Container" { ", will be restarted" } else { "" };
        let message = format!("{subject} {} failed {probe} probe{clause}", unit.name);
        let own = grace_of_probe(unit, kind);
        let grace = match self.pod.metadata.deletion_grace_period_seconds {
            Some(_) => self.own_grace(),
            None => own.map_or_else(|| self.own_grace(), seconds),
        };
        self.begin_stop(index, grace, message, false, now);
    }
}

fn grace_of_probe(unit: &Unit, kind: ProbeKind) -> Option<i64> {
    let probe = match kind {
        ProbeKind::Startup => &unit.spec.startup_probe,
        ProbeKind::Liveness => &unit.spec.liveness_probe,
        ProbeKind::Readiness => &unit.spec.readiness_probe,
    };
    probe.as_ref()?.termination_grace_period_seconds
}
