//! The answer to "which profile takes this Pod?", and its reasons in words.

use std::fmt;

use monopod_api::{ProfilePhase, names};
use monopod_types::ProfileName;

use super::quoted::Quoted;
use super::selector::{Mismatch, SelectorNumber};

/// Which profile takes a Pod, and what every profile says to it. Prints as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The profile that takes the Pod.
    pub taker: Option<&'a ProfileName>,
    /// The profile that the Pod's label names.
    pub chosen: Option<&'a str>,
    /// What keeps the Pod from every profile; a Pod that is taken has none.
    pub pod_reasons: Vec<PodReason<'a>>,
    /// What each profile says, in the order of their names.
    pub profiles: Vec<ProfileAnswer<'a>>,
}

/// Something about the Pod as a whole that keeps it from every profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodReason<'a> {
    /// A `DaemonSet` wants one Pod on each ordinary node, which a microVM is not.
    OwnedByDaemonSet {
        /// Name of the `DaemonSet`.
        name: &'a str,
    },
    /// The annotation `eks.amazonaws.com/compute-type: ec2`.
    OptedOut,
    /// The Pod's label names a profile that does not exist.
    UnknownProfile {
        /// The name in the label.
        chosen: &'a str,
    },
}

/// What one profile says to a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileAnswer<'a> {
    /// Name of the profile.
    pub profile: &'a ProfileName,
    /// What it says.
    pub answer: Answer<'a>,
}

/// Whether a profile matches a Pod, or the first thing that stands against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// It matches, as the first by name.
    Matches {
        /// The first selector that matches.
        selector: SelectorNumber,
    },
    /// It matches, but another comes first by name.
    Outranked {
        /// The first selector that matches.
        selector: SelectorNumber,
        /// The profile that comes first.
        by: &'a ProfileName,
    },
    /// The Pod's label names another profile.
    OtherChosen {
        /// The name in the label.
        chosen: &'a str,
    },
    /// A selector matches, but the profile is not in force.
    NotActive {
        /// The first selector that matches.
        selector: SelectorNumber,
        /// Where the profile is in its life; `None` before its controller has seen it.
        phase: Option<ProfilePhase>,
    },
    /// No selector matches; told of the one that came nearest, the first of equals.
    Mismatch {
        /// That selector.
        selector: SelectorNumber,
        /// The first thing that did not match.
        mismatch: Mismatch<'a>,
    },
    /// The profile has no selector, so it takes nothing.
    NoSelectors,
}

impl Choice<'_> {
    /// The outcome as one CamelCase word, for events, metrics and machine-readable output.
    pub fn reason(&self) -> &'static str {
        if self.taker.is_some() {
            return "ProfileMatched";
        }
        if let Some(reason) = self.pod_reasons.first() {
            return reason.reason();
        }
        let waiting = self.profiles.iter().any(|profile| matches!(profile.answer, Answer::NotActive { .. }));
        match (waiting, self.chosen) {
            (true, _) => "ProfileNotActive",
            (false, Some(_)) => "ChosenProfileDoesNotMatch",
            (false, None) => "NoProfileMatches",
        }
    }

    /// The profile whose answer decides: the taker, else the one that the label names, else the one that waits to be
    /// ACTIVE, else the only one.
    fn decisive(&self) -> Option<&ProfileAnswer<'_>> {
        let named = self.taker.map(ProfileName::as_str).or(self.chosen);
        let named = self.profiles.iter().find(|answer| Some(answer.profile.as_str()) == named);
        let waiting = || self.profiles.iter().find(|answer| matches!(answer.answer, Answer::NotActive { .. }));
        let only = || self.profiles.first().filter(|_| self.profiles.len() == 1);
        named.or_else(waiting).or_else(only)
    }
}

impl fmt::Display for Choice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(taker) = self.taker {
            write!(f, "profile {} takes the Pod", Quoted(taker))?;
        } else {
            f.write_str("no profile takes the Pod")?;
        }
        for (index, reason) in self.pod_reasons.iter().enumerate() {
            write!(f, "{} {reason}", if index == 0 { ":" } else { ";" })?;
        }
        match self.decisive() {
            Some(ProfileAnswer { answer, .. }) if self.taker.is_some() => write!(f, ": {answer}"),
            _ if !self.pod_reasons.is_empty() => Ok(()),
            Some(answer) => write!(f, ": {answer}"),
            None if self.profiles.is_empty() => f.write_str(": there are no profiles"),
            None => write!(f, ": none of {} profiles matches", self.profiles.len()),
        }
    }
}

impl PodReason<'_> {
    /// The reason as one CamelCase word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OwnedByDaemonSet { .. } => "OwnedByDaemonSet",
            Self::OptedOut => "OptedOut",
            Self::UnknownProfile { .. } => "UnknownProfile",
        }
    }
}

impl fmt::Display for PodReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnedByDaemonSet { name } => {
                write!(f, "it is owned by DaemonSet {}, whose Pods run on ordinary nodes", Quoted(name))
            }
            Self::OptedOut => {
                let annotation = format_args!("{}: {}", names::COMPUTE_TYPE, names::COMPUTE_TYPE_EC2);
                write!(f, "its annotation {} keeps it out", Quoted(annotation))
            }
            Self::UnknownProfile { chosen } => {
                let label = format_args!("{}: {chosen}", names::PROFILE_LABEL);
                write!(f, "its label {} names a profile that does not exist", Quoted(label))
            }
        }
    }
}

impl fmt::Display for ProfileAnswer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "profile {}: {}", Quoted(self.profile), self.answer)
    }
}

impl Answer<'_> {
    /// Whether the profile takes the Pod, if anything takes it.
    pub(super) fn matches(&self) -> bool {
        matches!(self, Self::Matches { .. })
    }
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matches { selector } => write!(f, "{selector} matches"),
            Self::Outranked { selector, by } => {
                write!(f, "{selector} matches, but profile {} comes first by name", Quoted(by))
            }
            Self::OtherChosen { chosen } => write!(f, "the Pod's label names profile {}", Quoted(chosen)),
            Self::NotActive { selector, phase } => {
                write!(f, "{selector} matches, but the profile is {}, not ACTIVE", phase_word(*phase))
            }
            Self::Mismatch { selector, mismatch } => write!(f, "{selector}: {mismatch}"),
            Self::NoSelectors => f.write_str("it has no selectors"),
        }
    }
}

/// The word that users see in the status.
fn phase_word(phase: Option<ProfilePhase>) -> &'static str {
    match phase {
        None => "new",
        Some(ProfilePhase::Creating) => "CREATING",
        Some(ProfilePhase::Active) => "ACTIVE",
        Some(ProfilePhase::Deleting) => "DELETING",
        Some(ProfilePhase::CreateFailed) => "CREATE_FAILED",
        Some(ProfilePhase::DeleteFailed) => "DELETE_FAILED",
    }
}
