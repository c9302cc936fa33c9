//! One view of init, ordinary and ephemeral containers, so that every rule is written once.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EphemeralContainer, PodSpec, ResourceRequirements, SecurityContext, VolumeDevice,
    VolumeMount,
};

/// What the rules look at in a container, and where it stands in the Pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContainerView<'a> {
    list: List,
    index: usize,
    pub(super) name: &'a str,
    pub(super) security_context: Option<&'a SecurityContext>,
    pub(super) resources: Option<&'a ResourceRequirements>,
    pub(super) ports: &'a [ContainerPort],
    pub(super) volume_mounts: &'a [VolumeMount],
    pub(super) volume_devices: &'a [VolumeDevice],
}

/// The three lists of containers in a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Init,
    Ordinary,
    Ephemeral,
}

impl<'a> ContainerView<'a> {
    /// All containers: init, then ordinary, then ephemeral ones, the order of the reference's message.
    pub(super) fn all(spec: &'a PodSpec) -> impl Iterator<Item = Self> {
        let init = spec.init_containers.iter().flatten().enumerate();
        let ordinary = spec.containers.iter().enumerate();
        let ephemeral = spec.ephemeral_containers.iter().flatten().enumerate();
        init.map(|(index, container)| Self::of(List::Init, index, container))
            .chain(ordinary.map(|(index, container)| Self::of(List::Ordinary, index, container)))
            .chain(ephemeral.map(|(index, container)| Self::of_ephemeral(index, container)))
    }

    fn of(list: List, index: usize, container: &'a Container) -> Self {
        Self {
            list,
            index,
            name: &container.name,
            security_context: container.security_context.as_ref(),
            resources: container.resources.as_ref(),
            ports: container.ports.as_deref().unwrap_or_default(),
            volume_mounts: container.volume_mounts.as_deref().unwrap_or_default(),
            volume_devices: container.volume_devices.as_deref().unwrap_or_default(),
        }
    }

    fn of_ephemeral(index: usize, container: &'a EphemeralContainer) -> Self {
        Self {
            list: List::Ephemeral,
            index,
            name: &container.name,
            security_context: container.security_context.as_ref(),
            resources: container.resources.as_ref(),
            ports: container.ports.as_deref().unwrap_or_default(),
            volume_mounts: container.volume_mounts.as_deref().unwrap_or_default(),
            volume_devices: container.volume_devices.as_deref().unwrap_or_default(),
        }
    }

    /// Whether it was added to the running Pod.
    pub(super) fn is_ephemeral(&self) -> bool {
        self.list == List::Ephemeral
    }

    /// Path of a field of the container, such as `spec.initContainers[0].ports[1].hostPort`.
    pub(super) fn path(&self, field: &str) -> String {
        let list = match self.list {
            List::Init => "initContainers",
            List::Ordinary => "containers",
            List::Ephemeral => "ephemeralContainers",
        };
        format!("spec.{list}[{}].{field}", self.index)
    }
}
