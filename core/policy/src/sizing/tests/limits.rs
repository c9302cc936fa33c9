//! Limits inside a microVM.

use k8s_openapi::api::core::v1::{Container, Pod};

use monopod_types::{Bytes, GiB, MiB, MilliCpu};

use super::{container, pod, resources};
use crate::sizing::{Limits, Shape, SizingError, effective_limits};

const SHAPE: Shape = Shape { cpu: MilliCpu(500), memory: MiB(1024) };
const DISK: GiB = GiB(20);

fn limits_of(container: Container) -> Limits {
    effective_limits(&pod(vec![], vec![container]), SHAPE, DISK).unwrap().containers[0].limits
}

#[test]
fn a_limit_above_the_size_is_clamped_and_no_error() {
    let limits = limits_of(container("cpu=100m", "cpu=8 memory=64Gi ephemeral-storage=1Ti"));
    assert_eq!(limits.cpu, Some(MilliCpu(500)));
    assert_eq!(limits.memory, Some(Bytes(1 << 30)));
    assert_eq!(limits.ephemeral_storage, Some(Bytes(20 << 30)));
}

#[test]
fn even_an_absurd_limit_is_clamped() {
    assert_eq!(limits_of(container("memory=1Mi", "memory=9000E")).memory, Some(Bytes(1 << 30)));
}

#[test]
fn a_limit_within_the_size_is_kept_to_the_byte() {
    let limits = limits_of(container("", "cpu=250m memory=1000001 ephemeral-storage=1G"));
    let expected = Limits {
        cpu: Some(MilliCpu(250)),
        memory: Some(Bytes(1_000_001)),
        ephemeral_storage: Some(Bytes(1_000_000_000)),
    };
    assert_eq!(limits, expected);
}

#[test]
fn a_missing_limit_and_a_limit_of_zero_are_none() {
    assert_eq!(limits_of(Container::default()), Limits::default());
    assert_eq!(limits_of(container("cpu=1", "cpu=0 memory=0 ephemeral-storage=0")), Limits::default());
}

#[test]
fn containers_are_listed_by_name_init_containers_first() {
    let named = |name: &str| Container { name: name.into(), ..Container::default() };
    let pod = pod(vec![named("migrate"), named("proxy")], vec![named("web"), named("log")]);
    let names: Vec<&str> =
        effective_limits(&pod, SHAPE, DISK).unwrap().containers.iter().map(|limits| limits.container).collect();
    assert_eq!(names, ["migrate", "proxy", "web", "log"]);
}

#[test]
fn the_pod_as_a_whole_has_limits_on_cpu_and_memory() {
    let mut pod = pod(vec![], vec![]);
    pod.spec.as_mut().unwrap().resources = Some(resources("", "cpu=4 memory=256Mi ephemeral-storage=1Gi"));
    let expected = Limits { cpu: Some(MilliCpu(500)), memory: Some(Bytes(256 << 20)), ephemeral_storage: None };
    assert_eq!(effective_limits(&pod, SHAPE, DISK).unwrap().pod, expected);
}

#[test]
fn a_pod_without_a_spec_has_no_limits() {
    let pod = Pod::default();
    let limits = effective_limits(&pod, SHAPE, DISK).unwrap();
    assert_eq!((limits.pod, limits.containers.len()), (Limits::default(), 0));
}

#[test]
fn a_wrong_limit_is_refused_with_its_field() {
    let pod = pod(vec![], vec![container("", "memory=-5")]);
    let Err(SizingError::Quantity { field, value, .. }) = effective_limits(&pod, SHAPE, DISK) else {
        panic!("a negative limit must be refused");
    };
    assert_eq!((field.as_str(), value.as_str()), ("spec.containers[0].resources.limits[memory]", "-5"));
}
