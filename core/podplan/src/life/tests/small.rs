//! Parts by themselves.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::super::back_off::{BackOff, go_duration};
use super::super::time::later;
use super::super::*;
use super::script::start;

#[test]
fn signals_are_read_as_pods_and_images_write_them() {
    for (text, number) in [
        ("SIGTERM", Some(15)),
        ("term", Some(15)),
        ("15", Some(15)),
        ("SIGKILL", Some(9)),
        ("SIGRTMIN", Some(34)),
        ("SIGRTMIN+3", Some(37)),
        ("SIGRTMAX-1", Some(63)),
        ("RTMAX", Some(64)),
        ("SIGPOLL", Some(29)),
        ("SIGWINCH", Some(28)),
        ("64", Some(64)),
        ("0", None),
        ("65", None),
        ("SIG", None),
        ("SIGRTMIN+99", None),
        ("nonsense", None),
        ("", None),
    ] {
        assert_eq!(Signal::parse(text).map(Signal::number), number, "{text}");
    }
}

#[test]
fn a_signal_is_read_as_it_is_written() {
    for number in 1..=64 {
        if let Some(signal) = Signal::parse(&number.to_string()).filter(|_| !(32..34).contains(&number)) {
            assert_eq!(Signal::parse(&signal.to_string()), Some(signal), "{signal}");
        }
    }
}

#[test]
fn durations_are_written_as_go_writes_them() {
    for (milliseconds, text) in [
        (0, "0s"),
        (5, "5ms"),
        (1000, "1s"),
        (1234, "1.234s"),
        (1200, "1.2s"),
        (10_000, "10s"),
        (80_000, "1m20s"),
        (300_000, "5m0s"),
        (3_600_000, "1h0m0s"),
        (3_661_500, "1h1m1.5s"),
    ] {
        assert_eq!(go_duration(Duration::from_millis(milliseconds)), text);
    }
}

#[test]
fn back_off_doubles_to_its_longest_and_is_forgotten_after_a_quiet_time() {
    let settings = LifeSettings::default().crash;
    let (mut back_off, mut now) = (BackOff::default(), start());
    assert_eq!(back_off.until(&settings, now), None);
    let mut delays = Vec::new();
    for _ in 0..8 {
        back_off.enter(&settings, now, now);
        delays.push(back_off.delay().as_secs());
        now = back_off.until(&settings, now).unwrap();
    }
    assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300, 300]);
    let quiet = later(now, Duration::from_secs(601));
    assert_eq!(back_off.until(&settings, quiet), None);
    back_off.enter(&settings, quiet, quiet);
    assert_eq!(back_off.delay().as_secs(), 10);
}

#[test]
fn an_unset_pull_policy_depends_on_the_tag() {
    for (image, policy) in [
        ("web", PullPolicy::Always),
        ("web:latest", PullPolicy::Always),
        ("web:1", PullPolicy::IfNotPresent),
        ("registry.example:5000/web", PullPolicy::Always),
        ("registry.example:5000/web:1", PullPolicy::IfNotPresent),
        ("web@sha256:00", PullPolicy::IfNotPresent),
        ("web:latest@sha256:00", PullPolicy::IfNotPresent),
    ] {
        let container = Container { image: Some(image.to_owned()), ..Container::default() };
        assert_eq!(Unit::new(Role::Main, container).pull_policy(), policy, "{image}");
    }
}

#[test]
fn an_id_knows_its_container() {
    let (web, worker) = (ContainerName::new("web"), ContainerName::new("web-worker"));
    assert_eq!(ContainerId::numbered(&web, 7).attempt(&web), Some(7));
    assert_eq!(ContainerId::numbered(&worker, 7).attempt(&web), None);
    assert_eq!(ContainerId::numbered(&web, 7).attempt(&worker), None);
}

#[test]
fn messages_of_a_pod_share_their_space_and_end_with_a_whole_character() {
    let pod: Pod = serde_saphyr::from_str(
        "spec: {restartPolicy: Never, containers: [{name: a, image: a:1}, {name: b, image: b:1}]}",
    )
    .unwrap();
    let mut life = PodLife::new(&pod, LifeSettings::default());
    let image = ImageFacts { image: "a".into(), image_id: "a".into(), stop_signal: None, pulled: None };
    let id = ContainerId::new("a-0");
    let exit = Exit { exit_code: 1, termination_message: "ä".repeat(10_000), ..Exit::default() };
    for event in [
        Event::Begin,
        Event::SandboxReady(Sandbox { pod_ips: vec![], host_ips: vec![] }),
        Event::VolumesReady,
        Event::ImageReady { container: ContainerName::new("a"), image },
        Event::ContainerStarted { id: id.clone(), at: start() },
        Event::ContainerExited { id, exit },
    ] {
        life.handle(event, start());
    }
    let statuses = life.status().container_statuses.unwrap();
    let end = statuses[0].state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!(end.message.as_ref().map(String::len), Some(6 * 1024));
}
