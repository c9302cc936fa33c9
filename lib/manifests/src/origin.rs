//! Where an object or a field was written.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::path::FieldPath;
use crate::tree::{Place, Tree};

/// A place in the input: `web.yaml:14:9: document 2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file as the user named it; `<stdin>` for standard input.
    pub file: Arc<str>,
    /// Number of the document in the file, from 1.
    pub document: usize,
    /// Line in the file, from 1.
    pub line: u64,
    /// Column, in characters, from 1.
    pub column: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: document {}", self.file, self.line, self.column, self.document)
    }
}

/// Where each field of one object was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Fields {
    file: Arc<str>,
    document: usize,
    tree: Tree,
    /// By position in the Pod, the volumes that were written as an entry of `spec.volumeClaimTemplates`, and which.
    claim_templates: BTreeMap<usize, usize>,
}

impl Fields {
    pub(crate) fn new(file: &Arc<str>, document: usize, tree: &Tree) -> Self {
        Self { file: Arc::clone(file), document, tree: tree.clone(), claim_templates: BTreeMap::new() }
    }

    /// With the volumes of the Pod that come from claim templates, each with the position of its template.
    pub(crate) fn with_claim_templates(self, claim_templates: BTreeMap<usize, usize>) -> Self {
        Self { claim_templates, ..self }
    }

    /// Path of the claim template that a field of the Pod comes from.
    pub(crate) fn claim_template_of(&self, pod_field: &str) -> Option<String> {
        let (volume, _) = pod_field.strip_prefix("spec.volumes[")?.split_once(']')?;
        let template = self.claim_templates.get(&volume.parse().ok()?)?;
        Some(format!("spec.volumeClaimTemplates[{template}]"))
    }

    /// Where a field was written, or the nearest field that encloses it.
    pub(crate) fn origin_of(&self, field: &str) -> Origin {
        let Place { line, column } = self.tree.place_of(&FieldPath::of(field));
        Origin { file: Arc::clone(&self.file), document: self.document, line, column }
    }
}
