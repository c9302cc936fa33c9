//! What a Pod asks: its effective request per resource, by the rules of Kubernetes.
//!
//! - Ordinary containers run together: their requests add up.
//! - Init containers run one after the other, before the ordinary ones: the largest counts.
//! - A restartable init container (native sidecar, `restartPolicy: Always`) stays: it counts with the ordinary containers
//!   and is there beside each init container that is declared after it.
//! - `spec.resources` replaces all this for CPU and memory where it says something; `spec.overhead` is added.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource;

use monopod_types::Quantity;

use super::error::{QuantityProblem, SizingError};

/// Amounts by the name of the resource, as they stand in a Pod.
type ResourceList = BTreeMap<String, resource::Quantity>;

/// A resource that has to do with the size of a microVM.
#[derive(Clone, Copy)]
pub(super) enum Resource {
    Cpu,
    Memory,
    EphemeralStorage,
}

/// Whose resources are meant; the position is the one in the Pod's list.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    Pod,
    Container(usize),
    InitContainer(usize),
}

/// The place of one amount in a Pod.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Request(Owner, Resource),
    Limit(Owner, Resource),
    Overhead(Resource),
}

/// One amount that the Pod states, neither malformed nor negative.
#[derive(Clone, Copy)]
pub(super) struct Stated<'pod> {
    pub(super) quantity: Quantity,
    text: &'pod str,
    field: Field,
}

/// Amounts per resource. A resource that nobody states is `None`, which is not the same as a stated zero: a Pod's limit
/// stands in for the former only.
#[derive(Clone, Copy, Default)]
struct Amounts {
    cpu: Option<Quantity>,
    memory: Option<Quantity>,
    ephemeral_storage: Option<Quantity>,
}

/// The effective request of a Pod.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    pub(super) cpu: Quantity,
    pub(super) memory: Quantity,
    pub(super) ephemeral_storage: Quantity,
}

impl Demand {
    /// Reads all requests, and all limits so that a wrong one is refused here and not in the guest.
    pub(super) fn of(pod: &Pod) -> Result<Self, SizingError> {
        let Some(spec) = &pod.spec else { return Ok(Self::default()) };
        let containers = containers_together(spec)?;
        let pod_level = |resource, containers| pod_level(spec.resources.as_ref(), resource, containers);
        let overhead = |resource| match stated(spec.overhead.as_ref(), Field::Overhead(resource))? {
            Some(overhead) => overhead.as_request(),
            None => Ok(Quantity::ZERO),
        };
        Ok(Self {
            cpu: pod_level(Resource::Cpu, containers.cpu)? + overhead(Resource::Cpu)?,
            memory: pod_level(Resource::Memory, containers.memory)? + overhead(Resource::Memory)?,
            ephemeral_storage: containers.ephemeral_storage.unwrap_or_default() + overhead(Resource::EphemeralStorage)?,
        })
    }
}

/// The effective request of all containers.
fn containers_together(spec: &PodSpec) -> Result<Amounts, SizingError> {
    let mut running = Amounts::default();
    for (index, container) in spec.containers.iter().enumerate() {
        running = running.plus(Amounts::of(container, Owner::Container(index))?);
    }
    let (mut sidecars, mut starting) = (Amounts::default(), Amounts::default());
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let amounts = Amounts::of(container, Owner::InitContainer(index))?;
        starting = starting.max_of_each(sidecars.plus(amounts));
        if is_sidecar(container) {
            sidecars = sidecars.plus(amounts);
        }
    }
    Ok(running.plus(sidecars).max_of_each(starting))
}

fn is_sidecar(init_container: &Container) -> bool {
    init_container.restart_policy.as_deref() == Some("Always")
}

/// A resource of the whole Pod: its own request, else what its containers ask, else its own limit.
///
/// That is what the API server's defaulting comes to: it writes a missing Pod-level request only beside Pod-level limits,
/// and takes it from the containers if one of them asks for the resource.
fn pod_level(
    pod: Option<&ResourceRequirements>,
    resource: Resource,
    containers: Option<Quantity>,
) -> Result<Quantity, SizingError> {
    let limit = limit(pod, Owner::Pod, resource)?;
    if let Some(request) = request(pod, Owner::Pod, resource)? {
        return request.as_request();
    }
    match (containers, limit) {
        (Some(containers), _) => Ok(containers),
        (None, Some(limit)) => limit.as_request(),
        (None, None) => Ok(Quantity::ZERO),
    }
}

impl Amounts {
    /// The requests of one container, its limits standing in for those that are missing.
    fn of(container: &Container, owner: Owner) -> Result<Self, SizingError> {
        let resources = container.resources.as_ref();
        let read = |resource| {
            let limit = limit(resources, owner, resource)?;
            request(resources, owner, resource)?.or(limit).map(Stated::as_request).transpose()
        };
        Ok(Self {
            cpu: read(Resource::Cpu)?,
            memory: read(Resource::Memory)?,
            ephemeral_storage: read(Resource::EphemeralStorage)?,
        })
    }

    fn plus(self, other: Self) -> Self {
        self.with(other, |one, two| one + two)
    }

    fn max_of_each(self, other: Self) -> Self {
        self.with(other, Quantity::max)
    }

    /// Combines what both state; what one states alone stays as it is.
    fn with(self, other: Self, combine: fn(Quantity, Quantity) -> Quantity) -> Self {
        let each = |one: Option<Quantity>, two: Option<Quantity>| match (one, two) {
            (Some(one), Some(two)) => Some(combine(one, two)),
            (one, two) => one.or(two),
        };
        Self {
            cpu: each(self.cpu, other.cpu),
            memory: each(self.memory, other.memory),
            ephemeral_storage: each(self.ephemeral_storage, other.ephemeral_storage),
        }
    }
}

/// What a container or Pod requests of a resource.
fn request(
    resources: Option<&ResourceRequirements>,
    owner: Owner,
    resource: Resource,
) -> Result<Option<Stated<'_>>, SizingError> {
    stated(resources.and_then(|resources| resources.requests.as_ref()), Field::Request(owner, resource))
}

/// How much of a resource a container or Pod may use.
pub(super) fn limit(
    resources: Option<&ResourceRequirements>,
    owner: Owner,
    resource: Resource,
) -> Result<Option<Stated<'_>>, SizingError> {
    stated(resources.and_then(|resources| resources.limits.as_ref()), Field::Limit(owner, resource))
}

/// Reads one amount, rounded up to a thousandth as the API server stores it.
fn stated(list: Option<&ResourceList>, field: Field) -> Result<Option<Stated<'_>>, SizingError> {
    let Some(resource::Quantity(text)) = list.and_then(|list| list.get(field.resource().name())) else {
        return Ok(None);
    };
    let quantity: Quantity = text.parse().map_err(|error| field.refuse(text, QuantityProblem::Malformed(error)))?;
    if quantity.is_negative() {
        return Err(field.refuse(text, QuantityProblem::Negative));
    }
    Ok(Some(Stated { quantity: quantity.rounded_up_to_milli(), text, field }))
}

impl Stated<'_> {
    /// The amount as something that must be provided. A limit may be as large as it likes, it is clamped; a request not.
    fn as_request(self) -> Result<Quantity, SizingError> {
        if self.quantity >= Quantity::MAX {
            return Err(self.field.refuse(self.text, QuantityProblem::Absurd));
        }
        Ok(self.quantity)
    }
}

impl Resource {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::EphemeralStorage => "ephemeral-storage",
        }
    }
}

impl Field {
    fn resource(self) -> Resource {
        match self {
            Self::Request(_, resource) | Self::Limit(_, resource) | Self::Overhead(resource) => resource,
        }
    }

    fn refuse(self, value: &str, problem: QuantityProblem) -> SizingError {
        SizingError::Quantity { field: self.to_string(), value: value.to_owned(), problem }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.resource().name();
        match self {
            Self::Request(owner, _) => write!(f, "{owner}.resources.requests[{name}]"),
            Self::Limit(owner, _) => write!(f, "{owner}.resources.limits[{name}]"),
            Self::Overhead(_) => write!(f, "spec.overhead[{name}]"),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod => write!(f, "spec"),
            Self::Container(index) => write!(f, "spec.containers[{index}]"),
            Self::InitContainer(index) => write!(f, "spec.initContainers[{index}]"),
        }
    }
}
