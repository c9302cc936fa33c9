//! Which profile takes a Pod, and why the others do not.
//!
//! ```text
//! Pod ─▶ owned by a DaemonSet, opted out, or its label names an unknown profile? ─▶ nobody
//!     └▶ per profile, by name: label names another? ─▶ a selector matches? ─▶ ACTIVE? ─▶ the first takes it
//! ```
//!
//! The webhook asks [`Profiles::taker`] for every new Pod, `monopod explain` and the events ask [`Profiles::choose`]
//! for the reasons too. Both walk the same answers, which only borrow; so the quick one allocates nothing.
//!
//! Source of the rules: AWS EKS user guide, Fargate profile. Tolerations, node selectors and affinity of a Pod play no
//! part, and a Pod that names the scheduler itself is matched like any other.

mod choice;
mod pattern;
mod quoted;
mod selector;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use monopod_api::{FargateProfile, ProfilePhase, names};
use monopod_types::ProfileName;

pub use choice::{Answer, Choice, PodReason, ProfileAnswer};
pub use pattern::Pattern;
pub use selector::{LabelPattern, Mismatch, SelectorNumber};

use selector::{CompiledSelector, Missed};

/// A set of profiles, ready to be asked about many Pods.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    /// In ascending order of names, each name once.
    by_name: Vec<CompiledProfile>,
}

/// What a profile that has no phase in its status counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutPhase {
    /// In force: the profile comes from a file, where nobody writes a status.
    Active,
    /// Not yet in force: the profile comes from a cluster, and its controller has not seen it yet.
    Pending,
}

/// Why a set of profiles cannot be compiled. Neither can happen with profiles from an API server.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CompileError {
    /// A profile has no `metadata.name`.
    #[error("profile number {number} has no metadata.name")]
    Unnamed {
        /// Its place among the profiles given, counted from 1.
        number: usize,
    },
    /// Two profiles have the same name.
    #[error("profile {name} is given twice")]
    Duplicate {
        /// The name that they share.
        name: ProfileName,
    },
}

impl CompileError {
    /// The error as one CamelCase word, for events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unnamed { .. } => "ProfileUnnamed",
            Self::Duplicate { .. } => "ProfileDuplicate",
        }
    }
}

/// One profile with its selectors taken apart.
#[derive(Clone, Debug)]
struct CompiledProfile {
    name: ProfileName,
    phase: Option<ProfilePhase>,
    selectors: Vec<CompiledSelector>,
}

/// What matching looks at in a Pod.
#[derive(Clone, Copy)]
struct Subject<'a> {
    pod: &'a Pod,
    namespace: &'a str,
    labels: Option<&'a BTreeMap<String, String>>,
    /// Name of the profile that the Pod's label asks for.
    chosen: Option<&'a str>,
}

impl Profiles {
    /// Takes the patterns of all profiles apart, once.
    ///
    /// # Errors
    /// When a profile has no name or shares it with another.
    pub fn compile<'p>(
        profiles: impl IntoIterator<Item = &'p FargateProfile>,
        without_phase: WithoutPhase,
    ) -> Result<Self, CompileError> {
        let mut by_name = Vec::new();
        for (index, profile) in profiles.into_iter().enumerate() {
            let name = profile.metadata.name.as_deref().filter(|name| !name.is_empty());
            let name = name.ok_or(CompileError::Unnamed { number: index + 1 })?;
            by_name.push(CompiledProfile::new(name, profile, without_phase));
        }
        by_name.sort_by(|one, other| one.name.cmp(&other.name));
        match by_name.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(CompileError::Duplicate { name: pair[0].name.clone() }),
            None => Ok(Self { by_name }),
        }
    }

    /// The profile that takes the Pod, without reasons: [`Self::choose`] gives the same answer with them.
    pub fn taker(&self, pod: &Pod) -> Option<&ProfileName> {
        let subject = Subject::new(pod);
        if self.pod_reasons(subject).next().is_some() {
            return None;
        }
        let place = self.answers(subject).position(|answer| answer.answer.matches())?;
        self.by_name.get(place).map(|profile| &profile.name)
    }

    /// The profile that takes the Pod, with a reason for every profile.
    pub fn choose<'a>(&'a self, pod: &'a Pod) -> Choice<'a> {
        let subject = Subject::new(pod);
        let pod_reasons: Vec<_> = self.pod_reasons(subject).collect();
        let profiles: Vec<_> = self.answers(subject).collect();
        let first = profiles.iter().find(|answer| answer.answer.matches()).map(|answer| answer.profile);
        Choice { taker: first.filter(|_| pod_reasons.is_empty()), chosen: subject.chosen, pod_reasons, profiles }
    }

    /// What keeps the Pod from every profile.
    fn pod_reasons<'a>(&'a self, subject: Subject<'a>) -> impl Iterator<Item = PodReason<'a>> {
        let unknown = subject.chosen.filter(|chosen| !self.has(chosen));
        let unknown = unknown.map(|chosen| PodReason::UnknownProfile { chosen });
        [subject.owned_by_daemon_set(), subject.opted_out(), unknown].into_iter().flatten()
    }

    fn has(&self, name: &str) -> bool {
        self.by_name.binary_search_by(|profile| profile.name.as_str().cmp(name)).is_ok()
    }

    /// What each profile says to the Pod, in the order of names. A profile that matches behind another is outranked.
    fn answers<'a>(&'a self, subject: Subject<'a>) -> impl Iterator<Item = ProfileAnswer<'a>> {
        let mut first = None;
        self.by_name.iter().map(move |profile| {
            let mut answer = profile.answer(subject);
            if let Answer::Matches { selector } = answer {
                match first {
                    Some(by) => answer = Answer::Outranked { selector, by },
                    None => first = Some(&profile.name),
                }
            }
            ProfileAnswer { profile: &profile.name, answer }
        })
    }
}

impl CompiledProfile {
    fn new(name: &str, profile: &FargateProfile, without_phase: WithoutPhase) -> Self {
        let written = profile.status.as_ref().and_then(|status| status.phase);
        let phase = match (&profile.metadata.deletion_timestamp, written, without_phase) {
            (Some(_), _, _) => Some(ProfilePhase::Deleting),
            (None, Some(phase), _) => Some(phase),
            (None, None, WithoutPhase::Active) => Some(ProfilePhase::Active),
            (None, None, WithoutPhase::Pending) => None,
        };
        let selectors = profile.spec.selectors.iter().map(CompiledSelector::from).collect();
        Self { name: ProfileName::new(name), phase, selectors }
    }

    fn answer<'a>(&'a self, subject: Subject<'a>) -> Answer<'a> {
        if let Some(chosen) = subject.chosen.filter(|chosen| *chosen != self.name.as_str()) {
            return Answer::OtherChosen { chosen };
        }
        match self.matching_selector(subject) {
            Ok(selector) if self.phase == Some(ProfilePhase::Active) => Answer::Matches { selector },
            Ok(selector) => Answer::NotActive { selector, phase: self.phase },
            Err(answer) => answer,
        }
    }

    /// The first selector that matches, else the mismatch of the selector that came nearest.
    fn matching_selector<'a>(&'a self, subject: Subject<'a>) -> Result<SelectorNumber, Answer<'a>> {
        let mut nearest: Option<(SelectorNumber, Missed<'a>)> = None;
        for (index, selector) in self.selectors.iter().enumerate() {
            let number = SelectorNumber(index + 1);
            let Err(missed) = selector.check(subject.namespace, subject.labels) else { return Ok(number) };
            if nearest.as_ref().is_none_or(|(_, best)| missed.matched > best.matched) {
                nearest = Some((number, missed));
            }
        }
        Err(match nearest {
            Some((selector, Missed { mismatch, .. })) => Answer::Mismatch { selector, mismatch },
            None => Answer::NoSelectors,
        })
    }
}

impl<'a> Subject<'a> {
    fn new(pod: &'a Pod) -> Self {
        let labels = pod.metadata.labels.as_ref();
        Self {
            pod,
            // A manifest without a namespace is created in this one.
            namespace: pod.metadata.namespace.as_deref().unwrap_or("default"),
            labels,
            chosen: labels
                .and_then(|labels| labels.get(names::PROFILE_LABEL))
                .map(String::as_str)
                .filter(|name| !name.is_empty()),
        }
    }

    /// Of any API group: other `DaemonSet` kinds, too, place one Pod on each ordinary node.
    fn owned_by_daemon_set(&self) -> Option<PodReason<'a>> {
        let mut owners = self.pod.metadata.owner_references.iter().flatten();
        let owner = owners.find(|owner| owner.kind == "DaemonSet")?;
        Some(PodReason::OwnedByDaemonSet { name: &owner.name })
    }

    fn opted_out(&self) -> Option<PodReason<'a>> {
        let annotation = self.pod.metadata.annotations.as_ref()?.get(names::COMPUTE_TYPE)?;
        (annotation == names::COMPUTE_TYPE_EC2).then_some(PodReason::OptedOut)
    }
}
