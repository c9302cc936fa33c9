//! A new daemon goes on where the former one was.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::super::*;
use super::script::{start, summary};

const POD: &str = r"
metadata: {name: web, namespace: shop, uid: 5f0c}
spec:
  restartPolicy: Always
  containers:
  - name: web
    image: web:1
    readinessProbe: {tcpSocket: {port: 80}}
    startupProbe: {tcpSocket: {port: 80}}
";

fn pod() -> Pod {
    serde_saphyr::from_str(POD).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

fn id(attempt: u32) -> ContainerId {
    ContainerId::numbered(&ContainerName::new("web"), attempt)
}

fn image() -> ImageFacts {
    ImageFacts { image: "web:1".into(), image_id: "web@sha256:00".into(), stop_signal: None, pulled: None }
}

fn sandbox() -> Sandbox {
    Sandbox { pod_ips: vec!["10.0.1.2".parse().unwrap()], host_ips: vec![] }
}

/// A life up to the point where its container is ready.
fn ready() -> PodLife {
    let mut life = PodLife::new(&pod(), LifeSettings::default());
    let probe = |kind| Event::ProbeResult { id: id(0), kind, outcome: ProbeOutcome::Success };
    for event in [
        Event::Begin,
        Event::SandboxReady(sandbox()),
        Event::VolumesReady,
        Event::ImageReady { container: ContainerName::new("web"), image: image() },
        Event::ContainerCreated { id: id(0), user: None },
        Event::ContainerStarted { id: id(0), at: start() },
        probe(ProbeKind::Startup),
        probe(ProbeKind::Readiness),
    ] {
        life.handle(event, start());
    }
    assert!(summary(&life.status()).contains("web=running+"), "{}", summary(&life.status()));
    life
}

fn observed(attempt: u32, state: ObservedState) -> Observed {
    let container = ContainerName::new("web");
    Observed { id: id(attempt), container, stop_signal: None, state }
}

fn adopt(former: &PodLife, containers: Vec<Observed>, now: Timestamp) -> (PodLife, Vec<Action>) {
    let adopted = Adopted { status: former.status(), sandbox: Some(sandbox()), containers };
    PodLife::adopt(&pod(), LifeSettings::default(), adopted, now)
}

fn exit(code: i32, finished: Timestamp) -> ObservedState {
    ObservedState::Exited(Exit { exit_code: code, finished_at: Some(finished), ..Exit::default() })
}

#[test]
fn what_runs_goes_on_and_stays_ready() {
    let former = ready();
    let running = observed(0, ObservedState::Running { started_at: start() });
    let (life, actions) = adopt(&former, vec![running], at(60));
    assert_eq!(life.status(), former.status());
    let is_readiness_probe = |action: &Action| matches!(action, Action::RunProbe { kind: ProbeKind::Readiness, .. });
    assert!(actions.iter().all(is_readiness_probe), "{actions:?}");
}

#[test]
fn what_ended_in_between_is_restarted() {
    let (mut life, actions) = adopt(&ready(), vec![observed(0, exit(1, at(30)))], at(60));
    assert!(summary(&life.status()).starts_with("Running web=Error(1)"), "{}", summary(&life.status()));
    assert!(matches!(actions[0], Action::PullImage { .. }), "{actions:?}");
    let image = Event::ImageReady { container: ContainerName::new("web"), image: image() };
    let actions = life.handle(image, at(61));
    let is_next =
        |action: &Action| matches!(action, Action::CreateAndStart { id: made, attempt: 1, .. } if *made == id(1));
    assert!(actions.iter().any(is_next), "{actions:?}");
}

#[test]
fn what_was_made_and_not_started_is_removed_and_made_anew() {
    let former = PodLife::new(&pod(), LifeSettings::default());
    let (_, actions) = adopt(&former, vec![observed(0, ObservedState::Created)], at(1));
    assert!(matches!(&actions[0], Action::RemoveContainer { id: removed, .. } if *removed == id(0)), "{actions:?}");
    assert!(actions.contains(&Action::MountVolumes), "{actions:?}");
}

#[test]
fn a_container_that_the_guest_does_not_know_is_lost_and_restarted() {
    let (life, _) = adopt(&ready(), vec![], at(60));
    assert!(
        summary(&life.status()).starts_with("Running web=ContainerStatusUnknown(137)"),
        "{}",
        summary(&life.status())
    );
}

#[test]
fn a_pod_whose_microvm_is_gone_fails() {
    let adopted = Adopted { status: ready().status(), ..Adopted::default() };
    let (life, _) = PodLife::adopt(&pod(), LifeSettings::default(), adopted, at(60));
    let status = summary(&life.status());
    assert!(status.starts_with("Failed(MicroVMGone) web=ContainerStatusUnknown(137)"), "{status}");
    assert!(life.is_finished().is_some());
}

#[test]
fn a_pod_without_a_microvm_yet_gets_one() {
    let former = PodLife::new(&pod(), LifeSettings::default());
    let adopted = Adopted { status: former.status(), ..Adopted::default() };
    let (mut life, actions) = PodLife::adopt(&pod(), LifeSettings::default(), adopted, at(1));
    assert_eq!(actions, []);
    assert!(life.handle(Event::Begin, at(1)).contains(&Action::StartVm));
}

#[test]
fn a_crash_loop_is_not_forgotten() {
    let mut former = ready();
    let exited = |attempt| Event::ContainerExited { id: id(attempt), exit: Exit { exit_code: 1, ..Exit::default() } };
    former.handle(exited(0), at(1));
    let image = || Event::ImageReady { container: ContainerName::new("web"), image: image() };
    former.handle(image(), at(1));
    former.handle(Event::ContainerStarted { id: id(1), at: at(1) }, at(1));
    former.handle(exited(1), at(2));
    let before = summary(&former.status());
    assert!(before.starts_with("Running web#1=CrashLoopBackOff<Error(1)"), "{before}");
    let (life, _) = adopt(&former, vec![observed(0, exit(1, at(1))), observed(1, exit(1, at(2)))], at(3));
    assert_eq!(summary(&life.status()), before);
    assert_eq!(life.wake_at(), Some(at(12)));
}
