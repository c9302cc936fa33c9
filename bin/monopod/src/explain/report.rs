//! What `monopod explain` answers, as the documents that `-o json` and `-o yaml` print.
//!
//! A contract: docs/explain.md describes every field; fields are added, never renamed or removed.

use monopod_api::Sizing;
use monopod_policy::admission::Violation;
use monopod_policy::decision::Decision;
use monopod_policy::sizing::{Shape, Size, SizingError, Waste};
use serde::Serialize;

/// The whole answer.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// One entry per Pod or Pod template, in the order of the input.
    pub(super) pods: Vec<PodReport>,
    /// What was odd about the input without making it unusable.
    pub(super) warnings: Vec<String>,
}

/// The answer about one Pod or Pod template.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodReport {
    /// Kind of the object that the Pod comes from: `Pod`, `Deployment` and so on.
    pub(super) kind: String,
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
    /// The profile that takes the Pod.
    pub(super) profile: Option<String>,
    /// What it comes down to, as one word.
    pub(super) reason: String,
    /// Whether a microVM can run the Pod, taken or not.
    pub(super) supported: bool,
    /// What it comes down to, in words; for a Pod that would wait, the text of its event.
    pub(super) message: String,
    /// Everything that stands against the Pod.
    pub(super) violations: Vec<ViolationReport>,
    /// The size of the microVM; null where there is none.
    pub(super) size: Option<SizeReport>,
    /// What the Pod asks with the guest's own part, without the steps of the table; null where it cannot be told.
    pub(super) exact: Option<ExactReport>,
    /// What the table of sizes gives beyond that; null where it has no size.
    pub(super) waste: Option<WasteReport>,
    /// What each profile says to the Pod, by name.
    pub(super) profiles: Vec<ProfileReport>,
    /// The role that the Pod's ServiceAccount gives it (IRSA).
    pub(super) role: Option<String>,
}

/// One thing that stands against a Pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ViolationReport {
    /// One word, stable.
    pub(super) reason: String,
    /// Path of the field in the Pod.
    pub(super) field: String,
    /// What is wrong.
    pub(super) message: String,
    /// What to do instead.
    pub(super) advice: String,
    /// File and line of the field, or of the nearest that encloses it.
    pub(super) written_at: Option<String>,
}

/// The size of a microVM.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SizeReport {
    /// CPU in vCPU.
    pub(super) vcpu: f64,
    /// Memory in MiB.
    #[serde(rename = "memoryMiB")]
    pub(super) memory_mib: u64,
    /// Disk in GiB.
    #[serde(rename = "ephemeralGiB")]
    pub(super) ephemeral_gib: u64,
    /// Value of the Pod annotation `CapacityProvisioned`.
    pub(super) capacity_provisioned: String,
    /// The mode that decided: `Fargate` or `Exact`.
    pub(super) mode: Sizing,
}

/// A size without steps.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExactReport {
    /// CPU in thousandths of a vCPU.
    pub(super) milli_cpu: u64,
    /// Memory in MiB.
    #[serde(rename = "memoryMiB")]
    pub(super) memory_mib: u64,
}

/// What the table of sizes gives beyond the exact size.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WasteReport {
    /// CPU in vCPU.
    pub(super) vcpu: f64,
    /// Memory in GiB.
    #[serde(rename = "memoryGiB")]
    pub(super) memory_gib: f64,
    /// The wasted part of the table's CPU, per cent.
    pub(super) cpu_percent: f64,
    /// The wasted part of the table's memory, per cent.
    pub(super) memory_percent: f64,
}

/// What one profile says to a Pod.
#[derive(Debug, Serialize)]
pub(super) struct ProfileReport {
    /// Name of the profile.
    pub(super) name: String,
    /// Whether it is the one that takes the Pod.
    pub(super) takes: bool,
    /// Which selector matches, or the first thing that does not.
    pub(super) answer: String,
}

/// What a Pod comes from, as the report names it.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) role: Option<&'a str>,
}

impl Report {
    /// Every Pod is taken by a profile and would run.
    pub(super) fn all_run(&self) -> bool {
        self.pods.iter().all(PodReport::runs)
    }
}

impl PodReport {
    /// The answer about one Pod; `written_at` tells file and line of a field.
    pub(super) fn new(
        subject: &Subject<'_>,
        decision: &Decision<'_>,
        written_at: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let mut violations: Vec<_> = decision.verdict.violations().iter().map(ViolationReport::from).collect();
        violations.extend(decision.size.as_ref().err().map(ViolationReport::from));
        for violation in &mut violations {
            violation.written_at = written_at(&violation.field);
        }
        let size = decision.size.as_ref().ok();
        Self {
            kind: subject.kind.to_owned(),
            namespace: subject.namespace.to_owned(),
            name: subject.name.to_owned(),
            profile: decision.choice.taker.map(ToString::to_string),
            reason: decision.reason().to_owned(),
            supported: violations.is_empty(),
            message: decision.message(),
            violations,
            size: size.map(SizeReport::from),
            exact: size.map(|size| ExactReport::from(size.exact)),
            waste: size.and_then(Size::waste).map(WasteReport::from),
            profiles: profile_reports(decision),
            role: subject.role.map(str::to_owned),
        }
    }

    /// A profile takes the Pod and nothing stands against it.
    pub(super) fn runs(&self) -> bool {
        self.profile.is_some() && self.supported
    }
}

fn profile_reports(decision: &Decision<'_>) -> Vec<ProfileReport> {
    let taker = decision.choice.taker;
    let reports = decision.choice.profiles.iter().map(|answer| ProfileReport {
        name: answer.profile.to_string(),
        takes: Some(answer.profile) == taker,
        answer: answer.answer.to_string(),
    });
    reports.collect()
}

impl From<&Violation> for ViolationReport {
    fn from(violation: &Violation) -> Self {
        Self {
            reason: violation.reason().to_owned(),
            field: violation.field().to_owned(),
            message: violation.message().to_owned(),
            advice: violation.advice().to_owned(),
            written_at: None,
        }
    }
}

impl From<&SizingError> for ViolationReport {
    fn from(error: &SizingError) -> Self {
        let field = match error {
            SizingError::Quantity { field, .. } => field,
            SizingError::CpuOrMemoryTooLarge { .. } | SizingError::EphemeralStorageTooLarge { .. } => "spec",
        };
        Self {
            reason: error.reason().to_owned(),
            field: field.to_owned(),
            message: error.to_string(),
            advice: error.advice(),
            written_at: None,
        }
    }
}

impl From<&Size> for SizeReport {
    fn from(size: &Size) -> Self {
        Self {
            vcpu: vcpu(size.shape.cpu.0),
            memory_mib: size.shape.memory.0,
            ephemeral_gib: size.ephemeral.0,
            capacity_provisioned: size.shape.capacity_provisioned(),
            mode: size.mode,
        }
    }
}

impl From<Shape> for ExactReport {
    fn from(shape: Shape) -> Self {
        Self { milli_cpu: shape.cpu.0, memory_mib: shape.memory.0 }
    }
}

impl From<Waste> for WasteReport {
    fn from(waste: Waste) -> Self {
        Self {
            vcpu: vcpu(waste.cpu.0),
            memory_gib: gib(waste.memory.0),
            cpu_percent: waste.cpu_share.as_f64(),
            memory_percent: waste.memory_share.as_f64(),
        }
    }
}

/// Thousandths of a vCPU as a JSON number.
fn vcpu(milli: u64) -> f64 {
    f64::from(u32::try_from(milli).unwrap_or(u32::MAX)) / 1000.0
}

/// MiB as GiB, to the nearest hundredth, as a JSON number.
fn gib(mib: u64) -> f64 {
    let hundredths = (mib * 100 + 512) / 1024;
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
}
