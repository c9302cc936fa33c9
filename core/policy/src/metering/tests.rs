//! The documented facts of metering as a table, then the arithmetic against a model that counts second by second.

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use monopod_types::{GiB, MiB, MilliCpu, ProfileName};
use proptest::prelude::*;

use super::*;

const LIFE: Range<Timestamp> = Timestamp::MIN..Timestamp::MAX;
const SMALLEST: VmSize = size(250, 512, 20);

/// In millis of a vCPU, MiB and GiB.
const fn size(cpu: u64, memory: u64, ephemeral: u64) -> VmSize {
    VmSize { shape: Shape { cpu: MilliCpu(cpu), memory: MiB(memory) }, ephemeral: GiB(ephemeral) }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

/// A Pod created at zero; all times in milliseconds.
fn pod(pull: Option<i64>, ended: Option<i64>, deleted: Option<i64>) -> MeteredPod {
    let times = PodTimes {
        created: at(0),
        image_pull_started: pull.map(at),
        last_container_ended: ended.map(at),
        deleted: deleted.map(at),
    };
    MeteredPod { times, provisioned: SMALLEST, allocated: SMALLEST }
}

struct Fact {
    name: &'static str,
    pod: MeteredPod,
    now: i64,
    reference: u64,
    ours: u64,
}

fn check(facts: &[Fact]) {
    for fact in facts {
        let metered = meter(&fact.pod, &LIFE, at(fact.now));
        assert_eq!((metered.reference.seconds, metered.ours.seconds), (fact.reference, fact.ours), "{}", fact.name);
    }
}

#[test]
fn documented_seconds() {
    let facts = [
        Fact {
            name: "metered from the start of the image pull, not from creation",
            pod: pod(Some(30_000), Some(130_000), Some(130_000)),
            now: 200_000,
            reference: 100,
            ours: 100,
        },
        Fact {
            name: "rounded up to the second",
            pod: pod(Some(0), Some(61_001), Some(61_001)),
            now: 200_000,
            reference: 62,
            ours: 62,
        },
        Fact {
            name: "a whole second is not rounded further",
            pod: pod(Some(0), Some(61_000), Some(61_000)),
            now: 200_000,
            reference: 61,
            ours: 61,
        },
        Fact {
            name: "minimum one minute; ours has none",
            pod: pod(Some(0), Some(5_000), Some(5_000)),
            now: 200_000,
            reference: 60,
            ours: 5,
        },
        Fact {
            name: "a completed Pod keeps its bill until the Pod object is deleted; ours stops",
            pod: pod(Some(0), Some(90_000), Some(3_600_000)),
            now: 4_000_000,
            reference: 3600,
            ours: 90,
        },
        Fact {
            name: "a completed Pod that still exists is billed until now",
            pod: pod(Some(0), Some(90_000), None),
            now: 500_000,
            reference: 500,
            ours: 90,
        },
        Fact { name: "a running Pod", pod: pod(Some(0), None, None), now: 100_500, reference: 101, ours: 101 },
        Fact {
            name: "a Pod whose pull has not begun costs nothing",
            pod: pod(None, None, None),
            now: 500_000,
            reference: 0,
            ours: 0,
        },
        Fact {
            name: "a Pod deleted before its pull costs nothing",
            pod: pod(None, None, Some(9_000)),
            now: 500_000,
            reference: 0,
            ours: 0,
        },
    ];
    check(&facts);
}

#[test]
fn clocks_that_disagree_give_no_absurd_usage() {
    let facts = [
        Fact {
            name: "host clock unset: the pull counts from creation",
            pod: pod(Some(-1_700_000_000_000), None, None),
            now: 90_000,
            reference: 90,
            ours: 90,
        },
        Fact {
            name: "deleted before the pull began: the minimum",
            pod: pod(Some(50_000), None, Some(10_000)),
            now: 90_000,
            reference: 60,
            ours: 0,
        },
        Fact {
            name: "ended before the pull began",
            pod: pod(Some(50_000), Some(10_000), None),
            now: 150_000,
            reference: 100,
            ours: 0,
        },
        Fact {
            name: "ended after the object was gone",
            pod: pod(Some(0), Some(400_000), Some(100_000)),
            now: 900_000,
            reference: 100,
            ours: 100,
        },
        Fact {
            name: "ends that lie in the future count as now",
            pod: pod(Some(0), Some(9_000_000), Some(9_000_000)),
            now: 100_000,
            reference: 100,
            ours: 100,
        },
        Fact {
            name: "a start that lies in the future has not happened",
            pod: pod(Some(500_000), None, None),
            now: 90_000,
            reference: 0,
            ours: 0,
        },
    ];
    check(&facts);
}

#[test]
fn the_first_minute_is_reported_where_its_seconds_lie() {
    let five_seconds = pod(Some(0), Some(5_000), Some(5_000));
    let report = |window: Range<i64>| meter(&five_seconds, &(at(window.start)..at(window.end)), at(200_000));
    for (window, reference, ours) in
        [(-60_000..0, 0, 0), (0..5_000, 5, 5), (5_000..60_000, 55, 0), (60_000..120_000, 0, 0), (30_000..30_000, 0, 0)]
    {
        let metered = report(window.clone());
        assert_eq!((metered.reference.seconds, metered.ours.seconds), (reference, ours), "{window:?}");
    }
}

#[test]
fn a_second_belongs_to_the_report_in_which_it_begins() {
    let running = pod(Some(250), None, None);
    let first = meter(&running, &(at(0)..at(60_000)), at(200_000));
    let second = meter(&running, &(at(60_000)..at(120_000)), at(200_000));
    assert_eq!((first.ours.seconds, second.ours.seconds), (60, 60));
}

#[test]
fn an_interval_that_ends_before_it_starts_holds_nothing() {
    let backwards = at(120_000)..at(60_000);
    assert_eq!(meter(&pod(Some(0), None, None), &backwards, at(200_000)), Metered::default());
}

#[test]
fn the_provisioned_size_is_billed_and_ours_is_what_is_allocated() {
    let mut exact = pod(Some(0), Some(100_000), Some(100_000));
    exact.provisioned = size(1000, 2048, 30);
    exact.allocated = size(600, 1100, 25);
    let metered = meter(&exact, &LIFE, at(200_000));
    let expected = |seconds, cpu, memory, storage| Usage {
        seconds,
        cpu: MilliCpuSeconds(cpu),
        memory: MiBSeconds(memory),
        storage: GiBSeconds(storage),
    };
    assert_eq!(metered.reference, expected(100, 100_000, 204_800, 1000));
    assert_eq!(metered.ours, expected(100, 60_000, 110_000, 500));
}

#[test]
fn documented_prices_for_one_hour() {
    for (fact, size, text) in [
        ("$0.04048 per vCPU-hour", size(1000, 0, 20), "$0.040480000"),
        ("$0.004445 per GB-hour", size(0, 1024, 20), "$0.004445000"),
        ("$0.000111 per GB-hour of storage above 20 GB", size(0, 0, 21), "$0.000111000"),
        ("20 GB of storage are free", size(0, 0, 20), "$0.000000000"),
        ("less than 20 GB of storage gives nothing back", size(0, 0, 0), "$0.000000000"),
        ("the smallest size", SMALLEST, "$0.012342500"),
    ] {
        let hour = Usage::of(&size, 3600);
        assert_eq!(hour.cost(&PriceList::default()).to_string(), text, "{fact}");
    }
}

#[test]
fn saving_is_the_time_between_completion_and_deletion() {
    let completed = pod(Some(0), Some(600_000), Some(4_200_000));
    let metered = meter(&completed, &LIFE, at(9_000_000));
    assert_eq!(metered.saving(&PriceList::default()).to_string(), "$0.012342500");
}

#[test]
fn money_rounds_only_when_shown_and_shows_its_sign() {
    let second = Usage::of(&SMALLEST, 1);
    let prices = PriceList::default();
    assert_eq!(second.cost(&prices).nano_dollars(), 3428, "12342.5 micro-dollars / 3600 = 3428.47 nano-dollars");
    let hour: Money = std::iter::repeat_n(second.cost(&prices), 3600).sum();
    assert_eq!(hour.nano_dollars(), 12_342_500);
    assert_eq!((Money::default() - hour).to_string(), "-$0.012342500");
}

#[test]
fn prices_are_read_exactly() {
    let error = |text: &str| text.parse::<NanoDollars>().unwrap_err().reason();
    for (text, nanos) in [("0.04048", 40_480_000), ("3", 3_000_000_000), ("0.000000001", 1), ("00.10", 100_000_000)] {
        assert_eq!(text.parse(), Ok(NanoDollars(nanos)), "{text}");
    }
    for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "1.2.3", " 1", "١"] {
        assert_eq!(error(text), "PriceNotDecimal", "{text}");
    }
    assert_eq!(error("0.0000000001"), "PriceTooPrecise");
    assert_eq!(error("99999999999999"), "PriceTooLarge");
}

#[test]
fn amounts_over_time_are_shown_in_whole_units() {
    let usage = Usage::of(&size(250, 512, 25), 3);
    let shown = (usage.cpu.to_string(), usage.memory.to_string(), usage.storage.to_string());
    let expected = ("0.750 vCPU-seconds", "1.500 GiB-seconds", "15 GiB-seconds");
    assert_eq!((shown.0.as_str(), shown.1.as_str(), shown.2.as_str()), expected);
}

#[test]
fn absurd_sizes_saturate() {
    let largest = size(u64::MAX, u64::MAX, u64::MAX);
    let cost = Usage::of(&largest, u64::MAX).cost(&PriceList::default());
    assert!(cost.nano_dollars() > 0, "{cost}");
}

fn group(namespace: &str, profile: &str, label: Option<&str>) -> Group {
    let (namespace, label) = (namespace.to_owned(), label.map(str::to_owned));
    Group { namespace, profile: ProfileName::from(profile), label }
}

#[test]
fn sums_are_kept_apart_by_namespace_profile_and_label() {
    let used = |seconds| Metered { reference: Usage::of(&SMALLEST, seconds), ours: Usage::of(&SMALLEST, seconds) };
    let groups = sum([
        (group("shop", "web", Some("blue")), used(60)),
        (group("shop", "web", Some("blue")), used(40)),
        (group("shop", "web", Some("green")), used(7)),
        (group("shop", "web", None), used(5)),
        (group("shop", "batch", None), used(3)),
        (group("bank", "web", None), used(1)),
    ]);
    let seconds: Vec<_> = groups.values().map(|metered| metered.ours.seconds).collect();
    assert_eq!(seconds, [1, 3, 5, 100, 7], "in the order of namespace, profile, label");
}

/// Any Pod within some minutes around zero, clocks in any disorder.
fn any_pod() -> impl Strategy<Value = MeteredPod> {
    let instant = -150_000..150_000_i64;
    let maybe = || proptest::option::weighted(0.8, instant.clone());
    (instant.clone(), maybe(), maybe(), maybe(), 0..4_000_u64, 0..9_000_u64, 0..60_u64).prop_map(
        |(created, pull, ended, deleted, cpu, memory, disk)| {
            let mut metered = pod(pull, ended, deleted);
            metered.times.created = at(created);
            metered.provisioned = size(cpu, memory, disk);
            metered.allocated = size(cpu / 2, memory, disk);
            metered
        },
    )
}

/// The rules once more, by counting: each second on its own, in milliseconds, from the words of the module.
fn count(pod: &MeteredPod, window: &Range<i64>, now: i64) -> (u64, u64) {
    let millis = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
    let Some(pull) = millis(pod.times.image_pull_started) else { return (0, 0) };
    let start = if pull < pod.times.created.as_millisecond() { pod.times.created.as_millisecond() } else { pull };
    if start > now {
        return (0, 0);
    }
    let mut counts = (0, 0);
    for second in 0.. {
        let begins = start + second * 1000;
        let not_yet = |end: Option<i64>| begins < end.unwrap_or(now) && begins < now;
        let exists = not_yet(millis(pod.times.deleted));
        let runs = exists && not_yet(millis(pod.times.last_container_ended));
        if !exists && second >= 60 {
            return counts;
        }
        counts.0 += u64::from(window.contains(&begins));
        counts.1 += u64::from(runs && window.contains(&begins));
    }
    counts
}

/// Milliseconds around the times of [`any_pod`].
fn instant() -> impl Strategy<Value = i64> {
    -200_000..200_000_i64
}

proptest! {
    #[test]
    fn usage_is_what_counting_gives(pod in any_pod(), from in instant(), length in 0..200_000_i64, now in instant()) {
        let metered = meter(&pod, &(at(from)..at(from + length)), at(now));
        let (reference, ours) = count(&pod, &(from..from + length), now);
        prop_assert_eq!(metered.reference, Usage::of(&pod.provisioned, reference));
        prop_assert_eq!(metered.ours, Usage::of(&pod.allocated, ours));
    }

    /// Whatever the cuts: adjacent reports add up to the whole, in usage and in money.
    #[test]
    fn adjacent_reports_add_up_to_the_whole(
        pod in any_pod(),
        mut cuts in proptest::collection::vec(-200_000..400_000_i64, 0..12),
        now in instant(),
    ) {
        cuts.sort_unstable();
        let inner = cuts.into_iter().map(at);
        let bounds: Vec<_> = [Timestamp::MIN].into_iter().chain(inner).chain([Timestamp::MAX]).collect();
        let parts: Vec<_> = bounds.windows(2).map(|cut| meter(&pod, &(cut[0]..cut[1]), at(now))).collect();
        let whole = meter(&pod, &LIFE, at(now));
        let prices = PriceList::default();
        prop_assert_eq!(parts.iter().copied().sum::<Metered>(), whole);
        let cost: Money = parts.iter().map(|part| part.reference.cost(&prices)).sum();
        prop_assert_eq!(cost, whole.reference.cost(&prices));
        let saving: Money = parts.iter().map(|part| part.saving(&prices)).sum();
        prop_assert_eq!(saving, whole.saving(&prices));
    }

    /// What was reported of the past stays so, whatever happens after and becomes known later.
    #[test]
    fn a_report_of_the_past_never_changes(
        pod in any_pod(),
        from in instant(),
        to in instant(),
        wait in 0..200_000_i64,
        later in 0..200_000_i64,
    ) {
        let now = at(to + wait);
        let known = |time: Option<Timestamp>| time.filter(|time| *time <= now);
        let mut then = pod;
        then.times.image_pull_started = known(pod.times.image_pull_started);
        then.times.last_container_ended = known(pod.times.last_container_ended);
        then.times.deleted = known(pod.times.deleted);
        let interval = at(from)..at(to);
        let afterwards = meter(&pod, &interval, now + SignedDuration::from_millis(later));
        prop_assert_eq!(meter(&then, &interval, now), afterwards);
    }

    #[test]
    fn ours_never_takes_longer_than_the_reference(pod in any_pod(), now in instant()) {
        let metered = meter(&pod, &LIFE, at(now));
        prop_assert!(metered.ours.seconds <= metered.reference.seconds);
        prop_assert!(metered.saving(&PriceList::default()) >= Money::default());
    }

    /// Costs for any price, against plain fractions: price × amount × seconds / 3600 / unit, rounded once.
    #[test]
    fn costs_are_exact(
        cpu in 0..20_000_u64,
        memory in 0..130_000_u64,
        disk in 0..200_u64,
        seconds in 0..100_000_u64,
        price in 0..1_000_000_000_u64,
    ) {
        let size = size(cpu, memory, disk);
        let nanos = [price, price / 9, price / 300];
        let [vcpu_hour, memory_gib_hour, storage_gib_hour] = nanos.map(NanoDollars);
        let prices = PriceList { vcpu_hour, memory_gib_hour, storage_gib_hour };
        let [for_cpu, for_memory, for_storage] = nanos.map(i128::from);
        let (cpu, memory, billed_disk) = (i128::from(cpu), i128::from(memory), i128::from(disk.max(20)) - 20);
        let per_second = cpu * for_cpu * 1024 + memory * for_memory * 1000 + billed_disk * for_storage * 1_024_000;
        let (numerator, denominator) = (i128::from(seconds) * per_second, 3600 * 1_024_000);
        let rounded = (2 * numerator + denominator) / (2 * denominator);
        prop_assert_eq!(Usage::of(&size, seconds).cost(&prices).nano_dollars(), rounded);
    }
}
