//! What a job of a Pod works with.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use monopod_podplan::life::Event;
use monopod_podplan::plan::{MachineShape, PlanSettings, PodContext, RuntimeFacts, Sources};
use monopod_types::PodUid;
use tokio::sync::mpsc;

use super::task::Note;
use super::{PodShared, Sandbox};
use crate::journal::ResolverRecord;
use crate::machine::Machine;
use crate::objects::Objects;

/// Cheap to clone; each job has one.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) shared: Arc<PodShared>,
    pub(super) machine: Arc<Machine>,
    pub(super) pod: Arc<Pod>,
    pub(super) objects: Arc<Objects>,
    pub(super) shape: MachineShape,
    /// The address that was decided for the Pod, where one was.
    pub(super) address: Option<Ipv4Addr>,
    /// What is planned with.
    pub(super) plan: Arc<PlanSettings>,
    pub(super) notes: mpsc::Sender<Note>,
}

impl Work {
    /// Tells the task what has happened. The task is gone when the Pod is; then nobody needs to know.
    pub(super) async fn tell(&self, event: Event) {
        self.note(Note::Life(event)).await;
    }

    pub(super) async fn note(&self, note: Note) {
        let _ = self.notes.send(note).await;
    }

    pub(super) fn uid(&self) -> PodUid {
        PodUid::new(self.shared.uid.clone())
    }

    /// Plans something with these addresses of the Pod.
    pub(super) fn with_context<T>(&self, addresses: &[IpAddr], plan: impl FnOnce(&PodContext<'_>) -> T) -> T {
        let settings = &self.machine.settings;
        let sources: Sources<'_> = self.objects.sources();
        let facts = RuntimeFacts {
            pod_ips: addresses.to_vec(),
            host_ips: settings.host_addresses(addresses),
            node_name: self.node_name().to_owned(),
            machine: self.shape,
        };
        plan(&PodContext { pod: &self.pod, sources: &sources, facts: &facts, settings: &self.plan })
    }

    /// The node that the Pod was bound to; outside a cluster the machine's own name.
    fn node_name(&self) -> &str {
        let bound = self.pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        bound.unwrap_or(&self.machine.settings.node_name)
    }

    /// The microVM, which every action but the first ones can count on.
    pub(super) fn sandbox(&self) -> Option<Arc<Sandbox>> {
        self.shared.sandbox()
    }
}

/// What is planned with for a Pod: the machine's settings, with name resolution as the Pod's Subnet has it.
pub(super) fn plan_settings(machine: &Machine, resolver: Option<&ResolverRecord>) -> PlanSettings {
    let mut settings = machine.settings.plan.clone();
    if let Some(resolver) = resolver {
        let host = settings.dns.host.get_or_insert_default();
        let ResolverRecord { nameservers, searches } = resolver.clone();
        if !nameservers.is_empty() {
            host.nameservers = nameservers;
        }
        if !searches.is_empty() {
            host.searches = searches;
        }
    }
    settings
}

/// An error with all that caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let mut text = error.to_string();
    for cause in causes {
        let cause = cause.to_string();
        // Libraries tend to say what their source says.
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}
