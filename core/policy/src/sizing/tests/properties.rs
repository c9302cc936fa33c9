//! Properties of sizes against models that share no code with them.

use k8s_openapi::api::core::v1::{Container, Pod};
use proptest::prelude::*;

use monopod_api::Sizing;
use monopod_types::{Bytes, MiB, MilliCpu};

use super::{amounts, asks, exact, fargate, pod, resources, sidecar};
use crate::sizing::{Shape, SizingSettings, effective_limits, size};

/// What one container of the model asks: millicores and MiB, or nothing.
#[derive(Clone, Copy, Debug)]
struct Asked {
    cpu: Option<u64>,
    memory: Option<u64>,
}

const NOTHING: Asked = Asked { cpu: None, memory: None };

impl Asked {
    fn text(self) -> String {
        let cpu = self.cpu.map(|cpu| format!("cpu={cpu}m"));
        let memory = self.memory.map(|memory| format!("memory={memory}Mi"));
        [cpu, memory].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

#[derive(Clone, Debug)]
struct Model {
    /// Init containers; true marks a sidecar.
    init: Vec<(bool, Asked)>,
    containers: Vec<Asked>,
    pod_requests: Asked,
    pod_limits: Asked,
    overhead: Asked,
}

impl Model {
    fn pod(&self) -> Pod {
        let init =
            self.init.iter().map(|(stays, asked)| if *stays { sidecar(&asked.text()) } else { asks(&asked.text()) });
        let containers = self.containers.iter().map(|asked| asks(&asked.text()));
        let mut pod = pod(init.collect(), containers.collect());
        let spec = pod.spec.as_mut().unwrap();
        spec.resources = Some(resources(&self.pod_requests.text(), &self.pod_limits.text()));
        spec.overhead = Some(amounts(&self.overhead.text()));
        pod
    }

    /// Lives through the Pod moment by moment and notes the most that runs at once.
    fn effective(&self, of: fn(&Asked) -> Option<u64>) -> u64 {
        let amount = |asked: &Asked| of(asked).unwrap_or(0);
        let mut moments = Vec::new();
        for (now, (_, starting)) in self.init.iter().enumerate() {
            let stayed: u64 = self.init[..now].iter().filter(|(stays, _)| *stays).map(|(_, asked)| amount(asked)).sum();
            moments.push(stayed + amount(starting));
        }
        let stayed: u64 = self.init.iter().filter(|(stays, _)| *stays).map(|(_, asked)| amount(asked)).sum();
        moments.push(stayed + self.containers.iter().map(amount).sum::<u64>());
        let most = moments.into_iter().max().unwrap_or(0);

        let anyone_asks =
            self.init.iter().map(|(_, asked)| asked).chain(&self.containers).any(|asked| of(asked).is_some());
        let pod_limit = of(&self.pod_limits).filter(|_| !anyone_asks);
        of(&self.pod_requests).or(pod_limit).unwrap_or(most) + amount(&self.overhead)
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let cpu = prop_oneof![1 => Just(None), 3 => (0..6000_u64).prop_map(Some)];
    let memory = prop_oneof![1 => Just(None), 3 => (0..40_000_u64).prop_map(Some)];
    (cpu, memory).prop_map(|(cpu, memory)| Asked { cpu, memory })
}

fn rarely(asked: impl Strategy<Value = Asked>) -> impl Strategy<Value = Asked> {
    proptest::option::weighted(0.3, asked).prop_map(|asked| asked.unwrap_or(NOTHING))
}

fn model() -> impl Strategy<Value = Model> {
    let init = proptest::collection::vec((any::<bool>(), asked()), 0..4);
    let containers = proptest::collection::vec(asked(), 0..4);
    (init, containers, rarely(asked()), rarely(asked()), rarely(asked())).prop_map(
        |(init, containers, pod_requests, pod_limits, overhead)| Model {
            init,
            containers,
            pod_requests,
            pod_limits,
            overhead,
        },
    )
}

/// The table as the user guide prints it, in vCPU × 100 and GB × 10.
fn printed_table() -> Vec<(u64, u64)> {
    let mut table = vec![(25, 5), (25, 10), (25, 20), (50, 10), (50, 20), (50, 30), (50, 40)];
    for (cpu, from, to, step) in
        [(100, 2, 8, 1), (200, 4, 16, 1), (400, 8, 30, 1), (800, 16, 60, 4), (1600, 32, 120, 8)]
    {
        table.extend((from..=to).step_by(step).map(|gb| (cpu, gb * 10)));
    }
    table
}

/// Brute force: of all that hold the need, the least by CPU and then by memory.
fn search(cpu: u64, memory: u64) -> Option<(u64, u64)> {
    let sizes = printed_table().into_iter().map(|(cpu, gb)| (cpu * 10, gb * 1024 / 10));
    sizes.filter(|size| size.0 >= cpu && size.1 >= memory).min()
}

/// A quantity that may be anything, and mostly is not one.
fn wild_amount() -> impl Strategy<Value = String> {
    prop_oneof!["[+-]?[0-9]{1,20}[.]?[0-9]{0,3}(m|k|M|G|E|Ki|Mi|Gi|Ei|e[0-9]{1,3})?", "[a-z0-9.+-]{1,6}"]
}

fn wild_container() -> impl Strategy<Value = Container> {
    let name = || proptest::sample::select(vec!["cpu", "memory", "ephemeral-storage"]);
    let list = || proptest::collection::vec((name(), wild_amount()), 0..3);
    (list(), list()).prop_map(|(requests, limits)| {
        let text = |list: Vec<(&str, String)>| {
            list.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
        };
        super::container(&text(requests), &text(limits))
    })
}

proptest! {
    #[test]
    fn a_pod_asks_what_a_moment_by_moment_model_says(model in model()) {
        let pod = model.pod();
        let boundless = Shape { cpu: MilliCpu(u64::MAX), memory: MiB(u64::MAX) };
        let settings = SizingSettings { largest: boundless, ..SizingSettings::default() };
        let size = size(&pod, Sizing::Exact, &settings).unwrap();
        prop_assert_eq!(size.asked.cpu, MilliCpu(model.effective(|asked| asked.cpu)));
        prop_assert_eq!(size.asked.memory, MiB(model.effective(|asked| asked.memory)));
    }

    #[test]
    fn the_fargate_size_is_what_a_search_of_the_printed_table_finds(model in model()) {
        let (cpu, memory) = (model.effective(|asked| asked.cpu), model.effective(|asked| asked.memory) + 256);
        let found = fargate(&model.pod()).map(|size| (size.shape.cpu.0, size.shape.memory.0));
        match search(cpu, memory) {
            Some(expected) => prop_assert_eq!(found, Ok(expected)),
            None => prop_assert_eq!(found.unwrap_err().reason(), "POD_CPU_MEM_EXCEEDS_MAX_FARGATE_SIZE"),
        }
    }

    #[test]
    fn asking_more_never_gives_a_smaller_size(model in model(), more_cpu in 0..2000_u64, more_memory in 0..8000_u64) {
        // Without Pod-level limits: Kubernetes drops one as soon as a container asks for the resource, however little.
        let model = Model { pod_limits: NOTHING, ..model };
        let mut one_container_more = model.clone();
        one_container_more.containers.push(Asked { cpu: Some(more_cpu), memory: Some(more_memory) });
        let overhead = Asked {
            cpu: Some(model.overhead.cpu.unwrap_or(0) + more_cpu),
            memory: Some(model.overhead.memory.unwrap_or(0) + more_memory),
        };
        let more_overhead = Model { overhead, ..model.clone() };
        for sized in [fargate, exact] {
            for more in [&one_container_more, &more_overhead] {
                match (sized(&model.pod()), sized(&more.pod())) {
                    (Ok(less), Ok(more)) => prop_assert!(less.shape.fits_in(more.shape), "{less:?} {more:?}"),
                    (Err(_), more) => prop_assert!(more.is_err(), "{more:?}"),
                    (Ok(_), Err(_)) => {}
                }
            }
        }
    }

    #[test]
    fn whatever_the_amounts_say_sizing_answers_and_limits_stay_within_the_size(
        init in proptest::collection::vec(wild_container(), 0..3),
        containers in proptest::collection::vec(wild_container(), 0..3),
    ) {
        let pod = pod(init, containers);
        if let Ok(size) = fargate(&pod) {
            let limits = effective_limits(&pod, size.shape, size.ephemeral).unwrap();
            for container in limits.containers {
                prop_assert!(container.limits.cpu.is_none_or(|cpu| cpu <= size.shape.cpu));
                prop_assert!(container.limits.memory.is_none_or(|memory| memory <= size.shape.memory.into()));
                prop_assert!(container.limits.ephemeral_storage.is_none_or(|disk| disk <= Bytes::from(size.ephemeral)));
            }
        }
    }
}
