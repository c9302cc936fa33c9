//! Why a volume of a Pod cannot be made. The texts are those of the kubelet's `FailedMount` events.

use std::fmt;

use super::super::error::PlanError;

/// Every volume that cannot be made, in the Pod's order; never empty. Others may have been made: the kubelet mounts
/// what it can, but starts nothing before it has all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct VolumeErrors(pub Vec<VolumeError>);

impl fmt::Display for VolumeErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join("; "))
    }
}

/// Why one volume cannot be made. It is tried again: what is missing may come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// The volume is known and making it fails.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {problem}")]
    SetUp {
        /// Name of the volume in the Pod, or of the persistent volume behind it.
        volume: String,
        /// What is wrong.
        #[source]
        problem: VolumeProblem,
    },
    /// What the volume is cannot be found out.
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process \
         volumes=[{volume}]: {problem}"
    )]
    Process {
        /// Name of the volume in the Pod.
        volume: String,
        /// What is wrong.
        #[source]
        problem: VolumeProblem,
    },
}

impl VolumeError {
    /// The error of the Pod's volume `volume`, made from `source`.
    pub(super) fn new(volume: &str, source: &str, problem: VolumeProblem) -> Self {
        if problem.is_of_lookup() {
            Self::Process { volume: volume.to_owned(), problem }
        } else {
            Self::SetUp { volume: source.to_owned(), problem }
        }
    }

    /// Reason of the event.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::SetUp { .. } | Self::Process { .. } => "FailedMount",
        }
    }
}

/// What is wrong with a volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeProblem {
    /// A ConfigMap does not exist.
    #[error("configmap {0:?} not found")]
    ConfigMapNotFound(String),
    /// A Secret does not exist.
    #[error("secret {0:?} not found")]
    SecretNotFound(String),
    /// A ConfigMap lacks a key.
    #[error("configmap references non-existent config key: {0}")]
    ConfigMapKey(String),
    /// A Secret lacks a key.
    #[error("references non-existent secret key: {0}")]
    SecretKey(String),
    /// A file has no place in the volume.
    #[error("invalid path: {0}")]
    Path(String),
    /// A user or group is none that Linux has, or a field cannot be had.
    #[error(transparent)]
    Field(#[from] PlanError),
    /// The Pod's service account has no such token.
    #[error("failed to fetch token: no token for audience {audience:?} was issued to serviceaccount {account:?}")]
    Token {
        /// Whom the token is for.
        audience: String,
        /// The service account.
        account: String,
    },
    /// A bundle of certificates does not exist.
    #[error("while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io {0:?} not found")]
    TrustBundleNotFound(String),
    /// No bundle of certificates is selected.
    #[error("combination of signerName and labelSelector matched zero ClusterTrustBundles")]
    NoTrustBundle,
    /// Certificates of Pods are not made here.
    #[error("podCertificate projections are not supported")]
    PodCertificate,
    /// Several things at once.
    #[error("[{}]", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Several(Vec<VolumeProblem>),
    /// An emptyDir is of a kind that there is not.
    #[error("unknown storage medium {0:?}")]
    Medium(String),
    /// The kind of volume is not made here.
    #[error("failed to get Plugin from volumeSpec for volume {0:?} err=no volume plugin matched")]
    NoPlugin(String),
    /// A claim leads nowhere.
    #[error("error processing PVC {claim}: {problem}")]
    Claim {
        /// Namespace and name of the claim.
        claim: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A claim is for a block device and is to be mounted.
    #[error("volume {0} has volumeMode Block, but is specified in volumeMounts")]
    BlockDevice(String),
    /// The handle of an EFS volume is malformed.
    #[error("volume handle {handle:?} is invalid: {problem}")]
    Handle {
        /// The handle.
        handle: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Nobody said where an EFS file system is.
    #[error(
        "no NFS server is known for file system {0}: name it in the host's configuration, or set the volume attribute \
         mounttargetip"
    )]
    FileSystemUnknown(String),
    /// Nobody said what an EFS access point is.
    #[error("access point {access_point} of file system {file_system} is not in the host's configuration")]
    AccessPointUnknown {
        /// The file system.
        file_system: String,
        /// The access point.
        access_point: String,
    },
    /// The volume asks for encryption, as EFS volumes do unless they say otherwise.
    #[error(
        "file system {0} asks for encryption in transit, which is not available: set the volume attribute encryptInTransit \
         to \"false\", or allow clear text for it in the host's configuration"
    )]
    Encryption(String),
}

impl VolumeProblem {
    /// Whether it is not even known what to mount.
    fn is_of_lookup(&self) -> bool {
        matches!(self, Self::NoPlugin(_) | Self::Claim { .. } | Self::BlockDevice(_))
    }

    /// All of them as one: itself where there is one.
    pub(super) fn joined(mut problems: Vec<Self>) -> Result<(), Self> {
        match problems.len() {
            0 => Ok(()),
            1 => Err(problems.remove(0)),
            _ => Err(Self::Several(problems)),
        }
    }
}
