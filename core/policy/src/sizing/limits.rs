//! How far the limits of a Pod's containers reach inside its microVM: what the guest writes into its cgroups.
//!
//! A limit above the size of the microVM cannot be kept by anyone and is no error: it is clamped to the size.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use monopod_types::{Bytes, GiB, MilliCpu, Quantity};

use super::demand::{Owner, Resource, limit};
use super::{Shape, SizingError};

/// The limits of a Pod and of each of its containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveLimits<'pod> {
    /// Of all containers together, from `spec.resources`.
    pub pod: Limits,
    /// Of each init container and then of each container, in the order of the Pod.
    pub containers: Vec<ContainerLimits<'pod>>,
}

/// The limits of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerLimits<'pod> {
    /// Name of the container, which is unique in its Pod.
    pub container: &'pod str,
    /// How much it may use.
    pub limits: Limits,
}

/// How much may be used; where nothing is said, only the microVM itself is the bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU time per time.
    pub cpu: Option<MilliCpu>,
    /// Memory.
    pub memory: Option<Bytes>,
    /// Writable layer, logs and emptyDir volumes together.
    pub ephemeral_storage: Option<Bytes>,
}

/// The limits of a Pod in a microVM with so much CPU, memory and disk. A limit of zero is none, as for the kubelet.
///
/// # Errors
/// A limit is malformed or negative. A Pod that [`super::size`] accepts has none such.
pub fn effective_limits<'pod>(
    pod: &'pod Pod,
    shape: Shape,
    ephemeral: GiB,
) -> Result<EffectiveLimits<'pod>, SizingError> {
    let Some(spec) = &pod.spec else {
        return Ok(EffectiveLimits { pod: Limits::default(), containers: Vec::new() });
    };
    let of_container = |container: &'pod Container, owner| {
        let limits = Limits::of_container(container, owner, shape, ephemeral)?;
        Ok(ContainerLimits { container: &container.name, limits })
    };
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(index, container)| of_container(container, Owner::InitContainer(index)));
    let ordinary = spec.containers.iter().enumerate();
    let ordinary = ordinary.map(|(index, container)| of_container(container, Owner::Container(index)));
    let containers = init.chain(ordinary).collect::<Result<_, SizingError>>()?;
    Ok(EffectiveLimits { pod: Limits::of_cpu_and_memory(spec.resources.as_ref(), Owner::Pod, shape)?, containers })
}

impl Limits {
    fn of_container(container: &Container, owner: Owner, shape: Shape, ephemeral: GiB) -> Result<Self, SizingError> {
        let resources = container.resources.as_ref();
        let disk = effective_limit(resources, owner, Resource::EphemeralStorage)?;
        Ok(Self {
            ephemeral_storage: disk.map(|limit| limit.to_bytes().min(ephemeral.into())),
            ..Self::of_cpu_and_memory(resources, owner, shape)?
        })
    }

    /// All that a Pod as a whole can have; its containers have a limit on disk too.
    fn of_cpu_and_memory(
        resources: Option<&ResourceRequirements>,
        owner: Owner,
        shape: Shape,
    ) -> Result<Self, SizingError> {
        let cpu = effective_limit(resources, owner, Resource::Cpu)?;
        let memory = effective_limit(resources, owner, Resource::Memory)?;
        Ok(Self {
            cpu: cpu.map(|limit| limit.to_milli_cpu().min(shape.cpu)),
            memory: memory.map(|limit| limit.to_bytes().min(shape.memory.into())),
            ephemeral_storage: None,
        })
    }
}

/// The limit as stated, or `None` where it is missing or zero.
fn effective_limit(
    resources: Option<&ResourceRequirements>,
    owner: Owner,
    resource: Resource,
) -> Result<Option<Quantity>, SizingError> {
    let limit = limit(resources, owner, resource)?;
    Ok(limit.map(|limit| limit.quantity).filter(|quantity| *quantity > Quantity::ZERO))
}
