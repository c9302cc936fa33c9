//! The whole answer about one Pod: which profile takes it, is it supported, how big is its microVM.
//!
//! The scheduler acts on a [`Decision`], `monopod explain` prints one. Nobody else joins [`profile`](crate::profile),
//! [`admission`] and [`sizing`], so what is explained is what happens.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use monopod_api::{FargateProfile, Sizing, Subnet};
use monopod_types::{ProfileName, Zone};

use crate::admission::{self, Inputs, ProfileNodes, Storage, Verdict};
use crate::profile::{Choice, CompileError, Profiles, WithoutPhase};
use crate::sizing::{self, Size, SizingError, SizingSettings};

/// What decisions depend on besides the Pod.
#[derive(Clone, Debug, Default)]
pub struct Snapshot<'a> {
    profiles: Profiles,
    terms: BTreeMap<ProfileName, Terms>,
    storage: Storage<'a>,
    region: Option<String>,
    sizing: SizingSettings,
}

/// What a profile says of the Pods that it takes.
#[derive(Clone, Debug, Default)]
struct Terms {
    sizing: Sizing,
    /// Zones of its subnets; empty when they are not known.
    zones: Vec<Zone>,
}

/// Everything there is to say about one Pod. Each part stands alone, so that a person sees all reasons at once.
#[derive(Clone, Debug)]
pub struct Decision<'a> {
    /// Which profile takes the Pod, and why the others do not.
    pub choice: Choice<'a>,
    /// Whether a microVM can run it.
    pub verdict: Verdict,
    /// How big its microVM is, by the mode of its profile (the default mode where no profile takes it).
    pub size: Result<Size, SizingError>,
}

/// What a decision comes down to; where several things stand against a Pod, the first that it meets on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It runs in a microVM.
    Runs,
    /// No profile takes it; the cluster's other nodes may.
    NotTaken,
    /// A profile takes it, and it waits with everything that stands against it in its event.
    Unsupported,
    /// A profile takes it, and no size is right for it.
    NoSize,
}

impl<'a> Snapshot<'a> {
    /// Takes the profiles apart and looks up the zones of their subnets, once for many Pods.
    ///
    /// # Errors
    /// When a profile has no name or shares it with another.
    pub fn new<'p>(
        profiles: impl IntoIterator<Item = &'p FargateProfile> + Clone,
        without_phase: WithoutPhase,
        subnets: &[Subnet],
    ) -> Result<Self, CompileError> {
        let compiled = Profiles::compile(profiles.clone(), without_phase)?;
        let terms = profiles.into_iter().filter_map(|profile| {
            let name = ProfileName::new(profile.metadata.name.as_deref()?);
            Some((name, Terms { sizing: profile.spec.sizing, zones: zones(profile, subnets) }))
        });
        Ok(Self { profiles: compiled, terms: terms.collect(), ..Self::default() })
    }

    /// With the claims and volumes that Pods may refer to.
    #[must_use]
    pub fn with_storage(self, storage: Storage<'a>) -> Self {
        Self { storage, ..self }
    }

    /// With the region that nodes are in; without it every region counts as possible.
    #[must_use]
    pub fn with_region(self, region: impl Into<String>) -> Self {
        Self { region: Some(region.into()), ..self }
    }

    /// With the platform team's settings for exact sizes.
    #[must_use]
    pub fn with_sizing(self, sizing: SizingSettings) -> Self {
        Self { sizing, ..self }
    }
}

/// Zones of the subnets that a profile names, or of all where it names none; each once, in order. None is known when it
/// names a subnet that is not at hand: the Pod may run in that subnet's zone.
fn zones(profile: &FargateProfile, subnets: &[Subnet]) -> Vec<Zone> {
    let named = &profile.spec.subnets;
    let is_at_hand = |name: &String| subnets.iter().any(|subnet| subnet.metadata.name.as_ref() == Some(name));
    if !named.iter().all(is_at_hand) {
        return Vec::new();
    }
    let wanted =
        |subnet: &&Subnet| named.is_empty() || subnet.metadata.name.as_ref().is_some_and(|name| named.contains(name));
    let zones: BTreeSet<&str> = subnets.iter().filter(wanted).map(|subnet| subnet.spec.zone.as_str()).collect();
    zones.into_iter().map(Zone::from).collect()
}

/// Decides about one Pod.
pub fn decide<'a>(pod: &'a Pod, snapshot: &'a Snapshot<'_>) -> Decision<'a> {
    let choice = snapshot.profiles.choose(pod);
    let terms = choice.taker.and_then(|name| Some((name, snapshot.terms.get(name)?)));
    let nodes =
        terms.map(|(profile, terms)| ProfileNodes { profile, zones: &terms.zones, region: snapshot.region.as_deref() });
    let verdict = admission::verdict(pod, &Inputs { storage: &snapshot.storage, nodes: nodes.as_ref() });
    let mode = terms.map_or_else(Sizing::default, |(_, terms)| terms.sizing);
    Decision { choice, verdict, size: sizing::size(pod, mode, &snapshot.sizing) }
}

impl Decision<'_> {
    /// What it comes down to.
    pub fn outcome(&self) -> Outcome {
        if self.choice.taker.is_none() {
            Outcome::NotTaken
        } else if !self.verdict.is_supported() {
            Outcome::Unsupported
        } else if self.size.is_err() {
            Outcome::NoSize
        } else {
            Outcome::Runs
        }
    }

    /// The outcome as one word: the `PodScheduled` condition's reason for a Pod that waits.
    pub fn reason(&self) -> &'static str {
        match (self.outcome(), &self.size) {
            (Outcome::Unsupported, _) => self.verdict.reason(),
            (Outcome::NoSize, Err(error)) => error.reason(),
            (Outcome::Runs | Outcome::NotTaken | Outcome::NoSize, _) => self.choice.reason(),
        }
    }

    /// The outcome in words: the event's text for a Pod that waits.
    pub fn message(&self) -> String {
        match (self.outcome(), &self.size) {
            (Outcome::Unsupported, _) => self.verdict.message(),
            (Outcome::NoSize, Err(error)) => error.to_string(),
            (Outcome::Runs | Outcome::NotTaken | Outcome::NoSize, _) => self.choice.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use monopod_api::{FargateProfileSpec, Selector, SubnetSpec};
    use serde_json::json;

    use super::{FargateProfile, Outcome, Pod, Sizing, Snapshot, Subnet, WithoutPhase, decide};

    fn profile(name: &str, namespace: &str, sizing: Sizing) -> FargateProfile {
        let selectors = vec![Selector { namespace: namespace.to_owned(), ..Selector::default() }];
        FargateProfile::new(name, FargateProfileSpec { selectors, sizing, ..FargateProfileSpec::default() })
    }

    fn pod(spec: &serde_json::Value) -> Pod {
        let pod = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
        serde_json::from_value(pod).expect("the test writes a Pod")
    }

    fn check(pod: &Pod, outcome: Outcome, reason: &str, message: &str) {
        let profiles = [profile("batch", "batch", Sizing::Exact), profile("shop", "shop", Sizing::Fargate)];
        let zone = SubnetSpec { zone: "a".to_owned(), ..SubnetSpec::default() };
        let subnets = [Subnet::new("private-a", zone)];
        let snapshot = Snapshot::new(&profiles, WithoutPhase::Active, &subnets).unwrap();
        let decision = decide(pod, &snapshot);
        assert_eq!((decision.outcome(), decision.reason()), (outcome, reason), "{}", decision.message());
        assert_eq!(decision.message(), message);
    }

    #[test]
    fn a_supported_pod_of_a_profile_runs() {
        let pod = pod(&json!({"containers": [{"name": "web"}]}));
        let message = "profile `shop` takes the Pod: selector 1 matches";
        check(&pod, Outcome::Runs, "ProfileMatched", message);
    }

    #[test]
    fn a_violation_comes_before_a_size_that_does_not_exist() {
        let requests = json!({"requests": {"cpu": "17"}});
        let unsupported = json!({"hostPID": true, "containers": [{"name": "web", "resources": requests}]});
        let message = "Pod not supported on Fargate: fields not supported: HostPID";
        check(&pod(&unsupported), Outcome::Unsupported, "POD_UNSUPPORTED_ON_FARGATE", message);
        let too_large = json!({"containers": [{"name": "web", "resources": requests}]});
        let message = "Your pod's cpu/memory requirements exceed the max Fargate configuration";
        check(&pod(&too_large), Outcome::NoSize, "POD_CPU_MEM_EXCEEDS_MAX_FARGATE_SIZE", message);
    }

    #[test]
    fn zones_of_the_profiles_subnets_bound_what_a_node_selector_may_ask() {
        let selector = |zone| json!({"nodeSelector": {"topology.kubernetes.io/zone": zone}, "containers": []});
        let message = "profile `shop` takes the Pod: selector 1 matches";
        check(&pod(&selector("a")), Outcome::Runs, "ProfileMatched", message);
        let message =
            "MatchNodeSelector failed: Fargate profile shop cannot satisfy pod's node selector/affinity requirements";
        check(&pod(&selector("b")), Outcome::Unsupported, "POD_UNSUPPORTED_ON_FARGATE", message);
    }

    #[test]
    fn a_profile_that_names_a_subnet_that_is_not_at_hand_bounds_no_zone() {
        let zone = SubnetSpec { zone: "a".to_owned(), ..SubnetSpec::default() };
        let pod = pod(&json!({"nodeSelector": {"topology.kubernetes.io/zone": "b"}, "containers": []}));
        let rows: [(&[&str], Outcome); 3] = [
            (&["private-a"], Outcome::Unsupported),
            (&["private-a", "elsewhere"], Outcome::Runs),
            (&["elsewhere"], Outcome::Runs),
        ];
        for (subnets, outcome) in rows {
            let mut profile = profile("shop", "shop", Sizing::Fargate);
            profile.spec.subnets = subnets.iter().map(|&name| name.to_owned()).collect();
            let known = [Subnet::new("private-a", zone.clone())];
            let snapshot = Snapshot::new(std::slice::from_ref(&profile), WithoutPhase::Active, &known).unwrap();
            assert_eq!(decide(&pod, &snapshot).outcome(), outcome, "{subnets:?}");
        }
    }

    #[test]
    fn the_profile_that_takes_a_pod_decides_how_it_is_sized() {
        let profiles = [profile("shop", "shop", Sizing::Exact)];
        let snapshot = Snapshot::new(&profiles, WithoutPhase::Active, &[]).unwrap();
        let pod = pod(&json!({"containers": [{"name": "web"}]}));
        assert_eq!(decide(&pod, &snapshot).size.unwrap().mode, Sizing::Exact);
    }
}
