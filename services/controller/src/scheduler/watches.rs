//! The watches that tell the scheduler of the cluster.

use std::collections::BTreeMap;
use std::fmt::Debug;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use monopod_api::{FargateProfile, Host, Subnet, names};
use monopod_watching::Retry;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Changes that may wait for the scheduler; watches wait with them.
const WAITING: usize = 4096;
/// How many kinds are watched.
const KINDS: usize = 8;

/// One change in the cluster, as a watch tells it.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Pod(Seen<Pod>),
    Node(Seen<Node>),
    Host(Seen<Host>),
    Subnet(Seen<Subnet>),
    Profile(Seen<FargateProfile>),
    Claim(Seen<PersistentVolumeClaim>),
    Volume(Seen<PersistentVolume>),
    Namespace(Seen<Namespace>),
}

/// An object that is there, or is there no more.
#[derive(Clone, Debug)]
pub(crate) enum Seen<T> {
    Is(Box<T>),
    Gone(Box<T>),
}

enum Told {
    Change(Box<Change>),
    /// All objects of one more kind have been told.
    Listed,
}

/// All watches. They end when this is dropped.
pub(super) struct Watches {
    told: mpsc::Receiver<Told>,
    unlisted: usize,
    _tasks: JoinSet<()>,
}

impl Watches {
    /// The next change while not everything was listed once; `None` when it was.
    pub(super) async fn recv_unlisted(&mut self) -> Option<Change> {
        while self.unlisted > 0 {
            match self.told.recv().await? {
                Told::Change(change) => return Some(*change),
                Told::Listed => self.unlisted -= 1,
            }
        }
        None
    }

    /// The next change.
    pub(super) async fn recv(&mut self) -> Option<Change> {
        loop {
            if let Told::Change(change) = self.told.recv().await? {
                return Some(*change);
            }
        }
    }

    /// The next change that is there already.
    pub(super) fn try_recv(&mut self) -> Option<Change> {
        loop {
            if let Told::Change(change) = self.told.try_recv().ok()? {
                return Some(*change);
            }
        }
    }
}

/// Begins to watch everything that scheduling depends on.
pub(super) fn begin(client: &Client) -> Watches {
    let (tell, told) = mpsc::channel(WAITING);
    let mut tasks = JoinSet::new();
    let all = watcher::Config::default;
    let ours = all().fields(&format!("spec.schedulerName={}", names::SCHEDULER_NAME));
    let fargate = all().labels(&format!("{}={}", names::COMPUTE_TYPE, names::COMPUTE_TYPE_FARGATE));
    tasks.spawn(watch(Api::<Pod>::all(client.clone()), ours, Change::Pod, tell.clone()));
    tasks.spawn(watch(Api::<Node>::all(client.clone()), fargate, Change::Node, tell.clone()));
    tasks.spawn(watch(Api::<Host>::all(client.clone()), all(), Change::Host, tell.clone()));
    tasks.spawn(watch(Api::<Subnet>::all(client.clone()), all(), Change::Subnet, tell.clone()));
    tasks.spawn(watch(Api::<FargateProfile>::all(client.clone()), all(), Change::Profile, tell.clone()));
    tasks.spawn(watch(Api::<PersistentVolumeClaim>::all(client.clone()), all(), Change::Claim, tell.clone()));
    tasks.spawn(watch(Api::<PersistentVolume>::all(client.clone()), all(), Change::Volume, tell.clone()));
    tasks.spawn(watch(Api::<Namespace>::all(client.clone()), all(), Change::Namespace, tell));
    Watches { told, unlisted: KINDS, _tasks: tasks }
}

/// Watches one kind. What vanished while the watch was interrupted is told, too.
async fn watch<T>(objects: Api<T>, config: watcher::Config, change: fn(Seen<T>) -> Change, tell: mpsc::Sender<Told>)
where
    T: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let told = |seen| Told::Change(Box::new(change(seen)));
    let mut known: BTreeMap<String, T> = BTreeMap::new();
    let mut before: BTreeMap<String, T> = BTreeMap::new();
    // Who has set which field is half of an object, and nobody here asks for it.
    let mut events =
        watcher(objects, config).backoff(Retry::default()).modify(|object| object.managed_fields_mut().clear()).boxed();
    while let Some(event) = events.next().await {
        let news = match event {
            Ok(watcher::Event::Init) => {
                before.append(&mut known);
                Vec::new()
            }
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                let uid = object.uid().unwrap_or_default();
                before.remove(&uid);
                known.insert(uid, object.clone());
                vec![told(Seen::Is(Box::new(object)))]
            }
            Ok(watcher::Event::InitDone) => {
                let gone = std::mem::take(&mut before).into_values();
                gone.map(|object| told(Seen::Gone(Box::new(object)))).chain([Told::Listed]).collect()
            }
            Ok(watcher::Event::Delete(object)) => {
                known.remove(&object.uid().unwrap_or_default());
                vec![told(Seen::Gone(Box::new(object)))]
            }
            Err(error) => {
                let kind = T::kind(&());
                tracing::warn!(%kind, error = &error as &dyn std::error::Error, "objects cannot be watched");
                Vec::new()
            }
        };
        for one in news {
            if tell.send(one).await.is_err() {
                return;
            }
        }
    }
}
