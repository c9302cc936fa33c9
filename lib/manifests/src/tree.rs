//! A document as a tree that knows for each value where it was written.
//!
//! Scalars are read as Kubernetes reads them, which is YAML 1.1: `yes` and `on` are booleans, `0644` is octal.
//! Duplicate keys are errors; depth, number of values and expansion of aliases are limited.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::{MessageFormatter, Options, Spanned, UserMessageFormatter};

use crate::document::Document;
use crate::error::printable;
use crate::path::{FieldPath, Step};

/// Deepest nesting of one document; Kubernetes objects stay below 20.
const MAX_DEPTH: usize = 64;
/// Most values in one document, those that aliases repeat included.
const MAX_VALUES: usize = 2_000_000;
/// Most parser events that aliases may repeat.
const MAX_REPEATED_EVENTS: usize = 200_000;

/// A place in a text, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

/// One value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tree {
    pub(crate) place: Place,
    pub(crate) node: Node,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

/// A document that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) place: Place,
    pub(crate) message: String,
}

impl Tree {
    /// Reads a document; `None` when it is empty.
    pub(crate) fn read(document: &Document<'_>) -> Result<Option<Self>, SyntaxError> {
        let mut tree: Self = serde_saphyr::from_str_with_options(document.text, options()).map_err(|error| {
            let found = error.location().map(|at| Place { line: at.line(), column: at.column() });
            let place = shifted(found.unwrap_or(Place { line: 1, column: 1 }), document);
            let message = printable(&UserMessageFormatter.format_message(error.without_snippet()));
            SyntaxError { place, message }
        })?;
        tree.shift(document);
        Ok((tree.node != Node::Null).then_some(tree))
    }

    /// The value under a field, when this is a map that has it.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        let Node::Map(fields) = &self.node else { return None };
        fields.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The text under a field, when there is one.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let Node::Text(text) = &self.field(name)?.node else { return None };
        Some(text)
    }

    /// The value at a path.
    pub(crate) fn at(&self, path: &FieldPath) -> Option<&Self> {
        path.0.iter().try_fold(self, Self::step)
    }

    /// Place of the value at a path, or of the nearest value that encloses it.
    pub(crate) fn place_of(&self, path: &FieldPath) -> Place {
        let mut here = self;
        for step in &path.0 {
            let Some(next) = here.step(step) else { break };
            here = next;
        }
        here.place
    }

    fn step(&self, step: &Step) -> Option<&Self> {
        match (step, &self.node) {
            (Step::Field(name), _) => self.field(name),
            (Step::Entry(index), Node::List(entries)) => entries.get(*index),
            (Step::Entry(_), Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) | Node::Map(_)) => None,
        }
    }

    /// The value without places.
    pub(crate) fn to_json(&self) -> Value {
        match &self.node {
            Node::Null => Value::Null,
            Node::Bool(value) => Value::Bool(*value),
            Node::Number(value) => Value::Number(value.clone()),
            Node::Text(value) => Value::String(value.clone()),
            Node::List(entries) => entries.iter().map(Self::to_json).collect(),
            Node::Map(fields) => {
                Value::Object(fields.iter().map(|(key, value)| (key.clone(), value.to_json())).collect())
            }
        }
    }

    /// Counts places from the start of the file and not of the document.
    fn shift(&mut self, document: &Document<'_>) {
        self.place = shifted(self.place, document);
        match &mut self.node {
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => {}
            Node::List(entries) => entries.iter_mut().for_each(|entry| entry.shift(document)),
            Node::Map(fields) => fields.iter_mut().for_each(|(_, value)| value.shift(document)),
        }
    }
}

fn shifted(place: Place, document: &Document<'_>) -> Place {
    let columns = if place.line <= 1 { document.columns_before } else { 0 };
    Place { line: place.line.max(1) + document.lines_before, column: place.column.max(1) + columns }
}

fn options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        legacy_octal_numbers: true,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_VALUES,
            max_events: 4 * MAX_VALUES,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPEATED_EVENTS },
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Node>::deserialize(deserializer)?;
        let place = Place { line: spanned.referenced.line(), column: spanned.referenced.column() };
        Ok(Self { place, node: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

/// Takes whatever the parser finds.
struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can express")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number must be finite"))?;
        Ok(Node::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            list.push(entry);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(field) = fields.next_entry()? {
            map.push(field);
        }
        Ok(Node::Map(map))
    }
}
