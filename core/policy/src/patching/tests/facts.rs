//! One row per documented fact of the reference, and one test per decision of ours.

use super::*;

const DAY: i64 = 24 * HOUR;

fn with(record: Record) -> RunningPod {
    RunningPod { record, ..pod("db", "a") }
}

fn refusal() -> String {
    EVICT_ERROR_DISRUPTION_BUDGET.to_owned()
}

/// The steps for these Pods as `name Action`.
fn steps(rollout: &Rollout, pods: &[RunningPod], now: i64) -> Vec<String> {
    let action = |action: &Action| match action {
        Action::Notify { evict_at } => format!("Notify {}", evict_at.as_second() / HOUR),
        Action::Announce(told) => {
            format!("Announce {} {}", told.scheduled_termination_time.as_second() / HOUR, told.evict_error_message)
        }
        Action::Evict | Action::Retry | Action::Delete => format!("{action:?}"),
    };
    plan(rollout, pods, at(now)).steps.iter().map(|step| format!("{} {}", step.pod, action(&step.action))).collect()
}

fn wait(rollout: &Rollout, pods: &[RunningPod], now: i64) -> Wait {
    plan(rollout, pods, at(now)).waiting.into_iter().next_back().unwrap().wait
}

struct Fact {
    name: &'static str,
    pod: RunningPod,
    hour: i64,
    steps: &'static [&'static str],
}

#[test]
fn documented_steps() {
    let noticed = || Record::Noticed { evict_at: at(7 * DAY) };
    let announced = || Record::Announced { terminate_at: at(10 * DAY) };
    let refused_again = || Record::RefusedAgain { terminate_at: at(10 * DAY), message: refusal() };
    let facts = [
        Fact {
            name: "a notice with the eviction date goes to Pods created before it",
            pod: with(Record::Untold),
            hour: 0,
            steps: &["db Notify 168"],
        },
        Fact {
            name: "a recreated Pod starts on a patched VM and is out of scope",
            pod: RunningPod { guest: version("2.0.0"), created: at(HOUR), ..pod("db", "a") },
            hour: 2,
            steps: &[],
        },
        Fact { name: "nothing happens before the date", pod: with(noticed()), hour: 167, steps: &[] },
        Fact { name: "at the date the Eviction API is called", pod: with(noticed()), hour: 168, steps: &["db Evict"] },
        Fact { name: "after success nothing else happens", pod: with(Record::Evicted), hour: 900, steps: &[] },
        Fact {
            name: "after failure an event names a time three days away and the error",
            pod: with(Record::Refused { message: refusal() }),
            hour: 168,
            steps: &["db Announce 240 Cannot evict pod as it would violate the pod's disruption budget"],
        },
        Fact { name: "nothing happens before the announced time", pod: with(announced()), hour: 239, steps: &[] },
        Fact {
            name: "at the announced time eviction is tried once more",
            pod: with(announced()),
            hour: 240,
            steps: &["db Retry"],
        },
        Fact {
            name: "if it fails again the Pod is deleted, without a further event",
            pod: with(refused_again()),
            hour: 240,
            steps: &["db Delete"],
        },
        Fact {
            name: "a clock set back does not delete before the announced time",
            pod: with(refused_again()),
            hour: 239,
            steps: &[],
        },
        Fact {
            name: "a Pod that its owner deletes is left alone",
            pod: RunningPod { terminating: true, ..with(noticed()) },
            hour: 168,
            steps: &[],
        },
        Fact {
            name: "an old guest that starts after the notice is outdated all the same and gets a notice of its own",
            pod: RunningPod { created: at(48 * HOUR), ..pod("db", "a") },
            hour: 48,
            steps: &["db Notify 216"],
        },
        Fact {
            name: "a guest newer than the rollout's is not outdated",
            pod: RunningPod { guest: version("2.0.1"), ..pod("db", "a") },
            hour: 0,
            steps: &[],
        },
    ];
    for fact in facts {
        assert_eq!(steps(&rollout(), &[fact.pod], fact.hour * HOUR), fact.steps, "{}", fact.name);
    }
}

#[test]
fn distance_to_termination_depends_on_urgency() {
    for (urgency, announcement) in [(Urgency::Routine, 72), (Urgency::Urgent, 24), (Urgency::Critical, 4)] {
        let rollout = Rollout { deadlines: urgency.deadlines(), ..rollout() };
        let refused = with(Record::Refused { message: "no".to_owned() });
        assert_eq!(steps(&rollout, &[refused], 0), [format!("db Announce {announcement} no")]);
    }
    assert_eq!(Deadlines::default().termination, SignedDuration::from_hours(72), "the sample of the reference");
}

#[test]
fn an_announcement_that_comes_late_still_gives_the_whole_time() {
    let refused = with(Record::Refused { message: "no".to_owned() });
    assert_eq!(steps(&rollout(), &[refused], 500 * HOUR), ["db Announce 572 no"]);
}

#[test]
fn a_more_urgent_rollout_brings_the_date_forward_and_a_less_urgent_one_keeps_it() {
    let noticed = [with(Record::Noticed { evict_at: at(7 * DAY) })];
    let critical = Rollout { deadlines: Urgency::Critical.deadlines(), ..rollout() };
    assert_eq!(steps(&critical, &noticed, 2 * HOUR), ["db Notify 3"]);
    assert_eq!(plan(&critical, &noticed, at(2 * HOUR)).steps[0].reason.reason(), "PatchUrgencyRaised");
    assert!(steps(&rollout(), &[with(Record::Noticed { evict_at: at(HOUR) })], 0).is_empty());
}

#[test]
fn pods_of_one_zone_go_together_and_zones_one_after_another_by_name() {
    let due = |name: &str, zone: &str| RunningPod { record: Record::Noticed { evict_at: at(0) }, ..pod(name, zone) };
    let both = [due("y", "b"), due("x", "a"), due("w", "a")];
    assert_eq!(steps(&rollout(), &both, 0), ["w Evict", "x Evict"]);
    assert_eq!(wait(&rollout(), &both, 0), Wait::OtherZone { zone: Zone::from("a") });
    assert_eq!(steps(&rollout(), &both[..1], 0), ["y Evict"]);
}

#[test]
fn a_zone_is_not_done_while_a_pod_of_it_is_leaving_or_announced() {
    let next = RunningPod { record: Record::Noticed { evict_at: at(0) }, ..pod("y", "b") };
    for record in [Record::Evicted, Record::Deleted, Record::Announced { terminate_at: at(DAY) }] {
        assert!(steps(&rollout(), &[with(record), next.clone()], 0).is_empty());
    }
}

#[test]
fn a_zone_that_began_is_finished_before_an_earlier_one_gets_its_turn() {
    let late = RunningPod { record: Record::Noticed { evict_at: at(0) }, ..pod("x", "a") };
    let begun = RunningPod { record: Record::Evicted, ..pod("y", "b") };
    assert_eq!(plan(&rollout(), &[late, begun], at(0)).waiting[0].wait, Wait::OtherZone { zone: Zone::from("b") });
}

#[test]
fn a_pod_created_after_the_notice_waits_for_those_before_it() {
    let due = |name: &str, created: i64| RunningPod {
        created: at(created),
        record: Record::Noticed { evict_at: at(8 * DAY) },
        ..pod(name, "a")
    };
    let pair = [due("old", -HOUR), due("new", HOUR)];
    assert_eq!(steps(&rollout(), &pair, 8 * DAY), ["old Evict"]);
    assert_eq!(wait(&rollout(), &pair, 8 * DAY), Wait::EarlierWave);
}

#[test]
fn budgets_bound_the_pods_on_their_way_out() {
    let due: Vec<_> = (0..20)
        .map(|i| RunningPod { record: Record::Noticed { evict_at: at(0) }, ..pod(&format!("p{i:02}"), "a") })
        .collect();
    let percent = |number: u8| Limit::Percent(Percent::try_from(number).unwrap());
    for (case, per_profile, per_zone, evicted) in [
        ("a number per profile", pods(3), pods(1000), 3),
        ("a percentage per profile", percent(10), pods(1000), 2),
        ("rounded down", percent(14), pods(1000), 2),
        ("but never to nothing", percent(1), pods(1000), 1),
        ("a number per zone", pods(1000), pods(4), 4),
        ("a percentage per zone", pods(1000), percent(25), 5),
        ("the tighter of both", pods(6), pods(5), 5),
    ] {
        let rollout = Rollout { budget: Budget { per_profile, per_zone }, ..rollout() };
        assert_eq!(plan(&rollout, &due, at(0)).steps.len(), evicted, "{case}");
    }
    let rollout = Rollout { budget: Budget { per_profile: pods(2), per_zone: pods(3) }, ..rollout() };
    let mut leaving = due.clone();
    leaving[0].terminating = true;
    leaving[1].record = Record::Evicted;
    assert_eq!(wait(&rollout, &leaving, 0), Wait::ProfileBudget { in_flight: 2 });
}

#[test]
fn an_announced_pod_takes_no_slot_while_it_waits_and_one_when_its_time_comes() {
    let one = Rollout { budget: Budget { per_profile: pods(1), per_zone: pods(1) }, ..rollout() };
    let due = RunningPod { record: Record::Noticed { evict_at: at(0) }, ..pod("web", "a") };
    let pair = [with(Record::Announced { terminate_at: at(DAY) }), due];
    assert_eq!(steps(&one, &pair, 0), ["web Evict"]);
    assert_eq!(steps(&one, &pair, DAY), ["db Retry"]);
}

#[test]
fn percentages_outside_1_to_100_are_refused() {
    for number in [0, 101, 255] {
        assert_eq!(Percent::try_from(number), Err(PercentError { number }));
    }
}

#[test]
fn records_follow_the_diagram() {
    let (date, end) = (at(7 * DAY), at(10 * DAY));
    let failed = || Outcome::EvictionFailed { message: refusal() };
    let walk = |outcomes: Vec<Outcome>| outcomes.into_iter().fold(Record::default(), Record::step);
    let first = || vec![Outcome::Noticed { evict_at: date }];
    let second = || [first(), vec![failed(), Outcome::Announced { terminate_at: end }]].concat();
    for (outcomes, record) in [
        (first(), Record::Noticed { evict_at: date }),
        ([first(), vec![Outcome::EvictionAccepted]].concat(), Record::Evicted),
        ([first(), vec![failed()]].concat(), Record::Refused { message: refusal() }),
        (second(), Record::Announced { terminate_at: end }),
        ([second(), vec![Outcome::EvictionAccepted]].concat(), Record::Evicted),
        ([second(), vec![failed()]].concat(), Record::RefusedAgain { terminate_at: end, message: refusal() }),
        ([second(), vec![failed(), Outcome::Deleted]].concat(), Record::Deleted),
    ] {
        assert_eq!(walk(outcomes.clone()), record, "{outcomes:?}");
    }
}

#[test]
fn late_and_repeated_outcomes_change_nothing() {
    let time = at(DAY);
    let failed = || Outcome::EvictionFailed { message: "again".to_owned() };
    let refused = Record::Refused { message: "no".to_owned() };
    for (record, outcome) in [
        (Record::Untold, failed()),
        (Record::Untold, Outcome::Deleted),
        (Record::Noticed { evict_at: time }, Outcome::Deleted),
        (Record::Noticed { evict_at: time }, Outcome::Announced { terminate_at: time }),
        (refused.clone(), failed()),
        (refused, Outcome::Noticed { evict_at: time }),
        (Record::Announced { terminate_at: time }, Outcome::Deleted),
        (Record::Announced { terminate_at: time }, Outcome::Announced { terminate_at: at(0) }),
        (Record::Evicted, failed()),
        (Record::Deleted, Outcome::EvictionAccepted),
    ] {
        assert_eq!(record.clone().step(outcome.clone()), record, "{outcome:?}");
    }
}

#[test]
fn the_event_has_the_fields_of_the_reference() {
    let cluster = Cluster { name: "prod".to_owned(), account: "111122223333".to_owned(), region: "eu".to_owned() };
    let terminate_at: Timestamp = "2021-06-30T12:52:44.832Z".parse().unwrap();
    let announcement = Announcement { scheduled_termination_time: terminate_at, evict_error_message: refusal() };
    let event = TerminationEvent::new(&pod("my-database-deployment", "a"), announcement, cluster, at(0));
    assert_eq!((EVENT_VERSION, EVENT_SOURCE), ("0", "aws.eks"));
    assert_eq!(DETAIL_TYPE, "EKS Fargate Pod Scheduled Termination");
    assert_eq!(event.resources, ["default/my-database-deployment"]);
    assert_eq!((event.account.as_str(), event.region.as_str(), event.time), ("111122223333", "eu", at(0)));
    let expected = TerminationDetail {
        cluster_name: "prod".to_owned(),
        fargate_profile_name: "web".to_owned(),
        pod_name: "my-database-deployment".to_owned(),
        pod_namespace: "default".to_owned(),
        evict_error_message: "Cannot evict pod as it would violate the pod's disruption budget".to_owned(),
        scheduled_termination_time: terminate_at,
    };
    assert_eq!(event.detail, expected);
}

#[test]
fn known_error_messages_are_those_of_the_reference() {
    assert_eq!(EVICT_ERROR_DISRUPTION_BUDGET, "Cannot evict pod as it would violate the pod's disruption budget");
    let several = "This pod has multiple PodDisruptionBudget, which the eviction subresource does not support";
    assert_eq!(EVICT_ERROR_SEVERAL_BUDGETS, several);
}

#[test]
fn termination_times_show_milliseconds_and_the_zone() {
    for (time, text) in [
        ("2021-06-30T12:52:44.832Z", "2021-06-30T12:52:44.832Z[UTC]"),
        ("2021-06-30T12:52:44Z", "2021-06-30T12:52:44.000Z[UTC]"),
        ("2021-06-30T12:52:44.832999Z", "2021-06-30T12:52:44.832Z[UTC]"),
        ("2021-06-30T14:52:44.5+02:00", "2021-06-30T12:52:44.500Z[UTC]"),
    ] {
        assert_eq!(termination_time_text(time.parse().unwrap()), text);
    }
}

#[test]
fn guest_versions_are_ordered_by_number() {
    assert!(version("1.9.0") < version("1.10.0"));
    assert_eq!(version("1.2.3").to_string(), "1.2.3");
    for text in ["", "1", "1.2", "1.2.3.4", "1..3", "v1.2.3", "+1.2.3", "1.2.x", "1.2.99999999999"] {
        let refused = text.parse::<GuestVersion>();
        assert_eq!(refused.unwrap_err().reason(), "InvalidGuestVersion", "{text}");
    }
}
