//! The effective request: sidecars, Pod-level resources, the API server's defaults, and amounts that are refused.

use k8s_openapi::api::core::v1::{Container, Pod};

use monopod_types::{GiB, MiB, MilliCpu, QuantityError};

use super::{amounts, asks, container, fargate, pod, pod_that_asks, resources, sidecar};
use crate::sizing::{QuantityProblem, SizingError};

fn asked(pod: &Pod) -> (MilliCpu, MiB) {
    let asked = fargate(pod).unwrap().asked;
    (asked.cpu, asked.memory)
}

fn with_pod_level(mut pod: Pod, requests: &str, limits: &str) -> Pod {
    pod.spec.as_mut().unwrap().resources = Some(resources(requests, limits));
    pod
}

#[test]
fn a_sidecar_counts_with_the_containers_and_beside_later_init_containers() {
    for (rule, init, containers, expected) in [
        ("a sidecar runs beside the containers", vec![sidecar("cpu=100m")], vec![asks("cpu=200m")], 300),
        (
            "an init container declared after a sidecar runs beside it",
            vec![sidecar("cpu=100m"), asks("cpu=500m")],
            vec![asks("cpu=200m")],
            600,
        ),
        (
            "an init container declared before a sidecar does not",
            vec![asks("cpu=500m"), sidecar("cpu=100m")],
            vec![asks("cpu=200m")],
            500,
        ),
        (
            "sidecars add up, and each later init container meets those before it",
            vec![sidecar("cpu=100m"), asks("cpu=300m"), sidecar("cpu=100m"), asks("cpu=300m")],
            vec![asks("cpu=50m")],
            500,
        ),
        ("init containers without sidecars do not add up", vec![asks("cpu=300m"), asks("cpu=400m")], vec![], 400),
    ] {
        assert_eq!(asked(&pod(init, containers)).0, MilliCpu(expected), "{rule}");
    }
}

#[test]
fn only_restart_policy_always_makes_a_sidecar() {
    let restarts_on_failure = Container { restart_policy: Some("OnFailure".into()), ..asks("cpu=300m") };
    assert_eq!(asked(&pod(vec![restarts_on_failure], vec![asks("cpu=200m")])).0, MilliCpu(300));
}

#[test]
fn pod_level_requests_override_the_containers_per_resource() {
    let pod = pod(vec![], vec![asks("cpu=500m memory=1Gi"), asks("cpu=500m memory=1Gi")]);
    assert_eq!(asked(&with_pod_level(pod.clone(), "cpu=2 memory=4Gi", "")), (MilliCpu(2000), MiB(4096)));
    assert_eq!(asked(&with_pod_level(pod, "cpu=2", "")), (MilliCpu(2000), MiB(2048)));
}

#[test]
fn pod_level_limits_stand_in_for_requests_as_the_api_server_fills_them_in() {
    for (rule, containers, requests, limits, expected) in [
        ("nobody asks: the limit becomes the request", vec![asks("")], "", "cpu=2 memory=4Gi", (2000, 4096)),
        ("a container asks: its request counts", vec![asks("cpu=100m")], "", "cpu=2 memory=4Gi", (100, 4096)),
        ("a container asks for zero: that counts as asking", vec![asks("cpu=0")], "", "cpu=2 memory=4Gi", (0, 4096)),
        ("a container's limit counts as its request", vec![container("", "cpu=300m")], "", "cpu=2", (300, 0)),
        ("the Pod's own request comes first", vec![asks("cpu=100m")], "cpu=1", "cpu=2", (1000, 0)),
    ] {
        let pod = with_pod_level(pod(vec![], containers), requests, limits);
        assert_eq!(asked(&pod), (MilliCpu(expected.0), MiB(expected.1)), "{rule}");
    }
}

#[test]
fn pod_level_resources_do_not_replace_overhead_or_ephemeral_storage() {
    let mut pod = with_pod_level(pod_that_asks("cpu=1 ephemeral-storage=30Gi"), "cpu=2", "");
    pod.spec.as_mut().unwrap().overhead = Some(amounts("cpu=100m"));
    assert_eq!(asked(&pod).0, MilliCpu(2100));
    assert_eq!(fargate(&pod).unwrap().ephemeral, GiB(30));
}

#[test]
fn a_limit_stands_in_only_for_the_request_that_is_missing() {
    let pod = pod(vec![container("", "cpu=1 memory=1Gi")], vec![container("cpu=250m", "cpu=2 memory=2Gi")]);
    assert_eq!(asked(&pod), (MilliCpu(1000), MiB(2048)));
}

#[test]
fn a_pod_gets_the_same_size_before_and_after_the_api_server_filled_it_in() {
    let before = pod(vec![], vec![container("cpu=250m", "cpu=2 memory=2Gi ephemeral-storage=40Gi")]);
    let limits = "cpu=2 memory=2Gi ephemeral-storage=40Gi";
    let after = pod(vec![], vec![container("cpu=250m memory=2Gi ephemeral-storage=40Gi", limits)]);
    assert_eq!(fargate(&before), fargate(&after));
}

#[test]
fn an_amount_below_a_thousandth_is_rounded_up_per_container() {
    let pod = pod(vec![], vec![asks("cpu=100u"), asks("cpu=1n")]);
    assert_eq!(asked(&pod).0, MilliCpu(2));
}

#[test]
fn memory_is_summed_in_bytes_and_rounded_up_once() {
    let pod = pod(vec![], vec![asks("memory=500k"), asks("memory=500k")]);
    assert_eq!(asked(&pod).1, MiB(1));
}

#[test]
fn resources_that_have_nothing_to_do_with_the_size_are_not_read() {
    assert_eq!(asked(&pod_that_asks("nvidia.com/gpu=many hugepages-2Mi=?")), (MilliCpu(0), MiB(0)));
}

#[test]
fn a_wrong_amount_is_refused_with_its_field_and_value() {
    let malformed = || QuantityProblem::Malformed(QuantityError::UnknownSuffix { suffix: "GB".into() });
    let two = |second| pod(vec![], vec![asks("cpu=1"), second]);
    let mut overhead = pod_that_asks("cpu=1");
    overhead.spec.as_mut().unwrap().overhead = Some(amounts("memory=1GB"));
    for (field, value, problem, pod) in [
        ("spec.containers[1].resources.requests[memory]", "1GB", malformed(), two(asks("memory=1GB"))),
        ("spec.containers[1].resources.requests[cpu]", "-1", QuantityProblem::Negative, two(asks("cpu=-1"))),
        ("spec.containers[1].resources.requests[memory]", "10E", QuantityProblem::Absurd, two(asks("memory=10E"))),
        (
            "spec.containers[1].resources.limits[cpu]",
            "-1m",
            QuantityProblem::Negative,
            two(container("cpu=1", "cpu=-1m")),
        ),
        (
            "spec.containers[1].resources.limits[memory]",
            "8Ei",
            QuantityProblem::Absurd,
            two(container("", "memory=8Ei")),
        ),
        (
            "spec.initContainers[0].resources.requests[ephemeral-storage]",
            "1GB",
            malformed(),
            pod(vec![asks("ephemeral-storage=1GB")], vec![]),
        ),
        ("spec.resources.requests[cpu]", "-2", QuantityProblem::Negative, with_pod_level(two(asks("")), "cpu=-2", "")),
        ("spec.resources.limits[memory]", "1GB", malformed(), with_pod_level(two(asks("")), "", "memory=1GB")),
        ("spec.overhead[memory]", "1GB", malformed(), overhead),
    ] {
        let error = fargate(&pod).unwrap_err();
        assert_eq!(error, SizingError::Quantity { field: field.into(), value: value.into(), problem });
        assert_eq!(error.to_string(), format!("{field} has the unusable value {value:?}"));
        assert_eq!(error.reason(), "POD_RESOURCE_QUANTITY_INVALID");
    }
}

#[test]
fn advice_on_a_wrong_amount_says_what_is_wrong() {
    let advice = |requests| fargate(&pod_that_asks(requests)).unwrap_err().advice();
    assert_eq!(advice("cpu=-1"), "correct spec.containers[0].resources.requests[cpu]: a resource cannot be negative");
    assert!(advice("memory=1GB").contains("unknown suffix \"GB\""), "{}", advice("memory=1GB"));
}
