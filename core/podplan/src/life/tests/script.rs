//! A small language for lives: events in, actions and statuses out, as a transcript that people can read.
//!
//! A script begins with a Pod in YAML, then `---`, then a line per event: `@SECONDS EVENT ARGUMENTS`. What is indented
//! below a line is what the machine answered. `wake` goes to the time that the machine asked for, `status` prints the
//! Pod's status.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, EphemeralContainer, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::*;

/// The beginning of all scripts.
pub(super) fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// A machine under a script, with everything it has answered.
#[derive(Debug)]
pub(super) struct Play {
    pub(super) life: PodLife,
    pod: Pod,
    now: Timestamp,
    transcript: String,
}

/// Plays a script; the transcript repeats it with the answers.
pub(super) fn play(script: &str) -> String {
    let (pod, events) = script.split_once("\n---\n").expect("a script has a Pod and events");
    let mut play = Play::of(pod);
    for line in events.lines().filter(|line| !line.starts_with("    ")) {
        writeln!(play.transcript, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            play.line(line);
        }
    }
    format!("{pod}\n---\n{}", play.transcript)
}

impl Play {
    /// The life of a Pod in YAML.
    pub(super) fn of(pod: &str) -> Self {
        let pod: Pod = serde_saphyr::from_str(pod).expect("the script's Pod can be read");
        let life = PodLife::new(&pod, LifeSettings::default());
        Self { life, pod, now: start(), transcript: String::new() }
    }

    fn line(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let time = words.next().and_then(|word| word.strip_prefix('@')).expect("a line begins with @SECONDS");
        let words: Vec<&str> = words.collect();
        if time == "wake" {
            self.now = self.life.wake_at().expect("the machine waits for a time");
            let seconds = self.now.duration_since(start()).as_millis();
            self.say(&format!("at {}.{:03}", seconds / 1000, seconds % 1000));
        } else {
            let seconds: f64 = time.parse().expect("seconds are a number");
            self.now = start() + SignedDuration::from_secs_f64(seconds);
        }
        match words.first() {
            Some(&"status") => self.print_status(),
            Some(&"up") => {
                self.event(&["created", words[1]]);
                self.event(&["started", words[1]]);
            }
            Some(&"wake-at") => {
                let at = self.life.wake_at().map(|at| at.duration_since(start()).as_secs_f64());
                self.say(&format!("{at:?}"));
            }
            Some(&"finished") => {
                let finished = format!("{:?}", self.life.is_finished());
                self.say(&finished);
            }
            Some(_) => self.event(&words),
            None => self.event(&["tick"]),
        }
    }

    fn event(&mut self, words: &[&str]) {
        let event = self.parse(words);
        let actions = self.life.handle(event, self.now);
        for action in &actions {
            let text = self.describe(action);
            self.say(&text);
        }
    }

    fn say(&mut self, text: &str) {
        for line in text.lines() {
            writeln!(self.transcript, "    {line}").unwrap();
        }
    }

    fn print_status(&mut self) {
        let text = serde_saphyr::to_string(&self.life.status()).unwrap();
        self.say(&text);
    }

    fn describe(&self, action: &Action) -> String {
        match action {
            Action::StartVm | Action::MountVolumes | Action::StopVm => format!("{action:?}"),
            Action::PullImage { container, image, policy } => format!("PullImage {container} {image} {policy:?}"),
            Action::CreateAndStart { container, id, attempt, image_id } => {
                format!("CreateAndStart {container} as {id} attempt {attempt} image {image_id}")
            }
            Action::Signal { id, signal } => format!("Signal {id} {signal}"),
            Action::Kill { id } => format!("Kill {id}"),
            Action::RunHook { id, hook, handler, timeout, .. } => {
                format!("RunHook {id} {hook:?} {handler:?} {timeout:?}")
            }
            Action::RunProbe { id, kind, handler, timeout, .. } => {
                format!("RunProbe {id} {kind:?} {handler:?} {timeout:?}")
            }
            Action::RemoveContainer { id, attempt, .. } => format!("RemoveContainer {id} attempt {attempt}"),
            Action::Emit(Notice { severity, reason, message, field_path }) => {
                let about = if field_path.is_empty() { "pod" } else { field_path };
                format!("{} {reason} {about}: {message}", severity.as_str())
            }
            Action::TellStatus => format!("= {}", summary(&self.life.status())),
        }
    }

    fn parse(&mut self, words: &[&str]) -> Event {
        let text = |from: usize| words.get(from..).unwrap_or_default().join(" ");
        let name = || ContainerName::new(words[1]);
        let id = || ContainerId::new(words[1]);
        match words[0] {
            "begin" => Event::Begin,
            "sandbox" => Event::SandboxReady(Sandbox {
                pod_ips: vec![words[1].parse().unwrap()],
                host_ips: vec!["192.0.2.1".parse().unwrap()],
            }),
            "sandbox-failed" => Event::SandboxFailed(SandboxFailure {
                is_final: words[1] == "final",
                reason: words[2].to_owned(),
                message: text(3),
            }),
            "volumes" => Event::VolumesReady,
            "volume-failed" => Event::VolumeFailed { message: text(1) },
            "pulling" => Event::ImagePulling { container: name() },
            "image" | "pulled" => Event::ImageReady { container: name(), image: self.image(words) },
            "image-failed" => Event::ImageFailed { container: name(), reason: words[2].to_owned(), message: text(3) },
            "created" => Event::ContainerCreated { id: id(), user: None },
            "started" => Event::ContainerStarted { id: id(), at: self.now },
            "start-failed" => Event::ContainerStartFailed {
                id: id(),
                stage: if words[2] == "create" { StartStage::Create } else { StartStage::Start },
                reason: words[3].to_owned(),
                message: text(4),
            },
            "exited" => Event::ContainerExited { id: id(), exit: self.exit(words) },
            "probe" => Event::ProbeResult { id: id(), kind: kind(words[2]), outcome: outcome(words[3], text(4)) },
            "hook" => Event::HookDone {
                id: id(),
                hook: if words[2] == "pre-stop" { Hook::PreStop } else { Hook::PostStart },
                result: if words[3] == "ok" { Ok(()) } else { Err(text(4)) },
            },
            "stop" => Event::StopAsked(Stop {
                grace: words.get(1).map(|word| Duration::from_secs(word.parse().unwrap())),
                ..Stop::default()
            }),
            "change" => Event::PodChanged(Box::new(self.changed(words))),
            "vm-gone" => Event::VmGone { reason: words[1].to_owned(), message: text(2) },
            "vm-stopped" => Event::VmStopped,
            "evict" => Event::Evict { reason: "Evicted".to_owned(), message: text(1) },
            "tick" => Event::Tick,
            word => panic!("no event {word:?}"),
        }
    }

    fn image(&self, words: &[&str]) -> ImageFacts {
        let pulled = Pulled {
            took: Duration::from_millis(1234),
            took_with_waiting: Duration::from_millis(2000),
            bytes: 4_194_304,
        };
        ImageFacts {
            image: format!("registry.example/{}:1", words[1]),
            image_id: format!("registry.example/{}@sha256:0123", words[1]),
            stop_signal: words.get(2).map(|&signal| signal.to_owned()),
            pulled: (words[0] == "pulled").then_some(pulled),
        }
    }

    fn exit(&self, words: &[&str]) -> Exit {
        let text = |mark: &str| words.iter().find_map(|word| word.strip_prefix(mark)).unwrap_or_default().to_owned();
        Exit {
            exit_code: words[2].parse().unwrap(),
            oom_killed: words.contains(&"oom"),
            termination_message: text("message="),
            log_tail: text("log="),
            finished_at: Some(self.now),
            ..Exit::default()
        }
    }

    fn changed(&mut self, words: &[&str]) -> Pod {
        let spec = self.pod.spec.as_mut().expect("the Pod has a spec");
        match words[1] {
            "ephemeral" => spec.ephemeral_containers.get_or_insert_default().push(EphemeralContainer {
                name: words[2].to_owned(),
                image: Some("debug:1".to_owned()),
                ..EphemeralContainer::default()
            }),
            "image" => spec.containers[0].image = Some(words[2].to_owned()),
            "deadline" => spec.active_deadline_seconds = Some(words[2].parse().unwrap()),
            "condition" => {
                self.pod.status.get_or_insert_default().conditions.get_or_insert_default().push(PodCondition {
                    type_: words[2].to_owned(),
                    status: words[3].to_owned(),
                    ..PodCondition::default()
                })
            }
            "delete" => {
                self.pod.metadata.deletion_timestamp = Some(Time(self.now));
                self.pod.metadata.deletion_grace_period_seconds = Some(words[2].parse().unwrap());
            }
            word => panic!("no change {word:?}"),
        }
        self.pod.metadata.generation = self.pod.metadata.generation.map(|generation| generation + 1);
        self.pod.clone()
    }
}

fn kind(word: &str) -> ProbeKind {
    ProbeKind::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(word)).expect("there is such a probe")
}

fn outcome(word: &str, text: String) -> ProbeOutcome {
    match word {
        "ok" => ProbeOutcome::Success,
        "warning" => ProbeOutcome::Warning(text),
        "bad" => ProbeOutcome::Failure(text),
        "error" => ProbeOutcome::Error(text),
        word => panic!("no answer {word:?}"),
    }
}

/// A status in one line.
pub(super) fn summary(status: &PodStatus) -> String {
    let mut line = status.phase.clone().unwrap_or_default();
    if let Some(reason) = &status.reason {
        write!(line, "({reason})").unwrap();
    }
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    for container in lists.into_iter().flatten().flatten() {
        write!(line, " {}", of_container(container)).unwrap();
    }
    let is_true = |condition: &&PodCondition| condition.status == "True";
    let conditions: Vec<&str> =
        status.conditions.iter().flatten().filter(is_true).map(|condition| condition.type_.as_str()).collect();
    write!(line, " {conditions:?}").unwrap();
    line
}

fn of_container(status: &ContainerStatus) -> String {
    let state = status.state.as_ref().map(of_state).unwrap_or_default();
    let before = status.last_state.as_ref().map(|state| format!("<{}", of_state(state))).unwrap_or_default();
    let restarts = if status.restart_count == 0 { String::new() } else { format!("#{}", status.restart_count) };
    let ready = if status.ready { "+" } else { "" };
    format!("{}{restarts}={state}{before}{ready}", status.name)
}

fn of_state(state: &ContainerState) -> String {
    match (&state.running, &state.waiting, &state.terminated) {
        (Some(_), _, _) => "running".to_owned(),
        (None, Some(waiting), _) => waiting.reason.clone().unwrap_or_default(),
        (None, None, Some(end)) => format!("{}({})", end.reason.clone().unwrap_or_default(), end.exit_code),
        (None, None, None) => String::new(),
    }
}
