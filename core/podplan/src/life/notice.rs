//! The kubelet's events, word for word.

use super::action::{Notice, ProbeKind, Severity};
use super::back_off::go_duration;
use super::event::{ImageFacts, ProbeOutcome};
use super::unit::{Role, Unit};

impl Notice {
    /// About a container.
    fn about(unit: &Unit, severity: Severity, reason: &'static str, message: impl Into<String>) -> Self {
        let place = match unit.role {
            Role::Init | Role::Sidecar => "initContainers",
            Role::Main => "containers",
            Role::Ephemeral => "ephemeralContainers",
        };
        Self { severity, reason, message: message.into(), field_path: format!("spec.{place}{{{}}}", unit.name) }
    }

    /// About the Pod as a whole.
    fn of_pod(severity: Severity, reason: &'static str, message: impl Into<String>) -> Self {
        Self { severity, reason, message: message.into(), field_path: String::new() }
    }

    pub(super) fn pulling(unit: &Unit) -> Self {
        Self::about(unit, Severity::Normal, "Pulling", format!("Pulling image {:?}", unit.image_name()))
    }

    pub(super) fn pulled(unit: &Unit, facts: &ImageFacts) -> Self {
        let image = unit.image_name();
        let message = match facts.pulled {
            Some(pulled) => format!(
                "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {} bytes.",
                go_duration(pulled.took),
                go_duration(pulled.took_with_waiting),
                pulled.bytes
            ),
            None => format!("Container image {image:?} already present on machine and can be accessed by the pod"),
        };
        Self::about(unit, Severity::Normal, "Pulled", message)
    }

    /// What the kubelet says first about an image that cannot be had, by the kind of failure.
    pub(super) fn image_failed(unit: &Unit, reason: &str, message: &str) -> Self {
        match reason {
            "ErrImageNeverPull" => Self::about(unit, Severity::Warning, "ErrImageNeverPull", message),
            "InvalidImageName" | "ImageInspectError" => Self::about(unit, Severity::Warning, "InspectFailed", message),
            _ => {
                let message = format!("Failed to pull image {:?}: {message}", unit.image_name());
                Self::about(unit, Severity::Warning, "Failed", message)
            }
        }
    }

    pub(super) fn image_back_off(unit: &Unit) -> Self {
        Self::about(unit, Severity::Normal, "BackOff", format!("Back-off pulling image {:?}", unit.image_name()))
    }

    /// A container could not be made or started.
    pub(super) fn failed(unit: &Unit, error: &str) -> Self {
        Self::about(unit, Severity::Warning, "Failed", format!("Error: {error}"))
    }

    pub(super) fn created(unit: &Unit) -> Self {
        Self::about(unit, Severity::Normal, "Created", "Container created")
    }

    pub(super) fn started(unit: &Unit) -> Self {
        Self::about(unit, Severity::Normal, "Started", "Container started")
    }

    pub(super) fn crash_back_off(unit: &Unit, pod: &str) -> Self {
        let message = format!("Back-off restarting failed container {} in pod {pod}", unit.name);
        Self::about(unit, Severity::Warning, "BackOff", message)
    }

    pub(super) fn killing(unit: &Unit, message: impl Into<String>) -> Self {
        Self::about(unit, Severity::Normal, "Killing", message)
    }

    pub(super) fn failed_post_start(unit: &Unit) -> Self {
        Self::about(unit, Severity::Warning, "FailedPostStartHook", "PostStartHook failed")
    }

    pub(super) fn failed_pre_stop(unit: &Unit) -> Self {
        Self::about(unit, Severity::Warning, "FailedPreStopHook", "PreStopHook failed")
    }

    /// What there is to say about a probe's answer.
    pub(super) fn of_probe(unit: &Unit, kind: ProbeKind, outcome: &ProbeOutcome) -> Option<Self> {
        let probe = kind.as_str();
        let (reason, message) = match outcome {
            ProbeOutcome::Success => return None,
            ProbeOutcome::Warning(output) => ("ProbeWarning", format!("{probe} probe warning: {output}")),
            ProbeOutcome::Failure(output) => ("Unhealthy", format!("{probe} probe failed: {output}")),
            ProbeOutcome::Error(error) => {
                ("Unhealthy", format!("{probe} probe errored and resulted in unknown state: {error}"))
            }
        };
        Some(Self::about(unit, Severity::Warning, reason, message))
    }

    pub(super) fn sandbox_failed(message: &str) -> Self {
        let message = format!("Failed to create pod sandbox: {message}");
        Self::of_pod(Severity::Warning, "FailedCreatePodSandBox", message)
    }

    pub(super) fn mount_failed(message: &str) -> Self {
        Self::of_pod(Severity::Warning, "FailedMount", message)
    }

    pub(super) fn deadline_exceeded(message: &str) -> Self {
        Self::of_pod(Severity::Normal, "DeadlineExceeded", message)
    }

    pub(super) fn evicted(message: &str) -> Self {
        Self::of_pod(Severity::Warning, "Evicted", message)
    }

    /// Ours: the microVM ended under its Pod.
    pub(super) fn vm_gone(message: &str) -> Self {
        Self::of_pod(Severity::Warning, "MicroVMGone", message)
    }
}
