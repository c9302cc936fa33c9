//! The objects beside a Pod: what `monopod run` found in the same files, or a cluster has.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, LimitRange, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use monopod_podplan::plan::{Sources, TokenRequest, required_objects};
use monopod_policy::binding::{add_ephemeral_claims, bind_new_claims};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Objects by kind. Of two with one name the later counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Objects {
    config_maps: Vec<ConfigMap>,
    secrets: Vec<Secret>,
    claims: Vec<PersistentVolumeClaim>,
    volumes: Vec<PersistentVolume>,
    services: Vec<Service>,
    /// Tokens of the Pod's service account; of one Pod, and never written down.
    tokens: BTreeMap<TokenRequest, String>,
    limit_ranges: Vec<LimitRange>,
    runtime_classes: Vec<RuntimeClass>,
}

/// Why an object could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It is not JSON, or not of the form of its kind.
    #[error("failed to read object {index}")]
    Syntax {
        /// Which one of the request, from 0.
        index: usize,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

impl ObjectError {
    /// Event reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "InvalidObject",
        }
    }
}

impl Objects {
    /// Reads objects. Kinds that no Pod depends on are passed over.
    ///
    /// # Errors
    /// At the first that cannot be read.
    pub(crate) fn parse<'a>(objects: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, ObjectError> {
        let mut all = Self::default();
        for (index, text) in objects.into_iter().enumerate() {
            let syntax = |source| ObjectError::Syntax { index, source };
            all.add(serde_json::from_slice(text).map_err(syntax)?).map_err(syntax)?;
        }
        Ok(all)
    }

    /// Reads what [`to_values`](Self::to_values) gave.
    pub(crate) fn from_values(values: &[Value]) -> Result<Self, ObjectError> {
        let mut all = Self::default();
        for (index, value) in values.iter().enumerate() {
            all.add(value.clone()).map_err(|source| ObjectError::Syntax { index, source })?;
        }
        Ok(all)
    }

    fn add(&mut self, object: Value) -> Result<(), serde_json::Error> {
        let is = |version: &str, kind: &str| object["apiVersion"] == version && object["kind"] == kind;
        if is(ConfigMap::API_VERSION, ConfigMap::KIND) {
            put(&mut self.config_maps, typed(object)?);
        } else if is(Secret::API_VERSION, Secret::KIND) {
            put(&mut self.secrets, typed(object)?);
        } else if is(PersistentVolumeClaim::API_VERSION, PersistentVolumeClaim::KIND) {
            put(&mut self.claims, typed(object)?);
        } else if is(PersistentVolume::API_VERSION, PersistentVolume::KIND) {
            put(&mut self.volumes, typed(object)?);
        } else if is(Service::API_VERSION, Service::KIND) {
            put(&mut self.services, typed(object)?);
        } else if is(LimitRange::API_VERSION, LimitRange::KIND) {
            put(&mut self.limit_ranges, typed(object)?);
        } else if is(RuntimeClass::API_VERSION, RuntimeClass::KIND) {
            put(&mut self.runtime_classes, typed(object)?);
        }
        Ok(())
    }

    /// For the journal.
    pub(crate) fn to_values(&self) -> Vec<Value> {
        let mut values = Vec::new();
        write(&self.config_maps, &mut values);
        write(&self.secrets, &mut values);
        write(&self.claims, &mut values);
        write(&self.volumes, &mut values);
        write(&self.services, &mut values);
        values
    }

    /// Takes newer versions of these objects.
    pub(crate) fn update(&mut self, newer: &Self) {
        newer.config_maps.iter().for_each(|object| put(&mut self.config_maps, object.clone()));
        newer.secrets.iter().for_each(|object| put(&mut self.secrets, object.clone()));
        newer.claims.iter().for_each(|object| put(&mut self.claims, object.clone()));
        newer.volumes.iter().for_each(|object| put(&mut self.volumes, object.clone()));
        newer.services.iter().for_each(|object| put(&mut self.services, object.clone()));
        self.tokens.extend(newer.tokens.iter().map(|(request, token)| (request.clone(), token.clone())));
    }

    pub(crate) fn put_config_map(&mut self, map: ConfigMap) {
        put(&mut self.config_maps, map);
    }

    pub(crate) fn put_secret(&mut self, secret: Secret) {
        put(&mut self.secrets, secret);
    }

    pub(crate) fn put_claim(&mut self, claim: PersistentVolumeClaim) {
        put(&mut self.claims, claim);
    }

    pub(crate) fn put_volume(&mut self, volume: PersistentVolume) {
        put(&mut self.volumes, volume);
    }

    pub(crate) fn put_service(&mut self, service: Service) {
        put(&mut self.services, service);
    }

    /// Takes a token of the Pod's service account.
    pub(crate) fn put_token(&mut self, request: TokenRequest, token: String) {
        self.tokens.insert(request, token);
    }

    /// Binds claims to volumes, as a cluster would; claims of the Pod's ephemeral volumes are made first.
    pub(crate) fn bind_claims(&mut self, pod: &Pod) {
        add_ephemeral_claims(&mut self.claims, [pod]);
        bind_new_claims(&mut self.claims, &self.volumes);
    }

    /// Only what a Pod refers to.
    pub(crate) fn of_pod(&self, pod: &Pod) -> Self {
        let required = required_objects(pod);
        let namespace = namespace_of(&pod.metadata);
        let is_near = |metadata: &ObjectMeta| namespace_of(metadata) == namespace;
        let named = |metadata: &ObjectMeta| metadata.name.clone().unwrap_or_default();
        let claims = keep(&self.claims, |claim| is_near(claim) && required.claims.contains(&named(claim)));
        let bound: Vec<_> = claims.iter().filter_map(|claim| claim.spec.as_ref()?.volume_name.clone()).collect();
        Self {
            config_maps: keep(&self.config_maps, |map| is_near(map) && required.config_maps.contains(&named(map))),
            secrets: keep(&self.secrets, |secret| is_near(secret) && required.secrets.contains(&named(secret))),
            claims,
            volumes: keep(&self.volumes, |volume| bound.contains(&named(volume))),
            services: keep(&self.services, |service| is_api_server(service) || (required.services && is_near(service))),
            tokens: self.tokens.clone(),
            limit_ranges: Vec::new(),
            runtime_classes: Vec::new(),
        }
    }

    /// As plans take them.
    pub(crate) fn sources(&self) -> Sources<'_> {
        Sources::default()
            .with_config_maps(&self.config_maps)
            .with_secrets(&self.secrets)
            .with_claims(&self.claims)
            .with_volumes(&self.volumes)
            .with_services(&self.services)
            .with_tokens(self.tokens.iter().map(|(request, token)| (request.clone(), token.as_str())))
    }

    /// The Pod's secrets for pulling images, in its order.
    pub(crate) fn pull_secrets<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = &'a Secret> {
        let names = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
        names.filter_map(|reference| {
            self.secrets.iter().find(|secret| secret.metadata.name.as_deref() == Some(reference.name.as_str()))
        })
    }

    pub(crate) fn claims(&self) -> &[PersistentVolumeClaim] {
        &self.claims
    }

    pub(crate) fn volumes(&self) -> &[PersistentVolume] {
        &self.volumes
    }

    pub(crate) fn limit_ranges(&self) -> &[LimitRange] {
        &self.limit_ranges
    }

    pub(crate) fn runtime_classes(&self) -> &[RuntimeClass] {
        &self.runtime_classes
    }
}

/// The Service of the API server, which every Pod is told of.
fn is_api_server(metadata: &ObjectMeta) -> bool {
    namespace_of(metadata) == "default" && metadata.name.as_deref() == Some("kubernetes")
}

fn typed<T: DeserializeOwned>(object: Value) -> Result<T, serde_json::Error> {
    serde_json::from_value(object)
}

fn put<T: Metadata<Ty = ObjectMeta>>(all: &mut Vec<T>, object: T) {
    let is_same = |other: &T| {
        let (one, other) = (object.metadata(), other.metadata());
        one.name == other.name && namespace_of(one) == namespace_of(other)
    };
    match all.iter().position(is_same) {
        Some(index) => all[index] = object,
        None => all.push(object),
    }
}

fn keep<T: Metadata<Ty = ObjectMeta> + Clone>(all: &[T], wanted: impl Fn(&ObjectMeta) -> bool) -> Vec<T> {
    all.iter().filter(|object| wanted(object.metadata())).cloned().collect()
}

fn write<T: Serialize>(objects: &[T], to: &mut Vec<Value>) {
    to.extend(objects.iter().map(|object| serde_json::to_value(object).expect("API objects have text keys")));
}

/// Namespace of an object; `default` where none is written.
pub(crate) fn namespace_of(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::{ObjectError, Objects};

    fn objects(values: &[serde_json::Value]) -> Objects {
        Objects::from_values(values).unwrap()
    }

    fn map(name: &str, value: &str) -> serde_json::Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"},
            "data": {"key": value}})
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
            "containers": [], "volumes": [{"name": "c", "configMap": {"name": "used"}}]}}))
        .unwrap()
    }

    #[test]
    fn a_pod_gets_only_what_it_refers_to() {
        let all = objects(&[map("used", "1"), map("other", "1"), json!({"apiVersion": "v1", "kind": "Node"})]);
        assert_eq!(all.of_pod(&pod()), objects(&[map("used", "1")]));
    }

    #[test]
    fn the_later_version_counts() {
        let mut all = objects(&[map("used", "1"), map("used", "2")]);
        assert_eq!(all, objects(&[map("used", "2")]));
        all.update(&objects(&[map("used", "3")]));
        assert_eq!(Objects::from_values(&all.to_values()).unwrap(), objects(&[map("used", "3")]));
    }

    #[test]
    fn what_is_no_object_is_named() {
        let texts: [&[u8]; 2] = [b"{}", b"{"];
        assert!(matches!(Objects::parse(texts), Err(ObjectError::Syntax { index: 1, .. })));
    }
}
