//! The texts of the violations put together in the reference's grammar.
//!
//! `Pod not supported on Fargate: ` and then all groups that have a violation, `, ` between groups and between the
//! items of one. The first four groups and their order are the reference's, the ones after them are ours. A node
//! selector that cannot be met stands alone without the opening words, as the reference has it, and last when there
//! are other violations.

use super::{Line, Violation};

/// The groups in the order of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Scheduler,
    Fields,
    SecurityContext,
    Volumes,
    Ports,
    Devices,
    Resources,
    Owners,
    NodeSelector,
}

impl Group {
    /// The words before the group's items; none where an item is a sentence of its own.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::Fields => "fields not supported: ",
            Self::SecurityContext => "invalid SecurityContext fields: ",
            Self::Volumes => "volumes not supported: ",
            Self::Devices => "volume devices not supported: ",
            Self::Resources => "resources not supported: ",
            Self::Owners => "owners not supported: ",
            Self::Scheduler | Self::Ports | Self::NodeSelector => "",
        }
    }
}

/// The whole message; empty for no violations. Takes the violations in the order of their groups.
pub(super) fn compose(line: Line, violations: &[Violation]) -> String {
    let told: Vec<&Violation> = violations.iter().filter(|violation| !violation.fragment.is_empty()).collect();
    let groups = told.chunk_by(|a, b| a.kind.group() == b.kind.group()).map(group_text);
    let groups: Vec<String> = groups.collect();
    format!("{}{}", opening(line, &told), groups.join(", "))
}

fn opening(line: Line, violations: &[&Violation]) -> &'static str {
    if violations.iter().all(|violation| violation.kind.group() == Group::NodeSelector) {
        return "";
    }
    match line {
        Line::Scheduler => "Pod not supported on Fargate: ",
        Line::Host => "Pod not supported: ",
    }
}

fn group_text(violations: &[&Violation]) -> String {
    let mut text = String::new();
    let mut said: Vec<&Violation> = Vec::with_capacity(violations.len());
    for violation in violations {
        match said.last() {
            None => text.push_str(violation.kind.group().heading()),
            Some(_) if is_repetition(violation, &said) => continue,
            Some(last) => text.push_str(separator(last, violation)),
        }
        text.push_str(&violation.fragment);
        said.push(violation);
    }
    text
}

/// The reference names a security field once per container; everything else is said once.
fn is_repetition(violation: &Violation, said: &[&Violation]) -> bool {
    violation.kind.group() != Group::SecurityContext && said.iter().any(|other| other.fragment == violation.fragment)
}

/// The reference writes no space after the comma between the security fields of two containers.
fn separator(last: &Violation, next: &Violation) -> &'static str {
    let one_context = security_context_of(last) == security_context_of(next);
    if next.kind.group() == Group::SecurityContext && !one_context { "," } else { ", " }
}

fn security_context_of(violation: &Violation) -> Option<&str> {
    violation.field.split_once(".securityContext").map(|(holder, _)| holder)
}
