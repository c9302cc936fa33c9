//! `FargateProfile`: which Pods run in microVMs, and how those are sized and placed.
//!
//! The limits and their texts are those that users of AWS Fargate have seen (AWS EKS user guide, Fargate profiles and
//! service quotas; AWS CloudFormation, `AWS::EKS::FargateProfile`). What CEL can say stands in the CRD, and all of it
//! in [`FargateProfile::validate`]; one test holds the two together.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::Message;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::problem::{FieldProblem, Problems, characters, check_metadata};

/// Selectors of one profile (AWS EKS service quotas).
pub const MAX_SELECTORS: usize = 5;
/// Label pairs of one selector (AWS EKS service quotas).
pub const MAX_LABEL_PAIRS: usize = 5;
/// Characters of a profile's name in the reference.
const MAX_NAME_IN_REFERENCE: usize = 100;
/// Characters of a label's value in Kubernetes; a profile's name becomes one on each of its Pods.
const MAX_LABEL_VALUE: usize = 63;
/// Tags of one profile (AWS EKS user guide, tagging resources).
const MAX_TAGS: usize = 50;
/// Prefix of the profiles that the reference makes for itself.
const RESERVED_PREFIX: &str = "eks-";
/// Prefix of the tags that the reference sets itself.
const RESERVED_TAG_PREFIX: &str = "aws:";

const NAME_TOO_LONG: &str = "The Fargate profile name parameter should not be greater than 100 characters.";
const NAME_NO_LABEL: &str =
    "The Fargate profile name becomes the value of a Pod label and should not be greater than 63 characters.";
const NAME_RESERVED: &str = "The fargate profile name starts with the reserved prefix: 'eks-'.";
const NO_SELECTOR: &str = "Fargate Profile requires at least one selector.";
const TOO_MANY_SELECTORS: &str = "Fargate Profile must have at most 5 selectors.";
const NO_NAMESPACE: &str = "Fargate Profile must have at least one selector with at least one namespace value.";
const IMPOSSIBLE_NAMESPACE: &str = "No namespace can match: write at most 63 lower-case letters, digits and '-', with '*' for any text and '?' for one character.";
const TOO_MANY_LABELS: &str = "Request contains Selector with more than 5 Label pairs";
const BAD_LABEL_KEY: &str = "A label key must have 1 to 127 characters.";
const BAD_LABEL_VALUE: &str = "A label value must have at most 255 characters.";
const EMPTY_SUBNET: &str = "The name of a Subnet must not be empty.";
const SUBNET_TWICE: &str = "A Subnet must not be named twice.";
const EMPTY_ROLE: &str = "Name a role or leave the field out.";
const TOO_MANY_TAGS: &str = "A Fargate profile can have at most 50 tags.";
const BAD_TAG_KEY: &str = "A tag key must have 1 to 128 characters.";
const BAD_TAG_VALUE: &str = "A tag value must have at most 256 characters.";
const RESERVED_TAG: &str = "A tag key must not start with the reserved prefix 'aws:'.";

/// Which Pods run in microVMs of their own, and how those are sized and placed.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(group = "monopod.dev", version = "v1", kind = "FargateProfile", status = "FargateProfileStatus")]
#[kube(derive = "PartialEq", derive = "Default", shortname = "fp", category = "monopod")]
#[kube(doc = "Which Pods run in microVMs of their own, and how those are sized and placed.")]
#[kube(printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"))]
#[kube(printcolumn(name = "Sizing", type_ = "string", json_path = ".spec.sizing"))]
#[kube(printcolumn(name = "Matched", type_ = "integer", json_path = ".status.matched"))]
#[kube(printcolumn(name = "Running", type_ = "integer", json_path = ".status.running"))]
#[kube(printcolumn(name = "Rejected", type_ = "integer", json_path = ".status.rejected"))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[kube(
    validation = Rule::new("self.metadata.name.size() <= 100").message(about_name(NAME_TOO_LONG)),
    validation = Rule::new("self.metadata.name.size() <= 63 || self.metadata.name.size() > 100").message(about_name(NAME_NO_LABEL)),
    validation = Rule::new("!self.metadata.name.startsWith('eks-')").message(about_name(NAME_RESERVED)),
)]
#[x_kube(validation = Rule::new("has(self.selectors)").message(NO_SELECTOR).field_path(".selectors"))]
#[schemars(transform = |schema: &mut Schema| without_default(schema, "selectors"))]
#[serde(rename_all = "camelCase")]
pub struct FargateProfileSpec {
    /// A Pod belongs to the profile when it matches any of these; one to five.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(
        validation = Rule::new("self.size() >= 1").message(NO_SELECTOR),
        validation = Rule::new("self.size() <= 5").message(TOO_MANY_SELECTORS),
    )]
    pub selectors: Vec<Selector>,
    /// Names of the Subnets that Pods get their addresses from; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    #[x_kube(
        validation = Rule::new("self.all(name, name != '')").message(EMPTY_SUBNET),
        validation = Rule::new("self.all(name, self.exists_one(other, other == name))").message(SUBNET_TWICE),
    )]
    pub subnets: Vec<String>,
    /// Identity that pulls images and ships logs on behalf of the Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = Rule::new("self != ''").message(EMPTY_ROLE))]
    pub pod_execution_role: Option<String>,
    /// How a microVM's size follows from what its Pod asks.
    #[serde(default)]
    pub sizing: Sizing,
    /// What becomes of Pods that waited for a profile when this one came.
    #[serde(default)]
    pub waiting_pods: WaitingPods,
    /// Free key-value pairs for the platform team's own bookkeeping; they do not reach the Pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 256))]
    #[x_kube(
        validation = Rule::new("self.size() <= 50").message(TOO_MANY_TAGS),
        validation = Rule::new("self.all(key, key.size() >= 1 && key.size() <= 128)").message(BAD_TAG_KEY),
        validation = Rule::new("self.all(key, self[key].size() <= 256)").message(BAD_TAG_VALUE),
        validation = Rule::new("self.all(key, !key.startsWith('aws:'))").message(RESERVED_TAG),
    )]
    pub tags: BTreeMap<String, String>,
}

/// A Pod matches when its namespace matches and it carries all labels; `*` stands for any text, `?` for one character.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.__namespace__)").message(NO_NAMESPACE).field_path(".namespace"))]
#[schemars(transform = |schema: &mut Schema| without_default(schema, "namespace"))]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Namespace of the Pod, with wildcards. Required.
    #[serde(default)]
    #[schemars(length(max = 256))]
    #[x_kube(
        validation = Rule::new("self != ''").message(NO_NAMESPACE),
        validation = Rule::new("self.matches('^[a-z0-9*?-]{0,63}$')").message(IMPOSSIBLE_NAMESPACE),
    )]
    pub namespace: String,
    /// Labels that the Pod must carry, with wildcards in keys and values; at most five.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(
        validation = Rule::new("self.size() <= 5").message(TOO_MANY_LABELS),
        validation = Rule::new("self.all(key, key.size() >= 1 && key.size() <= 127)").message(BAD_LABEL_KEY),
        validation = Rule::new("self.all(key, self[key].size() <= 255)").message(BAD_LABEL_VALUE),
    )]
    pub labels: BTreeMap<String, String>,
}

/// How a microVM's size follows from what its Pod asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Sizing {
    /// The smallest of the reference's 74 combinations that fits.
    #[default]
    Fargate,
    /// What was asked plus the measured overhead.
    Exact,
}

/// What becomes of Pods that were made before their profile and name our scheduler themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WaitingPods {
    /// They are taken.
    #[default]
    Adopt,
    /// They go on waiting until they are deleted and made again, as in the reference (AWS EKS user guide, Fargate profiles).
    Ignore,
}

/// What the profile controller has found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FargateProfileStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the profile is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ProfilePhase>,
    /// Pods that belong to the profile now.
    #[serde(default)]
    pub matched: i32,
    /// Pods of the profile that run in a microVM now.
    #[serde(default)]
    pub running: i32,
    /// Pods of the profile that cannot run in a microVM as they are written.
    #[serde(default)]
    pub rejected: i32,
    /// The latest rejections, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_rejections: Vec<Rejection>,
    /// Conditions in the form of Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One Pod that was not taken, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// Namespace of the Pod.
    pub namespace: String,
    /// Name of the Pod.
    pub pod: String,
    /// Machine-readable reason, such as `UnsupportedPodSpec`.
    pub reason: String,
    /// What the Pod's event says.
    pub message: String,
    /// When it was rejected.
    pub time: Time,
}

/// Where a profile is in its life; the words are the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ProfilePhase {
    /// Accepted, not yet in force.
    Creating,
    /// In force.
    Active,
    /// Being deleted; takes no more Pods.
    Deleting,
    /// Could not be brought into force.
    CreateFailed,
    /// Could not be deleted.
    DeleteFailed,
}

impl FargateProfile {
    /// Everything that is wrong with the name and the spec; nothing when the profile is good.
    pub fn validate(&self) -> Vec<FieldProblem> {
        let mut problems = Problems::default();
        check_metadata(&self.metadata, &mut problems);
        check_name(self.metadata.name.as_deref().unwrap_or_default(), &mut problems);
        check_selectors(&self.spec.selectors, &mut problems);
        check_subnets(&self.spec.subnets, &mut problems);
        problems.require(self.spec.pod_execution_role.as_deref() != Some(""), "spec.podExecutionRole", EMPTY_ROLE);
        check_tags(&self.spec.tags, &mut problems);
        problems.into_vec()
    }
}

/// Takes the default of a property out of a schema: the API server checks defaults, and refuses one that is not valid.
fn without_default(schema: &mut Schema, property: &str) {
    let properties = schema.get_mut("properties").and_then(|all| all.as_object_mut());
    if let Some(property) = properties.and_then(|all| all.get_mut(property)?.as_object_mut()) {
        property.remove("default");
    }
}

/// A CEL message about `metadata.name`, which a rule cannot give as its field path.
fn about_name(message: &str) -> Message {
    Message::Message(format!("metadata.name: {message}"))
}

fn check_name(name: &str, problems: &mut Problems) {
    let length = characters(name);
    let field = "metadata.name";
    problems.require(length <= MAX_NAME_IN_REFERENCE, field, NAME_TOO_LONG);
    problems.require(length <= MAX_LABEL_VALUE || length > MAX_NAME_IN_REFERENCE, field, NAME_NO_LABEL);
    problems.require(!name.starts_with(RESERVED_PREFIX), field, NAME_RESERVED);
}

fn check_selectors(selectors: &[Selector], problems: &mut Problems) {
    problems.require(!selectors.is_empty(), "spec.selectors", NO_SELECTOR);
    problems.require(selectors.len() <= MAX_SELECTORS, "spec.selectors", TOO_MANY_SELECTORS);
    for (index, selector) in selectors.iter().enumerate() {
        let namespace = format!("spec.selectors[{index}].namespace");
        problems.require(!selector.namespace.is_empty(), &namespace, NO_NAMESPACE);
        problems.require(can_match_a_namespace(&selector.namespace), &namespace, IMPOSSIBLE_NAMESPACE);
        check_labels(&selector.labels, &format!("spec.selectors[{index}].labels"), problems);
    }
}

fn check_labels(labels: &BTreeMap<String, String>, field: &str, problems: &mut Problems) {
    problems.require(labels.len() <= MAX_LABEL_PAIRS, field, TOO_MANY_LABELS);
    problems.require(labels.keys().all(|key| (1..=127).contains(&characters(key))), field, BAD_LABEL_KEY);
    problems.require(labels.values().all(|value| characters(value) <= 255), field, BAD_LABEL_VALUE);
}

fn check_subnets(subnets: &[String], problems: &mut Problems) {
    let twice = |name: &String| subnets.iter().filter(|other| *other == name).count() > 1;
    problems.require(subnets.iter().all(|name| !name.is_empty()), "spec.subnets", EMPTY_SUBNET);
    problems.require(!subnets.iter().any(twice), "spec.subnets", SUBNET_TWICE);
}

fn check_tags(tags: &BTreeMap<String, String>, problems: &mut Problems) {
    let field = "spec.tags";
    problems.require(tags.len() <= MAX_TAGS, field, TOO_MANY_TAGS);
    problems.require(tags.keys().all(|key| (1..=128).contains(&characters(key))), field, BAD_TAG_KEY);
    problems.require(tags.values().all(|value| characters(value) <= 256), field, BAD_TAG_VALUE);
    problems.require(!tags.keys().any(|key| key.starts_with(RESERVED_TAG_PREFIX)), field, RESERVED_TAG);
}

/// Whether a pattern is made of what the names of namespaces are made of, and of wildcards.
fn can_match_a_namespace(pattern: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '*' | '?');
    pattern.len() <= MAX_LABEL_VALUE && pattern.chars().all(allowed)
}
