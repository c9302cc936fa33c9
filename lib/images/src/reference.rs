//! Image references, read and completed as Docker and containerd do: `web` is `docker.io/library/web:latest`.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::digest::Digest;

/// Where an image comes from: registry, repository, and a tag or a digest. A digest wins over a tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    version: Version,
    written: Written,
}

/// A reference as somebody wrote it. It is for messages: two ways to write the same are the same reference.
#[derive(Clone, Debug)]
struct Written(String);

impl PartialEq for Written {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Written {}

impl Hash for Written {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl PartialOrd for Written {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Written {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

/// What of a repository is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// Whatever the tag names today.
    Tag(String),
    /// Exactly this content.
    Digest(Digest),
}

/// Why a text is no reference. The words are those that users know from `kubectl describe`.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Anything that the grammar does not have.
    #[error("invalid reference format")]
    Format,
    /// Upper case letters in a repository.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    /// 64 hexadecimal digits could be mistaken for the id of an image.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// Longer than registries take.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// A digest of another algorithm than sha256, or of the wrong length.
    #[error("invalid checksum digest format")]
    Digest,
}

const DEFAULT_DOMAIN: &str = "docker.io";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

impl Reference {
    /// The registry's name, with its port if one is written; `docker.io` when none is.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in the registry.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Tag or digest.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Registry and repository.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The same repository at a digest.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        let written = Written(format!("{}@{digest}", self.repository()));
        Self { version: Version::Digest(digest), written, ..self.clone() }
    }

    /// The reference as it was written, for messages.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.written.0
    }

    /// The tag or digest as a registry takes it in a URL.
    pub(crate) fn version_text(&self) -> String {
        match &self.version {
            Version::Tag(tag) => tag.clone(),
            Version::Digest(digest) => digest.to_string(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Version::Tag(tag) => write!(formatter, "{}/{}:{tag}", self.domain, self.path),
            Version::Digest(digest) => write!(formatter, "{}/{}@{digest}", self.domain, self.path),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && Digest::from_hex(text).is_some() {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (domain, rest) = split_domain(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest, None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        let is_short = domain == DEFAULT_DOMAIN && !path.contains('/');
        let path = if is_short { format!("library/{path}") } else { path.to_owned() };
        if path.chars().any(char::is_uppercase) {
            return Err(ReferenceError::UpperCase(path));
        }
        if !is_domain(domain) || !path.split('/').all(is_component) || !tag.is_none_or(is_tag) {
            return Err(ReferenceError::Format);
        }
        if domain.len() + 1 + path.len() > MAX_NAME {
            return Err(ReferenceError::TooLong);
        }
        let version = match (digest, tag) {
            (Some(digest), Some(_) | None) => Version::Digest(digest.parse().map_err(|_| ReferenceError::Digest)?),
            (None, tag) => Version::Tag(tag.unwrap_or("latest").to_owned()),
        };
        Ok(Self { domain: domain.to_owned(), path, version, written: Written(text.to_owned()) })
    }
}

/// The part before the first slash is a registry if it looks like a host: a dot, a port, `localhost`, or upper case,
/// which no repository has.
fn split_domain(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((first, rest)) if is_host_like(first) => {
            (if first == "index.docker.io" { DEFAULT_DOMAIN } else { first }, rest)
        }
        Some(_) | None => (DEFAULT_DOMAIN, text),
    }
}

fn is_host_like(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase)
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match (domain.strip_prefix('['), domain.rsplit_once(':')) {
        (Some(_), _) => return is_ipv6_domain(domain),
        (None, Some((host, port))) => (host, Some(port)),
        (None, None) => (domain, None),
    };
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_ipv6_domain(domain: &str) -> bool {
    let Some((address, rest)) = domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) else { return false };
    let is_address = !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
    is_address && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Lower case letters and digits, in between one dot, one or two underscores, or any number of dashes.
fn is_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let words = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_separator = |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    let bytes = component.as_bytes();
    let ends = bytes.first().copied().is_some_and(is_word) && bytes.last().copied().is_some_and(is_word);
    ends && words.into_iter().all(is_separator)
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts = tag.bytes().next().is_some_and(is_word);
    starts && tag.len() <= MAX_TAG && tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests;
