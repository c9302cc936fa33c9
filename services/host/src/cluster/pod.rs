//! One Pod of the cluster: it is started, kept, told of and ended as the API server says.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use monopod_api::names;
use monopod_podplan::life::{Notice, Severity, foreign_conditions};
use monopod_podplan::plan::MachineShape;
use monopod_policy::admission::ephemeral_container_verdict;
use monopod_policy::record;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::events;
use super::resizing;
use super::sources::{Sources, patiently};
use super::status::patch;
use super::telling::{Telling, last_status, staged};
use super::{ClusterError, Link, node};
use crate::admission::Placed;
use crate::error::HostError;
use crate::host::Host;
use crate::identity::PodName;
use crate::news::{Item, SeenEvent, TimedItem, warning};
use crate::objects::Objects;
use crate::pod::PodHandle;

/// Between attempts at what failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Why a Pod fails that the scheduler should not have sent.
const UNSUPPORTED: &str = "UnsupportedPodSpec";
/// In nanoseconds.
const MILLISECOND: u64 = 1_000_000;
/// Changes of objects that may wait.
const CHANGES: usize = 8;

/// What the API server says of a Pod.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    /// It is there.
    Is(Arc<Pod>),
    /// It was removed; this is what it was last.
    Gone(Arc<Pod>),
}

impl Seen {
    pub(super) fn pod(&self) -> &Arc<Pod> {
        match self {
            Self::Is(pod) | Self::Gone(pod) => pod,
        }
    }
}

/// Why a Pod is not served at the moment.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("node {node} is not the record of this Pod's place: {problem}")]
    Place { node: String, problem: String },
    #[error(transparent)]
    Host(#[from] HostError),
}

/// The kubelet of one Pod.
struct Kubelet {
    link: Arc<Link>,
    host: Arc<Host>,
    name: PodName,
    uid: String,
    node: String,
    /// As the node.
    client: Client,
    events: mpsc::Sender<SeenEvent>,
}

/// Serves a Pod until the cluster has it no more.
pub(super) async fn live(link: Arc<Link>, host: Arc<Host>, mut seen: watch::Receiver<Seen>) {
    let pod = Arc::clone(seen.borrow().pod());
    let metadata = &pod.metadata;
    let name = PodName {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let uid = metadata.uid.clone().unwrap_or_default();
    loop {
        let result = match link.certificates.as_node(&node).await {
            Err(error) => Err(error.into()),
            Ok(as_node) => {
                let client = as_node.client();
                monopod_faults::point("host/identified");
                let events = events::writer(client.clone(), Arc::clone(&pod), node.clone());
                let (link, host) = (Arc::clone(&link), Arc::clone(&host));
                let kubelet =
                    Kubelet { link, host, name: name.clone(), uid: uid.clone(), node: node.clone(), client, events };
                let mut beside = JoinSet::new();
                beside.spawn(node::keep(
                    Arc::clone(&kubelet.link),
                    kubelet.client.clone(),
                    Arc::clone(&pod),
                    node.clone(),
                    Arc::clone(&kubelet.host),
                ));
                kubelet.serve(&mut seen, &mut beside).await
            }
        };
        match result {
            Ok(()) => {
                // A Pod that only lost the label by which we watch it gets it back, and goes on meanwhile.
                let as_node = link.certificates.as_node(&node).await;
                if let Ok(as_node) = as_node
                    && matches!(&*seen.borrow(), Seen::Gone(_))
                    && is_still_there(&as_node.client(), &name, &uid).await
                {
                    tracing::warn!(pod = %name, uid, "the pod has lost the label of its host");
                    let _ = tokio::time::timeout(PAUSE, seen.changed()).await;
                    continue;
                }
                break;
            }
            Err(error) => {
                tracing::warn!(pod = %name, uid, error = &error as &dyn std::error::Error, "the pod is not served yet");
            }
        }
        if matches!(&*seen.borrow(), Seen::Gone(_)) {
            break;
        }
        // Whatever comes first may make it work.
        let _ = tokio::time::timeout(PAUSE, seen.changed()).await;
    }
    if held(&host, &name, &uid).is_some() {
        let grace = grace(seen.borrow().pod());
        end(&host, &name, grace).await;
    }
    link.certificates.forget(&node);
}

/// Whether the API server has a Pod of which the watch says that it is gone. One that cannot be asked is believed to.
async fn is_still_there(client: &Client, name: &PodName, uid: &str) -> bool {
    match Api::<Pod>::namespaced(client.clone(), &name.namespace).get_opt(&name.name).await {
        Ok(pod) => pod.is_some_and(|pod| pod.metadata.uid.as_deref() == Some(uid)),
        // A node may not ask for a Pod that is none of its own any more.
        Err(kube::Error::Api(status)) => status.code >= 500,
        Err(_) => true,
    }
}

/// Ends a Pod and forgets it.
pub(super) async fn end(host: &Host, name: &PodName, grace: Option<Duration>) {
    let ended = async {
        host.stop(name, grace).await?;
        host.remove(name, true).await
    };
    if let Err(error) = ended.await {
        tracing::error!(pod = %name, error = &error as &dyn std::error::Error, "a pod is left behind");
    }
}

/// The Pod with this uid, if the daemon has it.
fn held(host: &Host, name: &PodName, uid: &str) -> Option<PodHandle> {
    host.pod(name).ok().filter(|handle| handle.shared.uid == uid)
}

/// What the API server gives the Pod to end in.
fn grace(pod: &Pod) -> Option<Duration> {
    let seconds = pod.metadata.deletion_grace_period_seconds?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

impl Kubelet {
    async fn serve(&self, seen: &mut watch::Receiver<Seen>, beside: &mut JoinSet<()>) -> Result<(), ServeError> {
        let pod = Arc::clone(seen.borrow_and_update().pod());
        let (handle, sources) = match held(&self.host, &self.name, &self.uid) {
            Some(handle) => (handle, Sources::new(self.client.clone(), Arc::clone(&pod), self.name.clone())),
            None if is_deleted(&pod) => return self.remove().await,
            // It has ended here before, and we have forgotten it since.
            None if has_ended(&pod) => return self.wait_deleted(seen).await,
            None => match self.start(&pod).await {
                Ok(started) => started,
                Err(ServeError::Host(HostError::Admission(error))) => {
                    self.refuse(&pod, &error.to_string()).await?;
                    return self.wait_deleted(seen).await;
                }
                Err(error) => return Err(error),
            },
        };
        let (tell, changes) = mpsc::channel(CHANGES);
        beside.spawn(sources.follow(tell));
        self.keep(&handle, pod, seen, changes).await
    }

    /// Makes sure that the place is this Pod's, reads what it refers to, and runs it.
    async fn start(&self, pod: &Arc<Pod>) -> Result<(PodHandle, Sources), ServeError> {
        let mut sources = Sources::new(self.client.clone(), Arc::clone(pod), self.name.clone());
        let (place, objects) = tokio::join!(self.place(), sources.read(&self.link.services));
        let (taken, objects) = (place?, objects?);
        monopod_faults::point("host/read");
        let std::net::IpAddr::V4(address) = taken.address else {
            return Err(self.not_ours(format!("address {} is not IPv4", taken.address)));
        };
        let size = taken.size;
        let machine = MachineShape { cpu: size.cpu, memory: size.memory, scratch: size.disk };
        let resolver = self.link.subnets.resolver(&self.link.blocks, taken.booking.block);
        let placed = Placed { pod: Pod::clone(pod), objects, machine, address, resolver };
        Ok((self.host.run_placed(placed).await?, sources))
    }

    async fn place(&self) -> Result<record::Taken, ServeError> {
        let nodes = Api::<Node>::all(self.client.clone());
        let node = patiently(|| nodes.get(&self.node)).await;
        let node = node.map_err(ClusterError::asking(format!("read Node {}", self.node)))?;
        let taken = record::read(&node).map_err(|error| self.not_ours(error.to_string()))?;
        if taken.pod.uid != self.uid {
            return Err(self.not_ours(format!("it is of the Pod with uid {}", taken.pod.uid)));
        }
        if taken.booking.host.as_str() != self.link.settings.host_name {
            return Err(self.not_ours(format!("it is on host {}", taken.booking.host.as_str())));
        }
        Ok(taken)
    }

    fn not_ours(&self, problem: String) -> ServeError {
        ServeError::Place { node: self.node.clone(), problem }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.name.namespace)
    }

    /// Fails a Pod that may not run.
    async fn refuse(&self, pod: &Pod, why: &str) -> Result<(), ServeError> {
        tracing::warn!(pod = %self.name, why, "the pod is refused");
        self.warn(UNSUPPORTED, why);
        let mut status = pod.status.clone().unwrap_or_default();
        status.phase = Some("Failed".to_owned());
        status.reason = Some(UNSUPPORTED.to_owned());
        status.message = Some(why.to_owned());
        self.patch(&pod.status.clone().unwrap_or_default(), &status).await.map(drop)
    }

    async fn patch(&self, before: &PodStatus, status: &PodStatus) -> Result<Option<Pod>, ServeError> {
        let Some(patch) = patch(&self.uid, before, status) else { return Ok(None) };
        let pods = self.pods();
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        let patched = patiently(|| pods.patch_status(&self.name.name, &params, &patch)).await;
        let what = format!("write the status of Pod {}", self.name);
        Ok(Some(patched.map_err(ClusterError::asking(what))?))
    }

    /// Waits until somebody wants it gone.
    async fn wait_deleted(&self, seen: &mut watch::Receiver<Seen>) -> Result<(), ServeError> {
        loop {
            match &*seen.borrow_and_update() {
                Seen::Gone(_) => return Ok(()),
                Seen::Is(pod) if is_deleted(pod) => break,
                Seen::Is(_) => {}
            }
            if seen.changed().await.is_err() {
                return Ok(());
            }
        }
        self.remove().await
    }

    /// Removes the Pod from the API server: nothing of it runs any more.
    async fn remove(&self) -> Result<(), ServeError> {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(self.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        match self.pods().delete(&self.name.name, &params).await {
            Ok(_) => Ok(()),
            // It is gone, or another has its name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(ClusterError::asking(format!("delete Pod {}", self.name))(error).into()),
        }
    }

    /// Carries news both ways until the Pod is gone.
    async fn keep(
        &self,
        handle: &PodHandle,
        pod: Arc<Pod>,
        seen: &mut watch::Receiver<Seen>,
        mut changes: mpsc::Receiver<Objects>,
    ) -> Result<(), ServeError> {
        let (told, mut news) = handle.shared.news.listen();
        told.events.into_iter().for_each(|event| self.tell_event(event));
        let mut telling = Telling::new(&pod);
        let mut known = pod;
        if let Some((_, pod)) = told.status {
            telling.want(staged(handle, &pod));
        }
        let mut asked = None;
        self.size(handle, &known, &mut telling);
        self.obey(handle, &known, &mut asked);
        loop {
            let finished = handle.shared.news.finished().is_some();
            if finished && is_deleted(&known) {
                telling.want(last_status(handle));
                self.say(&mut telling).await;
                monopod_faults::point("host/ended");
                if telling.due.is_none() {
                    self.remove().await?;
                    monopod_faults::point("host/removed");
                    self.forget(handle).await;
                    return Ok(());
                }
            }
            let due = telling.due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                item = news.recv() => self.take(handle, item, &mut telling),
                Some(objects) = changes.recv() => handle.update(Arc::new(objects)).await,
                changed = seen.changed() => {
                    let now = seen.borrow_and_update().clone();
                    match (changed, now) {
                        (Ok(()), Seen::Is(pod)) => {
                            telling.see(&pod);
                            self.size(handle, &pod, &mut telling);
                            telling.insist(last_status(handle));
                            self.change(handle, &known, &pod).await;
                            known = pod;
                            self.obey(handle, &known, &mut asked);
                        }
                        (Err(_), _) | (_, Seen::Gone(_)) => return Ok(()),
                    }
                }
                () = tokio::time::sleep_until(due) => self.say(&mut telling).await,
            }
        }
    }

    fn take(&self, handle: &PodHandle, item: Result<TimedItem, broadcast::error::RecvError>, telling: &mut Telling) {
        match item.map(|item| item.item) {
            Ok(Item::Event(event)) => self.tell_event(event),
            Ok(Item::Status(pod)) => telling.want(staged(handle, &pod)),
            // The end is looked for with every turn.
            Ok(Item::Finished(_)) | Err(broadcast::error::RecvError::Lagged(_)) => telling.want(last_status(handle)),
            Ok(Item::Stage(stage)) if stage.name == "ready" => self.tell_start(handle),
            Ok(Item::Admitted { .. } | Item::Stage(_) | Item::Pull(_) | Item::Published(_))
            | Err(broadcast::error::RecvError::Closed) => {}
        }
    }

    /// Tells how the start went, stage by stage.
    fn tell_start(&self, handle: &PodHandle) {
        let stages = handle.shared.news.stages();
        let of_start = stages.iter().filter(|stage| !stage.name.contains('/') && stage.nanoseconds >= MILLISECOND);
        let parts: Vec<String> =
            of_start.map(|stage| format!("{} {} ms", stage.name, stage.nanoseconds / MILLISECOND)).collect();
        let total = stages.last().map_or(0, |stage| stage.since_start_nanoseconds / MILLISECOND);
        let now = jiff::Timestamp::now();
        let message = format!("Ready {total} ms after it was sent here: {}", parts.join(", "));
        let notice = Notice { severity: Severity::Normal, reason: "MicroVMReady", message, field_path: String::new() };
        self.tell_event(SeenEvent { notice, count: 1, first_seen: now, last_seen: now });
    }

    fn tell_event(&self, event: SeenEvent) {
        if self.events.try_send(event).is_err() {
            tracing::debug!(pod = %self.name, "too many events wait; one is dropped");
        }
    }

    async fn say(&self, telling: &mut Telling) {
        telling.due = None;
        let Some(wanted) = telling.wanted.clone() else { return };
        match self.patch(&telling.said, &wanted).await {
            Ok(None) => telling.wanted = None,
            Ok(Some(pod)) => {
                monopod_faults::point("host/told");
                telling.wanted = None;
                telling.see(&pod);
                telling.said = wanted;
            }
            Err(ServeError::Cluster(error)) if error.is_refusal() => {
                // Usually it is gone or another's by now, which the watch will say.
                tracing::warn!(pod = %self.name, error = &error as &dyn std::error::Error, "a status was refused");
                telling.wanted = None;
            }
            Err(error) => {
                tracing::warn!(pod = %self.name, error = &error as &dyn std::error::Error, "a status is not told yet");
                telling.due = Some(Instant::now() + PAUSE);
            }
        }
    }

    /// Ends the Pod when it was deleted, with the shortest grace that was asked for.
    fn obey(&self, handle: &PodHandle, pod: &Pod, asked: &mut Option<Duration>) {
        if !is_deleted(pod) || handle.shared.news.finished().is_some() {
            return;
        }
        let grace = grace(pod).unwrap_or_default();
        if asked.is_some_and(|asked| asked <= grace) {
            return;
        }
        *asked = Some(grace);
        let handle = handle.clone();
        tokio::spawn(async move { handle.stop(Some(grace)).await });
    }

    /// Tells of a size that is wanted and cannot be had.
    fn size(&self, handle: &PodHandle, wanted: &Pod, telling: &mut Telling) {
        let Some(running) = handle.shared.news.pod() else { return };
        if !telling.see_size(wanted, &running) {
            return;
        }
        telling.want(last_status(handle));
        if telling.wanted.as_ref().is_some_and(|status| resizing::condition(status).is_some()) {
            self.warn(resizing::EVENT, &format!("Pod resize Infeasible: {}", resizing::MESSAGE));
        }
    }

    /// Brings what people have changed in the Pod.
    async fn change(&self, handle: &PodHandle, before: &Pod, now: &Pod) {
        let foreign = |pod: &Pod| {
            let mut conditions = pod.status.as_ref().map(foreign_conditions).unwrap_or_default();
            conditions
                .retain(|one| !one.type_.starts_with(names::STAGE_CONDITION_PREFIX) && one.type_ != resizing::PENDING);
            conditions
        };
        let is_same = before.metadata.labels == now.metadata.labels
            && before.metadata.annotations == now.metadata.annotations
            && before.spec == now.spec
            && foreign(before) == foreign(now);
        if is_same || is_deleted(now) {
            return;
        }
        let mut newer = now.clone();
        newer.status = Some(PodStatus { conditions: Some(foreign(now)), ..PodStatus::default() });
        self.leave_out_refused(before, &mut newer);
        if let (Some(newer), Some(running)) = (&mut newer.spec, handle.shared.news.pod()) {
            running.spec.as_ref().map(|running| resizing::keep_size(newer, running));
        }
        if let Err(error) = self.host.change(&newer).await {
            tracing::warn!(pod = %self.name, error = &error as &dyn std::error::Error, "a change of the pod is not taken");
            self.warn(UNSUPPORTED, &error.to_string());
        }
    }

    /// Takes away the ephemeral containers that may not run here; the Pod goes on without them.
    fn leave_out_refused(&self, before: &Pod, newer: &mut Pod) {
        let names = |pod: &Pod| -> Vec<String> {
            let containers = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
            containers.map(|container| container.name.clone()).collect()
        };
        let known = names(before);
        for name in names(newer) {
            let verdict = ephemeral_container_verdict(newer, &name);
            if verdict.is_supported() {
                continue;
            }
            if !known.contains(&name) {
                self.warn(UNSUPPORTED, &format!("ephemeral container {name} is not started: {}", verdict.message()));
            }
            if let Some(containers) = newer.spec.as_mut().and_then(|spec| spec.ephemeral_containers.as_mut()) {
                containers.retain(|container| container.name != name);
            }
        }
    }

    /// Tells whoever looks at the Pod that something is not as it is wanted.
    fn warn(&self, reason: &'static str, what: &str) {
        let now = jiff::Timestamp::now();
        let notice = warning(reason, what);
        self.tell_event(SeenEvent { notice, count: 1, first_seen: now, last_seen: now });
    }

    async fn forget(&self, handle: &PodHandle) {
        if let Err(error) = self.host.remove(&handle.shared.name, true).await {
            tracing::error!(pod = %self.name, error = &error as &dyn std::error::Error, "a pod is left behind");
        }
    }
}
