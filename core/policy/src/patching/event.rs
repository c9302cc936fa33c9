//! The event that a Pod's owner gets when its eviction was refused, in the reference's form: Amazon EventBridge, detail
//! type "EKS Fargate Pod Scheduled Termination" (AWS EKS user guide, Fargate Pod patching). Fields only; whoever sends
//! it makes the JSON.

use jiff::Timestamp;

use super::RunningPod;

/// `version` of the envelope.
pub const EVENT_VERSION: &str = "0";
/// `source` of the envelope.
pub const EVENT_SOURCE: &str = "aws.eks";
/// `detail-type` of the envelope.
pub const DETAIL_TYPE: &str = "EKS Fargate Pod Scheduled Termination";
/// `evictErrorMessage` where a PodDisruptionBudget has no Pod to spare.
pub const EVICT_ERROR_DISRUPTION_BUDGET: &str = "Cannot evict pod as it would violate the pod's disruption budget";
/// `evictErrorMessage` where more than one PodDisruptionBudget covers the Pod.
pub const EVICT_ERROR_SEVERAL_BUDGETS: &str =
    "This pod has multiple PodDisruptionBudget, which the eviction subresource does not support";

/// Who sends the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Name of the cluster.
    pub name: String,
    /// `account` of the envelope.
    pub account: String,
    /// `region` of the envelope.
    pub region: String,
}

/// The event. `version`, `source` and `detail-type` are constants of this module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminationEvent {
    /// `id`: the UID of the Pod, so that a repeated event is known as the same.
    pub id: String,
    /// `account`.
    pub account: String,
    /// `time`: when it was sent.
    pub time: Timestamp,
    /// `region`.
    pub region: String,
    /// `resources`: namespace and name of the Pod, `default/my-database-deployment`.
    pub resources: Vec<String>,
    /// `detail`.
    pub detail: TerminationDetail,
}

/// `detail` of the event; each field is the JSON key in camel case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminationDetail {
    /// `clusterName`.
    pub cluster_name: String,
    /// `fargateProfileName`.
    pub fargate_profile_name: String,
    /// `podName`.
    pub pod_name: String,
    /// `podNamespace`.
    pub pod_namespace: String,
    /// `evictErrorMessage`: what the Eviction API said.
    pub evict_error_message: String,
    /// `scheduledTerminationTime`, in the form of [`termination_time_text`].
    pub scheduled_termination_time: Timestamp,
}

/// What [`super::Action::Announce`] tells the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// When the Pod is evicted once more and, if that is refused, deleted.
    pub scheduled_termination_time: Timestamp,
    /// What the Eviction API said.
    pub evict_error_message: String,
}

impl TerminationEvent {
    /// The event about `pod`, sent `now`.
    pub fn new(pod: &RunningPod, announcement: Announcement, cluster: Cluster, now: Timestamp) -> Self {
        Self {
            id: pod.uid.to_string(),
            account: cluster.account,
            time: now,
            region: cluster.region,
            resources: vec![format!("{}/{}", pod.namespace, pod.name)],
            detail: TerminationDetail {
                cluster_name: cluster.name,
                fargate_profile_name: pod.profile.to_string(),
                pod_name: pod.name.clone(),
                pod_namespace: pod.namespace.clone(),
                evict_error_message: announcement.evict_error_message,
                scheduled_termination_time: announcement.scheduled_termination_time,
            },
        }
    }
}

/// The time as the event shows it: `2021-06-30T12:52:44.832Z[UTC]`, milliseconds always, the rest cut off.
pub fn termination_time_text(time: Timestamp) -> String {
    format!("{time:.3}[UTC]")
}
