//! Volumes in a container's file system (kubelet, `makeMounts`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Volume, VolumeMount};
use monopod_agent_proto::v1::Mount;

use super::context::PodContext;
use super::environment::Variables;
use super::error::PlanError;
use super::expansion::expand_references;
use super::volumes::is_read_only;

/// The mounts of a container, outer ones before those inside them. What a Pod asks of mount propagation makes no
/// difference: nothing outside the microVM mounts anything into it.
pub(super) fn mounts(
    context: &PodContext<'_>,
    container: &Container,
    variables: &Variables,
) -> Result<Vec<Mount>, PlanError> {
    let mounts = container.volume_mounts.iter().flatten();
    let mut mounts =
        mounts.map(|mount| one(context, container, mount, variables)).collect::<Result<Vec<_>, PlanError>>()?;
    mounts.sort_by_key(|mount| mount.destination.split('/').filter(|part| !part.is_empty()).count());
    Ok(mounts)
}

fn one(
    context: &PodContext<'_>,
    container: &Container,
    mount: &VolumeMount,
    variables: &Variables,
) -> Result<Mount, PlanError> {
    let volume = context.spec().volumes.iter().flatten().find(|volume| volume.name == mount.name);
    let volume: &Volume = volume
        .ok_or_else(|| PlanError::VolumeNotFound { volume: mount.name.clone(), container: container.name.clone() })?;
    check_recursive_read_only(mount)?;
    Ok(Mount {
        volume: mount.name.clone(),
        destination: absolute(&mount.mount_path),
        sub_path: sub_path(mount, variables)?,
        read_only: mount.read_only == Some(true) || is_read_only(context, volume),
    })
}

pub(super) fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// The part of the volume that is mounted, without needless parts; empty for all of it.
fn sub_path(mount: &VolumeMount, variables: &Variables) -> Result<String, PlanError> {
    let expression = mount.sub_path_expr.as_deref().filter(|expression| !expression.is_empty());
    let path = match expression {
        Some(expression) => expanded(expression, variables)?,
        None => mount.sub_path.clone().unwrap_or_default(),
    };
    if path.starts_with('/') {
        return Err(PlanError::AbsoluteSubPath { sub_path: path });
    }
    if path.split('/').any(|part| part == "..") {
        return Err(PlanError::SubPathBacksteps { sub_path: path });
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    Ok(parts.join("/"))
}

/// Every variable in it has to have a value, lest the mount reaches further than meant.
fn expanded(expression: &str, variables: &Variables) -> Result<String, PlanError> {
    let mut missing = BTreeSet::new();
    let path = expand_references(expression, |name| {
        let value = variables.get(name).unwrap_or_default();
        if value.is_empty() {
            missing.insert(name.to_owned());
        }
        Some(value.to_owned())
    });
    if missing.is_empty() {
        Ok(path)
    } else {
        Err(PlanError::SubPathVariables { names: missing.into_iter().collect() })
    }
}

/// Nothing is mounted inside a volume, so that read-only is so all the way down and only the asking can be wrong.
fn check_recursive_read_only(mount: &VolumeMount) -> Result<(), PlanError> {
    let name = &mount.name;
    let mode = match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => return Ok(()),
        Some(mode) => mode,
    };
    let propagation = mount.mount_propagation.as_deref().unwrap_or("None");
    let problem = if mount.read_only != Some(true) {
        format!("volume {name:?} requested recursive read-only mode, but it is not read-only")
    } else if propagation != "None" {
        format!(
            "volume {name:?} requested recursive read-only mode, but it is not compatible with propagation {propagation:?}"
        )
    } else if !matches!(mode, "IfPossible" | "Enabled") {
        format!("unknown recursive read-only mode {mode:?}")
    } else {
        return Ok(());
    };
    Err(PlanError::RecursiveReadOnly { problem })
}
