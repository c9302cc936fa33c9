//! What can be wrong with an input, each error with its place.

use std::fmt;
use std::path::PathBuf;

use crate::origin::Origin;

/// One thing that is wrong with the input.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file, a directory or standard input cannot be read.
    #[error("failed to read {path}", path = path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why it could not be.
        #[source]
        source: std::io::Error,
    },
    /// A directory holds nothing to read.
    #[error("directory {path} has no file that ends in .yaml, .yml or .json", path = path.display())]
    EmptyDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// A file is larger than any manifest that makes sense.
    #[error("{file}: is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The file.
        file: String,
        /// [`crate::MAX_SOURCE_BYTES`].
        limit: usize,
    },
    /// A file is not text.
    #[error("{file}:{line}: is not UTF-8 text")]
    NotText {
        /// The file.
        file: String,
        /// The line with the first byte that is none.
        line: usize,
    },
    /// A document is neither YAML nor JSON, or passes a limit on depth, size or aliases.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where reading stopped.
        origin: Origin,
        /// What the parser met.
        message: String,
    },
    /// An object cannot be what its kind says.
    #[error("{origin}: {field}: {message}")]
    Field {
        /// The field, or what encloses it where it is missing.
        origin: Origin,
        /// Path of the field, such as `spec.containers[0].image`.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// The same object twice in one input.
    #[error("{origin}: {object} is defined twice, first at {first}")]
    Duplicate {
        /// The second place.
        origin: Origin,
        /// Kind, namespace and name.
        object: String,
        /// The first place.
        first: Origin,
    },
}

impl ManifestError {
    /// Machine-readable reason; part of the contract.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Read { .. } => "UnreadableFile",
            Self::EmptyDirectory { .. } => "NoManifests",
            Self::TooLarge { .. } => "FileTooLarge",
            Self::NotText { .. } => "NotText",
            Self::Syntax { .. } => "InvalidSyntax",
            Self::Field { .. } => "InvalidField",
            Self::Duplicate { .. } => "DuplicateObject",
        }
    }
}

/// Everything that is wrong with an input; never empty.
#[derive(Debug)]
pub struct ManifestErrors(pub(crate) Vec<ManifestError>);

impl ManifestErrors {
    /// The errors in the order of the input.
    pub fn iter(&self) -> std::slice::Iter<'_, ManifestError> {
        self.0.iter()
    }
}

impl fmt::Display for ManifestErrors {
    /// One line per error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ManifestErrors {}

/// A text of the input as it may go to a terminal: control characters are escaped.
pub fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() { clean.extend(character.escape_default()) } else { clean.push(character) }
    }
    clean
}
