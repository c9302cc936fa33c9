//! Network file systems: NFS in the Pod or in a persistent volume, and Amazon EFS, which is NFS.
//!
//! The names of EFS file systems mean nothing outside AWS, so the host's configuration says where each one is, or the
//! volume says it with `mounttargetip`. The EFS driver encrypts by a TLS tunnel unless the volume says
//! `encryptInTransit: "false"`. There is no tunnel here. Dropping encryption in silence would be worse than not
//! mounting, so a volume that wants it is refused, unless the configuration says of this file system that its network
//! may carry clear text.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, NFSVolumeSource, PersistentVolume, PersistentVolumeClaim, Volume,
};
use monopod_agent_proto::v1::Nfs;
use monopod_agent_proto::v1::put_volume_request::Kind;

use super::super::context::{PodContext, name};
use super::claim_name;
use super::error::VolumeProblem;

/// Name of the EFS driver.
const EFS_DRIVER: &str = "efs.csi.aws.com";
/// What the EFS mount helper mounts with (Amazon EFS user guide, recommended NFS mount options).
const EFS_OPTIONS: [&str; 7] =
    ["nfsvers=4.1", "rsize=1048576", "wsize=1048576", "hard", "timeo=600", "retrans=2", "noresvport"];
/// Options of the EFS mount helper that NFS does not know.
const HELPER_OPTIONS: [&str; 5] = ["tls", "notls", "iam", "accesspoint", "encryptInTransit"];
const PROTECTION_FINALIZER: &str = "kubernetes.io/pvc-protection";

/// EFS file systems by id, such as `fs-0123456789abcdef0`.
pub type FileSystems = BTreeMap<String, FileSystem>;

/// Where an EFS file system is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Name or address of the NFS server.
    pub server: String,
    /// What the server exports as the file system's root; empty for `/`.
    pub export: String,
    /// Access points by id, such as `fsap-0123456789abcdef0`.
    pub access_points: BTreeMap<String, AccessPoint>,
    /// Whether volumes that want encryption in transit may be mounted without.
    pub allow_clear_text: bool,
}

/// What an access point is. The user that it stands for is the server's to enforce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessPoint {
    /// Its root directory, below the file system's root.
    pub path: String,
}

/// An NFS server's directory, with the options and restrictions of whatever led to it.
pub(super) fn of_nfs(source: &NFSVolumeSource, options: &[String], read_only: bool) -> Nfs {
    Nfs {
        server: source.server.clone(),
        export: source.path.clone(),
        options: options.to_vec(),
        read_only: read_only || source.read_only == Some(true),
    }
}

/// The persistent volume behind a volume that is a claim; nothing where it is none.
pub(super) fn persistent<'a>(
    context: &PodContext<'a>,
    volume: &Volume,
) -> Result<Option<&'a PersistentVolume>, VolumeProblem> {
    let Some(claim) = claim_name(name(context.pod), volume) else { return Ok(None) };
    let failed = |problem: String| VolumeProblem::Claim { claim: format!("{}/{claim}", context.namespace()), problem };
    let Some(object) = context.sources.claim(context.namespace(), &claim) else {
        return Err(failed(format!("failed to fetch PVC from API server: persistentvolumeclaims {claim:?} not found")));
    };
    let bound = volume_of(object).map_err(|problem| failed(problem.to_owned()))?;
    let Some(persistent) = context.sources.volume(bound) else {
        return Err(failed(format!(
            "failed to fetch PV {bound} from API server: persistentvolumes {bound:?} not found"
        )));
    };
    let reference = persistent.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let of_volume = reference.and_then(|reference| reference.uid.as_deref());
    let of_claim = object.metadata.uid.as_deref();
    if let (Some(of_volume), Some(of_claim)) = (of_volume, of_claim)
        && of_volume != of_claim
    {
        return Err(failed(format!(
            "found PV object {bound} but its pv.Spec.ClaimRef.UID {of_volume} does not point to claim.UID {of_claim}"
        )));
    }
    Ok(Some(persistent))
}

/// Name of the volume that a claim is bound to.
fn volume_of(claim: &PersistentVolumeClaim) -> Result<&str, &'static str> {
    let finalizers = claim.metadata.finalizers.as_deref().unwrap_or_default();
    if claim.metadata.deletion_timestamp.is_some() && !finalizers.iter().any(|name| name == PROTECTION_FINALIZER) {
        return Err("PVC is being deleted");
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        return Err("PVC is not bound");
    }
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty());
    name.ok_or("PVC has empty pvc.Spec.VolumeName")
}

/// Whether the Pod or the persistent volume says that nothing is written.
pub(super) fn is_read_only_claim(context: &PodContext<'_>, volume: &Volume) -> bool {
    let of_pod = volume.persistent_volume_claim.as_ref().and_then(|source| source.read_only);
    let persistent = persistent(context, volume).ok().flatten().and_then(|persistent| persistent.spec.as_ref());
    let of_nfs = persistent.and_then(|spec| spec.nfs.as_ref()?.read_only);
    let of_csi = persistent.and_then(|spec| spec.csi.as_ref()?.read_only);
    [of_pod, of_nfs, of_csi].contains(&Some(true))
}

/// What a persistent volume is.
pub(super) fn of_persistent(
    context: &PodContext<'_>,
    volume: &Volume,
    persistent: &PersistentVolume,
) -> Result<Kind, VolumeProblem> {
    let name = persistent.metadata.name.as_deref().unwrap_or_default();
    let Some(spec) = &persistent.spec else { return Err(VolumeProblem::NoPlugin(name.to_owned())) };
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(VolumeProblem::BlockDevice(volume.name.clone()));
    }
    let options = spec.mount_options.as_deref().unwrap_or_default();
    let read_only = is_read_only_claim(context, volume);
    if let Some(source) = &spec.nfs {
        return Ok(Kind::Nfs(of_nfs(source, options, read_only)));
    }
    match spec.csi.as_ref().filter(|source| source.driver == EFS_DRIVER) {
        Some(source) => Ok(Kind::Nfs(Nfs { read_only, ..of_efs(context, source, options)? })),
        None => Err(VolumeProblem::NoPlugin(name.to_owned())),
    }
}

/// A volume handle taken apart.
struct Handle<'a> {
    file_system: &'a str,
    path: &'a str,
    access_point: Option<&'a str>,
}

impl<'a> Handle<'a> {
    /// `fs-id`, `fs-id:path`, `fs-id::fsap-id`, and the same behind `efs:`.
    fn parse(handle: &'a str) -> Result<Self, VolumeProblem> {
        let wrong = |problem| VolumeProblem::Handle { handle: handle.to_owned(), problem };
        let mut fields = handle.strip_prefix("efs:").unwrap_or(handle).split(':');
        let file_system = fields.next().filter(|id| is_id(id, "fs-"));
        let file_system =
            file_system.ok_or_else(|| wrong("it does not begin with a file system such as fs-0123abcd"))?;
        let path = fields.next().unwrap_or_default();
        let access_point = fields.next().filter(|id| !id.is_empty());
        if access_point.is_some_and(|id| !is_id(id, "fsap-")) {
            return Err(wrong("its third field is no access point such as fsap-0123abcd"));
        }
        if fields.next().is_some() {
            return Err(wrong("it has more than three fields"));
        }
        if path.split('/').any(|part| part == "..") {
            return Err(wrong("its path leads upwards"));
        }
        Ok(Self { file_system, path, access_point })
    }
}

/// 8 to 40 hex digits behind a prefix.
fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|id| (8..=40).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn of_efs(
    context: &PodContext<'_>,
    source: &CSIPersistentVolumeSource,
    options: &[String],
) -> Result<Nfs, VolumeProblem> {
    let handle = Handle::parse(&source.volume_handle)?;
    let attribute = |name: &str| {
        let attributes = source.volume_attributes.iter().flatten();
        let found = attributes.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    let known = context.settings.file_systems.get(handle.file_system);
    let wants_encryption = attribute("encryptInTransit").is_none_or(|value| !value.eq_ignore_ascii_case("false"));
    let server = attribute("mounttargetip").or_else(|| known.map(|known| known.server.as_str()));
    let server = server.ok_or_else(|| VolumeProblem::FileSystemUnknown(handle.file_system.to_owned()))?;
    if wants_encryption && !known.is_some_and(|known| known.allow_clear_text) {
        return Err(VolumeProblem::Encryption(handle.file_system.to_owned()));
    }
    let root = match handle.access_point {
        None => "",
        Some(id) => {
            let point = known.and_then(|known| known.access_points.get(id));
            let unknown = || VolumeProblem::AccessPointUnknown {
                file_system: handle.file_system.to_owned(),
                access_point: id.to_owned(),
            };
            point.ok_or_else(unknown)?.path.as_str()
        }
    };
    let export = known.map_or("", |known| known.export.as_str());
    Ok(Nfs {
        server: server.to_owned(),
        export: joined(&[export, root, handle.path]),
        options: efs_options(options),
        read_only: false,
    })
}

/// One absolute path of several.
fn joined(paths: &[&str]) -> String {
    let parts = paths.iter().flat_map(|path| path.split('/')).filter(|part| !matches!(*part, "" | "."));
    format!("/{}", parts.collect::<Vec<_>>().join("/"))
}

/// The mount helper's options, with the volume's in place of those of the same name.
fn efs_options(own: &[String]) -> Vec<String> {
    let name = |option: &str| option.split('=').next().unwrap_or_default().to_owned();
    let own: Vec<&String> = own.iter().filter(|option| !HELPER_OPTIONS.contains(&name(option).as_str())).collect();
    let is_replaced = |default: &str| {
        own.iter().any(|option| name(option) == name(default) || (name(option) == "vers" && name(default) == "nfsvers"))
    };
    let defaults = EFS_OPTIONS.iter().filter(|default| !is_replaced(default)).map(|&default| default.to_owned());
    defaults.chain(own.iter().map(|&option| option.clone())).collect()
}
