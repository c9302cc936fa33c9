//! Where an object or a field was written.

use std::fmt;
use std::sync::Arc;

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
