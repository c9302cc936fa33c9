//! The snapshot that decisions are made from, and how documents become it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Secret, ServiceAccount,
};
use kube::Resource;
use kube::core::ObjectMeta;
use monopod_api::{FargateProfile, FieldProblem, Host, Subnet, overlaps};
use serde::de::DeserializeOwned;

use crate::document::{Document, documents};
use crate::error::{ManifestError, ManifestErrors, printable};
use crate::origin::{Fields, Origin};
use crate::path::{FieldPath, Step};
use crate::source::Source;
use crate::tree::{Node, Place, Tree};
use crate::typed::{self, Typed};
use crate::workload::{Workload, Written};

/// Group of the objects that are ours.
const OUR_GROUP: &str = "monopod.dev";
/// Groups whose other versions are mistakes and not somebody else's objects.
const KNOWN_GROUPS: [&str; 4] = ["", "apps", "batch", "extensions"];

/// An object and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Located<T> {
    /// Where the object starts.
    pub origin: Origin,
    /// The object.
    pub object: T,
}

/// Something that is probably a mistake and that Kubernetes accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The field.
    pub origin: Origin,
    /// Such as `unknown field "spec.containers[0].imag"`.
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
    /// `v1` Secret.
    pub secrets: Vec<Located<Secret>>,
    /// `v1` `PersistentVolumeClaim`, and those that `StatefulSet`s make for their first Pods.
    pub persistent_volume_claims: Vec<Located<PersistentVolumeClaim>>,
    /// `v1` `PersistentVolume`.
    pub persistent_volumes: Vec<Located<PersistentVolume>>,
    /// `v1` `ServiceAccount`.
    pub service_accounts: Vec<Located<ServiceAccount>>,
    /// `v1` Namespace.
    pub namespaces: Vec<Located<Namespace>>,
    /// Profiles that have passed [`FargateProfile::validate`].
    pub profiles: Vec<Located<FargateProfile>>,
    /// Subnets that have passed [`Subnet::validate`] and do not overlap.
    pub subnets: Vec<Located<Subnet>>,
    /// Hosts that have passed [`Host::validate`].
    pub hosts: Vec<Located<Host>>,
    /// Objects of other kinds.
    pub ignored: Vec<IgnoredObject>,
    /// Mistakes that Kubernetes would accept.
    pub warnings: Vec<Warning>,
}

/// Reads all documents of all sources.
///
/// # Errors
/// Everything that is wrong with the input, in its order.
pub fn parse(sources: &[Source]) -> Result<Objects, ManifestErrors> {
    let mut reader = Reader::default();
    for source in sources {
        for document in documents(&source.text) {
            reader.document(&source.file, &document);
        }
    }
    reader.refuse_overlaps();
    if reader.errors.is_empty() { Ok(reader.objects) } else { Err(ManifestErrors(reader.errors)) }
}

/// One object on its way in.
#[derive(Clone, Copy)]
struct Item<'a> {
    file: &'a Arc<str>,
    document: usize,
    tree: &'a Tree,
    api_version: &'a str,
    kind: &'a str,
}

/// Whether objects of a kind lie in namespaces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Namespaced,
    Cluster,
}

/// What has been read so far.
#[derive(Default)]
struct Reader {
    objects: Objects,
    errors: Vec<ManifestError>,
    seen: BTreeMap<String, Origin>,
}

impl Item<'_> {
    fn at(&self, place: Place) -> Origin {
        Origin { file: Arc::clone(self.file), document: self.document, line: place.line, column: place.column }
    }

    fn origin(&self) -> Origin {
        self.at(self.tree.place)
    }

    fn fields(&self) -> Fields {
        Fields::new(self.file, self.document, self.tree)
    }

    fn group(&self) -> &str {
        self.api_version.rsplit_once('/').map_or("", |(group, _)| group)
    }

    fn field_error(&self, field: &FieldPath, message: impl Into<String>) -> ManifestError {
        let origin = self.at(self.tree.place_of(field));
        // What is wrong with the object as a whole stands under its kind.
        let field = if field.0.is_empty() { printable(self.kind) } else { field.to_string() };
        ManifestError::Field { origin, field, message: message.into() }
    }
}

impl Reader {
    fn document(&mut self, file: &Arc<str>, document: &Document<'_>) {
        match Tree::read(document) {
            Ok(None) => {}
            Ok(Some(tree)) => {
                let item = Item { file, document: document.number, tree: &tree, api_version: "", kind: "" };
                self.item(item);
            }
            Err(error) => {
                let Place { line, column } = error.place;
                let origin = Origin { file: Arc::clone(file), document: document.number, line, column };
                self.errors.push(ManifestError::Syntax { origin, message: error.message });
            }
        }
    }

    /// Takes an object or a list of them; an entry of a typed list may leave out what the list has said.
    fn item(&mut self, item: Item<'_>) {
        let Node::Map(_) = &item.tree.node else {
            let message = "not a Kubernetes object: expected a map with apiVersion and kind".to_owned();
            self.errors.push(ManifestError::Syntax { origin: item.origin(), message });
            return;
        };
        let api_version = item.tree.text("apiVersion").unwrap_or(item.api_version);
        let kind = item.tree.text("kind").unwrap_or(item.kind);
        let item = Item { api_version, kind, ..item };
        for (field, value) in [("apiVersion", api_version), ("kind", kind)] {
            if value.is_empty() {
                let message = "every object needs one, written as text";
                self.errors.push(item.field_error(&FieldPath::of(field), message));
                return;
            }
        }
        match (kind.strip_suffix("List"), item.tree.field("items").map(|items| &items.node)) {
            (Some(kind), Some(Node::List(entries))) => {
                let api_version = if kind.is_empty() { "" } else { api_version };
                entries.iter().for_each(|tree| self.item(Item { tree, api_version, kind, ..item }));
            }
            (Some(_) | None, _) => self.object(item),
        }
    }

    fn object(&mut self, item: Item<'_>) {
        use Scope::{Cluster, Namespaced};
        match (item.api_version, item.kind) {
            ("v1", "Pod") => self.workload::<Pod>(item),
            ("apps/v1", "Deployment") => self.workload::<Deployment>(item),
            ("apps/v1", "ReplicaSet") => self.workload::<ReplicaSet>(item),
            ("apps/v1", "StatefulSet") => self.workload::<StatefulSet>(item),
            ("apps/v1", "DaemonSet") => self.workload::<DaemonSet>(item),
            ("batch/v1", "Job") => self.workload::<Job>(item),
            ("batch/v1", "CronJob") => self.workload::<CronJob>(item),
            ("v1", "ReplicationController") => self.workload::<ReplicationController>(item),
            ("v1", "ConfigMap") => self.keep(item, Namespaced, |objects| &mut objects.config_maps),
            ("v1", "Secret") => self.keep(item, Namespaced, |objects| &mut objects.secrets),
            ("v1", "PersistentVolumeClaim") => {
                self.keep(item, Namespaced, |objects| &mut objects.persistent_volume_claims);
            }
            ("v1", "PersistentVolume") => self.keep(item, Cluster, |objects| &mut objects.persistent_volumes),
            ("v1", "ServiceAccount") => self.keep(item, Namespaced, |objects| &mut objects.service_accounts),
            ("v1", "Namespace") => self.keep(item, Cluster, |objects| &mut objects.namespaces),
            ("monopod.dev/v1", "FargateProfile") => {
                self.keep_ours(item, FargateProfile::validate, |objects| &mut objects.profiles);
            }
            ("monopod.dev/v1", "Subnet") => self.keep_ours(item, Subnet::validate, |objects| &mut objects.subnets),
            ("monopod.dev/v1", "Host") => self.keep_ours(item, Host::validate, |objects| &mut objects.hosts),
            _ => self.other(item),
        }
    }

    /// An object that is none of ours to read, or one that was meant to be.
    fn other(&mut self, item: Item<'_>) {
        let expected = expected_api_version(item.kind).filter(|_| KNOWN_GROUPS.contains(&item.group()));
        let found = printable(item.api_version);
        if let Some(expected) = expected {
            let message = format!("a {} is of {expected}, not of {found}", item.kind);
            self.errors.push(item.field_error(&FieldPath::of("apiVersion"), message));
        } else if item.group() == OUR_GROUP {
            let kind = printable(item.kind);
            let message = format!("there is no {kind} in {found}; monopod.dev/v1 has FargateProfile, Subnet and Host");
            self.errors.push(item.field_error(&FieldPath::of("kind"), message));
        } else {
            let name = item.tree.field("metadata").and_then(|metadata| metadata.text("name")).unwrap_or_default();
            let (api_version, kind, name) = (found, printable(item.kind), printable(name));
            self.objects.ignored.push(IgnoredObject { origin: item.origin(), api_version, kind, name });
        }
    }

    fn workload<K: DeserializeOwned + Into<Written>>(&mut self, item: Item<'_>) {
        let Some(Typed { object, unknown }) = self.typed::<K>(item) else { return };
        self.warn(item, &unknown);
        let mut written: Written = object.into();
        if !written.has_containers() {
            let field = FieldPath::of(&format!("{}.containers", written.kind.pod_spec_path()));
            self.errors.push(item.field_error(&field, "a Pod needs at least one container"));
            return;
        }
        let Some(name) = self.identify(item, Scope::Namespaced, &mut written.metadata) else { return };
        let namespace = written.metadata.namespace.clone().unwrap_or_default();
        let origin = item.origin();
        for object in written.claims(&namespace, &name) {
            self.objects.persistent_volume_claims.push(Located { origin: origin.clone(), object });
        }
        self.objects.workloads.push(Located { origin, object: written.into_workload(namespace, name, item.fields()) });
    }

    /// Keeps an object of Kubernetes: unknown fields are warnings.
    fn keep<K>(&mut self, item: Item<'_>, scope: Scope, place: fn(&mut Objects) -> &mut Vec<Located<K>>)
    where
        K: DeserializeOwned + Resource,
    {
        let Some(Typed { mut object, unknown }) = self.typed::<K>(item) else { return };
        self.warn(item, &unknown);
        if self.identify(item, scope, object.meta_mut()).is_some() {
            place(&mut self.objects).push(Located { origin: item.origin(), object });
        }
    }

    /// Keeps an object of ours: unknown fields are errors, but in a status, which a newer controller may have written.
    fn keep_ours<K: DeserializeOwned + Resource>(
        &mut self,
        item: Item<'_>,
        validate: fn(&K) -> Vec<FieldProblem>,
        place: fn(&mut Objects) -> &mut Vec<Located<K>>,
    ) {
        let Some(Typed { mut object, unknown }) = self.typed::<K>(item) else { return };
        let before = self.errors.len();
        for field in unknown.iter().filter(|field| field.0.first() != Some(&Step::Field("status".to_owned()))) {
            self.errors.push(item.field_error(field, "there is no such field"));
        }
        let named = self.identify(item, Scope::Cluster, object.meta_mut()).is_some();
        for problem in validate(&object) {
            self.errors.push(item.field_error(&FieldPath::of(&problem.field), problem.message));
        }
        if named && self.errors.len() == before {
            place(&mut self.objects).push(Located { origin: item.origin(), object });
        }
    }

    fn typed<K: DeserializeOwned>(&mut self, item: Item<'_>) -> Option<Typed<K>> {
        let read = typed::read(item.tree, item.api_version, item.kind);
        read.map_err(|error| self.errors.push(item.field_error(&error.field, error.message))).ok()
    }

    fn warn(&mut self, item: Item<'_>, unknown: &[FieldPath]) {
        let warning = |field: &FieldPath| Warning {
            origin: item.at(item.tree.place_of(field)),
            message: format!("unknown field \"{field}\""),
        };
        self.objects.warnings.extend(unknown.iter().map(warning));
    }

    /// Fills the namespace in and gives the name, unless there is none or the object has been there before.
    fn identify(&mut self, item: Item<'_>, scope: Scope, metadata: &mut ObjectMeta) -> Option<String> {
        if scope == Scope::Namespaced {
            metadata.namespace.get_or_insert_with(|| "default".to_owned());
        }
        let (name, is_unique) = match (&metadata.name, &metadata.generate_name) {
            (Some(name), _) if !name.is_empty() => (name.clone(), true),
            (_, Some(prefix)) if !prefix.is_empty() => (prefix.clone(), false),
            (Some(_) | None, Some(_) | None) => {
                self.errors.push(item.field_error(&FieldPath::of("metadata.name"), "every object needs a name"));
                return None;
            }
        };
        let object = match (scope, &metadata.namespace) {
            (Scope::Namespaced, Some(namespace)) => format!("{} {namespace}/{name}", item.kind),
            (Scope::Namespaced | Scope::Cluster, _) => format!("{} {name}", item.kind),
        };
        if is_unique && !self.first_time(item, printable(&object)) {
            return None;
        }
        Some(name)
    }

    fn first_time(&mut self, item: Item<'_>, object: String) -> bool {
        if let Some(first) = self.seen.get(&object) {
            let first = first.clone();
            self.errors.push(ManifestError::Duplicate { origin: item.origin(), object, first });
            return false;
        }
        self.seen.insert(object, item.origin());
        true
    }

    fn refuse_overlaps(&mut self) {
        let origins: BTreeMap<&str, &Origin> = self.objects.subnets.iter().filter_map(named_origin).collect();
        for overlap in overlaps(self.objects.subnets.iter().map(|subnet| &subnet.object)) {
            let Some(origin) = origins.get(overlap.second.as_str()) else { continue };
            let message = format!(
                "{} of Subnet {} overlaps {} of Subnet {}",
                overlap.second_cidr, overlap.second, overlap.first_cidr, overlap.first
            );
            let field = "spec.cidr".to_owned();
            self.errors.push(ManifestError::Field { origin: (*origin).clone(), field, message });
        }
    }
}

fn named_origin(subnet: &Located<Subnet>) -> Option<(&str, &Origin)> {
    Some((subnet.object.metadata.name.as_deref()?, &subnet.origin))
}

/// API version of each kind that is read here and belongs to Kubernetes.
fn expected_api_version(kind: &str) -> Option<&'static str> {
    match kind {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => Some("apps/v1"),
        "Job" | "CronJob" => Some("batch/v1"),
        "Pod"
        | "ReplicationController"
        | "ConfigMap"
        | "Secret"
        | "PersistentVolumeClaim"
        | "PersistentVolume"
        | "ServiceAccount"
        | "Namespace" => Some("v1"),
        _ => None,
    }
}
