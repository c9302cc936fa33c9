//! The Fargate mode: the table, the rules and the measured pairs of the reference.

use k8s_openapi::api::core::v1::Pod;

use monopod_api::Sizing;
use monopod_types::{GiB, MiB, MilliCpu};

use super::{amounts, asks, container, fargate, pod, pod_that_asks, provisioned};
use crate::sizing::combinations::{COMBINATIONS, LARGEST};
use crate::sizing::{Shape, SizingError, SizingSettings, problems, size};

fn memories_in_gb(cpu: MilliCpu) -> Vec<f64> {
    let gb = |memory: MiB| f64::from(u32::try_from(memory.0).unwrap()) / 1024.0;
    COMBINATIONS.iter().filter(|combination| combination.cpu == cpu).map(|combination| gb(combination.memory)).collect()
}

/// Rows that the reference writes as "from, to, in steps of".
fn steps(from: u32, to: u32, step: usize) -> Vec<f64> {
    (from..=to).step_by(step).map(f64::from).collect()
}

#[test]
fn there_are_74_combinations() {
    assert_eq!(COMBINATIONS.len(), 74);
    assert!(COMBINATIONS.is_sorted_by_key(|combination| (combination.cpu, combination.memory)));
    assert!(COMBINATIONS.iter().all(|combination| combination.fits_in(LARGEST)));
}

#[test]
fn each_row_of_the_table_has_the_documented_memory() {
    for (row, cpu, memory) in [
        ("0.25 vCPU: 0.5, 1, 2 GB", 250, vec![0.5, 1.0, 2.0]),
        ("0.5 vCPU: 1, 2, 3, 4 GB", 500, vec![1.0, 2.0, 3.0, 4.0]),
        ("1 vCPU: 2 to 8 GB in steps of 1", 1000, steps(2, 8, 1)),
        ("2 vCPU: 4 to 16 GB in steps of 1", 2000, steps(4, 16, 1)),
        ("4 vCPU: 8 to 30 GB in steps of 1", 4000, steps(8, 30, 1)),
        ("8 vCPU: 16 to 60 GB in steps of 4", 8000, steps(16, 60, 4)),
        ("16 vCPU: 32 to 120 GB in steps of 8", 16_000, steps(32, 120, 8)),
    ] {
        assert_eq!(memories_in_gb(MilliCpu(cpu)), memory, "{row}");
    }
}

#[test]
fn every_documented_sizing_rule_holds() {
    for (rule, init, containers, expected) in [
        (
            "the init part is the largest request of any init container",
            vec!["cpu=1 memory=1Gi", "cpu=2 memory=512Mi"],
            vec!["cpu=250m memory=256Mi"],
            "2vCPU 4GB",
        ),
        (
            "the run part is the sum of the long-running containers",
            vec![],
            vec!["cpu=500m memory=1Gi", "cpu=500m memory=1Gi"],
            "1vCPU 3GB",
        ),
        (
            "per resource the larger of both parts counts",
            vec!["cpu=1 memory=128Mi"],
            vec!["cpu=250m memory=3Gi", "cpu=250m memory=1Gi"],
            "1vCPU 5GB",
        ),
        ("256 MB are added to the memory", vec![], vec!["cpu=250m memory=1792Mi"], "0.25vCPU 2GB"),
        ("the smallest combination with enough of both is taken", vec![], vec!["cpu=600m memory=100Mi"], "1vCPU 2GB"),
        ("memory may lift the vCPU step: 1 vCPU and 8 GB", vec![], vec!["cpu=1 memory=8Gi"], "2vCPU 9GB"),
        ("no requests at all", vec![], vec![""], "0.25vCPU 0.5GB"),
    ] {
        let init = init.into_iter().map(asks).collect();
        let containers = containers.into_iter().map(asks).collect();
        assert_eq!(provisioned(&pod(init, containers)), expected, "{rule}");
    }
}

#[test]
fn every_measured_pair_comes_out_as_measured() {
    for (requests, expected) in [
        ("", "0.25vCPU 0.5GB"),
        ("cpu=0.25 memory=512Mi", "0.25vCPU 1GB"),
        ("cpu=0.5 memory=750M", "0.5vCPU 1GB"),
        ("cpu=0.5 memory=1Gi", "0.5vCPU 2GB"),
        ("cpu=1 memory=1750M", "1vCPU 2GB"),
        ("cpu=1 memory=4Gi", "1vCPU 5GB"),
    ] {
        assert_eq!(provisioned(&pod_that_asks(requests)), expected, "{requests}");
    }
}

#[test]
fn an_exact_fit_is_inclusive() {
    for (requests, expected) in [
        ("cpu=250m memory=256Mi", "0.25vCPU 0.5GB"),
        ("cpu=250m memory=268435457", "0.25vCPU 1GB"),
        ("cpu=251m memory=256Mi", "0.5vCPU 1GB"),
        ("cpu=250m memory=768Mi", "0.25vCPU 1GB"),
        ("cpu=250m memory=769Mi", "0.25vCPU 2GB"),
        ("cpu=16 memory=122624Mi", "16vCPU 120GB"),
    ] {
        assert_eq!(provisioned(&pod_that_asks(requests)), expected, "{requests}");
    }
}

#[test]
fn asking_n_gb_less_256_mi_gives_n_gb() {
    for combination in COMBINATIONS {
        let requests = format!("cpu={}m memory={}Mi", combination.cpu.0, combination.memory.0 - 256);
        assert_eq!(fargate(&pod_that_asks(&requests)).unwrap().shape, combination, "{requests}");
    }
}

#[test]
fn limits_beside_requests_do_not_count_for_the_size() {
    let burstable = pod(vec![], vec![container("cpu=250m memory=256Mi", "cpu=8 memory=16Gi")]);
    assert_eq!(provisioned(&burstable), "0.25vCPU 0.5GB");
}

#[test]
fn a_pod_with_limits_only_is_sized_by_its_limits() {
    let limited = pod(vec![], vec![container("", "cpu=1 memory=4Gi")]);
    assert_eq!(provisioned(&limited), "1vCPU 5GB");
}

#[test]
fn a_pod_above_16_vcpu_or_120_gb_has_the_reference_s_reason_and_message() {
    for (row, requests) in [
        ("more than 16 vCPU", "cpu=16001m"),
        ("more than 120 GB", "memory=121Gi"),
        ("120 GB and no room for the 256 MB", "memory=120Gi"),
        ("a byte more than fits beside the 256 MB", "memory=128580583425"),
        ("much more", "cpu=100000 memory=1Ei"),
    ] {
        let error = fargate(&pod_that_asks(requests)).unwrap_err();
        assert_eq!(error.reason(), "POD_CPU_MEM_EXCEEDS_MAX_FARGATE_SIZE", "{row}");
        let message = "Your pod's cpu/memory requirements exceed the max Fargate configuration";
        assert_eq!(error.to_string(), message, "{row}");
    }
}

#[test]
fn advice_on_a_pod_that_is_too_large_has_the_figures() {
    let error = fargate(&pod_that_asks("cpu=17 memory=4Gi")).unwrap_err();
    let need = Shape { cpu: MilliCpu(17_000), memory: MiB(4352) };
    assert_eq!(error, SizingError::CpuOrMemoryTooLarge { need, largest: LARGEST });
    assert_eq!(
        error.advice(),
        "the Pod needs 17 vCPU and 4.25 GiB with what its microVM itself takes, the largest size has 16 vCPU and 120 GiB; \
         lower the requests or split the Pod"
    );
}

#[test]
fn an_absurd_amount_of_cpu_is_told_as_it_is_and_not_a_thousandth_of_it() {
    for (cpu, told) in [("1P", "1000000000000000 vCPU"), ("1E", "more than 18446744073709551.615 vCPU")] {
        let advice = fargate(&pod_that_asks(&format!("cpu={cpu}"))).unwrap_err().advice();
        assert!(advice.starts_with(&format!("the Pod needs {told} and ")), "{cpu}: {advice}");
    }
}

#[test]
fn a_pod_that_is_too_large_in_memory_and_in_disk_is_told_both() {
    let reasons = |requests: &str, mode| {
        let pod = pod_that_asks(requests);
        let found = problems(&pod, mode, &SizingSettings::default());
        assert_eq!(found.first(), size(&pod, mode, &SizingSettings::default()).err().as_ref(), "{requests}");
        found.iter().map(SizingError::reason).collect::<Vec<_>>()
    };
    let (large, disk) = ("POD_CPU_MEM_EXCEEDS_MAX_FARGATE_SIZE", "POD_EPHEMERAL_STORAGE_EXCEEDS_MAX_FARGATE_SIZE");
    for mode in [Sizing::Fargate, Sizing::Exact] {
        assert_eq!(reasons("cpu=17 ephemeral-storage=1Ti", mode), [large, disk]);
        assert_eq!(reasons("cpu=1 ephemeral-storage=1Ti", mode), [disk]);
        assert_eq!(reasons("memory=1Ti", mode), [large]);
        assert_eq!(reasons("cpu=1", mode), [""; 0]);
        assert_eq!(reasons("cpu=x ephemeral-storage=1Ti", mode), ["POD_RESOURCE_QUANTITY_INVALID"]);
    }
}

#[test]
fn ephemeral_storage_is_20_gib_unless_more_is_asked() {
    for (row, init, containers, expected) in [
        ("nothing asked", vec![], vec![""], 20),
        ("less than the default", vec![], vec!["ephemeral-storage=1Gi"], 20),
        ("the default itself", vec![], vec!["ephemeral-storage=20Gi"], 20),
        ("a byte more than the default", vec![], vec!["ephemeral-storage=21474836481"], 21),
        ("requests of containers are summed", vec![], vec!["ephemeral-storage=60Gi", "ephemeral-storage=40Gi"], 100),
        ("the largest init container counts", vec!["ephemeral-storage=50Gi", "ephemeral-storage=30Gi"], vec![""], 50),
        ("the maximum itself", vec![], vec!["ephemeral-storage=175Gi"], 175),
    ] {
        let init = init.into_iter().map(asks).collect();
        let containers = containers.into_iter().map(asks).collect();
        assert_eq!(fargate(&pod(init, containers)).unwrap().ephemeral, GiB(expected), "{row}");
    }
}

#[test]
fn more_than_175_gib_of_ephemeral_storage_has_a_reason_of_its_own() {
    let error =
        fargate(&pod(vec![], vec![asks("ephemeral-storage=100Gi"), asks("ephemeral-storage=76Gi")])).unwrap_err();
    assert_eq!(error, SizingError::EphemeralStorageTooLarge { asked: GiB(176), largest: GiB(175) });
    assert_eq!(error.reason(), "POD_EPHEMERAL_STORAGE_EXCEEDS_MAX_FARGATE_SIZE");
    assert_eq!(error.to_string(), "Your pod's ephemeral storage requirements exceed the max Fargate configuration");
    assert_eq!(
        error.advice(),
        "the Pod asks 176 GiB of ephemeral-storage, at most 175 GiB can be had; lower the requests or use a persistent volume"
    );
}

#[test]
fn the_overhead_of_a_runtime_class_is_added_to_the_256_mb() {
    let mut pod = pod_that_asks("cpu=250m memory=256Mi ephemeral-storage=20Gi");
    pod.spec.as_mut().unwrap().overhead = Some(amounts("cpu=250m memory=512Mi ephemeral-storage=1Gi"));
    let size = fargate(&pod).unwrap();
    assert_eq!(size.shape.capacity_provisioned(), "0.5vCPU 1GB");
    assert_eq!(size.ephemeral, GiB(21));
    assert_eq!(size.asked, Shape { cpu: MilliCpu(500), memory: MiB(768) });
}

#[test]
fn a_pod_without_a_spec_asks_nothing() {
    assert_eq!(provisioned(&Pod::default()), "0.25vCPU 0.5GB");
}
