//! Pull secrets: `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg`, matched to images by the rules of the
//! kubelet: host part by part with wildcards, equal ports, and the path as a prefix.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::error::ImageError;
use crate::reference::Reference;

#[cfg(test)]
mod tests;

/// The credentials that a Pod brings. None is fine: then registries are asked anonymously.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The most specific place first.
    entries: Vec<(Place, Login)>,
}

/// A user and a password, or a token in its place. Neither shows in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct DockerConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
}

/// Hosts and a path under which a login is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    host: String,
    port: String,
    path: String,
}

impl Credentials {
    /// No credentials.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds the `.dockerconfigjson` of a Secret.
    ///
    /// # Errors
    /// When the text is no such configuration. The message has nothing of the text in it.
    pub fn add_docker_config_json(&mut self, json: &[u8]) -> Result<(), ImageError> {
        let config: DockerConfigJson = parse(json)?;
        self.add_entries(config.auths)
    }

    /// Adds the `.dockercfg` of a Secret, the older form.
    ///
    /// # Errors
    /// When the text is no such configuration. The message has nothing of the text in it.
    pub fn add_dockercfg(&mut self, json: &[u8]) -> Result<(), ImageError> {
        let auths = parse(json)?;
        self.add_entries(auths)
    }

    /// Adds one login for a place, such as `registry.example.com/team`.
    pub fn add(&mut self, place: &str, login: Login) {
        self.entries.push((Place::of(place), login));
        self.entries.sort_by(|(one, _), (other, _)| other.cmp(one));
    }

    fn add_entries(&mut self, entries: BTreeMap<String, Entry>) -> Result<(), ImageError> {
        for (place, entry) in entries {
            let login = entry.login()?;
            self.add(&place, login);
        }
        Ok(())
    }

    /// All logins for a repository on the registry of its name, in the order in which to try them.
    pub(crate) fn for_reference(&self, reference: &Reference) -> Vec<&Login> {
        let found = self.for_place(reference.domain(), reference.path());
        if !found.is_empty() || reference.domain() != "docker.io" {
            return found;
        }
        // The registry's name in image names is not the one under which `docker login` stores it.
        let is_hub = |place: &Place| place.host == "index.docker.io" && place.port.is_empty();
        self.entries.iter().filter(|(place, _)| is_hub(place)).map(|(_, login)| login).collect()
    }

    /// All logins for a repository of a host, which may be a mirror.
    pub(crate) fn for_place(&self, domain: &str, path: &str) -> Vec<&Login> {
        let asked = Place::of(&format!("{domain}/{path}"));
        self.entries.iter().filter(|(place, _)| place.covers(&asked)).map(|(_, login)| login).collect()
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ImageError> {
    serde_json::from_slice(json).map_err(|error| {
        // The error's own text may quote a secret.
        let problem = format!("no Docker configuration (line {}, column {})", error.line(), error.column());
        ImageError::PullSecret { problem }
    })
}

impl Entry {
    fn login(self) -> Result<Login, ImageError> {
        let problem = |problem: &str| ImageError::PullSecret { problem: problem.to_owned() };
        let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) else {
            return Ok(Login { user: self.username.unwrap_or_default(), password: self.password.unwrap_or_default() });
        };
        let bytes = STANDARD.decode(auth.trim()).map_err(|_| problem("the field auth is no base64"))?;
        let text = String::from_utf8(bytes).map_err(|_| problem("the field auth is no text"))?;
        let (user, password) = text.split_once(':').ok_or_else(|| problem("the field auth has no colon"))?;
        Ok(Login { user: user.to_owned(), password: password.trim_end_matches(['\n', '\0']).to_owned() })
    }
}

impl Place {
    /// Reads `https://host:port/v1/path` in any of its shorter forms.
    fn of(text: &str) -> Self {
        let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        let (authority, path) = match text.find('/') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let path = match path.get(..4) {
            Some("/v1/" | "/v2/") => &path[3..],
            Some(_) | None => path,
        };
        let path = if path == "/" { "" } else { path };
        let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if is_port(port) => (host, port),
            Some(_) | None => (authority, ""),
        };
        Self { host: host.to_owned(), port: port.to_owned(), path: path.to_owned() }
    }

    fn covers(&self, asked: &Self) -> bool {
        let (patterns, parts) = (self.host.split('.'), asked.host.split('.'));
        self.port == asked.port
            && asked.path.starts_with(&self.path)
            && patterns.clone().count() == parts.clone().count()
            && patterns.zip(parts).all(|(pattern, part)| matches_part(pattern.as_bytes(), part.as_bytes()))
    }
}

/// Whether one part of a host matches a pattern: `*` is any run of characters, `?` any one.
fn matches_part(pattern: &[u8], part: &[u8]) -> bool {
    // The place of the last star, and how much of the part it has taken; going back to it is all that is ever needed.
    let (mut at, mut taken, mut star) = (0, 0, None);
    while taken < part.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, taken));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == part[taken] => {
                at += 1;
                taken += 1;
            }
            Some(_) | None => {
                let Some((star_at, star_taken)) = star else { return false };
                star = Some((star_at, star_taken + 1));
                at = star_at + 1;
                taken = star_taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}
