//! The volumes of a Pod as the guest is asked to make them.
//!
//! Called when the microVM is made and again whenever an object has changed: the same objects give the same requests,
//! so that a comparison tells which volumes are to be written anew.

mod empty_dir;
mod error;
mod files;
mod network;
mod projected;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PersistentVolume, Pod, PodSecurityContext, Volume};
use monopod_agent_proto::v1::PutVolumeRequest;
use monopod_agent_proto::v1::put_volume_request::Kind;
use monopod_types::Bytes;

use super::context::{PodContext, spec};
use super::lookup::lasting_containers;
use super::resources::amount_of;
use super::user::id;
pub use error::{VolumeError, VolumeErrors, VolumeProblem};
pub use network::{AccessPoint, FileSystem, FileSystems};

/// The volumes that the Pod's containers mount, in the Pod's order. As with the kubelet, one that no container mounts
/// is not made.
///
/// # Errors
/// Every volume that cannot be made.
pub fn volumes(context: &PodContext<'_>) -> Result<Vec<PutVolumeRequest>, VolumeErrors> {
    let (requests, errors) = possible_volumes(context);
    if errors.is_empty() { Ok(requests) } else { Err(VolumeErrors(errors)) }
}

/// The volumes that can be made, and why the others cannot. For bringing a running Pod's volumes up to date, where an
/// object that is gone leaves its own volume as it is and no other.
pub fn possible_volumes(context: &PodContext<'_>) -> (Vec<PutVolumeRequest>, Vec<VolumeError>) {
    let mounted = mounted(context.pod);
    let mut requests = Vec::new();
    let mut errors = Vec::new();
    let volumes = context.spec().volumes.iter().flatten();
    for volume in volumes.filter(|volume| mounted.contains(volume.name.as_str())) {
        match request(context, volume) {
            Ok(request) => requests.push(request),
            Err(error) => errors.push(error),
        }
    }
    (requests, errors)
}

/// What is to be sent to a guest that has `old` so that it has `new`: volumes of files that differ, and volumes that
/// came with a new ephemeral container. A file system that is in use is never made anew.
pub fn volume_updates(old: &[PutVolumeRequest], new: &[PutVolumeRequest]) -> Vec<PutVolumeRequest> {
    let is_due = |request: &&PutVolumeRequest| match old.iter().find(|other| other.name == request.name) {
        Some(present) => matches!(request.kind, Some(Kind::Files(_))) && present != *request,
        None => true,
    };
    new.iter().filter(is_due).cloned().collect()
}

/// The size limits of emptyDir volumes on disk, which the host watches. A limit of zero is none.
pub fn empty_dir_limits(pod: &Pod) -> BTreeMap<String, Bytes> {
    let limit = |volume: &Volume| {
        let source = volume.empty_dir.as_ref()?;
        let limit = amount_of(source.size_limit.as_ref()?)?;
        Some((volume.name.clone(), limit.to_bytes()))
    };
    spec(pod).volumes.iter().flatten().filter_map(limit).collect()
}

/// Names of the volumes that any container mounts.
fn mounted(pod: &Pod) -> BTreeSet<&str> {
    let spec = spec(pod);
    let lasting = lasting_containers(spec).map(|container| &container.volume_mounts);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| &container.volume_mounts);
    let mounts = lasting.chain(ephemeral).flat_map(|mounts| mounts.iter().flatten());
    mounts.map(|mount| mount.name.as_str()).collect()
}

/// Group that owns the contents of the Pod's volumes, and when it is set anew.
#[derive(Clone, Copy, Debug, Default)]
struct Ownership {
    group: Option<u32>,
    on_root_mismatch: bool,
}

impl Ownership {
    fn of(context: &PodContext<'_>) -> Result<Self, VolumeProblem> {
        let nothing = PodSecurityContext::default();
        let security = context.spec().security_context.as_ref().unwrap_or(&nothing);
        Ok(Self {
            group: security.fs_group.map(|group| id("fsGroup", group)).transpose()?,
            on_root_mismatch: security.fs_group_change_policy.as_deref() == Some("OnRootMismatch"),
        })
    }
}

fn request(context: &PodContext<'_>, volume: &Volume) -> Result<PutVolumeRequest, VolumeError> {
    let persistent = network::persistent(context, volume)
        .map_err(|problem| VolumeError::new(&volume.name, &volume.name, problem))?;
    // A claim goes by the name of what is behind it.
    let source = persistent.and_then(|persistent| persistent.metadata.name.as_deref()).unwrap_or(&volume.name);
    let failed = |problem| VolumeError::new(&volume.name, source, problem);
    let kind = match persistent {
        Some(persistent) => network::of_persistent(context, volume, persistent),
        None => inline(context, volume),
    };
    let kind = kind.map_err(failed)?;
    let ownership = Ownership::of(context).map_err(failed)?;
    // What others use too is left as it is.
    let group = ownership.group.filter(|_| !matches!(kind, Kind::Nfs(_)));
    Ok(PutVolumeRequest {
        name: volume.name.clone(),
        kind: Some(kind),
        fs_group: group,
        fs_group_on_root_mismatch: ownership.on_root_mismatch && group.is_some(),
    })
}

/// What a volume is that is described in the Pod itself.
fn inline(context: &PodContext<'_>, volume: &Volume) -> Result<Kind, VolumeProblem> {
    if let Some(source) = &volume.empty_dir {
        empty_dir::of(context, source).map(Kind::EmptyDir)
    } else if let Some(source) = &volume.config_map {
        files::of_config_map(context, source).map(Kind::Files)
    } else if let Some(source) = &volume.secret {
        files::of_secret(context, source).map(Kind::Files)
    } else if let Some(source) = &volume.downward_api {
        files::of_downward_api(context, source).map(Kind::Files)
    } else if let Some(source) = &volume.projected {
        projected::of(context, source).map(Kind::Files)
    } else if let Some(source) = &volume.nfs {
        Ok(Kind::Nfs(network::of_nfs(source, &[], false)))
    } else {
        Err(VolumeProblem::NoPlugin(volume.name.clone()))
    }
}

/// Whether every mount of the volume is read-only, whatever the mount says.
pub(super) fn is_read_only(context: &PodContext<'_>, volume: &Volume) -> bool {
    let is_files = volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some();
    is_files
        || volume.nfs.as_ref().is_some_and(|source| source.read_only == Some(true))
        || network::is_read_only_claim(context, volume)
}

/// Name of the claim that the volume is, be it named in the Pod or made for it.
pub(super) fn claim_name(pod: &str, volume: &Volume) -> Option<String> {
    let named = volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.clone());
    named.or_else(|| volume.ephemeral.as_ref().map(|_| format!("{pod}-{}", volume.name)))
}

/// The persistent volume that the volume is bound to.
pub(super) fn persistent_volume<'a>(context: &PodContext<'a>, volume: &Volume) -> Option<&'a PersistentVolume> {
    network::persistent(context, volume).ok().flatten()
}
