//! What runs Pods: a Pod itself, or a controller from whose template its Pods follow.
//!
//! A Pod made here is the one that the controller would make first: with the template's metadata, the controller's
//! namespace and an owner reference, by which a `DaemonSet`'s Pod is recognised.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodSpec, PodTemplateSpec,
    ReplicationController, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::origin::{Fields, Origin};
use crate::sanity::{self, Refusal};

/// A kind of object that runs Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// A Pod that no controller makes.
    Pod,
    /// `apps/v1`.
    Deployment,
    /// `apps/v1`.
    ReplicaSet,
    /// `apps/v1`.
    StatefulSet,
    /// `apps/v1`.
    DaemonSet,
    /// `batch/v1`.
    Job,
    /// `batch/v1`.
    CronJob,
    /// `v1`.
    ReplicationController,
}

/// One object that runs Pods, and the first of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Kind of the object as it was written.
    pub kind: WorkloadKind,
    /// Its namespace; `default` where none was written.
    pub namespace: String,
    /// Its name, or its `generateName`.
    pub name: String,
    /// The Pod itself, or the first that the controller would make.
    pub pod: Pod,
    /// Where its fields were written; `None` when it comes from a cluster.
    pub fields: Option<Fields>,
}

/// What the kinds have in common, taken out of them.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) kind: WorkloadKind,
    pub(crate) metadata: ObjectMeta,
    pub(crate) template: PodTemplateSpec,
    pub(crate) claim_templates: Vec<PersistentVolumeClaim>,
}

impl WorkloadKind {
    /// The kind as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::ReplicationController => "ReplicationController",
        }
    }

    /// Path of the Pod's metadata in the object as it was written.
    fn pod_metadata_path(self) -> &'static str {
        match self {
            Self::Pod => "metadata",
            Self::CronJob => "spec.jobTemplate.spec.template.metadata",
            Self::Deployment
            | Self::ReplicaSet
            | Self::StatefulSet
            | Self::DaemonSet
            | Self::Job
            | Self::ReplicationController => "spec.template.metadata",
        }
    }

    /// Path of the Pod's spec in the object as it was written.
    pub fn pod_spec_path(self) -> &'static str {
        match self {
            Self::Pod => "spec",
            Self::CronJob => "spec.jobTemplate.spec.template.spec",
            Self::Deployment
            | Self::ReplicaSet
            | Self::StatefulSet
            | Self::DaemonSet
            | Self::Job
            | Self::ReplicationController => "spec.template.spec",
        }
    }

    /// API version and kind of what owns the Pods: a Deployment has a `ReplicaSet` make them, a `CronJob` a Job.
    fn owner(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Pod => None,
            Self::Deployment | Self::ReplicaSet => Some(("apps/v1", "ReplicaSet")),
            Self::StatefulSet => Some(("apps/v1", "StatefulSet")),
            Self::DaemonSet => Some(("apps/v1", "DaemonSet")),
            Self::Job | Self::CronJob => Some(("batch/v1", "Job")),
            Self::ReplicationController => Some(("v1", "ReplicationController")),
        }
    }
}

impl Workload {
    /// Where a field of the Pod was written, such as `spec.containers[0].image`; where it is not there, the nearest
    /// that encloses it.
    pub fn origin_of(&self, pod_field: &str) -> Option<Origin> {
        let fields = self.fields.as_ref()?;
        let written = match (pod_field.strip_prefix("spec"), pod_field.strip_prefix("metadata")) {
            (Some(rest), _) => format!("{}{rest}", self.kind.pod_spec_path()),
            (None, Some(rest)) => format!("{}{rest}", self.kind.pod_metadata_path()),
            (None, None) => String::new(),
        };
        Some(fields.origin_of(&fields.claim_template_of(pod_field).unwrap_or(written)))
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Written {
    fn of(kind: WorkloadKind, metadata: ObjectMeta, template: Option<PodTemplateSpec>) -> Self {
        Self { kind, metadata, template: template.unwrap_or_default(), claim_templates: Vec::new() }
    }

    /// Containers that the Pod would have; without one it cannot be.
    pub(crate) fn has_containers(&self) -> bool {
        self.template.spec.as_ref().is_some_and(|spec| !spec.containers.is_empty())
    }

    /// What the API server would refuse, as far as it is looked at here.
    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        let of_spec = self.template.spec.iter().flat_map(|spec| sanity::of_pod(self.kind, spec));
        sanity::of_metadata(&self.metadata).into_iter().chain(of_spec).collect()
    }

    /// Gives an emptyDir to every volume of which `is_bare` says that it was written without a source, as the API server
    /// does. A volume with a source that is newer than this program looks the same in its type, and gets none.
    pub(crate) fn give_empty_dirs(&mut self, is_bare: impl Fn(&str) -> bool) {
        let path = self.kind.pod_spec_path();
        let volumes = self.template.spec.iter_mut().flat_map(|spec| spec.volumes.iter_mut().flatten());
        for (index, volume) in volumes.enumerate() {
            if is_bare(&format!("{path}.volumes[{index}]")) {
                volume.empty_dir = Some(EmptyDirVolumeSource::default());
            }
        }
    }

    /// The claims that a `StatefulSet` makes for its first Pod.
    pub(crate) fn claims(&self, namespace: &str, name: &str) -> Vec<PersistentVolumeClaim> {
        let named = |template: &PersistentVolumeClaim| {
            let mut claim = template.clone();
            claim.metadata.name = Some(claim_name(template, name));
            claim.metadata.namespace = Some(namespace.to_owned());
            claim
        };
        self.claim_templates.iter().map(named).collect()
    }

    /// The workload, once namespace and name are known.
    pub(crate) fn into_workload(self, namespace: String, name: String, fields: Fields) -> Workload {
        let Self { kind, metadata, template, claim_templates } = self;
        let mut pod = match kind.owner() {
            None => Pod { metadata, spec: template.spec, ..Pod::default() },
            Some(owner) => {
                let metadata = pod_metadata(kind, owner, &name, template.metadata.unwrap_or_default());
                Pod { metadata, spec: template.spec, ..Pod::default() }
            }
        };
        pod.metadata.namespace = Some(namespace.clone());
        let mut mounted = BTreeMap::new();
        if let Some(spec) = &mut pod.spec {
            for (position, template) in claim_templates.iter().enumerate() {
                mounted.insert(mount_claim(spec, template, &name), position);
            }
        }
        Workload { kind, namespace, name, pod, fields: Some(fields.with_claim_templates(mounted)) }
    }
}

/// Labels and annotations of the template, under a name as the controller gives it.
fn pod_metadata(kind: WorkloadKind, owner: (&str, &str), name: &str, template: ObjectMeta) -> ObjectMeta {
    let reference = OwnerReference {
        api_version: owner.0.to_owned(),
        kind: owner.1.to_owned(),
        name: name.to_owned(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    let is_numbered = kind == WorkloadKind::StatefulSet;
    ObjectMeta {
        name: is_numbered.then(|| format!("{name}-0")),
        generate_name: (!is_numbered).then(|| format!("{name}-")),
        labels: template.labels,
        annotations: template.annotations,
        owner_references: Some(vec![reference]),
        ..ObjectMeta::default()
    }
}

fn claim_name(template: &PersistentVolumeClaim, set: &str) -> String {
    format!("{}-{set}-0", template.metadata.name.as_deref().unwrap_or_default())
}

/// Gives the Pod a volume of the claim; it takes the place of a volume of the same name, else the last one, so that the
/// others stay where they were written. Returns its position.
fn mount_claim(spec: &mut PodSpec, template: &PersistentVolumeClaim, set: &str) -> usize {
    let name = template.metadata.name.clone().unwrap_or_default();
    let source = PersistentVolumeClaimVolumeSource { claim_name: claim_name(template, set), read_only: None };
    let volumes = spec.volumes.get_or_insert_default();
    let position = volumes.iter().position(|volume| volume.name == name).unwrap_or(volumes.len());
    let volume = Volume { name, persistent_volume_claim: Some(source), ..Volume::default() };
    match volumes.get_mut(position) {
        Some(overridden) => *overridden = volume,
        None => volumes.push(volume),
    }
    position
}

impl From<Pod> for Written {
    fn from(pod: Pod) -> Self {
        let template = PodTemplateSpec { metadata: None, spec: pod.spec };
        Self::of(WorkloadKind::Pod, pod.metadata, Some(template))
    }
}

impl From<Deployment> for Written {
    fn from(object: Deployment) -> Self {
        Self::of(WorkloadKind::Deployment, object.metadata, Some(object.spec.template))
    }
}

impl From<ReplicaSet> for Written {
    fn from(object: ReplicaSet) -> Self {
        Self::of(WorkloadKind::ReplicaSet, object.metadata, object.spec.template)
    }
}

impl From<StatefulSet> for Written {
    fn from(object: StatefulSet) -> Self {
        let spec = object.spec;
        let claim_templates = spec.volume_claim_templates.unwrap_or_default();
        Self { claim_templates, ..Self::of(WorkloadKind::StatefulSet, object.metadata, Some(spec.template)) }
    }
}

impl From<DaemonSet> for Written {
    fn from(object: DaemonSet) -> Self {
        Self::of(WorkloadKind::DaemonSet, object.metadata, Some(object.spec.template))
    }
}

impl From<Job> for Written {
    fn from(object: Job) -> Self {
        Self::of(WorkloadKind::Job, object.metadata, object.spec.map(|spec| spec.template))
    }
}

impl From<CronJob> for Written {
    fn from(object: CronJob) -> Self {
        let job = object.spec.job_template.spec;
        Self::of(WorkloadKind::CronJob, object.metadata, job.map(|spec| spec.template))
    }
}

impl From<ReplicationController> for Written {
    fn from(object: ReplicationController) -> Self {
        Self::of(WorkloadKind::ReplicationController, object.metadata, object.spec.and_then(|spec| spec.template))
    }
}
