//! Whether this host takes a Pod, and as what: the same verdict and size as everywhere else.
//!
//! Without a cluster there are no profiles, so one that takes everything stands in for them. What the API server would
//! have filled into the Pod is filled in here.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use monopod_api::{FargateProfile, FargateProfileSpec, Selector, Sizing};
use monopod_podplan::plan::{MachineShape, machine_shape};
use monopod_policy::admission::{Storage, Violation, host_verdict};
use monopod_policy::decision::{Decision, Outcome, Snapshot, decide};
use monopod_policy::defaults::{self, Defaults};
use monopod_policy::profile::{CompileError, WithoutPhase};
use monopod_policy::sizing::SizingError;

use crate::identity::PodName;
use crate::journal::ResolverRecord;
use crate::objects::Objects;

/// A Pod that this host takes.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    /// With all defaults.
    pub(crate) pod: Pod,
    pub(crate) name: PodName,
    pub(crate) uid: String,
    /// What it refers to.
    pub(crate) objects: Objects,
    pub(crate) machine: MachineShape,
    /// The address that was decided for it, if one was.
    pub(crate) address: Option<Ipv4Addr>,
    /// How names are resolved in place of the machine's own way.
    pub(crate) resolver: Option<ResolverRecord>,
}

/// A Pod of a cluster, with the place that its scheduler has decided.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) pod: Pod,
    pub(crate) objects: Objects,
    pub(crate) machine: MachineShape,
    pub(crate) address: Ipv4Addr,
    /// How names are resolved in place of the machine's own way.
    pub(crate) resolver: Option<ResolverRecord>,
}

/// Why a Pod is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// It cannot be read.
    #[error("failed to read the pod")]
    Syntax(#[from] serde_json::Error),
    /// It lacks what every Pod has.
    #[error("invalid pod: {what}")]
    Invalid {
        /// The field and what is wrong with it.
        what: String,
    },
    /// Policy refuses it.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The profile that stands in is wrong: a defect of ours.
    #[error("failed to decide about the pod")]
    Profile(#[from] CompileError),
}

/// What policy says of a Pod that it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Such as `POD_UNSUPPORTED_ON_FARGATE`.
    pub reason: &'static str,
    /// What an event would say.
    pub message: String,
    /// Each thing that stands against it.
    pub violations: Vec<RefusedFor>,
}

/// One thing that stands against a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedFor {
    /// For machines.
    pub reason: &'static str,
    /// Path of the field.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do instead.
    pub advice: String,
}

impl AdmissionError {
    /// Event reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Syntax(_) | Self::Invalid { .. } => "InvalidPod",
            Self::Refused(refusal) => refusal.reason,
            Self::Profile(_) => "AdmissionFailed",
        }
    }
}

/// Reads a Pod.
pub(crate) fn read(json: &[u8]) -> Result<Pod, AdmissionError> {
    Ok(serde_json::from_slice(json)?)
}

/// Decides about a Pod; `uid` is given to one that has none. `is_local` says of an image name that it came with the
/// request, so that it is not to be asked of a registry.
pub(crate) fn admit(
    pod: Pod,
    mut objects: Objects,
    sizing: Sizing,
    uid: String,
    now: Timestamp,
    is_local: &dyn Fn(&str) -> bool,
) -> Result<Admitted, AdmissionError> {
    let mut pod = with_defaults(pod, uid, now, is_local);
    let name = checked_name(&pod)?;
    objects.bind_claims(&pod);
    let (decided, machine) = decision(&pod, &objects, &name, sizing)?;
    pod = decided;
    let objects = objects.of_pod(&pod);
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    Ok(Admitted { pod, name, uid, objects, machine, address: None, resolver: None })
}

/// Decides a second time about a Pod that a cluster's scheduler has sent here. The API server has filled it in, and its
/// size is decided.
pub(crate) fn admit_placed(placed: Placed) -> Result<Admitted, AdmissionError> {
    let Placed { pod, objects, machine, address, resolver } = placed;
    let name = checked_name(&pod)?;
    check_placed(&pod, &objects)?;
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let objects = objects.of_pod(&pod);
    Ok(Admitted { pod, name, uid, objects, machine, address: Some(address), resolver })
}

/// Whether policy takes what has become of a Pod that runs.
pub(crate) fn check(pod: &Pod, objects: &Objects, name: &PodName) -> Result<(), AdmissionError> {
    if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
        return check_placed(pod, objects);
    }
    // Its machine is as large as it is; only what may never run is asked for.
    decision(pod, objects, name, Sizing::Fargate).map(drop)
}

/// Whether a Pod that the scheduler has sent may run here: the second line of defence.
fn check_placed(pod: &Pod, objects: &Objects) -> Result<(), AdmissionError> {
    let verdict = host_verdict(pod, &Storage::new(objects.claims(), objects.volumes()));
    if verdict.is_supported() {
        return Ok(());
    }
    let violations = verdict.violations().iter().map(RefusedFor::from).collect();
    let (reason, message) = (verdict.reason(), verdict.message());
    Err(AdmissionError::Refused(Refusal { reason, message, violations }))
}

/// The Pod as the cluster's defaults leave it, and its machine.
fn decision(
    pod: &Pod,
    objects: &Objects,
    name: &PodName,
    sizing: Sizing,
) -> Result<(Pod, MachineShape), AdmissionError> {
    let pod = defaults::apply(pod, &Defaults::new(objects.limit_ranges(), objects.runtime_classes()));
    let selectors = vec![Selector { namespace: name.namespace.clone(), ..Selector::default() }];
    let profile = FargateProfile::new("run", FargateProfileSpec { selectors, sizing, ..FargateProfileSpec::default() });
    let storage = Storage::new(objects.claims(), objects.volumes());
    let snapshot = Snapshot::new([&profile], WithoutPhase::Active, &[])?.with_storage(storage);
    let decision = decide(&pod, &snapshot);
    match (decision.outcome(), &decision.size) {
        (Outcome::Runs, Ok(size)) => {
            let machine = machine_shape(size);
            Ok((pod, machine))
        }
        (Outcome::Runs | Outcome::NotTaken | Outcome::Unsupported | Outcome::NoSize, _) => {
            Err(AdmissionError::Refused(refusal(&decision)))
        }
    }
}

fn refusal(decision: &Decision<'_>) -> Refusal {
    let mut violations: Vec<_> = decision.verdict.violations().iter().map(RefusedFor::from).collect();
    violations.extend(decision.size.as_ref().err().map(RefusedFor::from));
    Refusal { reason: decision.reason(), message: decision.message(), violations }
}

impl From<&Violation> for RefusedFor {
    fn from(violation: &Violation) -> Self {
        Self {
            reason: violation.reason(),
            field: violation.field().to_owned(),
            message: violation.message().to_owned(),
            advice: violation.advice().to_owned(),
        }
    }
}

impl From<&SizingError> for RefusedFor {
    fn from(error: &SizingError) -> Self {
        let field = match error {
            SizingError::Quantity { field, .. } => field,
            SizingError::CpuOrMemoryTooLarge { .. } | SizingError::EphemeralStorageTooLarge { .. } => "spec",
        };
        let (message, advice) = (error.to_string(), error.advice());
        Self { reason: error.reason(), field: field.to_owned(), message, advice }
    }
}

pub(crate) fn checked_name(pod: &Pod) -> Result<PodName, AdmissionError> {
    let invalid = |what: &str| AdmissionError::Invalid { what: what.to_owned() };
    let name = pod.metadata.name.as_deref().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| invalid("metadata.name is missing"))?;
    let namespace = crate::objects::namespace_of(&pod.metadata);
    // Both become names of folders.
    let is_dns = |text: &str, longest: usize| {
        text.len() <= longest
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
            && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
    };
    if !is_dns(name, 253) || !is_dns(namespace, 63) {
        return Err(invalid(&format!("{namespace:?}/{name:?} is no name of a Pod")));
    }
    let containers = pod.spec.as_ref().map_or(&[][..], |spec| &spec.containers);
    if containers.is_empty() {
        return Err(invalid("spec.containers is empty"));
    }
    Ok(PodName { namespace: namespace.to_owned(), name: name.to_owned() })
}

/// What the API server and the scheduler would have filled in.
fn with_defaults(mut pod: Pod, uid: String, now: Timestamp, is_local: &dyn Fn(&str) -> bool) -> Pod {
    let metadata = &mut pod.metadata;
    metadata.namespace = Some(crate::objects::namespace_of(metadata).to_owned());
    metadata.uid.get_or_insert(uid);
    metadata.creation_timestamp.get_or_insert(Time(now));
    metadata.generation.get_or_insert(1);
    let spec = pod.spec.get_or_insert_default();
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
    spec.enable_service_links.get_or_insert(true);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        fill_container(container, is_local);
    }
    let scheduled = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(Time(now)),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    };
    pod.status = Some(PodStatus {
        phase: Some("Pending".to_owned()),
        conditions: Some(vec![scheduled]),
        ..PodStatus::default()
    });
    pod
}

fn fill_container(container: &mut Container, is_local: &dyn Fn(&str) -> bool) {
    container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".to_owned());
    container.termination_message_policy.get_or_insert_with(|| "File".to_owned());
    if container.image_pull_policy.is_none() {
        let image = container.image.as_deref().unwrap_or_default();
        let last = image.rsplit('/').next().unwrap_or_default();
        let is_latest = !image.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
        let policy = if is_latest && !is_local(image) { "Always" } else { "IfNotPresent" };
        container.image_pull_policy = Some(policy.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use monopod_api::Sizing;
    use serde_json::{Value, json};

    use super::{AdmissionError, Admitted, admit};
    use crate::objects::Objects;

    fn check(pod: Value) -> Result<Admitted, AdmissionError> {
        let pod = serde_json::from_value(pod).unwrap();
        let is_local = |image: &str| image == "here";
        admit(pod, Objects::default(), Sizing::Fargate, "u-1".to_owned(), Timestamp::UNIX_EPOCH, &is_local)
    }

    #[test]
    fn a_pod_is_admitted_with_defaults_and_a_size() {
        let containers = json!([{"name": "a", "image": "here"}, {"name": "b", "image": "there/x"},
            {"name": "c", "image": "there:5000/x:1"}]);
        let admitted = check(json!({"metadata": {"name": "web"}, "spec": {"containers": containers}})).unwrap();
        assert_eq!((admitted.machine.cpu.0, admitted.machine.memory.0, admitted.machine.scratch.0), (250, 512, 20));
        assert_eq!(admitted.name.to_string(), "default/web");
        assert_eq!(admitted.uid, "u-1");
        let spec = admitted.pod.spec.unwrap();
        let policies: Vec<_> = spec.containers.iter().map(|one| one.image_pull_policy.as_deref().unwrap()).collect();
        assert_eq!(policies, ["IfNotPresent", "Always", "IfNotPresent"]);
    }

    #[test]
    fn a_refused_pod_has_the_message_and_advice_of_policy() {
        let pod = json!({"metadata": {"name": "web"}, "spec": {"hostPID": true, "containers": [{"name": "a"}]}});
        let Err(AdmissionError::Refused(refusal)) = check(pod) else { panic!("hostPID is refused") };
        assert_eq!(refusal.message, "Pod not supported on Fargate: fields not supported: HostPID");
        assert_eq!(refusal.reason, "POD_UNSUPPORTED_ON_FARGATE");
        assert!(refusal.violations.iter().all(|violation| !violation.advice.is_empty()));
    }

    #[test]
    fn a_pod_without_name_or_containers_is_invalid() {
        for pod in [
            json!({"spec": {"containers": [{"name": "a"}]}}),
            json!({"metadata": {"name": "web"}}),
            json!({"metadata": {"name": "../x"}, "spec": {"containers": [{"name": "a"}]}}),
            json!({"metadata": {"name": "web", "namespace": "a/b"}, "spec": {"containers": [{"name": "a"}]}}),
        ] {
            assert_eq!(check(pod).unwrap_err().reason(), "InvalidPod");
        }
    }
}
