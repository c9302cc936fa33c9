//! Why a container or a Pod's sandbox cannot be planned. The texts are the kubelet's.

use monopod_policy::sizing::SizingError;

/// Why a container cannot be made. It waits, and is tried again: the objects it needs may come.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// The Pod has no container of this name.
    #[error("container {name} not found")]
    ContainerNotFound {
        /// The name asked for.
        name: String,
    },
    /// A ConfigMap does not exist.
    #[error("configmap {name:?} not found")]
    ConfigMapNotFound {
        /// Its name.
        name: String,
    },
    /// A Secret does not exist.
    #[error("secret {name:?} not found")]
    SecretNotFound {
        /// Its name.
        name: String,
    },
    /// A ConfigMap or Secret lacks a key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    KeyNotFound {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Namespace of the object.
        namespace: String,
        /// Name of the object.
        name: String,
        /// The key.
        key: String,
    },
    /// A variable's value is no text.
    #[error("environment variable {variable} contains invalid UTF-8")]
    NotText {
        /// Name of the variable.
        variable: String,
    },
    /// A field is selected in the way of another API version.
    #[error("unsupported pod version: {version}")]
    PodVersion {
        /// The version.
        version: String,
    },
    /// A selected field is none that the downward API has.
    #[error("field label not supported: {path}")]
    FieldLabel {
        /// Path of the field.
        path: String,
    },
    /// A selected field has a subscript and cannot.
    #[error("field label does not support subscript: {path}")]
    FieldSubscript {
        /// Path of the field.
        path: String,
    },
    /// A selected field is known to the downward API, but not here.
    #[error("unsupported fieldPath: {path}")]
    FieldPath {
        /// Path of the field.
        path: String,
    },
    /// A selected resource is none that the downward API has.
    #[error("unsupported container resource : {resource}")]
    ContainerResource {
        /// The resource.
        resource: String,
    },
    /// The file of variables is not there yet, or is not one.
    #[error("couldn't parse env file")]
    EnvironmentFile,
    /// The file of variables lacks a key.
    #[error("environment variable key {key:?} not found in file {path:?}")]
    EnvironmentFileKey {
        /// The key.
        key: String,
        /// Path of the file in its volume.
        path: String,
    },
    /// The Pod's own user is root where root is forbidden.
    #[error("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})")]
    RunAsUserIsRoot {
        /// The Pod, as the kubelet describes it.
        pod: String,
        /// The container.
        container: String,
    },
    /// The image's user is root where root is forbidden.
    #[error("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})")]
    ImageRunsAsRoot {
        /// The Pod, as the kubelet describes it.
        pod: String,
        /// The container.
        container: String,
    },
    /// The image's user is a name, which may well be root's.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: {pod:?}, \
         container: {container})"
    )]
    ImageUserIsAName {
        /// The user.
        user: String,
        /// The Pod, as the kubelet describes it.
        pod: String,
        /// The container.
        container: String,
    },
    /// The image's user is beyond what Linux has.
    #[error(
        "container has runAsNonRoot and image has an invalid user id ({user}). (Must be 1-(2147483647)): must be between 0 and \
         2147483647, inclusive (pod: {pod:?}, container: {container})"
    )]
    ImageUserOutOfRange {
        /// The user.
        user: i64,
        /// The Pod, as the kubelet describes it.
        pod: String,
        /// The container.
        container: String,
    },
    /// A user or group is beyond what Linux has.
    #[error("{field} must be between 0 and 2147483647, inclusive: {value}")]
    IdOutOfRange {
        /// Name of the field.
        field: &'static str,
        /// What stands there.
        value: i64,
    },
    /// The seccomp profile is a file of a node, and there is none.
    #[error("seccomp profile {profile:?} of the node is not available to a microVM")]
    LocalSeccompProfile {
        /// The file.
        profile: String,
    },
    /// A mount names no volume of the Pod.
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    VolumeNotFound {
        /// The volume.
        volume: String,
        /// The container.
        container: String,
    },
    /// A sub path is absolute.
    #[error("error SubPath `{sub_path}` must not be an absolute path")]
    AbsoluteSubPath {
        /// The sub path.
        sub_path: String,
    },
    /// A sub path leads upwards.
    #[error("unable to provision SubPath `{sub_path}`: must not contain '..'")]
    SubPathBacksteps {
        /// The sub path.
        sub_path: String,
    },
    /// A sub path refers to variables that are unknown or empty.
    #[error("missing value for {}", names.join(", "))]
    SubPathVariables {
        /// The variables, sorted.
        names: Vec<String>,
    },
    /// A mount cannot be read-only all the way down.
    #[error("failed to resolve recursive read-only mode: {problem}")]
    RecursiveReadOnly {
        /// What stands against it.
        problem: String,
    },
    /// Neither the Pod nor the image says what to run.
    #[error("no command specified")]
    NoCommand,
    /// A limit cannot be read.
    #[error(transparent)]
    Limits(#[from] SizingError),
}

impl PlanError {
    /// Reason of the container's waiting state and of its event.
    pub fn reason(&self) -> &'static str {
        match self {
            // The kubelet learns this one from the runtime.
            Self::NoCommand => "CreateContainerError",
            Self::ContainerNotFound { .. }
            | Self::ConfigMapNotFound { .. }
            | Self::SecretNotFound { .. }
            | Self::KeyNotFound { .. }
            | Self::NotText { .. }
            | Self::PodVersion { .. }
            | Self::FieldLabel { .. }
            | Self::FieldSubscript { .. }
            | Self::FieldPath { .. }
            | Self::ContainerResource { .. }
            | Self::EnvironmentFile
            | Self::EnvironmentFileKey { .. }
            | Self::RunAsUserIsRoot { .. }
            | Self::ImageRunsAsRoot { .. }
            | Self::ImageUserIsAName { .. }
            | Self::ImageUserOutOfRange { .. }
            | Self::IdOutOfRange { .. }
            | Self::LocalSeccompProfile { .. }
            | Self::VolumeNotFound { .. }
            | Self::AbsoluteSubPath { .. }
            | Self::SubPathBacksteps { .. }
            | Self::SubPathVariables { .. }
            | Self::RecursiveReadOnly { .. }
            | Self::Limits(_) => "CreateContainerConfigError",
        }
    }
}

/// Why a Pod cannot be given a host name.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SandboxError {
    /// `spec.hostname`, `spec.subdomain` or `spec.hostnameOverride` is no DNS name.
    #[error("pod {field} {value:?} is not a valid DNS {form}: {rule}")]
    NotADnsName {
        /// `Hostname`, `Subdomain` or `HostnameOverride`.
        field: &'static str,
        /// What stands there.
        value: String,
        /// `label` or `subdomain`.
        form: &'static str,
        /// What is right.
        rule: &'static str,
    },
    /// Nothing is left of the host name after it was cut.
    #[error("hostname for pod {pod:?} was invalid: {hostname:?}")]
    NothingLeft {
        /// The Pod's name.
        pod: String,
        /// The host name before.
        hostname: String,
    },
    /// The full name does not fit into the kernel's field.
    #[error(
        "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long (64 characters is the max, {} \
         characters requested)",
        fqdn.len()
    )]
    FqdnTooLong {
        /// The full name.
        fqdn: String,
    },
}

impl SandboxError {
    /// Reason of the Pod's event.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotADnsName { .. } | Self::NothingLeft { .. } | Self::FqdnTooLong { .. } => "FailedCreatePodSandBox",
        }
    }
}
