//! The objects that Pods refer to, looked up by namespace and name.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Namespace and name.
type Key<'a> = (&'a str, &'a str);

/// The objects at hand. What is not here does not exist, for a plan.
#[derive(Clone, Debug, Default)]
pub struct Sources<'a> {
    config_maps: BTreeMap<Key<'a>, &'a ConfigMap>,
    secrets: BTreeMap<Key<'a>, &'a Secret>,
    claims: BTreeMap<Key<'a>, &'a PersistentVolumeClaim>,
    volumes: BTreeMap<&'a str, &'a PersistentVolume>,
    services: BTreeMap<Key<'a>, &'a Service>,
    tokens: BTreeMap<TokenRequest, &'a str>,
}

/// A token of the Pod's service account that a volume asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenRequest {
    /// Whom it is for; empty for the API server.
    pub audience: String,
    /// For how long it is asked.
    pub expiration_seconds: i64,
}

impl<'a> Sources<'a> {
    /// With these ConfigMaps.
    #[must_use]
    pub fn with_config_maps(mut self, objects: impl IntoIterator<Item = &'a ConfigMap>) -> Self {
        self.config_maps.extend(objects.into_iter().map(|object| (key(&object.metadata), object)));
        self
    }

    /// With these Secrets.
    #[must_use]
    pub fn with_secrets(mut self, objects: impl IntoIterator<Item = &'a Secret>) -> Self {
        self.secrets.extend(objects.into_iter().map(|object| (key(&object.metadata), object)));
        self
    }

    /// With these claims.
    #[must_use]
    pub fn with_claims(mut self, objects: impl IntoIterator<Item = &'a PersistentVolumeClaim>) -> Self {
        self.claims.extend(objects.into_iter().map(|object| (key(&object.metadata), object)));
        self
    }

    /// With these persistent volumes.
    #[must_use]
    pub fn with_volumes(mut self, objects: impl IntoIterator<Item = &'a PersistentVolume>) -> Self {
        self.volumes.extend(objects.into_iter().map(|object| (key(&object.metadata).1, object)));
        self
    }

    /// With these Services, of all namespaces.
    #[must_use]
    pub fn with_services(mut self, objects: impl IntoIterator<Item = &'a Service>) -> Self {
        self.services.extend(objects.into_iter().map(|object| (key(&object.metadata), object)));
        self
    }

    /// With these tokens of the Pod's service account.
    #[must_use]
    pub fn with_tokens(mut self, tokens: impl IntoIterator<Item = (TokenRequest, &'a str)>) -> Self {
        self.tokens.extend(tokens);
        self
    }

    pub(super) fn config_map(&self, namespace: &str, name: &str) -> Option<&'a ConfigMap> {
        self.config_maps.get(&(namespace, name)).copied()
    }

    pub(super) fn secret(&self, namespace: &str, name: &str) -> Option<&'a Secret> {
        self.secrets.get(&(namespace, name)).copied()
    }

    pub(super) fn claim(&self, namespace: &str, name: &str) -> Option<&'a PersistentVolumeClaim> {
        self.claims.get(&(namespace, name)).copied()
    }

    pub(super) fn volume(&self, name: &str) -> Option<&'a PersistentVolume> {
        self.volumes.get(name).copied()
    }

    pub(super) fn services(&self) -> impl Iterator<Item = (&'a str, &'a str, &'a Service)> {
        self.services.iter().map(|(&(namespace, name), &service)| (namespace, name, service))
    }

    pub(super) fn token(&self, request: &TokenRequest) -> Option<&'a str> {
        self.tokens.get(request).copied()
    }
}

fn key(metadata: &ObjectMeta) -> Key<'_> {
    (metadata.namespace.as_deref().unwrap_or("default"), metadata.name.as_deref().unwrap_or_default())
}

/// The data of a Secret by key. What a manifest writes as `stringData` wins over `data`, as in the API server.
pub(super) fn secret_data(secret: &Secret) -> BTreeMap<&str, &[u8]> {
    let data = secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    let strings = secret.string_data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
    data.chain(strings).collect()
}
