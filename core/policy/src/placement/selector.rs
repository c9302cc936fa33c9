//! Which Pods a topology rule speaks of: label selectors and namespaces, in a form that can be compared and counted.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PodAffinityTerm;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::requirements::{LabelValue, Requirement, RequirementError};

/// Labels of a Pod or of a namespace.
pub(super) type Labels = BTreeMap<String, String>;

/// A label selector; two that ask for the same in another order are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Selector {
    /// An absent selector matches no object.
    Nothing,
    /// All of these must hold; none of them is every object.
    All(BTreeSet<Requirement>),
}

impl Selector {
    /// # Errors
    /// An operator that label selectors do not have.
    pub(super) fn parse(selector: Option<&LabelSelector>) -> Result<Self, RequirementError> {
        let Some(selector) = selector else { return Ok(Self::Nothing) };
        let labels = selector.match_labels.iter().flatten().map(|(key, value)| Ok(Requirement::equals(key, value)));
        let expressions =
            selector.match_expressions.iter().flatten().map(|expression| match expression.operator.as_str() {
                "Gt" | "Lt" => Err(RequirementError::unknown_operator(&expression.key, &expression.operator)),
                operator => {
                    let values = expression.values.as_deref().unwrap_or_default();
                    Requirement::parse(&expression.key, operator, values)
                }
            });
        Ok(Self::All(labels.chain(expressions).collect::<Result<_, _>>()?))
    }

    /// Adds `requirement` for each of `keys` that `labels` carry (`matchLabelKeys`, `mismatchLabelKeys`). The API
    /// server may have done so already; once more changes nothing.
    pub(super) fn with_label_keys(
        self,
        keys: Option<&[String]>,
        labels: &Labels,
        requirement: fn(&str, &str) -> Requirement,
    ) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::All(mut requirements) => {
                let carried = keys.unwrap_or_default().iter().filter_map(|key| Some((key, labels.get(key)?)));
                requirements.extend(carried.map(|(key, value)| requirement(key, value)));
                Self::All(requirements)
            }
        }
    }

    pub(super) fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(requirements) => requirements.iter().all(|requirement| {
                requirement
                    .matches(labels.get(requirement.key()).map_or(LabelValue::Absent, |text| LabelValue::Is(text)))
            }),
        }
    }
}

/// A Pod as a filter sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) namespace: &'a str,
    /// Labels of the namespace; those of an unknown one are taken as none.
    pub(super) namespace_labels: &'a Labels,
    pub(super) labels: &'a Labels,
}

/// The Pods of some namespaces that carry some labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PodTerm {
    namespaces: BTreeSet<String>,
    namespace_selector: Selector,
    labels: Selector,
}

impl PodTerm {
    fn matches(&self, pod: &Subject<'_>) -> bool {
        (self.namespaces.contains(pod.namespace) || self.namespace_selector.matches(pod.namespace_labels))
            && self.labels.matches(pod.labels)
    }

    /// The one namespace that it can match in, where there is only one.
    fn home(&self) -> Option<&str> {
        match (&self.namespace_selector, self.namespaces.len()) {
            (Selector::Nothing, 1) => self.namespaces.first().map(String::as_str),
            (Selector::Nothing | Selector::All(_), _) => None,
        }
    }
}

/// The Pods that match every one of some terms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodFilter(Vec<PodTerm>);

impl PodFilter {
    /// Pods of `namespace` with labels that `selector` matches.
    pub(super) fn in_namespace(namespace: &str, selector: Selector) -> Self {
        let namespaces = BTreeSet::from([namespace.to_owned()]);
        Self(vec![PodTerm { namespaces, namespace_selector: Selector::Nothing, labels: selector }])
    }

    /// Pods that a Pod affinity term of the Pod with `namespace` and `labels` speaks of. Without namespaces and
    /// namespace selector the term means the Pod's own namespace.
    ///
    /// # Errors
    /// A selector that cannot be evaluated.
    pub(super) fn parse(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> Result<Self, RequirementError> {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        let selector = Selector::parse(term.label_selector.as_ref())?
            .with_label_keys(term.match_label_keys.as_deref(), labels, Requirement::equals)
            .with_label_keys(term.mismatch_label_keys.as_deref(), labels, Requirement::differs);
        let namespace_selector = Selector::parse(term.namespace_selector.as_ref())?;
        Ok(Self(vec![PodTerm { namespaces, namespace_selector, labels: selector }]))
    }

    /// Pods that match this filter and `other`.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub(super) fn matches(&self, pod: &Subject<'_>) -> bool {
        self.0.iter().all(|term| term.matches(pod))
    }

    /// The one namespace that it can match in, where there is only one: filters are indexed by it.
    pub(super) fn home(&self) -> Option<&str> {
        self.0.iter().find_map(PodTerm::home)
    }
}
