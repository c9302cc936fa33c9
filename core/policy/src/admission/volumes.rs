//! Volumes by type, the claims behind them, and mounts that would have to leave the container.
//!
//! Supported: emptyDir on disk or in memory, configMap, secret, projected, downwardAPI, nfs, and claims bound to a
//! volume of the EFS driver or to an NFS volume.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodSpec, Volume};

use super::containers::ContainerView;
use super::storage::{ClaimState, Storage, ephemeral_claim_name};
use super::{Kind, Violation};

/// Every volume of the Pod and every mount of its containers.
pub(super) fn check(pod: &Pod, spec: &PodSpec, storage: &Storage<'_>, found: &mut Vec<Violation>) {
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        check_volume(pod, index, volume, storage, found);
    }
    for container in ContainerView::all(spec) {
        check_mounts(&container, found);
    }
}

/// `mountPropagation: Bidirectional`.
///
/// `HostToContainer` is the same as none here: nothing outside a container mounts into its volumes. The API server
/// lets only privileged containers have `Bidirectional`, and for these the message says `Privileged` and no more.
pub(super) fn check_mounts(container: &ContainerView<'_>, found: &mut Vec<Violation>) {
    let is_privileged = container.security_context.is_some_and(|context| context.privileged == Some(true));
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        if mount.mount_propagation.as_deref() == Some("Bidirectional") {
            let fragment = format!("{} not supported because: mountPropagation is Bidirectional", mount.name);
            found.push(Violation {
                kind: Kind::BidirectionalMount,
                field: container.path(&format!("volumeMounts[{index}].mountPropagation")),
                fragment: if is_privileged { String::new() } else { fragment },
                message: format!("container \"{}\" hands its mounts in \"{}\" to others", container.name, mount.name),
            });
        }
    }
}

fn check_volume(pod: &Pod, index: usize, volume: &Volume, storage: &Storage<'_>, found: &mut Vec<Violation>) {
    if let Some(refused) = refused_type(volume) {
        found.push(type_violation(index, volume, &refused));
    } else if let Some(source) = &volume.persistent_volume_claim {
        let field = format!("spec.volumes[{index}].persistentVolumeClaim");
        let claim = storage.claim(pod, &source.claim_name);
        found.extend(claim_violation(volume, &source.claim_name, storage.state(claim), field));
    } else if volume.ephemeral.is_some() {
        found.extend(ephemeral_violation(pod, index, volume, storage));
    }
}

/// A source that a microVM cannot mount.
struct RefusedType {
    kind: Kind,
    /// The field's path below the volume; empty for a source that this version does not know.
    field: &'static str,
}

fn refused_type(volume: &Volume) -> Option<RefusedType> {
    let refused = |kind, field| Some(RefusedType { kind, field });
    if volume.host_path.is_some() {
        return refused(Kind::HostPathVolume, "hostPath");
    }
    if volume.csi.is_some() {
        return refused(Kind::InlineCsiVolume, "csi");
    }
    if volume.image.is_some() {
        return refused(Kind::ImageVolume, "image");
    }
    if let Some(field) = other_refused_source(volume) {
        return refused(Kind::UnsupportedVolumeType, field);
    }
    let medium = volume.empty_dir.as_ref().and_then(|empty_dir| empty_dir.medium.as_deref());
    if medium.is_some_and(|medium| !matches!(medium, "" | "Memory")) {
        return refused(Kind::UnsupportedVolumeType, "emptyDir.medium");
    }
    // The API server gives a volume without a source an emptyDir, so what arrives empty here has a source that is newer
    // than this program.
    if has_known_source(volume) { None } else { refused(Kind::UnsupportedVolumeType, "") }
}

/// The sources that no microVM mounts, in the order of the Kubernetes API, without those with an advice of their own.
fn other_refused_source(volume: &Volume) -> Option<&'static str> {
    let sources = [
        (volume.aws_elastic_block_store.is_some(), "awsElasticBlockStore"),
        (volume.azure_disk.is_some(), "azureDisk"),
        (volume.azure_file.is_some(), "azureFile"),
        (volume.cephfs.is_some(), "cephfs"),
        (volume.cinder.is_some(), "cinder"),
        (volume.fc.is_some(), "fc"),
        (volume.flex_volume.is_some(), "flexVolume"),
        (volume.flocker.is_some(), "flocker"),
        (volume.gce_persistent_disk.is_some(), "gcePersistentDisk"),
        (volume.git_repo.is_some(), "gitRepo"),
        (volume.glusterfs.is_some(), "glusterfs"),
        (volume.iscsi.is_some(), "iscsi"),
        (volume.photon_persistent_disk.is_some(), "photonPersistentDisk"),
        (volume.portworx_volume.is_some(), "portworxVolume"),
        (volume.quobyte.is_some(), "quobyte"),
        (volume.rbd.is_some(), "rbd"),
        (volume.scale_io.is_some(), "scaleIO"),
        (volume.storageos.is_some(), "storageos"),
        (volume.vsphere_volume.is_some(), "vsphereVolume"),
    ];
    sources.into_iter().find(|(is_set, _)| *is_set).map(|(_, field)| field)
}

fn has_known_source(volume: &Volume) -> bool {
    volume.empty_dir.is_some()
        || volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
        || volume.nfs.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.ephemeral.is_some()
}

fn type_violation(index: usize, volume: &Volume, refused: &RefusedType) -> Violation {
    let (field, what) = match refused.field {
        "" => (format!("spec.volumes[{index}]"), "a type that this version does not know".to_owned()),
        field => (format!("spec.volumes[{index}].{field}"), format!("the type {field}")),
    };
    Violation {
        kind: refused.kind,
        field,
        fragment: format!("{} is of an unsupported volume Type", volume.name),
        message: format!("volume \"{}\" has {what}, which a microVM cannot mount", volume.name),
    }
}

fn claim_violation(volume: &Volume, claim: &str, state: ClaimState<'_>, field: String) -> Option<Violation> {
    let (kind, why) = match state {
        ClaimState::Usable => return None,
        ClaimState::NotFound => {
            (Kind::PersistentVolumeClaimNotFound, format!("persistentvolumeclaim \"{claim}\" not found"))
        }
        ClaimState::NotBound => (Kind::PersistentVolumeClaimNotBound, format!("PVC {claim} not bound")),
        ClaimState::VolumeNotFound { volume } => {
            (Kind::PersistentVolumeNotFound, format!("persistentvolume \"{volume}\" not found"))
        }
        ClaimState::OtherDriver { volume, driver } => {
            let why = format!("PVC {claim} bound to invalid PV {volume} with CSI Driver: {driver}");
            (Kind::UnsupportedCsiDriver, why)
        }
        ClaimState::OtherType { volume } => {
            let why = format!("PVC {claim} bound to invalid PV {volume} that is neither CSI nor NFS");
            (Kind::UnsupportedPersistentVolume, why)
        }
    };
    Some(because(kind, volume, &why, field))
}

/// A generic ephemeral volume is a claim that Kubernetes makes for the Pod, and stands and falls with it.
fn ephemeral_violation(pod: &Pod, index: usize, volume: &Volume, storage: &Storage<'_>) -> Option<Violation> {
    let name = ephemeral_claim_name(pod, volume);
    let field = format!("spec.volumes[{index}].ephemeral");
    let claim = storage.claim(pod, &name);
    if claim.is_some_and(|claim| !is_made_for(claim, pod)) {
        let why = format!("PVC {name} was not created for the Pod");
        return Some(because(Kind::PersistentVolumeClaimNotOwned, volume, &why, field));
    }
    let violation = claim_violation(volume, &name, storage.state(claim), field)?;
    // Nobody but Kubernetes makes this claim, so the advice to create it would lead astray.
    let is_waiting =
        matches!(violation.kind, Kind::PersistentVolumeClaimNotFound | Kind::PersistentVolumeClaimNotBound);
    Some(Violation { kind: if is_waiting { Kind::EphemeralVolumeNotBound } else { violation.kind }, ..violation })
}

/// Whether the claim's controlling owner is the Pod; a claim of the same name made by somebody else is not to be used.
/// A Pod that comes from a manifest has no uid yet, and its claim names none.
fn is_made_for(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    let controller = owners.iter().find(|owner| owner.controller == Some(true));
    controller.is_some_and(|owner| owner.kind == "Pod" && owner.uid == pod.metadata.uid.as_deref().unwrap_or_default())
}

fn because(kind: Kind, volume: &Volume, why: &str, field: String) -> Violation {
    Violation {
        kind,
        field,
        fragment: format!("{} not supported because: {why}", volume.name),
        message: format!("volume \"{}\" cannot be mounted: {why}", volume.name),
    }
}
