//! Paths of fields as kubectl prints them: `spec.containers[0].image`.

use std::fmt;

use crate::error::printable;

/// One step into an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A field of an object or a key of a map.
    Field(String),
    /// An entry of a list, from 0.
    Entry(usize),
}

/// The way from the root of an object to one of its fields; empty for the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldPath(pub(crate) Vec<Step>);

impl FieldPath {
    /// A path of plain fields, such as `metadata.name`.
    pub(crate) fn of(dotted: &str) -> Self {
        Self(dotted.split('.').flat_map(field_and_entries).collect())
    }
}

/// `selectors[0]` as the field and the entries that it names.
fn field_and_entries(text: &str) -> Vec<Step> {
    let mut parts = text.split('[');
    let field = parts.next().map(|field| Step::Field(field.to_owned()));
    let entries = parts.filter_map(|entry| entry.trim_end_matches(']').parse().ok().map(Step::Entry));
    field.into_iter().chain(entries).collect()
}

impl From<&serde_path_to_error::Path> for FieldPath {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment;
        let step = |segment: &Segment| match segment {
            Segment::Seq { index } => Some(Step::Entry(*index)),
            Segment::Map { key } => Some(Step::Field(key.clone())),
            Segment::Enum { variant } => Some(Step::Field(variant.clone())),
            Segment::Unknown => None,
        };
        Self(path.iter().filter_map(step).collect())
    }
}

impl From<&serde_ignored::Path<'_>> for FieldPath {
    fn from(path: &serde_ignored::Path<'_>) -> Self {
        use serde_ignored::Path;
        let (parent, step) = match path {
            Path::Root => return Self::default(),
            Path::Seq { parent, index } => (parent, Some(Step::Entry(*index))),
            Path::Map { parent, key } => (parent, Some(Step::Field(key.clone()))),
            Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => (parent, None),
        };
        let mut steps = Self::from(*parent);
        steps.0.extend(step);
        steps
    }
}

impl fmt::Display for FieldPath {
    /// Escapes control characters: keys come from the input and go to a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Entry(index) => write!(f, "[{index}]")?,
                Step::Field(name) if position == 0 => write!(f, "{}", printable(name))?,
                Step::Field(name) => write!(f, ".{}", printable(name))?,
            }
        }
        Ok(())
    }
}
