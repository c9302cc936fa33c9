//! Variables of a container (kubelet, `makeEnvironmentVariables`; containerd adds those of the image).
//!
//! Order: what a terminal needs, the image's, `envFrom`, `env` as declared, Services. Of two of the same name the later
//! one wins and keeps the place of the first, but that `env` wins over a Service.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource, FileKeySelector, Pod};
use monopod_agent_proto::v1::EnvironmentVariable;

use super::context::{ImageConfig, PodContext};
use super::error::PlanError;
use super::expansion::expand_references;
use super::fields::{self, LimitDefault};
use super::lookup::find_container;
use super::services;
use super::sources::secret_data;

/// A file in a volume that variables are read from, written by an init container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvironmentFile {
    /// Name of the volume.
    pub volume: String,
    /// Path in the volume.
    pub path: String,
}

/// Contents of such files.
pub type EnvironmentFiles = BTreeMap<EnvironmentFile, Vec<u8>>;

/// The files that a container's variables are read from, which whoever calls has to fetch from the guest first.
pub fn environment_files(pod: &Pod, container: &str) -> BTreeSet<EnvironmentFile> {
    let container = find_container(pod, container);
    let variables = container.iter().flat_map(|container| container.env.iter().flatten());
    let sources = variables.filter_map(|variable| variable.value_from.as_ref()?.file_key_ref.as_ref());
    sources.map(file_of).collect()
}

fn file_of(selector: &FileKeySelector) -> EnvironmentFile {
    EnvironmentFile { volume: selector.volume_name.clone(), path: selector.path.clone() }
}

/// Variables in a fixed order, each name once.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables {
    list: Vec<EnvironmentVariable>,
    places: BTreeMap<String, usize>,
}

impl Variables {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|&place| self.list[place].value.as_str())
    }

    pub(super) fn into_list(self) -> Vec<EnvironmentVariable> {
        self.list
    }

    fn set(&mut self, name: &str, value: String) {
        match self.places.get(name) {
            Some(&place) => self.list[place].value = value,
            None => {
                self.places.insert(name.to_owned(), self.list.len());
                self.list.push(EnvironmentVariable { name: name.to_owned(), value });
            }
        }
    }
}

/// The variables that the Pod gives the container; references in commands and paths see these and no others.
pub(super) fn of_pod(
    context: &PodContext<'_>,
    container: &Container,
    files: &EnvironmentFiles,
) -> Result<Variables, PlanError> {
    let services = services::variables(context);
    let of_services: BTreeMap<&str, &str> =
        services.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut variables = Variables::default();
    for source in container.env_from.iter().flatten() {
        take_all(context, source, &mut variables)?;
    }
    for variable in container.env.iter().flatten() {
        let stated = variable.value.as_deref().filter(|value| !value.is_empty());
        let value = match (stated, &variable.value_from) {
            (Some(text), _) => Some(expand_references(text, |name| {
                variables.get(name).or_else(|| of_services.get(name).copied()).map(str::to_owned)
            })),
            (None, Some(source)) => Lookup { context, container, files }.value(&variable.name, source)?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            variables.set(&variable.name, value);
        }
    }
    for (name, value) in services {
        if variables.get(&name).is_none() {
            variables.set(&name, value);
        }
    }
    Ok(variables)
}

/// All variables of the container's first program.
pub(super) fn complete(container: &Container, image: &ImageConfig, of_pod: &Variables) -> Variables {
    let mut variables = Variables::default();
    if container.tty == Some(true) {
        variables.set("TERM", "xterm".to_owned());
    }
    for (name, value) in image.env.iter().filter_map(|variable| variable.split_once('=')) {
        variables.set(name, value.to_owned());
    }
    for variable in &of_pod.list {
        variables.set(&variable.name, variable.value.clone());
    }
    variables
}

/// Every key of a ConfigMap or Secret.
fn take_all(context: &PodContext<'_>, source: &EnvFromSource, variables: &mut Variables) -> Result<(), PlanError> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    if let Some(reference) = &source.config_map_ref {
        match context.sources.config_map(context.namespace(), &reference.name) {
            Some(map) => {
                for (key, value) in map.data.iter().flatten() {
                    variables.set(&format!("{prefix}{key}"), value.clone());
                }
            }
            None if reference.optional == Some(true) => {}
            None => return Err(PlanError::ConfigMapNotFound { name: reference.name.clone() }),
        }
    } else if let Some(reference) = &source.secret_ref {
        match context.sources.secret(context.namespace(), &reference.name) {
            Some(secret) => {
                for (key, value) in secret_data(secret) {
                    let name = format!("{prefix}{key}");
                    let value = text(&name, value)?;
                    variables.set(&name, value);
                }
            }
            None if reference.optional == Some(true) => {}
            None => return Err(PlanError::SecretNotFound { name: reference.name.clone() }),
        }
    }
    Ok(())
}

fn text(variable: &str, value: &[u8]) -> Result<String, PlanError> {
    let text = std::str::from_utf8(value).map_err(|_| PlanError::NotText { variable: variable.to_owned() })?;
    Ok(text.to_owned())
}

/// Where the value of one variable comes from.
struct Lookup<'a> {
    context: &'a PodContext<'a>,
    container: &'a Container,
    files: &'a EnvironmentFiles,
}

impl Lookup<'_> {
    /// The value, or nothing where the variable is left out.
    fn value(&self, variable: &str, source: &EnvVarSource) -> Result<Option<String>, PlanError> {
        if let Some(selector) = &source.field_ref {
            fields::variable(self.context, selector).map(Some)
        } else if let Some(selector) = &source.resource_field_ref {
            fields::resource(self.context, selector, Some(self.container), LimitDefault::PodThenMachine).map(Some)
        } else if let Some(key) = &source.config_map_key_ref {
            self.config_map_key(&key.name, &key.key, key.optional == Some(true))
        } else if let Some(key) = &source.secret_key_ref {
            self.secret_key(variable, &key.name, &key.key, key.optional == Some(true))
        } else if let Some(selector) = &source.file_key_ref {
            self.file_key(selector)
        } else {
            Ok(Some(String::new()))
        }
    }

    fn config_map_key(&self, name: &str, key: &str, optional: bool) -> Result<Option<String>, PlanError> {
        let Some(map) = self.context.sources.config_map(self.context.namespace(), name) else {
            return left_out(optional, || PlanError::ConfigMapNotFound { name: name.to_owned() });
        };
        match map.data.as_ref().and_then(|data| data.get(key)) {
            Some(value) => Ok(Some(value.clone())),
            None => left_out(optional, || self.missing_key("ConfigMap", name, key)),
        }
    }

    fn secret_key(&self, variable: &str, name: &str, key: &str, optional: bool) -> Result<Option<String>, PlanError> {
        let Some(secret) = self.context.sources.secret(self.context.namespace(), name) else {
            return left_out(optional, || PlanError::SecretNotFound { name: name.to_owned() });
        };
        match secret_data(secret).get(key) {
            Some(value) => text(variable, value).map(Some),
            None => left_out(optional, || self.missing_key("Secret", name, key)),
        }
    }

    fn missing_key(&self, kind: &'static str, name: &str, key: &str) -> PlanError {
        let namespace = self.context.namespace().to_owned();
        PlanError::KeyNotFound { kind, namespace, name: name.to_owned(), key: key.to_owned() }
    }

    fn file_key(&self, selector: &FileKeySelector) -> Result<Option<String>, PlanError> {
        let contents = self.files.get(&file_of(selector)).ok_or(PlanError::EnvironmentFile)?;
        let contents = std::str::from_utf8(contents).map_err(|_| PlanError::EnvironmentFile)?;
        let value = value_in_file(contents, &selector.key).ok_or(PlanError::EnvironmentFile)?;
        if !value.is_empty() {
            return Ok(Some(value));
        }
        left_out(selector.optional == Some(true), || PlanError::EnvironmentFileKey {
            key: selector.key.clone(),
            path: selector.path.clone(),
        })
    }
}

fn left_out(optional: bool, error: impl FnOnce() -> PlanError) -> Result<Option<String>, PlanError> {
    if optional { Ok(None) } else { Err(error()) }
}

/// The value of a key in a file of lines `NAME='value'`, empty where the key is not there, or nothing where the file is
/// malformed up to that key. A value may span lines, and nothing in it is escaped (Kubernetes documentation, "Define
/// environment variable values using an init container").
fn value_in_file(contents: &str, key: &str) -> Option<String> {
    let mut rest = contents.trim_start_matches(BLANKS);
    while !rest.is_empty() {
        let (line, _) = rest.split_once('\n').unwrap_or((rest, ""));
        rest = if line.trim_end_matches('\r').is_empty() || line.starts_with('#') {
            behind_line(rest)
        } else {
            let (name, _) = line.split_once('=')?;
            if name.is_empty() || name.ends_with(BLANKS) {
                return None;
            }
            let (value, behind) = quoted_value(&rest[name.len() + 1..])?;
            if name == key {
                return Some(value.replace("\r\n", "\n"));
            }
            behind
        };
        rest = rest.trim_start_matches(BLANKS);
    }
    Some(String::new())
}

const BLANKS: [char; 2] = [' ', '\t'];

/// The value at the start of the text, and the lines behind it. A blank before it makes it nothing, as in a shell.
fn quoted_value(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(BLANKS) {
        return Some(("", behind_line(text)));
    }
    let (value, behind) = text.strip_prefix('\'')?.split_once('\'')?;
    let (remainder, _) = behind.split_once('\n').unwrap_or((behind, ""));
    let remainder = remainder.trim_end_matches('\r').trim_start_matches(BLANKS);
    (remainder.is_empty() || remainder.starts_with('#')).then_some((value, behind_line(behind)))
}

fn behind_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, behind)| behind)
}
