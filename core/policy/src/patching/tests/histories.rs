//! Random clusters lived through from notice to end. The world keeps its own log of what it did to each Pod and checks
//! the promises against that log, not against the records of the planner.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What chance holds for one Pod.
#[derive(Clone, Debug)]
struct Fate {
    profile: u8,
    zone: u8,
    patched: bool,
    /// Hours from the notice to its creation.
    created: i64,
    /// Whether the first, then the second eviction is refused.
    refusals: [bool; 2],
    /// Rounds that it takes to go.
    grace: u8,
    /// The round in which its owner deletes it, if he does.
    recreated: Option<u8>,
    /// In these rounds the controller dies between a call and the record of it.
    crashes: u64,
}

/// Minutes by which the controller's clock is wrong, round after round.
fn skews() -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![Just(vec![0]), proptest::collection::vec(-300..300_i64, 1..20)]
}

/// What the world saw happen to one Pod.
#[derive(Default)]
struct Log {
    told: Option<Timestamp>,
    evictions: usize,
    first_eviction: Option<Timestamp>,
    announced: Option<Timestamp>,
    rounds_left: Option<u8>,
}

struct World {
    rollout: Rollout,
    fates: BTreeMap<PodUid, Fate>,
    logs: BTreeMap<PodUid, Log>,
    pods: Vec<RunningPod>,
}

fn fate() -> impl Strategy<Value = Fate> {
    let recreated = proptest::option::weighted(0.1, 0..60_u8);
    let created = prop_oneof![4 => -100..=0_i64, 1 => 1..30_i64];
    let crashes = prop_oneof![3 => Just(0_u64), 1 => any::<u64>()];
    (0..3_u8, 0..3_u8, proptest::bool::weighted(0.2), created, any::<[bool; 2]>(), 0..4_u8, recreated, crashes)
        .prop_map(|(profile, zone, patched, created, refusals, grace, recreated, crashes)| Fate {
            profile,
            zone,
            patched,
            created,
            refusals,
            grace,
            recreated,
            crashes,
        })
}

fn limit() -> impl Strategy<Value = Limit> {
    prop_oneof![(1..4_usize).prop_map(pods), (1..=100_u8).prop_map(|p| Limit::Percent(Percent::try_from(p).unwrap()))]
}

fn world() -> impl Strategy<Value = World> {
    let urgency = prop_oneof![Just(Urgency::Routine), Just(Urgency::Urgent), Just(Urgency::Critical)];
    (proptest::collection::vec(fate(), 1..14), limit(), limit(), urgency).prop_map(
        |(fates, per_profile, per_zone, urgency)| {
            let budget = Budget { per_profile, per_zone };
            let rollout = Rollout { deadlines: urgency.deadlines(), budget, ..rollout() };
            let fates: BTreeMap<_, _> =
                fates.into_iter().enumerate().map(|(i, fate)| (PodUid::new(format!("p{i:02}")), fate)).collect();
            World {
                rollout,
                logs: fates.keys().map(|uid| (uid.clone(), Log::default())).collect(),
                pods: Vec::new(),
                fates,
            }
        },
    )
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.rollout, self.fates)
    }
}

/// How many of `running` Pods the limit allows, by trying every number.
fn allowed(limit: Limit, running: usize) -> usize {
    match limit {
        Limit::Pods(pods) => pods.get(),
        Limit::Percent(percent) => {
            let number = (1..=100_u8).find(|number| Percent::try_from(*number) == Ok(percent)).unwrap();
            (1..=running).filter(|pods| pods * 100 <= running * usize::from(number)).count().max(1)
        }
    }
}

impl World {
    /// Pods appear when they are created, and go when their grace is over or their owner wants it.
    fn turn(&mut self, round: usize, now: Timestamp) {
        let previous = now - SignedDuration::from_hours(2);
        for (uid, fate) in &self.fates {
            let created = at(fate.created * HOUR);
            if created <= now && (round == 0 || created > previous) {
                self.pods.push(RunningPod {
                    profile: ProfileName::new(format!("profile-{}", fate.profile)),
                    guest: version(if fate.patched { "2.0.0" } else { "1.0.0" }),
                    created,
                    ..pod(uid.as_str(), &format!("zone-{}", fate.zone))
                });
            }
            let log = self.logs.get_mut(uid).unwrap();
            if fate.recreated.map(usize::from) == Some(round) {
                log.rounds_left.get_or_insert(fate.grace);
            }
            log.rounds_left = log.rounds_left.map(|left| left.saturating_sub(1));
        }
        let logs = &self.logs;
        self.pods.retain(|pod| logs[&pod.uid].rounds_left != Some(0));
        for pod in &mut self.pods {
            pod.terminating = logs[&pod.uid].rounds_left.is_some();
        }
    }

    /// Carries one step out, checks that it was allowed, and says what came of it.
    fn carry_out(&mut self, step: &Step, now: Timestamp) -> Outcome {
        let log = self.logs.get_mut(&step.pod).unwrap();
        let fate = &self.fates[&step.pod];
        let mut leave = || log.rounds_left = Some(fate.grace + 1);
        let refused = || Outcome::EvictionFailed { message: EVICT_ERROR_DISRUPTION_BUDGET.to_owned() };
        match &step.action {
            Action::Notify { evict_at } => {
                log.told = Some(*evict_at);
                Outcome::Noticed { evict_at: *evict_at }
            }
            Action::Evict => {
                assert!(log.told.is_some_and(|date| date <= now), "{} evicted before its date", step.pod);
                log.first_eviction.get_or_insert(now);
                log.evictions += 1;
                if fate.refusals[0] {
                    return refused();
                }
                leave();
                Outcome::EvictionAccepted
            }
            Action::Announce(told) => {
                assert!(log.first_eviction.is_some(), "{} announced before a first eviction", step.pod);
                log.announced = Some(told.scheduled_termination_time);
                Outcome::Announced { terminate_at: told.scheduled_termination_time }
            }
            Action::Retry => {
                assert!(log.announced.is_some_and(|time| time <= now), "{} retried too early", step.pod);
                log.evictions += 1;
                if fate.refusals[1] {
                    return refused();
                }
                leave();
                Outcome::EvictionAccepted
            }
            Action::Delete => {
                assert!(log.announced.is_some_and(|time| time <= now), "{} deleted too early", step.pod);
                assert!(log.evictions >= 2, "{} deleted after {} evictions", step.pod, log.evictions);
                assert!(fate.refusals[0] && fate.refusals[1], "{} deleted though it would go", step.pod);
                leave();
                Outcome::Deleted
            }
        }
    }

    fn outdated(&self) -> impl Iterator<Item = &RunningPod> {
        self.pods.iter().filter(|pod| !self.fates[&pod.uid].patched)
    }

    /// Budgets by brute force: for each profile and zone, who goes now and who is going, against the limit.
    fn check_budgets(&self, plan: &Plan) {
        let takes = |step: &&Step| matches!(step.action, Action::Evict | Action::Retry | Action::Delete);
        for step in plan.steps.iter().filter(takes) {
            let pod = self.pods.iter().find(|pod| pod.uid == step.pod).unwrap();
            let going = |peer: &&RunningPod| {
                self.logs[&peer.uid].rounds_left.is_some()
                    || plan.steps.iter().filter(takes).any(|step| step.pod == peer.uid)
            };
            let Budget { per_profile, per_zone } = self.rollout.budget;
            let of_profile = self.pods.iter().filter(|peer| peer.profile == pod.profile).count();
            let of_zone = self.pods.iter().filter(|peer| peer.zone == pod.zone).count();
            let in_profile = self.outdated().filter(|peer| peer.profile == pod.profile).filter(going).count();
            let in_zone = self.outdated().filter(|peer| peer.zone == pod.zone).filter(going).count();
            assert!(in_profile <= allowed(per_profile, of_profile), "profile budget: {plan:?}");
            assert!(in_zone <= allowed(per_zone, of_zone), "zone budget: {plan:?}");
        }
    }

    /// First evictions are of one zone, and no Pod created before the notice is left in a zone before it.
    fn check_zones(&self, plan: &Plan) {
        let evicted = plan.steps.iter().filter(|step| step.action == Action::Evict);
        let evicted: Vec<_> = evicted.map(|step| self.pods.iter().find(|pod| pod.uid == step.pod).unwrap()).collect();
        for pod in &evicted {
            let before = |peer: &&RunningPod| peer.created <= at(0) && peer.zone < pod.zone;
            assert_eq!(self.outdated().find(before), None, "{} goes before its zone's turn", pod.uid);
            let begun = |peer: &&RunningPod| self.logs[&peer.uid].evictions > 0 && peer.record != Record::Untold;
            let elsewhere = self
                .outdated()
                .filter(begun)
                .find(|peer| peer.zone != pod.zone && !matches!(peer.record, Record::Noticed { .. }));
            assert_eq!(elsewhere, None, "{} goes while another zone is not done", pod.uid);
            assert_eq!(pod.zone, evicted[0].zone, "two zones at once");
        }
    }

    fn live_round(&mut self, round: usize, skew: SignedDuration) {
        let time = at(i64::try_from(round).unwrap() * 2 * HOUR);
        self.turn(round, time);
        let now = time + skew;
        let planned = plan(&self.rollout, &self.pods, now);
        assert_eq!(planned, plan(&self.rollout, &self.pods, now), "the same state, the same plan");
        let mut mentioned: Vec<_> = planned.steps.iter().map(|step| &step.pod).collect();
        mentioned.extend(planned.waiting.iter().map(|waiting| &waiting.pod));
        mentioned.sort();
        let outdated: BTreeSet<_> = self.outdated().map(|pod| &pod.uid).collect();
        assert_eq!(mentioned, outdated.into_iter().collect::<Vec<_>>(), "each outdated Pod once, no other");
        self.check_budgets(&planned);
        self.check_zones(&planned);
        for step in &planned.steps {
            let outcome = self.carry_out(step, now);
            let crashed = round < 64 && self.fates[&step.pod].crashes >> round & 1 == 1;
            let pod = self.pods.iter_mut().find(|pod| pod.uid == step.pod).unwrap();
            if !crashed {
                pod.record = pod.record.clone().step(outcome);
            }
        }
    }
}

proptest! {
    /// Over every history: order of things per Pod, budgets, zones, and in the end no outdated Pod is left.
    #[test]
    fn promises_hold_and_every_outdated_pod_is_handled(mut world in world(), skews in skews()) {
        for (round, skew) in (0..800).zip(skews.iter().cycle()) {
            world.live_round(round, SignedDuration::from_mins(*skew));
        }
        prop_assert_eq!(world.outdated().next(), None);
    }
}
