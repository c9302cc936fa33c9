//! The objects that a Pod refers to: what whoever plans it has to have at hand, and to watch.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, EphemeralContainer, Pod, Volume};

use super::context::{name, spec};
use super::sources::TokenRequest;
use super::volumes::claim_name;

/// How long a token lasts that says nothing about it.
const TOKEN_SECONDS: i64 = 3600;

/// Names of objects in the Pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredObjects {
    /// ConfigMaps, optional ones too.
    pub config_maps: BTreeSet<String>,
    /// Secrets, optional ones and those for pulling images too.
    pub secrets: BTreeSet<String>,
    /// Claims; each leads to a persistent volume.
    pub claims: BTreeSet<String>,
    /// Whether variables tell of all Services of the namespace.
    pub services: bool,
}

/// What the Pod refers to.
pub fn required_objects(pod: &Pod) -> RequiredObjects {
    let spec = spec(pod);
    let mut required =
        RequiredObjects { services: spec.enable_service_links != Some(false), ..RequiredObjects::default() };
    for secret in spec.image_pull_secrets.iter().flatten() {
        required.secrets.insert(secret.name.clone());
    }
    for Container { env, env_from, .. } in spec.init_containers.iter().flatten().chain(&spec.containers) {
        required.add_variables(env.as_deref(), env_from.as_deref());
    }
    for EphemeralContainer { env, env_from, .. } in spec.ephemeral_containers.iter().flatten() {
        required.add_variables(env.as_deref(), env_from.as_deref());
    }
    for volume in spec.volumes.iter().flatten() {
        required.add_volume(name(pod), volume);
    }
    required
}

impl RequiredObjects {
    fn add_variables(&mut self, variables: Option<&[EnvVar]>, lists: Option<&[EnvFromSource]>) {
        for source in variables.into_iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            self.config_maps.extend(source.config_map_key_ref.iter().map(|key| key.name.clone()));
            self.secrets.extend(source.secret_key_ref.iter().map(|key| key.name.clone()));
        }
        for source in lists.into_iter().flatten() {
            self.config_maps.extend(source.config_map_ref.iter().map(|reference| reference.name.clone()));
            self.secrets.extend(source.secret_ref.iter().map(|reference| reference.name.clone()));
        }
    }

    fn add_volume(&mut self, pod: &str, volume: &Volume) {
        self.config_maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
        self.secrets.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
        self.claims.extend(claim_name(pod, volume));
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            self.config_maps.extend(source.config_map.iter().map(|source| source.name.clone()));
            self.secrets.extend(source.secret.iter().map(|source| source.name.clone()));
        }
    }
}

/// The tokens of the Pod's service account that its volumes hold, each once.
pub fn required_tokens(pod: &Pod) -> BTreeSet<TokenRequest> {
    let projected = spec(pod).volumes.iter().flatten().filter_map(|volume| volume.projected.as_ref());
    let sources = projected.flat_map(|projected| projected.sources.iter().flatten());
    sources.filter_map(|source| source.service_account_token.as_ref().map(TokenRequest::of)).collect()
}

impl TokenRequest {
    pub(super) fn of(projection: &k8s_openapi::api::core::v1::ServiceAccountTokenProjection) -> Self {
        Self {
            audience: projection.audience.clone().unwrap_or_default(),
            expiration_seconds: projection.expiration_seconds.unwrap_or(TOKEN_SECONDS),
        }
    }
}
