//! How documents become objects: which kind is read as what, and what is said of the rest.
//!
//! Called by [`parse`](crate::parse), document by document. An error ends the reading of its object and of no other.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ReplicationController};
use kube::core::ObjectMeta;
use kube::{CustomResourceExt, Resource};
use monopod_api::{FargateProfile, FieldProblem, Host, Subnet, overlaps};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::document::Document;
use crate::error::{ManifestError, ManifestErrors, printable};
use crate::kinds;
use crate::nulls;
use crate::objects::{IgnoredObject, Located, Objects, Purpose, Warning};
use crate::origin::{Fields, Origin};
use crate::path::{FieldPath, Step};
use crate::sanity::{self, Refusal};
use crate::secret;
use crate::tree::{Node, Place, Tree};
use crate::typed::{self, TypeError, Typed};
use crate::workload::Written;

/// Group of the objects that are ours.
const OUR_GROUP: &str = "monopod.dev";

/// One object on its way in.
#[derive(Clone, Copy)]
struct Item<'a> {
    file: &'a Arc<str>,
    document: &'a Document<'a>,
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
pub(crate) struct Reader {
    purpose: Purpose,
    objects: Objects,
    errors: Vec<ManifestError>,
    seen: BTreeMap<String, Origin>,
    /// Claims that `StatefulSet`s would make, unless the input holds them.
    derived_claims: Vec<Located<PersistentVolumeClaim>>,
}

impl Item<'_> {
    fn at(&self, place: Place) -> Origin {
        Origin { file: Arc::clone(self.file), document: self.document.number, line: place.line, column: place.column }
    }

    fn origin(&self) -> Origin {
        self.at(self.tree.place)
    }

    fn fields(&self) -> Fields {
        Fields::new(self.file, self.document.number, self.tree)
    }

    fn group(&self) -> &str {
        self.api_version.rsplit_once('/').map_or("", |(group, _)| group)
    }

    /// What is wrong with a value. That YAML has read a word or a number where text belongs surprises people, so the cure
    /// is told, with the value as it was written.
    fn explained(&self, error: &TypeError) -> String {
        if !error.is_scalar_for_text() {
            return error.message.clone();
        }
        let written = self.document.plain_scalar(self.tree.place_of(&error.field));
        let quoted = written.map(|text| format!(": \"{text}\"")).unwrap_or_default();
        format!("{}; write it in quotes{quoted}", error.message)
    }

    fn field_error(&self, field: &FieldPath, message: impl Into<String>) -> ManifestError {
        let origin = self.at(self.tree.place_of(field));
        // What is wrong with the object as a whole stands under its kind.
        let field = if field.0.is_empty() { printable(self.kind) } else { field.to_string() };
        ManifestError::Field { origin, field, message: message.into() }
    }
}

impl Reader {
    pub(crate) fn new(purpose: Purpose) -> Self {
        Self { purpose, ..Self::default() }
    }

    /// Takes all objects of a document.
    pub(crate) fn document(&mut self, file: &Arc<str>, document: &Document<'_>) {
        match Tree::read(document) {
            Ok(None) => {}
            Ok(Some(tree)) => {
                let item = Item { file, document, tree: &tree, api_version: "", kind: "" };
                self.item(item);
            }
            Err(error) => {
                let Place { line, column } = error.place;
                let origin = Origin { file: Arc::clone(file), document: document.number, line, column };
                self.errors.push(ManifestError::Syntax { origin, message: error.message });
            }
        }
    }

    /// All objects, or everything that is wrong with the input.
    pub(crate) fn finish(mut self) -> Result<Objects, ManifestErrors> {
        self.refuse_overlaps();
        self.keep_derived_claims();
        if self.errors.is_empty() { Ok(self.objects) } else { Err(ManifestErrors(self.errors)) }
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
            ("v1", "Service") if self.purpose == Purpose::Run => {
                self.keep(item, Namespaced, |objects| &mut objects.services)
            }
            ("v1", "ServiceAccount") => self.keep(item, Namespaced, |objects| &mut objects.service_accounts),
            ("v1", "LimitRange") => self.keep(item, Namespaced, |objects| &mut objects.limit_ranges),
            ("node.k8s.io/v1", "RuntimeClass") => self.keep(item, Cluster, |objects| &mut objects.runtime_classes),
            ("monopod.dev/v1", "FargateProfile") => {
                let profile = self.ours(item, FargateProfile::validate);
                self.objects.profiles.extend(profile);
            }
            ("monopod.dev/v1", "Subnet") => {
                let subnet = self.ours(item, Subnet::validate);
                self.objects.subnets.extend(subnet);
            }
            // No decision about manifests depends on a Host; it is held to its rules like the others.
            ("monopod.dev/v1", "Host") => drop(self.ours(item, Host::validate)),
            _ => self.other(item),
        }
    }

    /// An object that is none of ours to read, or one that was meant to be.
    fn other(&mut self, item: Item<'_>) {
        let (found, kind) = (printable(item.api_version), printable(item.kind));
        if let Some(mistake) = kinds::mistake(item.api_version, item.kind) {
            self.errors.push(item.field_error(&FieldPath::of(mistake.field), printable(&mistake.message)));
        } else if item.group() == OUR_GROUP {
            let message = format!("there is no {kind} in {found}; monopod.dev/v1 has FargateProfile, Subnet and Host");
            self.errors.push(item.field_error(&FieldPath::of("kind"), message));
        } else {
            let name = item.tree.field("metadata").and_then(|metadata| metadata.text("name")).unwrap_or_default();
            let (api_version, name) = (found, printable(name));
            self.objects.ignored.push(IgnoredObject { origin: item.origin(), api_version, kind, name });
        }
    }

    fn workload<K: DeserializeOwned + Into<Written>>(&mut self, item: Item<'_>) {
        let value = self.kubernetes_value(item);
        let Some(Typed { object, unknown }) = self.typed::<K>(item, value) else { return };
        self.warn(item, &unknown);
        let mut written: Written = object.into();
        if !written.has_containers() {
            let field = FieldPath::of(&format!("{}.containers", written.kind.pod_spec_path()));
            self.errors.push(item.field_error(&field, "a Pod needs at least one container"));
            return;
        }
        self.warn_of_refusals(item, &written.refusals());
        written.give_empty_dirs(|volume| item.tree.at(&FieldPath::of(volume)).is_some_and(has_name_only));
        let Some(name) = self.identify(item, Scope::Namespaced, &mut written.metadata) else { return };
        let namespace = written.metadata.namespace.clone().unwrap_or_default();
        let origin = item.origin();
        for object in written.claims(&namespace, &name) {
            self.derived_claims.push(Located { origin: origin.clone(), object });
        }
        self.objects.workloads.push(Located { origin, object: written.into_workload(namespace, name, item.fields()) });
    }

    /// Adds the claims that `StatefulSet`s would make and that are not there yet, as their controller does.
    fn keep_derived_claims(&mut self) {
        let claims = &mut self.objects.persistent_volume_claims;
        for derived in std::mem::take(&mut self.derived_claims) {
            let is_same = |claim: &Located<PersistentVolumeClaim>| {
                let (one, other) = (&claim.object.metadata, &derived.object.metadata);
                (&one.namespace, &one.name) == (&other.namespace, &other.name)
            };
            if !claims.iter().any(is_same) {
                claims.push(derived);
            }
        }
    }

    /// Keeps an object of Kubernetes: unknown fields are warnings.
    fn keep<K>(&mut self, item: Item<'_>, scope: Scope, place: fn(&mut Objects) -> &mut Vec<Located<K>>)
    where
        K: DeserializeOwned + Resource,
    {
        let value = self.kubernetes_value(item);
        let Some(Typed { mut object, unknown }) = self.typed::<K>(item, value) else { return };
        self.warn(item, &unknown);
        self.warn_of_refusals(item, &sanity::of_metadata(object.meta()));
        if self.identify(item, scope, object.meta_mut()).is_some() {
            place(&mut self.objects).push(Located { origin: item.origin(), object });
        }
    }

    /// An object of ours: unknown fields are errors, but in a status, which a newer controller may have written.
    fn ours<K: DeserializeOwned + Resource + CustomResourceExt>(
        &mut self,
        item: Item<'_>,
        validate: fn(&K) -> Vec<FieldProblem>,
    ) -> Option<Located<K>> {
        let Typed { mut object, unknown } = self.typed::<K>(item, item.tree.to_json())?;
        let before = self.errors.len();
        for field in unknown.iter().filter(|field| field.0.first() != Some(&Step::Field("status".to_owned()))) {
            let known = typed::fields_beside::<K>(field).join(", ");
            let hint = if known.is_empty() { String::new() } else { format!("; there are {known}") };
            self.errors.push(item.field_error(field, format!("there is no such field{hint}")));
        }
        let named = self.identify(item, Scope::Cluster, object.meta_mut()).is_some();
        for problem in validate(&object) {
            self.errors.push(item.field_error(&FieldPath::of(&problem.field), problem.message));
        }
        (named && self.errors.len() == before).then(|| Located { origin: item.origin(), object })
    }

    /// The object as the API server decodes it. Values of Secrets stay behind, unless they were asked for.
    fn kubernetes_value(&mut self, item: Item<'_>) -> Value {
        let mut value = item.tree.to_json();
        if (item.api_version, item.kind) == ("v1", "Secret") {
            match self.purpose {
                Purpose::Decide => self.warn_of_refusals(item, &secret::forget_values(&mut value)),
                Purpose::Run => {
                    let wrong = secret::fold_texts(&mut value);
                    self.errors.extend(wrong.iter().map(|refusal| item.field_error(&refusal.field, &*refusal.message)));
                }
            }
        }
        let mut nulls = nulls::fill(&mut value);
        nulls.sort_by_key(|null| item.tree.place_of(&null.field));
        for null in nulls {
            let message = format!("null at \"{}\" counts as {}", null.field, null.filled);
            self.objects.warnings.push(Warning { origin: item.at(item.tree.place_of(&null.field)), message });
        }
        value
    }

    fn typed<K: DeserializeOwned>(&mut self, item: Item<'_>, value: Value) -> Option<Typed<K>> {
        let read = typed::read(value, item.api_version, item.kind);
        read.map_err(|error| self.errors.push(item.field_error(&error.field, item.explained(&error)))).ok()
    }

    fn warn(&mut self, item: Item<'_>, unknown: &[FieldPath]) {
        let warning = |field: &FieldPath| Warning {
            origin: item.at(item.tree.place_of(field)),
            message: format!("unknown field \"{field}\""),
        };
        self.objects.warnings.extend(unknown.iter().map(warning));
    }

    fn warn_of_refusals(&mut self, item: Item<'_>, refusals: &[Refusal]) {
        let warning = |refusal: &Refusal| Warning {
            origin: item.at(item.tree.place_of(&refusal.field)),
            message: format!("the API server would refuse this: {}: {}", refusal.field, printable(&refusal.message)),
        };
        self.objects.warnings.extend(refusals.iter().map(warning));
    }

    /// Fills the namespace in and gives the name, unless there is none or the object has been there before.
    fn identify(&mut self, item: Item<'_>, scope: Scope, metadata: &mut ObjectMeta) -> Option<String> {
        metadata.namespace = metadata.namespace.take().filter(|namespace| !namespace.is_empty());
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

/// Whether nothing but a name was written into a map.
fn has_name_only(tree: &Tree) -> bool {
    let Node::Map(fields) = &tree.node else { return false };
    fields.iter().all(|(key, value)| key == "name" || value.node == Node::Null)
}
