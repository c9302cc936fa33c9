//! IAM roles for service accounts (IRSA): the variables and the token by which the containers of a Pod assume a role.
//!
//! Source of the rules: README of the Amazon EKS Pod Identity Webhook, and AWS EKS user guide, IAM roles for service
//! accounts. What a Pod already has is left alone, so that this and another identity webhook may both run. Ephemeral
//! containers join a running Pod and are not in a Pod that is created.

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSpec, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use monopod_api::names;
use serde_json::{Value, json};

use super::edits::{Edits, Place};

/// What the platform team sets once for all Pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySettings {
    /// Region for the variables `AWS_REGION` and `AWS_DEFAULT_REGION`; without one they are not written.
    pub region: Option<String>,
    /// Whether credentials come from the region's own STS endpoint when the `ServiceAccount` does not say.
    pub sts_regional_endpoints: bool,
    /// Life of a token when neither Pod nor `ServiceAccount` says. A caller who wants renewals spread out gives each
    /// Pod another value.
    pub token_expiration: TokenExpiration,
}

impl Default for IdentitySettings {
    /// As on Amazon EKS, and without a region.
    fn default() -> Self {
        Self { region: None, sts_regional_endpoints: true, token_expiration: TokenExpiration::default() }
    }
}

/// Life of a token in seconds, within what the API server accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenExpiration(i64);

impl TokenExpiration {
    /// Shortest life that the API server accepts.
    pub const MIN: Self = Self(600);
    /// Longest life that the API server accepts.
    pub const MAX: Self = Self(1 << 32);

    /// The life nearest to `seconds` that the API server accepts.
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds).clamp(Self::MIN, Self::MAX)
    }

    /// The life in seconds.
    pub fn as_seconds(self) -> i64 {
        self.0
    }
}

impl Default for TokenExpiration {
    /// A day.
    fn default() -> Self {
        Self(86_400)
    }
}

const ROLE_ARN_VARIABLE: &str = "AWS_ROLE_ARN";
const TOKEN_FILE_VARIABLE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const REGION_VARIABLE: &str = "AWS_REGION";
const DEFAULT_REGION_VARIABLE: &str = "AWS_DEFAULT_REGION";
const STS_ENDPOINTS_VARIABLE: &str = "AWS_STS_REGIONAL_ENDPOINTS";

/// The identity of one Pod, with all annotations read.
struct Identity<'a> {
    role: &'a str,
    audience: &'a str,
    expiration: TokenExpiration,
    sts_regional_endpoints: bool,
    region: Option<&'a str>,
    skipped: Vec<&'a str>,
}

/// Name of the `ServiceAccount` that a Pod runs under: the one that it names, else the one in the deprecated field
/// `serviceAccount`, else `default`, as the API server fills it in.
pub fn service_account_name(pod: &Pod) -> &str {
    let names = pod.spec.iter().flat_map(|spec| [&spec.service_account_name, &spec.service_account]);
    names.flatten().map(String::as_str).find(|name| !name.is_empty()).unwrap_or("default")
}

/// The IAM role that a `ServiceAccount` gives to its Pods; an empty annotation counts as none.
pub fn role_arn(service_account: &ServiceAccount) -> Option<&str> {
    annotation(&service_account.metadata, names::ROLE_ARN)
}

/// Gives the Pod the identity of its `ServiceAccount`, if that is annotated with a role.
pub(super) fn plan(
    metadata: &ObjectMeta,
    spec: &PodSpec,
    service_account: &ServiceAccount,
    settings: &IdentitySettings,
    edits: &mut Edits,
) {
    let Some(identity) = Identity::read(metadata, service_account, settings) else { return };
    let init_containers = spec.init_containers.as_deref().unwrap_or_default();
    for (list, containers) in [("initContainers", init_containers), ("containers", &spec.containers)] {
        for (index, container) in containers.iter().enumerate() {
            if !identity.skipped.contains(&container.name.as_str()) {
                identity.plan_container(["spec", list, &index.to_string()], container, edits);
            }
        }
    }
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    if !volumes.iter().any(|volume| volume.name == names::TOKEN_VOLUME) {
        edits.insert(&["spec", "volumes"], volumes.len(), Place::First, vec![identity.volume()]);
    }
}

impl<'a> Identity<'a> {
    fn read(pod: &'a ObjectMeta, account: &'a ServiceAccount, settings: &'a IdentitySettings) -> Option<Self> {
        let role = role_arn(account)?;
        let service_account = &account.metadata;
        let expiration = [pod, service_account].into_iter().find_map(token_expiration);
        let sts_regional_endpoints = annotation(service_account, names::STS_REGIONAL_ENDPOINTS).and_then(boolean);
        let skipped = annotation(pod, names::SKIP_CONTAINERS).unwrap_or_default();
        Some(Self {
            role,
            audience: annotation(service_account, names::AUDIENCE).unwrap_or(names::DEFAULT_AUDIENCE),
            expiration: expiration.unwrap_or(settings.token_expiration),
            sts_regional_endpoints: sts_regional_endpoints.unwrap_or(settings.sts_regional_endpoints),
            region: settings.region.as_deref().filter(|region| !region.is_empty()),
            skipped: skipped.split(',').map(str::trim).collect(),
        })
    }

    fn plan_container(&self, path: [&str; 3], container: &Container, edits: &mut Edits) {
        let env = container.env.as_deref().unwrap_or_default();
        let [spec, list, index] = path;
        edits.insert(&[spec, list, index, "env"], env.len(), Place::Last, self.missing_variables(env));

        let mounts = container.volume_mounts.as_deref().unwrap_or_default();
        let taken = |path: &str| path.trim_end_matches('/') == names::TOKEN_MOUNT_PATH;
        if !mounts.iter().any(|mount| mount.name == names::TOKEN_VOLUME || taken(&mount.mount_path)) {
            let mount = json!({ "name": names::TOKEN_VOLUME, "mountPath": names::TOKEN_MOUNT_PATH, "readOnly": true });
            edits.insert(&[spec, list, index, "volumeMounts"], mounts.len(), Place::Last, vec![mount]);
        }
    }

    /// The variables come in three groups. Of a group that the container has in part, nothing is added: a role with
    /// another's token, or two regions that differ, would be worse than what the user wrote.
    fn missing_variables(&self, env: &[EnvVar]) -> Vec<Value> {
        let token_file = format!("{}/{}", names::TOKEN_MOUNT_PATH, names::TOKEN_FILE);
        let sts_endpoints = self.sts_regional_endpoints.then_some("regional");
        let groups: [&[(&str, Option<&str>)]; 3] = [
            &[(STS_ENDPOINTS_VARIABLE, sts_endpoints)],
            &[(DEFAULT_REGION_VARIABLE, self.region), (REGION_VARIABLE, self.region)],
            &[(ROLE_ARN_VARIABLE, Some(self.role)), (TOKEN_FILE_VARIABLE, Some(&token_file))],
        ];
        let present = |name: &str| env.iter().any(|variable| variable.name == name);
        let missing = groups.into_iter().filter(|group| !group.iter().any(|(name, _)| present(name))).flatten();
        missing.filter_map(|(name, value)| value.map(|value| json!({ "name": name, "value": value }))).collect()
    }

    fn volume(&self) -> Value {
        let token = json!({
            "audience": self.audience,
            "expirationSeconds": self.expiration.as_seconds(),
            "path": names::TOKEN_FILE,
        });
        json!({ "name": names::TOKEN_VOLUME, "projected": { "sources": [{ "serviceAccountToken": token }] } })
    }
}

/// The annotation's value; an empty one counts as none.
fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(|value| value.trim()).filter(|value| !value.is_empty())
}

/// A value that is no number counts as none.
fn token_expiration(metadata: &ObjectMeta) -> Option<TokenExpiration> {
    annotation(metadata, names::TOKEN_EXPIRATION)?.parse().ok().map(TokenExpiration::from_seconds)
}

/// The spellings that Go's `strconv.ParseBool` knows: the reference reads the annotation with it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
