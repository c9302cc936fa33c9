//! The Exact mode, the text of `CapacityProvisioned`, and the comparison of both modes.

use monopod_api::Sizing;
use monopod_types::{GiB, MiB, MilliCpu};

use super::{exact, fargate, pod_that_asks};
use crate::sizing::{Percent, Shape, SizingError, SizingSettings, size};

fn shape(cpu: u64, memory: u64) -> Shape {
    Shape { cpu: MilliCpu(cpu), memory: MiB(memory) }
}

#[test]
fn an_exact_size_is_what_was_asked_and_the_overhead_in_steps_of_one() {
    for (requests, expected) in [
        ("cpu=300m memory=320Mi", shape(300, 384)),
        ("cpu=301m memory=321Mi", shape(301, 385)),
        ("cpu=300001u memory=335544321", shape(301, 385)),
        ("cpu=3 memory=10Gi", shape(3000, 10_304)),
    ] {
        assert_eq!(exact(&pod_that_asks(requests)).unwrap().shape, expected, "{requests}");
    }
}

#[test]
fn the_measured_overhead_is_a_setting() {
    let settings = SizingSettings { overhead: shape(20, 91), ..SizingSettings::default() };
    let size = size(&pod_that_asks("cpu=300m memory=320Mi"), Sizing::Exact, &settings).unwrap();
    assert_eq!(size.shape, shape(320, 411));
}

#[test]
fn no_exact_size_is_below_the_floor() {
    for (requests, expected) in [
        ("", shape(100, 128)),
        ("cpu=1m memory=1Mi", shape(100, 128)),
        ("cpu=100m memory=64Mi", shape(100, 128)),
        ("cpu=101m memory=65Mi", shape(101, 129)),
        ("cpu=2", shape(2000, 128)),
    ] {
        assert_eq!(exact(&pod_that_asks(requests)).unwrap().shape, expected, "{requests}");
    }
}

#[test]
fn an_exact_size_above_the_settings_maximum_is_refused_as_in_the_table() {
    let settings = SizingSettings { largest: shape(2000, 4096), ..SizingSettings::default() };
    let exact = |requests| size(&pod_that_asks(requests), Sizing::Exact, &settings);
    assert_eq!(exact("cpu=2 memory=4032Mi").unwrap().shape, shape(2000, 4096));
    let error = exact("cpu=2 memory=4033Mi").unwrap_err();
    assert_eq!(error, SizingError::CpuOrMemoryTooLarge { need: shape(2000, 4097), largest: shape(2000, 4096) });
    assert_eq!(error.reason(), "POD_CPU_MEM_EXCEEDS_MAX_FARGATE_SIZE");
}

#[test]
fn the_maximum_of_exact_sizes_does_not_bind_the_fargate_mode() {
    let settings = SizingSettings { largest: shape(1000, 1024), ..SizingSettings::default() };
    let size = size(&pod_that_asks("cpu=4 memory=8Gi"), Sizing::Fargate, &settings).unwrap();
    assert_eq!((size.shape, size.exact), (shape(4000, 9 * 1024), shape(4000, 8256)));
}

#[test]
fn both_modes_have_the_same_rules_for_ephemeral_storage() {
    for (requests, expected) in
        [("", Ok(GiB(20))), ("ephemeral-storage=21Gi", Ok(GiB(21))), ("ephemeral-storage=176Gi", Err(()))]
    {
        for sized in [exact(&pod_that_asks(requests)), fargate(&pod_that_asks(requests))] {
            assert_eq!(sized.map(|size| size.ephemeral).map_err(|_| ()), expected, "{requests}");
        }
    }
}

#[test]
fn both_modes_tell_what_the_other_gives_and_what_was_asked() {
    let pod = pod_that_asks("cpu=300m memory=320Mi ephemeral-storage=500M");
    for (sized, expected) in [(fargate(&pod), shape(500, 1024)), (exact(&pod), shape(300, 384))] {
        let sized = sized.unwrap();
        assert_eq!(sized.shape, expected);
        assert_eq!((sized.asked, sized.asked_ephemeral), (shape(300, 320), MiB(477)));
        assert_eq!((sized.exact, sized.table), (shape(300, 384), Some(shape(500, 1024))));
    }
}

#[test]
fn waste_is_what_the_table_gives_beyond_the_exact_size() {
    let waste = exact(&pod_that_asks("cpu=300m memory=320Mi")).unwrap().waste().unwrap();
    assert_eq!((waste.cpu, waste.memory), (MilliCpu(200), MiB(640)));
    assert_eq!((waste.cpu_share.to_string(), waste.memory_share.to_string()), ("40 %".into(), "62.5 %".into()));
    assert!((waste.memory_share.as_f64() - 62.5).abs() < f64::EPSILON);
}

#[test]
fn a_pod_that_only_an_exact_size_holds_has_no_waste_to_tell() {
    let size = exact(&pod_that_asks("memory=122750Mi")).unwrap();
    assert_eq!((size.shape.memory, size.table, size.waste()), (MiB(122_814), None, None));
}

#[test]
fn an_overhead_larger_than_the_table_s_is_no_waste() {
    let settings = SizingSettings { overhead: shape(0, 512), ..SizingSettings::default() };
    let size = size(&pod_that_asks("cpu=250m memory=256Mi"), Sizing::Fargate, &settings).unwrap();
    let waste = size.waste().unwrap();
    assert_eq!((waste.memory, waste.memory_share), (MiB(0), Percent::default()));
}

#[test]
fn a_share_is_rounded_to_the_nearest_tenth_of_a_per_cent() {
    for (part, whole, text) in [
        (0, 0, "0 %"),
        (0, 5, "0 %"),
        (1, 3, "33.3 %"),
        (2, 3, "66.7 %"),
        (1, 2000, "0.1 %"),
        (1, 2001, "0 %"),
        (7, 7, "100 %"),
    ] {
        assert_eq!(Percent::of(part, whole).to_string(), text, "{part} of {whole}");
    }
}

#[test]
fn capacity_provisioned_is_written_as_the_reference_writes_it() {
    for (cpu, memory, text) in [
        (250, 512, "0.25vCPU 0.5GB"),
        (500, 1024, "0.5vCPU 1GB"),
        (1000, 2048, "1vCPU 2GB"),
        (16_000, 122_880, "16vCPU 120GB"),
        (300, 384, "0.3vCPU 0.375GB"),
        (301, 385, "0.301vCPU 0.376GB"),
        (100, 129, "0.1vCPU 0.126GB"),
    ] {
        assert_eq!(shape(cpu, memory).capacity_provisioned(), text);
    }
}

#[test]
fn every_memory_size_can_be_read_back_from_its_text() {
    for memory in 1..=120 * 1024 {
        let text = shape(0, memory).capacity_provisioned();
        let gb: f64 = text.strip_prefix("0vCPU ").unwrap().strip_suffix("GB").unwrap().parse().unwrap();
        assert_eq!((gb * 1024.0).round().to_string(), memory.to_string(), "{text}");
    }
}
