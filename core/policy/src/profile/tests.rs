//! The documented rules of matching, one row per fact, and the whole of it against a model that shares no code.

mod model;
mod rules;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use monopod_api::{FargateProfile, FargateProfileSpec, FargateProfileStatus, ProfilePhase, Selector, names};

use super::{Profiles, WithoutPhase};

/// A Pod under construction.
#[derive(Clone, Debug)]
struct PodBuilder(ObjectMeta);

fn pod_in(namespace: &str) -> PodBuilder {
    PodBuilder(ObjectMeta {
        name: Some("web".to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    })
}

impl PodBuilder {
    fn label(mut self, key: &str, value: &str) -> Self {
        self.0.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    fn choosing(self, profile: &str) -> Self {
        self.label(names::PROFILE_LABEL, profile)
    }

    fn annotation(mut self, key: &str, value: &str) -> Self {
        self.0.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    fn owned_by(mut self, api_version: &str, kind: &str) -> Self {
        let owner = OwnerReference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: "owner".to_owned(),
            ..OwnerReference::default()
        };
        self.0.owner_references.get_or_insert_default().push(owner);
        self
    }

    fn build(self) -> Pod {
        Pod { metadata: self.0, ..Pod::default() }
    }
}

/// A profile under construction; in force.
#[derive(Clone, Debug)]
struct ProfileBuilder(FargateProfile);

fn profile(name: &str) -> ProfileBuilder {
    let mut profile = FargateProfile::new(name, FargateProfileSpec::default());
    profile.status =
        Some(FargateProfileStatus { phase: Some(ProfilePhase::Active), ..FargateProfileStatus::default() });
    ProfileBuilder(profile)
}

impl ProfileBuilder {
    fn taking(mut self, namespace: &str, labels: &[(&str, &str)]) -> Self {
        let labels: BTreeMap<_, _> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.0.spec.selectors.push(Selector { namespace: namespace.to_owned(), labels });
        self
    }

    fn in_phase(mut self, phase: Option<ProfilePhase>) -> Self {
        self.0.status = Some(FargateProfileStatus { phase, ..FargateProfileStatus::default() });
        self
    }

    fn being_deleted(mut self) -> Self {
        self.0.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        self
    }
}

fn compile(profiles: &[ProfileBuilder]) -> Profiles {
    Profiles::compile(profiles.iter().map(|profile| &profile.0), WithoutPhase::Pending).unwrap()
}

fn taker(profiles: &[ProfileBuilder], pod: PodBuilder) -> Option<String> {
    compile(profiles).taker(&pod.build()).map(ToString::to_string)
}
