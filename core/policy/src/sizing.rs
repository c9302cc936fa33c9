//! How big the microVM of a Pod is, from what its containers ask.
//!
//! Called by the scheduler (which writes the size on the Pod and places it), by the host daemon and by
//! `monopod explain`. What was asked is read once, exactly, and then turned into a size in one of two ways:
//!
//! ```text
//! Pod ─▶ demand: effective request per resource ─┬─▶ Fargate: + 256 MiB, then the smallest of 74 combinations
//!        (Kubernetes' rule)                      └─▶ Exact:   + measured overhead, not below the floor
//! ```
//!
//! Both are always computed, so that the result tells what the other mode would have given and what the table wastes.
//! `limits` then says how far each container's limits reach inside a microVM of that size.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;

use monopod_api::Sizing;
use monopod_types::{GiB, MiB, MilliCpu};

use self::demand::Demand;

mod combinations;
mod demand;
mod error;
mod limits;

pub use error::{QuantityProblem, SizingError};
pub use limits::{ContainerLimits, EffectiveLimits, Limits, effective_limits};

/// Memory that a Fargate size sets aside for kubelet, kube-proxy and containerd (Amazon EKS user guide, Fargate Pod
/// configuration).
pub const FARGATE_OVERHEAD: MiB = MiB(256);
/// Disk that every Pod gets, and what one that asks less is raised to (Amazon EKS user guide, Fargate Pod configuration).
pub const DEFAULT_EPHEMERAL_STORAGE: GiB = GiB(20);
/// Most disk that a Pod may ask (Amazon EKS user guide, Fargate Pod configuration).
pub const MAX_EPHEMERAL_STORAGE: GiB = GiB(175);

/// CPU and memory of a microVM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape {
    /// CPU time per time; a microVM has as many whole processors as hold it.
    pub cpu: MilliCpu,
    /// Memory of the whole machine, the guest's own part included.
    pub memory: MiB,
}

/// How big the microVM of one Pod is, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The mode that decided.
    pub mode: Sizing,
    /// CPU and memory of the microVM.
    pub shape: Shape,
    /// Disk for writable layers, logs and emptyDir volumes. All of it is the Pod's: images lie on disks of their own.
    pub ephemeral: GiB,
    /// CPU and memory that the Pod asks: its effective request with `spec.overhead`, nothing of ours added.
    pub asked: Shape,
    /// Disk that the Pod asks, before it is raised to the default.
    pub asked_ephemeral: MiB,
    /// What [`Sizing::Exact`] gives, whichever mode decided; its maximum is not applied here.
    pub exact: Shape,
    /// What [`Sizing::Fargate`] gives, whichever mode decided; `None` where no combination is large enough.
    pub table: Option<Shape>,
}

/// What the table of combinations gives beyond the exact size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waste {
    /// CPU beyond the exact size.
    pub cpu: MilliCpu,
    /// Memory beyond the exact size.
    pub memory: MiB,
    /// The wasted part of the table's CPU.
    pub cpu_share: Percent,
    /// The wasted part of the table's memory.
    pub memory_share: Percent,
}

/// A part of a whole, to a tenth of a per cent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent {
    tenths: u32,
}

/// What a platform team may set about exact sizes.
///
/// The Fargate mode has no settings: its sizes are those of the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizingSettings {
    /// What the guest itself takes, as measured for the guest image in use. Default: no CPU and 64 MiB for kernel,
    /// page tables and agent.
    pub overhead: Shape,
    /// No exact size is smaller in either; this is also what a Pod gets that asks nothing. Default: 0.1 vCPU and
    /// 128 MiB.
    pub smallest: Shape,
    /// No exact size is larger in either; a Pod that needs more is refused. Default: 16 vCPU and 120 GiB, the largest
    /// combination of the Fargate mode.
    pub largest: Shape,
}

impl Default for SizingSettings {
    fn default() -> Self {
        Self {
            overhead: Shape { cpu: MilliCpu(0), memory: MiB(64) },
            smallest: Shape { cpu: MilliCpu(100), memory: MiB(128) },
            largest: combinations::LARGEST,
        }
    }
}

/// Decides how big the microVM of a Pod is.
///
/// Limits stand in for missing requests, as the API server writes them into a Pod, so a Pod gets the same size before
/// and after its creation. A limit never makes a size larger than the request beside it.
///
/// # Errors
/// The Pod asks more than the mode's largest size or more than [`MAX_EPHEMERAL_STORAGE`], or one of its quantities is
/// malformed, negative or absurd.
pub fn size(pod: &Pod, mode: Sizing, settings: &SizingSettings) -> Result<Size, SizingError> {
    let demand = Demand::of(pod)?;
    let asked = asked(&demand);
    Ok(Size {
        mode,
        shape: shape(asked, mode, settings)?,
        ephemeral: ephemeral_storage(demand.ephemeral_storage.to_gib())?,
        asked,
        asked_ephemeral: demand.ephemeral_storage.to_mib(),
        exact: exact(asked, settings),
        table: combinations::smallest_that_holds(with_fargate_overhead(asked)),
    })
}

/// Everything that keeps a Pod from having a size; the first is the error of [`size`], and there is none where that
/// succeeds. A Pod may ask too much CPU or memory and too much disk at once.
pub fn problems(pod: &Pod, mode: Sizing, settings: &SizingSettings) -> Vec<SizingError> {
    match Demand::of(pod) {
        Ok(demand) => {
            let shape = shape(asked(&demand), mode, settings).err();
            shape.into_iter().chain(ephemeral_storage(demand.ephemeral_storage.to_gib()).err()).collect()
        }
        Err(error) => vec![error],
    }
}

fn asked(demand: &Demand) -> Shape {
    Shape { cpu: demand.cpu.to_milli_cpu(), memory: demand.memory.to_mib() }
}

fn exact(asked: Shape, settings: &SizingSettings) -> Shape {
    asked.plus(settings.overhead).max_of_each(settings.smallest)
}

/// CPU and memory by the mode, or that no size is large enough.
fn shape(asked: Shape, mode: Sizing, settings: &SizingSettings) -> Result<Shape, SizingError> {
    let (need, largest, shape) = match mode {
        Sizing::Fargate => {
            let need = with_fargate_overhead(asked);
            (need, combinations::LARGEST, combinations::smallest_that_holds(need))
        }
        Sizing::Exact => {
            let exact = exact(asked, settings);
            (exact, settings.largest, Some(exact).filter(|exact| exact.fits_in(settings.largest)))
        }
    };
    shape.ok_or(SizingError::CpuOrMemoryTooLarge { need, largest })
}

fn with_fargate_overhead(asked: Shape) -> Shape {
    asked.plus(Shape { cpu: MilliCpu::ZERO, memory: FARGATE_OVERHEAD })
}

fn ephemeral_storage(asked: GiB) -> Result<GiB, SizingError> {
    if asked > MAX_EPHEMERAL_STORAGE {
        return Err(SizingError::EphemeralStorageTooLarge { asked, largest: MAX_EPHEMERAL_STORAGE });
    }
    Ok(asked.max(DEFAULT_EPHEMERAL_STORAGE))
}

impl Size {
    /// What the table wastes against the exact size; `None` where the table has no size for the Pod.
    pub fn waste(&self) -> Option<Waste> {
        let table = self.table?;
        let (cpu, memory) = (table.cpu - self.exact.cpu, table.memory - self.exact.memory);
        Some(Waste {
            cpu,
            memory,
            cpu_share: Percent::of(cpu.0, table.cpu.0),
            memory_share: Percent::of(memory.0, table.memory.0),
        })
    }
}

impl Shape {
    /// The value of the Pod annotation `CapacityProvisioned`: `0.25vCPU 0.5GB`, where a GB is 1024 MiB as in the
    /// reference.
    ///
    /// Exact sizes are written alike, CPU in full (`0.301vCPU`) and memory with at most four decimals (`0.376GB` for
    /// 385 MiB), which is enough to tell any two sizes apart.
    pub fn capacity_provisioned(&self) -> String {
        format!("{}vCPU {}GB", Decimal::vcpu(self.cpu), Decimal::gib(self.memory))
    }

    /// Whether a microVM of shape `other` has room for it, exact fit included.
    pub fn fits_in(self, other: Self) -> bool {
        self.cpu <= other.cpu && self.memory <= other.memory
    }

    fn plus(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, memory: self.memory + other.memory }
    }

    fn max_of_each(self, other: Self) -> Self {
        Self { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory) }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is not to be counted any more is capped; the number alone would be a lie.
        let more = if self.cpu.0 == u64::MAX { "more than " } else { "" };
        write!(f, "{more}{} vCPU and {} GiB", Decimal::vcpu(self.cpu), Decimal::gib(self.memory))
    }
}

impl Percent {
    /// `part / whole`, to the nearest tenth of a per cent; nothing of nothing is 0.
    fn of(part: u64, whole: u64) -> Self {
        let (part, whole) = (u128::from(part), u128::from(whole.max(1)));
        Self { tenths: u32::try_from((part * 2000 + whole) / (whole * 2)).unwrap_or(u32::MAX) }
    }

    /// As a number: 43.8 for 43.8 %.
    pub fn as_f64(self) -> f64 {
        f64::from(self.tenths) / 10.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", Decimal { ten_thousandths: u128::from(self.tenths) * 1000 })
    }
}

/// A number that prints with as many decimals as it needs, four at most.
struct Decimal {
    ten_thousandths: u128,
}

impl Decimal {
    fn vcpu(cpu: MilliCpu) -> Self {
        Self { ten_thousandths: u128::from(cpu.0) * 10 }
    }

    /// To the nearest ten-thousandth: multiplied by 1024 and rounded, the text gives the MiB again.
    fn gib(memory: MiB) -> Self {
        Self { ten_thousandths: (u128::from(memory.0) * 10_000 + 512) / 1024 }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.ten_thousandths / 10_000, self.ten_thousandths % 10_000);
        if part == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{part:04}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests;
