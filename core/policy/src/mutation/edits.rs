//! Writes a JSON Patch (RFC 6902) step by step: only what differs, and a missing parent together with its first child.

use json_patch::jsonptr::{PointerBuf, Token};
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::Value;

/// A patch under construction.
#[derive(Default)]
pub(super) struct Edits(Vec<PatchOperation>);

/// Where a new element goes in a list that has elements.
#[derive(Clone, Copy)]
pub(super) enum Place {
    First,
    Last,
}

impl Edits {
    pub(super) fn into_patch(self) -> Patch {
        Patch(self.0)
    }

    /// Makes the member at `path` have the value `wanted`; its parent is there. To add a member replaces one that is
    /// there, so one operation serves whether or not the document writes out an empty value.
    pub(super) fn set<T: PartialEq + Into<Value>>(&mut self, path: &[&str], current: Option<T>, wanted: T) {
        if current.as_ref() != Some(&wanted) {
            self.add(pointer(path), wanted.into());
        }
    }

    /// Puts `elements` into the list at `path`, of which `length` is known. An empty list may be absent in the
    /// document, so it is written whole; that serves both.
    pub(super) fn insert(&mut self, path: &[&str], length: usize, place: Place, elements: Vec<Value>) {
        if elements.is_empty() {
            return;
        }
        if length == 0 {
            return self.add(pointer(path), Value::Array(elements));
        }
        for (index, element) in elements.into_iter().enumerate() {
            let mut element_path = pointer(path);
            match place {
                Place::First => element_path.push_back(Token::from(index)),
                Place::Last => element_path.push_back(Token::new("-")),
            }
            self.add(element_path, element);
        }
    }

    pub(super) fn add(&mut self, path: PointerBuf, value: Value) {
        self.0.push(PatchOperation::Add(AddOperation { path, value }));
    }
}

/// A JSON Pointer (RFC 6901) with `~` and `/` inside the tokens escaped.
pub(super) fn pointer(tokens: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(tokens.iter().copied())
}
