//! From what a user names on the command line to texts: files, directories as kubectl reads them, standard input.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{ManifestError, ManifestErrors};

/// Largest text that is read, in bytes: several thousand Pods as `kubectl get -o yaml` prints them.
pub const MAX_SOURCE_BYTES: usize = 32 * 1024 * 1024;

/// What a user asked to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input, `-` on the command line.
    Stdin,
    /// A file of any name, or a directory whose `*.yaml`, `*.yml` and `*.json` are taken in the order of their names.
    Path {
        /// The file or directory.
        path: PathBuf,
        /// Whether directories in the directory are read too.
        recursive: bool,
    },
}

/// A text and the name that its errors carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file as the user named it.
    pub(crate) file: Arc<str>,
    /// Its text.
    pub(crate) text: String,
}

impl Source {
    /// Takes bytes that were read elsewhere.
    ///
    /// # Errors
    /// More bytes than [`MAX_SOURCE_BYTES`], or bytes that are not UTF-8.
    pub fn new(file: &str, bytes: Vec<u8>) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_SOURCE_BYTES {
            return Err(ManifestError::TooLarge { file: file.to_owned(), limit: MAX_SOURCE_BYTES });
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { file: Arc::from(file), text }),
            Err(error) => {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
                Err(ManifestError::NotText { file: file.to_owned(), line })
            }
        }
    }
}

/// Reads everything that was asked for, in that order, and what was asked for twice only once.
///
/// # Errors
/// All inputs that could not be read.
pub fn read(inputs: &[Input]) -> Result<Vec<Source>, ManifestErrors> {
    let mut sources = Vec::new();
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for found in inputs.iter().flat_map(texts_of) {
        let read = match found {
            Ok(text) if !seen.insert(text.identity()) => continue,
            Ok(text) => text.read(),
            Err(error) => Err(error),
        };
        match read {
            Ok(source) => sources.push(source),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(sources) } else { Err(ManifestErrors(errors)) }
}

/// One text that an input leads to.
enum Text {
    Stdin,
    File(PathBuf),
}

impl Text {
    /// The same for two paths of one file.
    fn identity(&self) -> PathBuf {
        match self {
            Self::Stdin => PathBuf::from("-"),
            Self::File(path) => path.canonicalize().unwrap_or_else(|_| path.clone()),
        }
    }

    fn read(&self) -> Result<Source, ManifestError> {
        match self {
            Self::Stdin => read_limited(io::stdin().lock(), Path::new("<stdin>")),
            Self::File(path) => read_file(path),
        }
    }
}

fn texts_of(input: &Input) -> Vec<Result<Text, ManifestError>> {
    match input {
        Input::Stdin => vec![Ok(Text::Stdin)],
        Input::Path { path, .. } if !path.is_dir() => vec![Ok(Text::File(path.clone()))],
        Input::Path { path, recursive } => match files_of(path, *recursive) {
            Ok(files) if files.is_empty() => vec![Err(ManifestError::EmptyDirectory { path: path.clone() })],
            Ok(files) => files.into_iter().map(|file| Ok(Text::File(file))).collect(),
            Err(error) => vec![Err(error)],
        },
    }
}

fn read_file(path: &Path) -> Result<Source, ManifestError> {
    let file = std::fs::File::open(path).map_err(|source| ManifestError::Read { path: path.into(), source })?;
    read_limited(file, path)
}

/// Reads one byte more than the limit at most, so that an endless file ends.
fn read_limited(reader: impl Read, path: &Path) -> Result<Source, ManifestError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_SOURCE_BYTES).unwrap_or(u64::MAX);
    let taken = reader.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    taken.map_err(|source| ManifestError::Read { path: path.into(), source })?;
    Source::new(&path.display().to_string(), bytes)
}

/// The manifests of a directory by name; links to directories are not followed, so that no loop is walked.
fn files_of(directory: &Path, recursive: bool) -> Result<Vec<PathBuf>, ManifestError> {
    let failed = |source| ManifestError::Read { path: directory.into(), source };
    let mut entries = std::fs::read_dir(directory).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            if recursive {
                files.extend(files_of(&path, recursive)?);
            }
        } else if is_manifest(&path) {
            files.push(path);
        }
    }
    Ok(files)
}

fn is_manifest(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known))
}
