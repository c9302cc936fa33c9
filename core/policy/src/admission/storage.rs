//! What a claim leads to: the snapshot of PersistentVolumeClaims and PersistentVolumes, and the state of one claim.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The CSI driver whose volumes a microVM can mount.
const EFS_DRIVER: &str = "efs.csi.aws.com";

/// The claims and volumes that a verdict may refer to, by name.
///
/// Only those that the Pod names are looked at ([`claim_names`]), so a caller need not hand over a whole cluster's.
#[derive(Clone, Debug, Default)]
pub struct Storage<'a> {
    claims: BTreeMap<(&'a str, &'a str), &'a PersistentVolumeClaim>,
    volumes: BTreeMap<&'a str, &'a PersistentVolume>,
}

/// What a claim leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimState<'a> {
    /// Bound to a volume that a microVM can mount.
    Usable,
    NotFound,
    NotBound,
    /// Bound to a volume that does not exist.
    VolumeNotFound {
        volume: &'a str,
    },
    /// Bound to a volume of a CSI driver other than EFS.
    OtherDriver {
        volume: &'a str,
        driver: &'a str,
    },
    /// Bound to a volume that is neither CSI nor NFS.
    OtherType {
        volume: &'a str,
    },
}

impl<'a> Storage<'a> {
    /// Takes the claims of any namespaces and the volumes of the cluster.
    pub fn new(
        claims: impl IntoIterator<Item = &'a PersistentVolumeClaim>,
        volumes: impl IntoIterator<Item = &'a PersistentVolume>,
    ) -> Self {
        let claims = claims.into_iter().map(|claim| ((namespace_of(&claim.metadata), name_of(&claim.metadata)), claim));
        let volumes = volumes.into_iter().map(|volume| (name_of(&volume.metadata), volume));
        Self { claims: claims.collect(), volumes: volumes.collect() }
    }

    /// The claim of that name in the Pod's namespace.
    pub(super) fn claim(&self, pod: &Pod, name: &str) -> Option<&'a PersistentVolumeClaim> {
        self.claims.get(&(namespace_of(&pod.metadata), name)).copied()
    }

    /// Follows a claim to its volume. Bound is what both say of each other, as for a kubelet.
    pub(super) fn state(&self, claim: Option<&'a PersistentVolumeClaim>) -> ClaimState<'a> {
        let Some(claim) = claim else { return ClaimState::NotFound };
        let Some(volume) = bound_volume(claim) else { return ClaimState::NotBound };
        match self.volumes.get(volume) {
            None => ClaimState::VolumeNotFound { volume },
            Some(found) if !is_open_to(found, claim) => ClaimState::NotBound,
            Some(found) => mountable(volume, found),
        }
    }
}

/// Names of the claims in the Pod's namespace that its volumes refer to, generic ephemeral volumes included.
pub fn claim_names(pod: &Pod) -> impl Iterator<Item = Cow<'_, str>> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => Some(Cow::Borrowed(source.claim_name.as_str())),
        (None, Some(_)) => Some(Cow::Owned(ephemeral_claim_name(pod, volume))),
        (None, None) => None,
    })
}

/// Name of the claim that Kubernetes makes for a generic ephemeral volume: Pod's name, hyphen, volume's name.
///
/// A Pod that a controller has yet to make has only the beginning of a name, which then stands for it.
pub(crate) fn ephemeral_claim_name(pod: &Pod, volume: &Volume) -> String {
    let generated = pod.metadata.generate_name.as_deref().map(|prefix| prefix.trim_end_matches('-'));
    let name = pod.metadata.name.as_deref().or(generated).unwrap_or_default();
    format!("{name}-{}", volume.name)
}

fn bound_volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    let is_bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    volume.filter(|name| is_bound && !name.is_empty())
}

/// Whether the volume is reserved for the claim, or for nobody. One that the claim is bound to names it in return: the
/// controller writes the claim into the volume before it calls the claim `Bound`, so only a volume that comes from a
/// manifest names nobody then.
pub(crate) fn is_open_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(claim_ref) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return true };
    let is_same_uid = match (&claim_ref.uid, &claim.metadata.uid) {
        (Some(told), Some(actual)) => told == actual,
        (None, _) | (_, None) => true,
    };
    is_same_uid
        && claim_ref.name == claim.metadata.name
        && claim_ref.namespace.as_deref().unwrap_or("default") == namespace_of(&claim.metadata)
}

fn mountable<'a>(name: &'a str, volume: &'a PersistentVolume) -> ClaimState<'a> {
    let spec = volume.spec.as_ref();
    match spec.and_then(|spec| spec.csi.as_ref()) {
        Some(csi) if csi.driver == EFS_DRIVER => ClaimState::Usable,
        Some(csi) => ClaimState::OtherDriver { volume: name, driver: &csi.driver },
        None if spec.is_some_and(|spec| spec.nfs.is_some()) => ClaimState::Usable,
        None => ClaimState::OtherType { volume: name },
    }
}

fn name_of(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

/// An object from a file may leave its namespace out, as for `kubectl apply`.
fn namespace_of(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or("default")
}
