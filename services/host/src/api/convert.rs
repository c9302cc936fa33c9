//! Between the daemon's own types and those of the wire.

use jiff::Timestamp;
use monopod_host_proto::REASON_METADATA;
use monopod_host_proto::v1::{self as proto, pod_event};
use prost::Message as _;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::admission::{AdmissionError, Refusal};
use crate::error::HostError;
use crate::identity::PodName;
use crate::journal::{PortRecord, SizeRecord, StageRecord};
use crate::news::{Finished, Item, SeenEvent, TimedItem};

/// An error as gRPC has it: code, all causes in one line, the reason beside it.
pub(super) fn status(error: HostError) -> Status {
    let reason = error.reason();
    let message = in_one_line(&error);
    let code = match &error {
        HostError::Admission(AdmissionError::Refused(_)) | HostError::Running(_) | HostError::NotRunning(_) => {
            Code::FailedPrecondition
        }
        HostError::Admission(_) | HostError::Object(_) | HostError::Request { .. } | HostError::Container { .. } => {
            Code::InvalidArgument
        }
        HostError::Exists(_) => Code::AlreadyExists,
        HostError::NotFound(_) => Code::NotFound,
        HostError::Image(_) | HostError::Port { .. } => Code::FailedPrecondition,
        HostError::Agent(_) => Code::Unavailable,
        HostError::Journal(_)
        | HostError::Log { .. }
        | HostError::Vmm(_)
        | HostError::Net(_)
        | HostError::Scratch(_)
        | HostError::Prober(_)
        | HostError::System { .. } => Code::Internal,
    };
    let mut metadata = MetadataMap::new();
    metadata.insert(REASON_METADATA, MetadataValue::from_static(reason));
    let details = if let HostError::Admission(AdmissionError::Refused(refused)) = error {
        refusal(refused).encode_to_vec()
    } else {
        Vec::new()
    };
    Status::with_details_and_metadata(code, message, details.into(), metadata)
}

fn in_one_line(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn refusal(refused: Refusal) -> proto::Refusal {
    let violations = refused.violations.into_iter().map(|violation| proto::Violation {
        reason: violation.reason.to_owned(),
        field: violation.field,
        message: violation.message,
        advice: violation.advice,
    });
    proto::Refusal { reason: refused.reason.to_owned(), message: refused.message, violations: violations.collect() }
}

pub(super) fn pod_name(name: Option<proto::PodName>) -> Result<PodName, Status> {
    let proto::PodName { namespace, name } = name.unwrap_or_default();
    if name.is_empty() {
        return Err(Status::invalid_argument("no Pod is named"));
    }
    let namespace = if namespace.is_empty() { "default".to_owned() } else { namespace };
    Ok(PodName { namespace, name })
}

pub(super) fn name(name: &PodName) -> proto::PodName {
    proto::PodName { namespace: name.namespace.clone(), name: name.name.clone() }
}

pub(super) fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

pub(super) fn size(size: SizeRecord) -> proto::Size {
    proto::Size {
        cpu_millis: size.milli_cpu,
        memory: size.memory_mib.saturating_mul(1 << 20),
        scratch: size.scratch_gib.saturating_mul(1 << 30),
    }
}

pub(super) fn port(port: &PortRecord) -> proto::PublishedPort {
    proto::PublishedPort {
        host_address: port.host_address.to_string(),
        host_port: port.host_port.into(),
        pod_port: port.pod_port.into(),
    }
}

pub(super) fn stage(stage: StageRecord) -> proto::Stage {
    let StageRecord { name, nanoseconds, since_start_nanoseconds } = stage;
    proto::Stage { name, nanoseconds, since_start_nanoseconds }
}

pub(super) fn event(event: &SeenEvent) -> proto::KubernetesEvent {
    proto::KubernetesEvent {
        r#type: event.notice.severity.as_str().to_owned(),
        reason: event.notice.reason.to_owned(),
        message: event.notice.message.clone(),
        field_path: event.notice.field_path.clone(),
        count: event.count,
    }
}

pub(super) fn finished(finished: Finished) -> proto::Finished {
    let Finished { exit_code, phase, reason, message } = finished;
    proto::Finished { exit_code, phase, reason, message }
}

pub(super) fn pod_json(pod: &k8s_openapi::api::core::v1::Pod) -> Vec<u8> {
    serde_json::to_vec(pod).expect("API objects have text keys")
}

pub(super) fn news(news: TimedItem) -> proto::PodEvent {
    use pod_event::Kind;
    let kind = match news.item {
        Item::Admitted { uid, size: sold } => Kind::Admitted(proto::Admitted { uid, size: Some(size(sold)) }),
        Item::Stage(done) => Kind::Stage(stage(done)),
        Item::Pull(pull) => Kind::Pull(proto::PullProgress {
            image: pull.image,
            done: pull.done,
            total: pull.total,
            step: pull.step.to_owned(),
        }),
        Item::Event(seen) => Kind::Event(event(&seen)),
        Item::Status(pod) => Kind::Status(proto::PodStatus {
            phase: pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default(),
            pod_json: pod_json(&pod),
        }),
        Item::Published(published) => Kind::Published(port(&published)),
        Item::Finished(end) => Kind::Finished(finished(end)),
    };
    proto::PodEvent { time: nanoseconds(news.time), kind: Some(kind) }
}
