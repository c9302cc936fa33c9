//! Is a Pod supported in a microVM, and if not, everything that stands against it.
//!
//! Two lines of defence ask here. The scheduler (and `monopod explain`) calls [`verdict`] before a Pod is placed: what
//! it finds becomes a `FailedScheduling` event and the `PodScheduled` condition. The host daemon calls [`host_verdict`]
//! before it starts a Pod, because a cluster administrator can go round the scheduler but not round the host.
//!
//! ```text
//!             scheduler ── first ──▶ Pod not supported on Fargate: <groups>    POD_UNSUPPORTED_ON_FARGATE
//!   Pod ─▶ rules ─▶ violations
//!             host ─────── second ─▶ Pod not supported: <groups>               UnsupportedPodSpec
//! ```
//!
//! One file per concern makes the violations; `kind` holds the table of all kinds with their advice; `message` puts
//! the texts together in the grammar that users of AWS Fargate know. What is refused here is what a microVM cannot do
//! or what the reference refuses: there are no switches.

mod containers;
mod devices;
mod fields;
mod kind;
mod message;
mod owners;
mod ports;
mod resources;
mod security;
mod selectors;
mod storage;
mod volumes;

#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use monopod_api::names::SCHEDULER_NAME;

use self::containers::ContainerView;
pub use self::kind::{Cure, Kind};
pub use self::security::DEFAULT_CAPABILITIES;
pub use self::selectors::ProfileNodes;
pub use self::storage::{Storage, claim_names};
pub(crate) use self::storage::{ephemeral_claim_name, is_open_to};

/// What the scheduler's verdict depends on besides the Pod itself.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The claims and volumes that the Pod's volumes may refer to.
    pub storage: &'a Storage<'a>,
    /// The nodes that the Pod's profile can offer. `None` leaves node selectors unexamined.
    pub nodes: Option<&'a ProfileNodes<'a>>,
}

/// Everything that stands against running one Pod in a microVM; nothing, when the Pod is supported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    line: Line,
    violations: Vec<Violation>,
}

/// One thing that stands against a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    kind: Kind,
    field: String,
    fragment: String,
    message: String,
}

/// Who asks, which decides the words around the violations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Scheduler,
    Host,
}

/// The scheduler's verdict on a Pod that is not bound to a node yet.
pub fn verdict(pod: &Pod, inputs: &Inputs<'_>) -> Verdict {
    let mut found = Vec::new();
    if let Some(spec) = &pod.spec {
        fields::check(spec, &mut found);
        fields::check_node_name(spec, &mut found);
        check_common(pod, spec, inputs.storage, &mut found);
        if let Some(nodes) = inputs.nodes {
            selectors::check(pod, nodes, &mut found);
        }
    }
    Verdict { line: Line::Scheduler, violations: found }
}

/// The host's verdict on a Pod that was bound to one of its nodes, by whomever.
///
/// It trusts no earlier verdict and examines all that [`verdict`] does but for placement, which is over, and demands
/// that our scheduler was asked for.
pub fn host_verdict(pod: &Pod, storage: &Storage<'_>) -> Verdict {
    let mut found = Vec::new();
    if let Some(spec) = &pod.spec {
        check_scheduler(spec, &mut found);
        fields::check(spec, &mut found);
        check_common(pod, spec, storage, &mut found);
    }
    Verdict { line: Line::Host, violations: found }
}

/// The host's verdict on one ephemeral container that was added to a running Pod.
///
/// Only the container is refused then; the Pod, which was admitted without it, goes on. A name that the Pod does not
/// have yields no violation.
pub fn ephemeral_container_verdict(pod: &Pod, name: &str) -> Verdict {
    let mut found = Vec::new();
    let mut containers = pod.spec.iter().flat_map(ContainerView::all);
    if let Some(container) = containers.find(|container| container.is_ephemeral() && container.name == name) {
        fields::check_container(&container, &mut found);
        security::check_container(&container, &mut found);
        volumes::check_mounts(&container, &mut found);
        ports::check_container(&container, &mut found);
        devices::check_container(&container, &mut found);
        resources::check_container(&container, &mut found);
    }
    Verdict { line: Line::Host, violations: found }
}

/// The rules of both lines, in the order of the groups in the message.
fn check_common(pod: &Pod, spec: &PodSpec, storage: &Storage<'_>, found: &mut Vec<Violation>) {
    security::check(spec, found);
    volumes::check(pod, spec, storage, found);
    ports::check(spec, found);
    devices::check(spec, found);
    resources::check(spec, found);
    owners::check(pod, found);
}

fn check_scheduler(spec: &PodSpec, found: &mut Vec<Violation>) {
    let name = spec.scheduler_name.as_deref().unwrap_or("default-scheduler");
    if name != SCHEDULER_NAME {
        found.push(Violation {
            kind: Kind::ForeignScheduler,
            field: "spec.schedulerName".to_owned(),
            fragment: format!("SchedulerName is not {SCHEDULER_NAME}"),
            message: format!("the Pod was bound to a microVM's node past its scheduler, it asks for \"{name}\""),
        });
    }
}

impl Verdict {
    /// Nothing stands against the Pod.
    pub fn is_supported(&self) -> bool {
        self.violations.is_empty()
    }

    /// Everything that stands against the Pod, in the order of the message.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Every violation may go away without the Pod being changed, so asking again later makes sense.
    ///
    /// False for a supported Pod, which has nothing to wait for.
    pub fn may_change(&self) -> bool {
        !self.is_supported() && self.violations.iter().all(|violation| violation.kind.cure() == Cure::Cluster)
    }

    /// Reason of the `PodScheduled` condition (scheduler) or of the Pod's `Failed` status (host).
    pub fn reason(&self) -> &'static str {
        match self.line {
            Line::Scheduler => "POD_UNSUPPORTED_ON_FARGATE",
            Line::Host => "UnsupportedPodSpec",
        }
    }

    /// The whole text for the event, the condition or the status; empty for a supported Pod.
    pub fn message(&self) -> String {
        message::compose(self.line, &self.violations)
    }
}

impl Violation {
    /// What kind of violation it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Machine-readable reason, in CamelCase; part of the contract.
    pub fn reason(&self) -> &'static str {
        self.kind.reason()
    }

    /// Path of the offending field in the manner of Kubernetes: `spec.containers[0].securityContext.privileged`,
    /// `spec.nodeSelector[disktype]`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What the violation adds to [`Verdict::message`]; empty where the text of another violation says it already.
    pub fn fragment(&self) -> &str {
        &self.fragment
    }

    /// What is wrong, in a sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do instead, in one line.
    pub fn advice(&self) -> &'static str {
        self.kind.advice()
    }
}
