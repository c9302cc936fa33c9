//! The watch of this machine's Pods, and a task for each.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use monopod_api::names;
use monopod_watching::Retry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Link;
use super::pod::{self, Seen};
use crate::host::Host;

/// All Pods that the cluster has for us.
struct Watched {
    link: Arc<Link>,
    host: Arc<Host>,
    known: HashMap<String, watch::Sender<Seen>>,
    tasks: JoinSet<String>,
    /// Uids of a list that is not complete yet.
    listing: BTreeSet<String>,
}

/// Runs what the cluster wants to have run here. Ends only when it is dropped; Pods go on then.
pub(super) async fn watch(link: Arc<Link>, host: Arc<Host>) {
    let ours = watcher::Config::default().labels(&format!("{}={}", names::HOST_LABEL, link.settings.host_name));
    let mut events = watcher(Api::<Pod>::all(link.client.clone()), ours).backoff(Retry::default()).boxed();
    let (known, tasks, listing) = (HashMap::new(), JoinSet::new(), BTreeSet::new());
    let mut watched = Watched { link, host, known, tasks, listing };
    loop {
        tokio::select! {
            Some(event) = events.next() => match event {
                Ok(event) => watched.take(event).await,
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "Pods cannot be watched"),
            },
            Some(ended) = watched.tasks.join_next() => match ended {
                Ok(uid) => drop(watched.known.remove(&uid)),
                Err(error) => tracing::error!(%error, "the task that tells of a pod failed"),
            },
        }
    }
}

impl Watched {
    async fn take(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listing.clear(),
            watcher::Event::InitApply(pod) => {
                self.listing.extend(pod.uid());
                self.see(pod);
            }
            watcher::Event::InitDone => self.end_others().await,
            watcher::Event::Apply(pod) => self.see(pod),
            watcher::Event::Delete(pod) => {
                if let Some(tell) = pod.uid().and_then(|uid| self.known.get(&uid)) {
                    tell.send_replace(Seen::Gone(Arc::new(pod)));
                }
            }
        }
    }

    fn see(&mut self, pod: Pod) {
        let Some(uid) = pod.uid() else { return };
        if let Some(tell) = self.known.get(&uid).filter(|tell| !tell.is_closed()) {
            tell.send_replace(Seen::Is(Arc::new(pod)));
            return;
        }
        // Until it is bound, the scheduler may send it elsewhere.
        if pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()) {
            return;
        }
        let (tell, seen) = watch::channel(Seen::Is(Arc::new(pod)));
        self.known.insert(uid.clone(), tell);
        let (link, host) = (Arc::clone(&self.link), Arc::clone(&self.host));
        self.tasks.spawn(async move {
            pod::live(link, host, seen).await;
            uid
        });
    }

    /// A list is complete: what is not in it is gone.
    async fn end_others(&mut self) {
        let gone = self.known.iter().filter(|(uid, _)| !self.listing.contains(*uid));
        for (_, tell) in gone {
            let pod = Arc::clone(tell.borrow().pod());
            tell.send_replace(Seen::Gone(pod));
        }
        for handle in self.host.pods() {
            let shared = &handle.shared;
            let is_placed =
                shared.news.pod().is_some_and(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()));
            if is_placed && !self.listing.contains(&shared.uid) && !self.known.contains_key(&shared.uid) {
                tracing::info!(pod = %shared.name, uid = shared.uid, "the cluster has no such Pod any more; it is ended");
                let (host, name) = (Arc::clone(&self.host), shared.name.clone());
                tokio::spawn(async move { pod::end(&host, &name, None).await });
            }
        }
    }
}
