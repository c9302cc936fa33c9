//! Volumes of small files: ConfigMaps, Secrets and the downward API (kubelet, `configmap`, `secret` and `downwardapi`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource, KeyToPath, SecretVolumeSource,
};
use monopod_agent_proto::v1::{Files, VolumeFile};

use super::super::context::PodContext;
use super::super::fields::{self, LimitDefault};
use super::super::sources::secret_data;
use super::super::user::id;
use super::error::VolumeProblem;

const DEFAULT_MODE: i32 = 0o644;
/// What a group may do with files that nobody writes.
const GROUP_READ: u32 = 0o440;
const PERMISSIONS: i32 = 0o777;
const LONGEST_PATH: usize = 4096;
const LONGEST_NAME: usize = 255;

/// Files by path. A later source of a projected volume replaces an earlier one's file.
pub(super) type Payload = BTreeMap<String, VolumeFile>;

/// What files get that say nothing themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    pub(super) mode: i32,
    pub(super) user: Option<i64>,
    /// Whether a group is given the files, and can then read them.
    pub(super) has_group: bool,
}

/// One file before its mode and owner are settled.
pub(super) struct Draft {
    pub(super) path: String,
    pub(super) data: Vec<u8>,
    pub(super) mode: Option<i32>,
    pub(super) user: Option<i64>,
}

impl Defaults {
    pub(super) fn new(context: &PodContext<'_>, mode: Option<i32>, user: Option<i64>) -> Self {
        let security = context.spec().security_context.as_ref();
        let has_group = security.is_some_and(|security| security.fs_group.is_some());
        Self { mode: mode.unwrap_or(DEFAULT_MODE), user, has_group }
    }

    pub(super) fn file(&self, draft: Draft) -> Result<VolumeFile, VolumeProblem> {
        let path = clean(&draft.path)?;
        let uid = draft.user.or(self.user).map(|user| id("user", user)).transpose()?;
        let mode = (draft.mode.unwrap_or(self.mode) & PERMISSIONS).cast_unsigned();
        let mode = if self.has_group { mode | GROUP_READ } else { mode };
        Ok(VolumeFile { path, data: draft.data, mode, uid })
    }
}

/// Puts a file into its place.
pub(super) fn put(payload: &mut Payload, file: VolumeFile) {
    payload.insert(file.path.clone(), file);
}

pub(super) fn finished(payload: Payload) -> Files {
    Files { files: payload.into_values().collect() }
}

/// The path without needless parts, or what is wrong with it.
fn clean(path: &str) -> Result<String, VolumeProblem> {
    let wrong = |text: String| Err(VolumeProblem::Path(text));
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if path.starts_with('/') {
        return wrong(format!("must be relative path: {path}"));
    }
    if path.len() > LONGEST_PATH {
        return wrong(format!("must be less than or equal to {LONGEST_PATH} characters"));
    }
    if parts.contains(&"..") {
        return wrong(format!("must not contain '..': {path}"));
    }
    if parts.iter().any(|part| part.len() > LONGEST_NAME) {
        return wrong(format!("filenames must be less than or equal to {LONGEST_NAME} characters"));
    }
    match parts.first() {
        None => wrong(format!("must not be empty: {path:?}")),
        // These names are for the switch between versions of the volume.
        Some(first) if first.starts_with("..") => wrong(format!("must not start with '..': {path}")),
        Some(_) => Ok(parts.join("/")),
    }
}

pub(super) fn of_config_map(context: &PodContext<'_>, source: &ConfigMapVolumeSource) -> Result<Files, VolumeProblem> {
    let defaults = Defaults::new(context, source.default_mode, source.default_user);
    let selection = Selection { name: &source.name, items: source.items.as_deref(), optional: source.optional };
    selection.of_config_map(context, &defaults).map(finished)
}

pub(super) fn of_secret(context: &PodContext<'_>, source: &SecretVolumeSource) -> Result<Files, VolumeProblem> {
    let defaults = Defaults::new(context, source.default_mode, source.default_user);
    let name = source.secret_name.as_deref().unwrap_or_default();
    let selection = Selection { name, items: source.items.as_deref(), optional: source.optional };
    selection.of_secret(context, &defaults).map(finished)
}

pub(super) fn of_downward_api(
    context: &PodContext<'_>,
    source: &DownwardAPIVolumeSource,
) -> Result<Files, VolumeProblem> {
    let defaults = Defaults::new(context, source.default_mode, source.default_user);
    downward_api(context, source.items.as_deref().unwrap_or_default(), &defaults).map(finished)
}

/// Some or all keys of an object.
pub(super) struct Selection<'a> {
    pub(super) name: &'a str,
    pub(super) items: Option<&'a [KeyToPath]>,
    pub(super) optional: Option<bool>,
}

impl Selection<'_> {
    pub(super) fn of_config_map(
        &self,
        context: &PodContext<'_>,
        defaults: &Defaults,
    ) -> Result<Payload, VolumeProblem> {
        match context.sources.config_map(context.namespace(), self.name) {
            Some(map) => self.of_keys(&config_map_data(map), defaults, VolumeProblem::ConfigMapKey),
            None if self.optional == Some(true) => Ok(Payload::new()),
            None => Err(VolumeProblem::ConfigMapNotFound(self.name.to_owned())),
        }
    }

    pub(super) fn of_secret(&self, context: &PodContext<'_>, defaults: &Defaults) -> Result<Payload, VolumeProblem> {
        match context.sources.secret(context.namespace(), self.name) {
            Some(secret) => self.of_keys(&secret_data(secret), defaults, VolumeProblem::SecretKey),
            None if self.optional == Some(true) => Ok(Payload::new()),
            None => Err(VolumeProblem::SecretNotFound(self.name.to_owned())),
        }
    }

    fn of_keys(
        &self,
        data: &BTreeMap<&str, &[u8]>,
        defaults: &Defaults,
        missing: fn(String) -> VolumeProblem,
    ) -> Result<Payload, VolumeProblem> {
        let mut payload = Payload::new();
        let items = self.items.unwrap_or_default();
        if items.is_empty() {
            for (key, value) in data {
                let draft = Draft { path: (*key).to_owned(), data: value.to_vec(), mode: None, user: None };
                put(&mut payload, defaults.file(draft)?);
            }
        }
        for item in items {
            match data.get(item.key.as_str()) {
                Some(value) => {
                    let draft =
                        Draft { path: item.path.clone(), data: value.to_vec(), mode: item.mode, user: item.user };
                    put(&mut payload, defaults.file(draft)?);
                }
                None if self.optional == Some(true) => {}
                None => return Err(missing(item.key.clone())),
            }
        }
        Ok(payload)
    }
}

/// Text and binary data by key; a key is in one of them only.
fn config_map_data(map: &ConfigMap) -> BTreeMap<&str, &[u8]> {
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
    binary.chain(text).collect()
}

pub(super) fn downward_api(
    context: &PodContext<'_>,
    items: &[DownwardAPIVolumeFile],
    defaults: &Defaults,
) -> Result<Payload, VolumeProblem> {
    let mut payload = Payload::new();
    let mut problems = Vec::new();
    for item in items {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(selector), _) => fields::file(context.pod, &selector.field_path),
            (None, Some(selector)) => fields::resource(context, selector, None, LimitDefault::Machine),
            (None, None) => Ok(String::new()),
        };
        let draft =
            |text: String| Draft { path: item.path.clone(), data: text.into_bytes(), mode: item.mode, user: item.user };
        match value.map_err(VolumeProblem::from).and_then(|text| defaults.file(draft(text))) {
            Ok(file) => put(&mut payload, file),
            Err(problem) => problems.push(problem),
        }
    }
    VolumeProblem::joined(problems)?;
    Ok(payload)
}
