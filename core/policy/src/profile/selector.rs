//! One selector of a profile, ready to be asked, and the first thing in which a Pod does not match it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use monopod_api::Selector;

use super::pattern::Pattern;
use super::quoted::Quoted;

/// A place in `spec.selectors`, counted from 1 as people count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SelectorNumber(pub usize);

impl fmt::Display for SelectorNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "selector {}", self.0)
    }
}

/// A label that a selector asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelPattern {
    /// What the label's key must match.
    pub key: Pattern,
    /// What its value must match.
    pub value: Pattern,
}

impl fmt::Display for LabelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.value)
    }
}

/// The first thing in which a Pod does not match a selector: its namespace, else a label in the order of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// The Pod lives in another namespace.
    Namespace {
        /// The Pod's namespace.
        namespace: &'a str,
        /// What the selector asks for.
        wanted: &'a Pattern,
    },
    /// The Pod has no label with such a key.
    LabelMissing {
        /// What the selector asks for.
        wanted: &'a LabelPattern,
    },
    /// The Pod has such a label, with another value.
    LabelDiffers {
        /// Key of the Pod's label.
        key: &'a str,
        /// Value of the Pod's label.
        value: &'a str,
        /// What the selector asks for.
        wanted: &'a LabelPattern,
    },
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace { namespace, wanted } => {
                write!(f, "namespace {} does not match {}", Quoted(namespace), Quoted(wanted))
            }
            Self::LabelMissing { wanted } => write!(f, "no label of the Pod matches {}", Quoted(wanted)),
            Self::LabelDiffers { key, value, wanted } => {
                write!(f, "label {} does not match {}", Quoted(format_args!("{key}: {value}")), Quoted(wanted))
            }
        }
    }
}

/// A selector with its patterns taken apart.
#[derive(Clone, Debug)]
pub(super) struct CompiledSelector {
    namespace: Pattern,
    labels: Vec<LabelPattern>,
}

/// A mismatch and how much of the selector had matched before it, to tell the nearest of several selectors.
pub(super) struct Missed<'a> {
    pub(super) mismatch: Mismatch<'a>,
    pub(super) matched: usize,
}

impl From<&Selector> for CompiledSelector {
    fn from(selector: &Selector) -> Self {
        let label =
            |(key, value): (&String, &String)| LabelPattern { key: Pattern::new(key), value: Pattern::new(value) };
        Self { namespace: Pattern::new(&selector.namespace), labels: selector.labels.iter().map(label).collect() }
    }
}

impl CompiledSelector {
    /// Whether the namespace matches and all labels are on the Pod.
    pub(super) fn check<'a>(
        &'a self,
        namespace: &'a str,
        labels: Option<&'a BTreeMap<String, String>>,
    ) -> Result<(), Missed<'a>> {
        if !self.namespace.matches(namespace) {
            let mismatch = Mismatch::Namespace { namespace, wanted: &self.namespace };
            return Err(Missed { mismatch, matched: 0 });
        }
        for (before, wanted) in self.labels.iter().enumerate() {
            wanted.check(labels).map_err(|mismatch| Missed { mismatch, matched: before + 1 })?;
        }
        Ok(())
    }
}

impl LabelPattern {
    /// Whether any label of the Pod matches in key and value.
    fn check<'a>(&'a self, labels: Option<&'a BTreeMap<String, String>>) -> Result<(), Mismatch<'a>> {
        let mut differing = None;
        for (key, value) in labels.into_iter().flat_map(|labels| self.candidates(labels)) {
            if self.value.matches(value) {
                return Ok(());
            }
            differing.get_or_insert(Mismatch::LabelDiffers { key, value, wanted: self });
        }
        Err(differing.unwrap_or(Mismatch::LabelMissing { wanted: self }))
    }

    /// The labels whose key matches. Starts at the first key that can, so that a plain key is found without a scan.
    fn candidates<'a>(
        &'a self,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = (&'a String, &'a String)> {
        let prefix = self.key.literal_prefix();
        labels
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| self.key.matches(key))
    }
}
