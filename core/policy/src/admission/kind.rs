//! The table of all kinds of violation: where each stands in the message, what can cure it and what to do instead.
//!
//! The name of a kind is its reason, in JSON, in metrics and as the name of its page `docs/errors/<Reason>.md`: part of
//! the contract, never renamed.

use super::message::Group;

/// What has to change before a violation goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// The Pod itself: it has to be deleted and made anew.
    Pod,
    /// Another object, such as a claim that gets bound; the Pod may be looked at again.
    Cluster,
}

/// Defines [`Kind`] and everything that is fixed for each of its values.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $group:ident, $cure:ident, $advice:literal;)*) => {
        /// Every way in which a Pod can be unfit for a microVM.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All kinds, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Machine-readable reason, in CamelCase.
            pub fn reason(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind),)* }
            }

            /// What to do instead, in one line.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$kind => $advice,)* }
            }

            /// What has to change before the violation goes away.
            pub fn cure(self) -> Cure {
                match self { $(Self::$kind => Cure::$cure,)* }
            }

            /// Where the violation stands in the message.
            pub(super) fn group(self) -> Group {
                match self { $(Self::$kind => Group::$group,)* }
            }

            /// The page that explains the kind; a kind without a page does not compile in tests.
            #[cfg(test)]
            pub(super) fn page(self) -> &'static str {
                match self {
                    $(Self::$kind => include_str!(concat!(
                        env!("CARGO_MANIFEST_DIR"), "/../../docs/errors/", stringify!($kind), ".md"
                    )),)*
                }
            }
        }
    };
}

kinds! {
    /// The Pod was bound to a microVM's node, but not by our scheduler.
    ForeignScheduler: Scheduler, Pod,
        "let a Fargate profile select the Pod; do not bind it by hand or tolerate the taint of microVM nodes";
    /// `hostNetwork: true`.
    HostNetwork: Fields, Pod,
        "remove hostNetwork; the Pod has an address of its own on which all its container ports can be reached";
    /// `hostPID: true`.
    HostPID: Fields, Pod,
        "remove hostPID; to see the processes of the Pod's other containers use shareProcessNamespace";
    /// `hostIPC: true`.
    HostIPC: Fields, Pod,
        "remove hostIPC; the containers of one Pod share System V and POSIX IPC with each other anyway";
    /// `hostUsers: false`.
    UserNamespace: Fields, Pod,
        "remove hostUsers: false; the Pod's own kernel separates it from others more strongly than a user namespace";
    /// The Pod is made for Windows.
    WindowsPod: Fields, Pod,
        "run the Pod on a Windows node; microVMs run Linux on amd64";
    /// `nodeName` was set by hand.
    NodeNameSet: Fields, Pod,
        "remove nodeName; the node of a microVM is made for the Pod and has no name before";
    /// Capabilities beyond the default set.
    AddedCapabilities: SecurityContext, Pod,
        "remove the names from capabilities.add; only those of the default set, written without CAP_, may be added";
    /// `allowPrivilegeEscalation: true`.
    PrivilegeEscalation: SecurityContext, Pod,
        "set allowPrivilegeEscalation to false or leave it out, and let the program listen on a port above 1023";
    /// `privileged: true`.
    PrivilegedContainer: SecurityContext, Pod,
        "remove privileged; to build images use a builder that needs no rights, such as Kaniko or rootless BuildKit";
    /// `procMount: Unmasked`.
    UnmaskedProcMount: SecurityContext, Pod,
        "remove procMount or set it to Default";
    /// A seccomp profile from a file of the node.
    LocalSeccompProfile: SecurityContext, Pod,
        "use the seccomp profile RuntimeDefault; a microVM has no profile files of its own";
    /// An AppArmor profile loaded on the node.
    LocalAppArmorProfile: SecurityContext, Pod,
        "use the AppArmor profile RuntimeDefault; nobody can load another one into a microVM";
    /// A sysctl that Kubernetes does not count as safe.
    UnsafeSysctl: SecurityContext, Pod,
        "remove the sysctl; only the sysctls that Kubernetes counts as safe can be set";
    /// A `hostPath` volume.
    HostPathVolume: Volumes, Pod,
        "use emptyDir for scratch space, or an EFS or NFS volume for data that outlives the Pod";
    /// An inline `csi` volume.
    InlineCsiVolume: Volumes, Pod,
        "use a secret or projected volume; have an operator copy outside secrets into Secrets of the cluster";
    /// An `image` volume.
    ImageVolume: Volumes, Pod,
        "copy the files with an init container of that image into an emptyDir";
    /// A volume of any other type that a microVM cannot mount.
    UnsupportedVolumeType: Volumes, Pod,
        "use emptyDir, configMap, secret, projected, downwardAPI, nfs, or a claim bound to an EFS or NFS volume";
    /// The claim does not exist.
    PersistentVolumeClaimNotFound: Volumes, Cluster,
        "create the PersistentVolumeClaim in the Pod's namespace; the Pod is looked at again once it is bound";
    /// The claim exists and has no volume.
    PersistentVolumeClaimNotBound: Volumes, Cluster,
        "create a PersistentVolume that the claim can bind to; the Pod is looked at again once it is bound";
    /// The claim of a generic ephemeral volume was not made for this Pod.
    PersistentVolumeClaimNotOwned: Volumes, Cluster,
        "delete or rename the PersistentVolumeClaim that stands in the way of the Pod's own";
    /// The claim that Kubernetes makes for a generic ephemeral volume has no volume, or is not made yet.
    EphemeralVolumeNotBound: Volumes, Cluster,
        "use emptyDir, or create a PersistentVolume that the claim can bind to; Kubernetes makes the claim itself";
    /// The claim is bound to a volume that does not exist.
    PersistentVolumeNotFound: Volumes, Cluster,
        "the PersistentVolume is missing from what was read; add it to the input, or restore it in the cluster";
    /// The claim is bound to a volume of a driver that microVMs do not have.
    UnsupportedCsiDriver: Volumes, Cluster,
        "use a PersistentVolume of the driver efs.csi.aws.com or of type nfs; block storage cannot be attached";
    /// The claim is bound to a volume that is neither CSI nor NFS.
    UnsupportedPersistentVolume: Volumes, Cluster,
        "use a PersistentVolume of the driver efs.csi.aws.com or of type nfs";
    /// `mountPropagation: Bidirectional`.
    BidirectionalMount: Volumes, Pod,
        "remove mountPropagation; a mount made in one container cannot be handed to others";
    /// `hostPort` or `hostIP`.
    HostPort: Ports, Pod,
        "remove hostPort and hostIP; reach the Pod at its own address or through a Service";
    /// `volumeDevices`.
    BlockDevice: Devices, Pod,
        "mount a file system with volumeMounts; raw block devices cannot be attached to a microVM";
    /// A GPU among the requests or limits.
    Gpu: Resources, Pod,
        "run the Pod on a node with GPUs, kept off microVMs by the annotation eks.amazonaws.com/compute-type: ec2";
    /// Huge pages among the requests or limits.
    HugePages: Resources, Pod,
        "remove the hugepages resource and ask for ordinary memory";
    /// Another extended resource among the requests or limits.
    ExtendedResource: Resources, Pod,
        "remove the resource; a microVM offers cpu, memory and ephemeral-storage";
    /// A claim of dynamic resource allocation.
    ResourceClaim: Resources, Pod,
        "remove resourceClaims; devices cannot be allocated to a microVM";
    /// The Pod belongs to a DaemonSet.
    OwnedByDaemonSet: Owners, Pod,
        "run the agent as a sidecar, and keep the DaemonSet off nodes with eks.amazonaws.com/compute-type: fargate";
    /// No node of the profile can meet the node selector or the required node affinity.
    UnsatisfiableNodeSelector: NodeSelector, Cluster,
        "select only by zone, region, amd64 or linux, or add a subnet in the zone to the profile; to keep the Pod off \
         microVMs use the annotation eks.amazonaws.com/compute-type: ec2, not affinity";
}
