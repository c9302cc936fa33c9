//! What holds whatever happens. The rules themselves stand in [`World`], which minds them at every step.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, ContainerRestartRuleOnExitCodes, ExecAction, Lifecycle, LifecycleHandler, Pod,
    PodSpec, Probe,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;

use super::super::*;
use super::world::World;

fn probe() -> impl Strategy<Value = Option<Probe>> {
    let exec = ExecAction { command: Some(vec!["check".to_owned()]) };
    proptest::option::of((0..3_i32, 1..4_i32).prop_map(move |(delay, threshold)| Probe {
        exec: Some(exec.clone()),
        initial_delay_seconds: Some(delay),
        failure_threshold: Some(threshold),
        period_seconds: Some(2),
        ..Probe::default()
    }))
}

fn hook() -> impl Strategy<Value = Option<LifecycleHandler>> {
    let exec = ExecAction { command: Some(vec!["act".to_owned()]) };
    proptest::option::weighted(0.3, Just(LifecycleHandler { exec: Some(exec), ..LifecycleHandler::default() }))
}

fn rules() -> impl Strategy<Value = Option<Vec<ContainerRestartRule>>> {
    let rule = prop_oneof![Just("Restart"), Just("RestartAllContainers")].prop_map(|action| {
        let exit_codes = ContainerRestartRuleOnExitCodes { operator: "In".to_owned(), values: Some(vec![3]) };
        vec![ContainerRestartRule { action: action.to_owned(), exit_codes: Some(exit_codes) }]
    });
    proptest::option::weighted(0.3, rule)
}

fn container(policies: &'static [Option<&'static str>]) -> impl Strategy<Value = Container> {
    let policy = proptest::sample::select(policies);
    (policy, rules(), [probe(), probe(), probe()], hook(), hook()).prop_map(
        |(policy, rules, [startup_probe, liveness_probe, readiness_probe], post_start, pre_stop)| Container {
            image: Some("image:1".to_owned()),
            restart_policy: policy.map(str::to_owned),
            restart_policy_rules: rules.filter(|_| policy.is_some_and(|policy| policy != "Always")),
            startup_probe,
            liveness_probe,
            readiness_probe,
            lifecycle: Some(Lifecycle { post_start, pre_stop, stop_signal: None }),
            ..Container::default()
        },
    )
}

fn named(prefix: &str, containers: Vec<Container>) -> Vec<Container> {
    let named = containers.into_iter().enumerate();
    named.map(|(index, container)| Container { name: format!("{prefix}-{index}"), ..container }).collect()
}

fn pod() -> impl Strategy<Value = Pod> {
    let init = proptest::collection::vec(container(&[None, Some("Always"), Some("OnFailure")]), 0..3);
    let main = proptest::collection::vec(container(&[None, None, Some("Never"), Some("OnFailure")]), 1..3);
    let policy = proptest::sample::select(vec!["Always", "OnFailure", "Never"]);
    let deadline = proptest::option::weighted(0.2, 1..300_i64);
    (init, main, policy, deadline).prop_map(|(init, main, policy, deadline)| Pod {
        metadata: ObjectMeta { name: Some("p".to_owned()), uid: Some("u".to_owned()), ..ObjectMeta::default() },
        spec: Some(PodSpec {
            init_containers: Some(named("init", init)),
            containers: named("main", main),
            restart_policy: Some(policy.to_owned()),
            active_deadline_seconds: deadline,
            ..PodSpec::default()
        }),
        status: None,
    })
}

/// One thing that happens: what, and to which one of those it can happen to.
#[derive(Clone, Copy, Debug)]
enum Step {
    Answer { which: usize, is_good: bool },
    Exit { which: usize, exit_code: i32 },
    Pass { seconds: u64 },
    Wake,
    Evict,
    Stop,
    LoseVm,
    RestartDaemon,
    AddDebugger,
    ChangeImage,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (any::<usize>(), proptest::bool::weighted(0.85)).prop_map(|(which, is_good)| Step::Answer { which, is_good }),
        4 => (any::<usize>(), prop_oneof![3 => Just(0), 2 => Just(1), 1 => Just(3)])
            .prop_map(|(which, exit_code)| Step::Exit { which, exit_code }),
        2 => (0..40_u64).prop_map(|seconds| Step::Pass { seconds }),
        6 => Just(Step::Wake),
        1 => prop_oneof![Just(Step::Evict), Just(Step::Stop), Just(Step::LoseVm)],
        1 => Just(Step::RestartDaemon),
        1 => prop_oneof![Just(Step::AddDebugger), Just(Step::ChangeImage)],
    ]
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Answer { which, is_good } if !world.pending.is_empty() => {
            world.answer(which % world.pending.len(), is_good);
        }
        Step::Exit { which, exit_code } => {
            let running = world.running();
            if !running.is_empty() {
                world.exit(&running[which % running.len()], exit_code);
            }
        }
        Step::Pass { seconds } => world.pass(Duration::from_secs(seconds)),
        Step::Wake => {
            if let Some(wake) = world.life.wake_at() {
                world.now = wake;
                world.send(Event::Tick);
            }
        }
        Step::Evict => world.send(Event::Evict { reason: "Evicted".to_owned(), message: "too much".to_owned() }),
        Step::Stop => world.stop(),
        Step::LoseVm if world.has_vm() => {
            world.lose_vm();
            world.send(Event::VmGone { reason: "Lost".to_owned(), message: "it is gone".to_owned() });
        }
        Step::RestartDaemon if world.life.is_finished().is_none() => world.restart_daemon(),
        Step::AddDebugger => world.add_debugger(),
        Step::ChangeImage => world.change_image(),
        Step::Answer { .. } | Step::LoseVm | Step::RestartDaemon => {}
    }
}

const CASES: u32 = 300;

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any life can be ended, and is lived by the rules up to there.
    #[test]
    fn every_life_keeps_the_rules_and_ends(pod in pod(), steps in proptest::collection::vec(step(), 0..120)) {
        let mut world = World::of(pod);
        for step in steps {
            take(&mut world, step);
        }
        let outcome = world.end();
        let phase = world.life.status().phase;
        prop_assert_eq!(phase.as_deref(), Some(if outcome.has_succeeded { "Succeeded" } else { "Failed" }));
        prop_assert_eq!(outcome.exit_code == 0, outcome.has_succeeded);
        prop_assert!(world.running().is_empty());
    }

    /// The same events at the same times give the same answers.
    #[test]
    fn a_life_is_deterministic(pod in pod(), steps in proptest::collection::vec(step(), 0..60)) {
        let mut worlds = [World::of(pod.clone()), World::of(pod)];
        for step in steps {
            worlds.iter_mut().for_each(|world| take(world, step));
        }
        prop_assert_eq!(worlds[0].life.status(), worlds[1].life.status());
        prop_assert_eq!(worlds[0].life.wake_at(), worlds[1].life.wake_at());
    }
}
