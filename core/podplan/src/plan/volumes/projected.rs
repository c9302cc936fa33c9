//! Projected volumes: several sources in one directory (kubelet, `projected`).

use k8s_openapi::api::core::v1::{
    Container, EphemeralContainer, Pod, ProjectedVolumeSource, ServiceAccountTokenProjection, VolumeProjection,
};
use monopod_agent_proto::v1::{Files, VolumeFile};

use super::super::context::{PodContext, spec};
use super::super::lookup::lasting_containers;
use super::super::sources::TokenRequest;
use super::error::VolumeProblem;
use super::files::{Defaults, Draft, Payload, Selection, downward_api, finished, put};

/// Of files that only their owner and the Pod's group may read.
const PRIVATE_MODE: i32 = 0o600;

pub(super) fn of(context: &PodContext<'_>, source: &ProjectedVolumeSource) -> Result<Files, VolumeProblem> {
    let defaults = Defaults::new(context, source.default_mode, source.default_user);
    let mut payload = Payload::new();
    let mut problems = Vec::new();
    for source in source.sources.iter().flatten() {
        match one(context, source, &defaults) {
            Ok(files) => payload.extend(files),
            Err(problem) => problems.push(problem),
        }
    }
    VolumeProblem::joined(problems)?;
    Ok(finished(payload))
}

fn one(context: &PodContext<'_>, source: &VolumeProjection, defaults: &Defaults) -> Result<Payload, VolumeProblem> {
    if let Some(secret) = &source.secret {
        let selection = Selection { name: &secret.name, items: secret.items.as_deref(), optional: secret.optional };
        selection.of_secret(context, defaults)
    } else if let Some(map) = &source.config_map {
        let selection = Selection { name: &map.name, items: map.items.as_deref(), optional: map.optional };
        selection.of_config_map(context, defaults)
    } else if let Some(source) = &source.downward_api {
        downward_api(context, source.items.as_deref().unwrap_or_default(), defaults)
    } else if let Some(token) = &source.service_account_token {
        token_file(context, token, defaults).map(alone)
    } else if let Some(bundle) = &source.cluster_trust_bundle {
        // There are none at hand: an optional one is an empty file.
        match (&bundle.name, bundle.optional) {
            (_, Some(true)) => {
                let draft = private(context, defaults, &bundle.path, Vec::new(), bundle.user);
                defaults.file(draft).map(alone)
            }
            (Some(name), _) => Err(VolumeProblem::TrustBundleNotFound(name.clone())),
            (None, _) => Err(VolumeProblem::NoTrustBundle),
        }
    } else if source.pod_certificate.is_some() {
        Err(VolumeProblem::PodCertificate)
    } else {
        Ok(Payload::new())
    }
}

fn alone(file: VolumeFile) -> Payload {
    let mut payload = Payload::new();
    put(&mut payload, file);
    payload
}

fn token_file(
    context: &PodContext<'_>,
    token: &ServiceAccountTokenProjection,
    defaults: &Defaults,
) -> Result<VolumeFile, VolumeProblem> {
    let request = TokenRequest::of(token);
    let Some(text) = context.sources.token(&request) else {
        let account = context.spec().service_account_name.clone().unwrap_or_else(|| "default".to_owned());
        return Err(VolumeProblem::Token { audience: request.audience, account });
    };
    defaults.file(private(context, defaults, &token.path, text.as_bytes().to_vec(), token.user))
}

/// A file that belongs to the one user of all containers, or to a group, and is then for these only.
fn private(context: &PodContext<'_>, defaults: &Defaults, path: &str, data: Vec<u8>, user: Option<i64>) -> Draft {
    let user = user.or(defaults.user).or_else(|| only_user(context.pod));
    let is_private = user.is_some() || defaults.has_group;
    Draft { path: path.to_owned(), data, mode: is_private.then_some(PRIVATE_MODE), user }
}

/// The user that every container of the Pod says it runs as, where it is the same.
fn only_user(pod: &Pod) -> Option<i64> {
    let spec = spec(pod);
    let of_pod = spec.security_context.as_ref().and_then(|security| security.run_as_user);
    let lasting = lasting_containers(spec).map(|Container { security_context, .. }| security_context);
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral = ephemeral.map(|EphemeralContainer { security_context, .. }| security_context);
    let mut users =
        lasting.chain(ephemeral).map(|security| security.as_ref().and_then(|security| security.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)
}
