//! The snapshot that decisions are made from.

use k8s_openapi::api::core::v1::{
    ConfigMap, LimitRange, PersistentVolume, PersistentVolumeClaim, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use monopod_api::{FargateProfile, Subnet};

use crate::document::documents;
use crate::error::ManifestErrors;
use crate::origin::Origin;
use crate::reader::Reader;
use crate::source::Source;
use crate::workload::Workload;

/// An object and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Located<T> {
    /// Where the object starts.
    pub origin: Origin,
    /// The object.
    pub object: T,
}

/// Something that is probably a mistake, and that does not keep the object from being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The field.
    pub origin: Origin,
    /// Such as `unknown field "spec.containers[0].imag"`; with the path where that says more than the place.
    pub message: String,
}

/// An object of a kind that no decision depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredObject {
    /// Where the object starts.
    pub origin: Origin,
    /// Its API version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name; empty where it has none.
    pub name: String,
}

/// Everything that an input holds, in its order; namespaces are filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    /// Pods, and what makes Pods.
    pub workloads: Vec<Located<Workload>>,
    /// `v1` `ConfigMap`.
    pub config_maps: Vec<Located<ConfigMap>>,
    /// `v1` Secret, with its keys; the values are read for [`Purpose::Run`] only.
    pub secrets: Vec<Located<Secret>>,
    /// `v1` `PersistentVolumeClaim`, and those that `StatefulSet`s make for their first Pods.
    pub persistent_volume_claims: Vec<Located<PersistentVolumeClaim>>,
    /// `v1` `PersistentVolume`.
    pub persistent_volumes: Vec<Located<PersistentVolume>>,
    /// `v1` Service; read for [`Purpose::Run`] only.
    pub services: Vec<Located<Service>>,
    /// `v1` `ServiceAccount`.
    pub service_accounts: Vec<Located<ServiceAccount>>,
    /// `v1` `LimitRange`.
    pub limit_ranges: Vec<Located<LimitRange>>,
    /// `node.k8s.io/v1` `RuntimeClass`.
    pub runtime_classes: Vec<Located<RuntimeClass>>,
    /// Profiles that have passed [`FargateProfile::validate`].
    pub profiles: Vec<Located<FargateProfile>>,
    /// Subnets that have passed [`Subnet::validate`] and do not overlap.
    pub subnets: Vec<Located<Subnet>>,
    /// Objects of other kinds.
    pub ignored: Vec<IgnoredObject>,
    /// Unknown fields, and what the API server would refuse.
    pub warnings: Vec<Warning>,
}

/// What manifests are read for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Decisions about Pods: nothing is read that no decision depends on, least of all the values of Secrets.
    #[default]
    Decide,
    /// Running a Pod: values of Secrets and Services are read, too.
    Run,
}

/// Reads all documents of all sources.
///
/// # Errors
/// Everything that is wrong with the input, in its order.
pub fn parse(sources: &[Source], purpose: Purpose) -> Result<Objects, ManifestErrors> {
    let mut reader = Reader::new(purpose);
    for source in sources {
        for document in documents(&source.text) {
            reader.document(&source.file, &document);
        }
    }
    reader.finish()
}
