//! The objects that a Pod refers to, read and watched as its node, and the tokens of its service account.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{StreamExt as _, TryStreamExt as _, future};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest as Request, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use kube::api::PostParams;
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client, Resource};
use monopod_podplan::plan::{TokenRequest, required_objects, required_tokens};
use monopod_watching::Retry;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ClusterError;
use crate::identity::PodName;
use crate::objects::Objects;

/// How long a refusal may come from the API server not knowing yet that the Pod is ours.
const UNKNOWN_YET: Duration = Duration::from_secs(2);
/// Between two tries of what was refused so.
const TRY_AGAIN: Duration = Duration::from_millis(10);
/// A token is made anew when it is older than this, as with the kubelet.
const TOKEN_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Between attempts to make a token anew.
const TOKEN_PAUSE: Duration = Duration::from_secs(10);

/// All Services, for the variables of containers.
pub(super) fn all_services(client: Client) -> Store<Service> {
    let (services, writer) = store();
    let watching = watcher(Api::<Service>::all(client), watcher::Config::default()).backoff(Retry::default());
    let watching = reflector(writer, watching).touched_objects();
    tokio::spawn(watching.for_each(|seen| {
        if let Err(error) = seen {
            tracing::warn!(error = &error as &dyn std::error::Error, "Services cannot be watched");
        }
        future::ready(())
    }));
    services
}

/// A token, and when it must be made anew.
struct Token {
    request: TokenRequest,
    text: String,
    renew_at: Instant,
}

/// What a Pod refers to.
pub(super) struct Sources {
    client: Client,
    pod: Arc<Pod>,
    name: PodName,
    renewals: Vec<(TokenRequest, Instant)>,
}

impl Sources {
    /// The sources of a Pod, asked for as its node. Tokens are kept nowhere, so all are due at first.
    pub(super) fn new(client: Client, pod: Arc<Pod>, name: PodName) -> Self {
        let now = Instant::now();
        let due = required_tokens(&pod).into_iter().map(|request| (request, now));
        let renewals = due.collect();
        Self { client, pod, name, renewals }
    }

    /// Reads everything. What does not exist is left out: the Pod waits for it, or does without.
    pub(super) async fn read(&mut self, services: &Store<Service>) -> Result<Objects, ClusterError> {
        let required = required_objects(&self.pod);
        let (maps, secrets, claims) = future::try_join3(
            self.read_all::<ConfigMap>(required.config_maps.iter()),
            self.read_all::<Secret>(required.secrets.iter()),
            self.read_all::<PersistentVolumeClaim>(required.claims.iter()),
        )
        .await?;
        let volumes = claims.iter().filter_map(|claim| claim.spec.as_ref()?.volume_name.clone());
        let volumes = future::try_join_all(volumes.map(|name| {
            let volumes = Api::<PersistentVolume>::all(self.client.clone());
            async move { read(&volumes, &name).await }
        }))
        .await?;
        let tokens = future::try_join_all(required_tokens(&self.pod).into_iter().map(|request| self.token(request)));
        let tokens = tokens.await?;
        // Right after the start of the daemon they may not be there yet; whoever runs that early is told of fewer.
        let _ = tokio::time::timeout(UNKNOWN_YET, services.wait_until_ready()).await;
        let mut objects = Objects::default();
        maps.into_iter().for_each(|map| objects.put_config_map(map));
        secrets.into_iter().for_each(|secret| objects.put_secret(secret));
        claims.into_iter().for_each(|claim| objects.put_claim(claim));
        volumes.into_iter().flatten().for_each(|volume| objects.put_volume(volume));
        services.state().iter().for_each(|service| objects.put_service(Service::clone(service)));
        self.take_tokens(tokens, &mut objects);
        Ok(objects.of_pod(&self.pod))
    }

    async fn read_all<T>(&self, names: impl Iterator<Item = &String>) -> Result<Vec<T>, ClusterError>
    where
        T: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let objects = Api::<T>::namespaced(self.client.clone(), &self.name.namespace);
        let found = names.map(|name| read(&objects, name));
        Ok(future::try_join_all(found).await?.into_iter().flatten().collect())
    }

    fn take_tokens(&mut self, tokens: Vec<Token>, objects: &mut Objects) {
        for Token { request, text, renew_at } in tokens {
            self.renewals.retain(|(other, _)| *other != request);
            self.renewals.push((request.clone(), renew_at));
            objects.put_token(request, text);
        }
    }

    async fn token(&self, wanted: TokenRequest) -> Result<Token, ClusterError> {
        let spec = self.pod.spec.as_ref();
        let account = spec.and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let audience = Some(wanted.audience.clone()).filter(|audience| !audience.is_empty());
        let request = Request {
            spec: Some(TokenRequestSpec {
                audiences: Some(audience.into_iter().collect()),
                expiration_seconds: Some(wanted.expiration_seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: self.pod.metadata.name.clone(),
                    uid: self.pod.metadata.uid.clone(),
                }),
                ..TokenRequestSpec::default()
            }),
            ..Request::default()
        };
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), &self.name.namespace);
        let params = PostParams::default();
        let asked = Instant::now();
        let made = patiently(|| accounts.create_token_request(account, &params, &request)).await;
        let what = format!("request a token of ServiceAccount {}/{account}", self.name.namespace);
        let made = made.map_err(ClusterError::asking(what))?;
        let status = made.status.unwrap_or_default();
        // The API server's own words about when it ends are of its clock, which need not be ours.
        let granted = made.spec.and_then(|spec| spec.expiration_seconds).unwrap_or(wanted.expiration_seconds);
        let renew_at = asked + renew_after(Duration::from_secs(u64::try_from(granted).unwrap_or_default()));
        Ok(Token { request: wanted, text: status.token.unwrap_or_default(), renew_at })
    }

    /// Tells of every change, for ever.
    pub(super) async fn follow(mut self, tell: mpsc::Sender<Objects>) {
        let mut changes = self.changes();
        loop {
            let due = self.renewals.iter().map(|(_, at)| *at).min();
            let objects = tokio::select! {
                Some(objects) = changes.next() => objects,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.renew().await,
                else => return,
            };
            if tell.send(objects).await.is_err() {
                return;
            }
        }
    }

    /// Makes those tokens anew that are due. What fails is due again after a while.
    async fn renew(&mut self) -> Objects {
        let (now, mut objects) = (Instant::now(), Objects::default());
        let due: Vec<_> =
            self.renewals.iter().filter(|(_, at)| *at <= now).map(|(request, _)| request.clone()).collect();
        for request in due {
            match self.token(request.clone()).await {
                Ok(token) => self.take_tokens(vec![token], &mut objects),
                Err(error) => {
                    tracing::warn!(pod = %self.name, error = &error as &dyn std::error::Error, "a token was not renewed");
                    let later = Instant::now() + TOKEN_PAUSE;
                    self.renewals.iter_mut().filter(|(other, _)| *other == request).for_each(|(_, at)| *at = later);
                }
            }
        }
        objects
    }

    fn changes(&self) -> SelectAll<BoxStream<'static, Objects>> {
        let required = required_objects(&self.pod);
        let mut changes = SelectAll::new();
        for name in &required.config_maps {
            changes.push(self.watch::<ConfigMap>(name, Objects::put_config_map));
        }
        for name in &required.secrets {
            changes.push(self.watch::<Secret>(name, Objects::put_secret));
        }
        changes
    }

    fn watch<T>(&self, name: &str, put: fn(&mut Objects, T)) -> BoxStream<'static, Objects>
    where
        T: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug
            + Serialize
            + Send
            + Sync
            + 'static,
    {
        let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let objects = Api::<T>::namespaced(self.client.clone(), &self.name.namespace);
        let changes = watcher(objects, one).backoff(Retry::default()).applied_objects().into_stream();
        let taken = changes.filter_map(move |changed| {
            // It is tried again, with growing pauses.
            let objects = changed.ok().map(|object| {
                let mut objects = Objects::default();
                put(&mut objects, object);
                objects
            });
            future::ready(objects)
        });
        taken.boxed()
    }
}

/// When a token that lasts so long is made anew; the kubelet's rule.
fn renew_after(lifetime: Duration) -> Duration {
    lifetime.mul_f64(0.8).clamp(TOKEN_PAUSE, TOKEN_AGE)
}

async fn read<T>(objects: &Api<T>, name: &str) -> Result<Option<T>, ClusterError>
where
    T: Clone + DeserializeOwned + std::fmt::Debug,
{
    let found = patiently(|| objects.get_opt(name)).await;
    found.map_err(ClusterError::asking(format!("read {name}")))
}

/// Tries again what is forbidden, for a short while: the authorizer may not know yet that the Pod was bound to our node.
pub(super) async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, kube::Error>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let deadline = Instant::now() + UNKNOWN_YET;
    loop {
        match ask().await {
            Err(kube::Error::Api(status)) if status.code == 403 && Instant::now() < deadline => {
                tokio::time::sleep(TRY_AGAIN).await;
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::renew_after;

    #[test]
    fn a_token_is_made_anew_at_four_fifths_of_its_life_but_daily_and_not_in_a_loop() {
        let cases = [(3607, 2885), (600, 480), (3_153_600, 86_400), (0, 10)];
        for (lifetime, after) in cases {
            assert_eq!(renew_after(Duration::from_secs(lifetime)).as_secs(), after);
        }
    }
}
