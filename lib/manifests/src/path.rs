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
    /// Reads a path as Kubernetes writes it: `spec.containers[0].image`, `spec.nodeSelector[example.com/disk]`.
    pub(crate) fn of(text: &str) -> Self {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some((inside, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                steps.push(inside.parse().map_or_else(|_| Step::Field(inside.to_owned()), Step::Entry));
                rest = after;
            } else {
                rest = rest.strip_prefix('.').unwrap_or(rest);
                let end = rest.find(['.', '[']).unwrap_or(rest.len()).max(1);
                let (field, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
                steps.push(Step::Field(field.to_owned()));
                rest = after;
            }
        }
        Self(steps)
    }
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

#[cfg(test)]
mod tests {
    use super::{FieldPath, Step};

    fn field(name: &str) -> Step {
        Step::Field(name.to_owned())
    }

    #[test]
    fn a_path_has_fields_entries_and_keys_with_dots_in_them() {
        let expected = [field("spec"), field("containers"), Step::Entry(2), field("limits"), field("nvidia.com/gpu")];
        assert_eq!(FieldPath::of("spec.containers[2].limits[nvidia.com/gpu]").0, expected);
        assert_eq!(FieldPath::of("").0, []);
    }

    #[test]
    fn a_broken_path_ends_and_does_not_hang() {
        for text in ["[", "[[", ".", "..a", "a[", "a]b", "é[ü"] {
            assert!(FieldPath::of(text).0.len() <= text.len(), "{text}");
        }
    }
}
