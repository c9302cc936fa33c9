//! What is wrong with one of our objects, field by field.
//!
//! Returned by the `validate` methods of the objects; read by the CLI, which adds file and line, and by the
//! validating webhook, which puts all of them into one answer.

use std::fmt;

use kube::core::ObjectMeta;

/// Characters of the name of most objects in Kubernetes.
const MAX_NAME: usize = 253;

const BAD_NAME: &str =
    "A name is made of lower-case letters, digits, '-' and '.', with a letter or digit at the ends of every part.";
const NAMESPACE_SET: &str = "The object belongs to the cluster and to no namespace; leave the field out.";

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// Path of the field, such as `spec.selectors[0].namespace`.
    pub field: String,
    /// What is wrong with it, as a sentence for the person who wrote the object.
    pub message: String,
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Gathers problems, so that a person sees all of them at once and not one per attempt.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<FieldProblem>);

impl Problems {
    /// Notes `message` against `field` unless the rule holds.
    pub(crate) fn require(&mut self, holds: bool, field: &str, message: &str) {
        if !holds {
            self.0.push(FieldProblem { field: field.to_owned(), message: message.to_owned() });
        }
    }

    /// Everything noted, in the order in which it was checked.
    pub(crate) fn into_vec(self) -> Vec<FieldProblem> {
        self.0
    }
}

/// Notes what Kubernetes itself refuses of the metadata of an object that belongs to the cluster. A missing name is not
/// noted: whoever reads objects asks for one, and the API server may be asked to make one.
pub(crate) fn check_metadata(metadata: &ObjectMeta, problems: &mut Problems) {
    let name = metadata.name.as_deref().unwrap_or_default();
    problems.require(name.is_empty() || is_dns_subdomain(name), "metadata.name", BAD_NAME);
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    problems.require(namespace.is_empty(), "metadata.namespace", NAMESPACE_SET);
}

/// Whether a text can be the name of an object: a subdomain of RFC 1123 in lower case.
pub fn is_dns_subdomain(text: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part = |part: &str| {
        part.starts_with(is_alphanumeric)
            && part.ends_with(is_alphanumeric)
            && part.chars().all(|c| is_alphanumeric(c) || c == '-')
    };
    text.len() <= MAX_NAME && text.split('.').all(is_part)
}

/// Length as CEL and the reference count it: in characters, not bytes.
pub(crate) fn characters(text: &str) -> usize {
    text.chars().count()
}

/// Whether a text can be the value of a Kubernetes label and is not empty.
pub(crate) fn is_label_value(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}
