//! `FargateProfile`: which Pods run in microVMs, and how those are sized and placed.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which Pods run in microVMs of their own, and how those are sized and placed.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "monopod.dev", version = "v1", kind = "FargateProfile", status = "FargateProfileStatus")]
#[kube(derive = "PartialEq", derive = "Default")]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FargateProfileSpec {
    /// A Pod belongs to the profile when it matches any of these.
    pub selectors: Vec<Selector>,
    /// Names of the Subnets that Pods get their addresses from; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// Identity that pulls images and ships logs on behalf of the Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_execution_role: Option<String>,
    /// How a microVM's size follows from what its Pod asks.
    #[serde(default)]
    pub sizing: Sizing,
    /// Free key-value pairs for the platform team's own bookkeeping.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// A Pod matches when its namespace matches and it carries all labels; `*` stands for any text, `?` for one character.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Namespace of the Pod, with wildcards.
    pub namespace: String,
    /// Labels that the Pod must carry, with wildcards in keys and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
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

/// What the profile controller has found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FargateProfileStatus {
    /// Where the profile is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ProfilePhase>,
    /// Conditions in the form of Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
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
