//! What the webhooks answer from: caches of profiles, Subnets and ServiceAccounts, on every replica.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, future};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client};
use monopod_api::{FargateProfile, Subnet};
use monopod_policy::mutation::IdentitySettings;
use monopod_policy::profile::{Profiles, WithoutPhase};
use monopod_watching::Retry;
use tokio::task::JoinSet;

use crate::webhook::{self, Known, ReviewError};

/// The caches. They are kept up to date until this is dropped.
pub(crate) struct Caches {
    profiles: Arc<Mutex<Arc<Profiles>>>,
    profile_objects: Store<FargateProfile>,
    subnets: Store<Subnet>,
    accounts: Store<ServiceAccount>,
    identity: IdentitySettings,
    _tasks: JoinSet<()>,
}

impl std::fmt::Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caches").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Caches {
    /// Begins to fill them.
    pub(crate) fn begin(client: &Client, identity: IdentitySettings) -> Self {
        let mut tasks = JoinSet::new();
        let (profile_objects, writer) = store::<FargateProfile>();
        let profiles = Arc::new(Mutex::new(Arc::new(Profiles::default())));
        let (compiled, objects) = (Arc::clone(&profiles), profile_objects.clone());
        let changes =
            reflector(writer, watcher(Api::all(client.clone()), watcher::Config::default()).backoff(Retry::default()));
        // All events, for the store has what was listed only when the list is complete.
        tasks.spawn(changes.for_each(move |changed| {
            match changed {
                Ok(_) => compile(&objects, &compiled),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "profiles cannot be watched");
                }
            }
            future::ready(())
        }));
        let subnets = watch::<Subnet>(client, &mut tasks);
        let accounts = watch::<ServiceAccount>(client, &mut tasks);
        Self { profiles, profile_objects, subnets, accounts, identity, _tasks: tasks }
    }

    /// Waits until they are filled once.
    pub(crate) async fn wait_filled(&self) {
        // They end only with us.
        let _ = self.profile_objects.wait_until_ready().await;
        let _ = self.subnets.wait_until_ready().await;
        let _ = self.accounts.wait_until_ready().await;
        compile(&self.profile_objects, &self.profiles);
    }

    /// Answers the API server.
    pub(crate) fn answer(&self, path: &str, body: &[u8]) -> Result<Vec<u8>, ReviewError> {
        let profiles = Arc::clone(&lock(&self.profiles));
        let subnets: Vec<Subnet> = self.subnets.state().iter().map(|subnet| Subnet::clone(subnet)).collect();
        let account = |namespace: &str, name: &str| {
            self.accounts.get(&ObjectRef::new(name).within(namespace)).map(|account| ServiceAccount::clone(&account))
        };
        let known =
            Known { profiles: &profiles, subnets: &subnets, service_account: &account, identity: &self.identity };
        webhook::answer(path, body, known)
    }
}

fn lock(profiles: &Mutex<Arc<Profiles>>) -> std::sync::MutexGuard<'_, Arc<Profiles>> {
    // It is replaced whole.
    profiles.lock().unwrap_or_else(PoisonError::into_inner)
}

fn compile(objects: &Store<FargateProfile>, to: &Mutex<Arc<Profiles>>) {
    let objects = objects.state();
    match Profiles::compile(objects.iter().map(AsRef::as_ref), WithoutPhase::Pending) {
        Ok(profiles) => *lock(to) = Arc::new(profiles),
        Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "profiles cannot be read"),
    }
}

fn watch<T>(client: &Client, tasks: &mut JoinSet<()>) -> Store<T>
where
    T: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (objects, writer) = store::<T>();
    let changes =
        reflector(writer, watcher(Api::<T>::all(client.clone()), watcher::Config::default()).backoff(Retry::default()));
    tasks.spawn(changes.touched_objects().for_each(|changed| {
        if let Err(error) = changed {
            let kind = T::kind(&());
            tracing::warn!(%kind, error = &error as &dyn std::error::Error, "objects cannot be watched");
        }
        future::ready(())
    }));
    objects
}
