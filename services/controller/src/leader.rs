//! One replica leads: it holds a Lease, as client-go's leader election does, and only it runs what writes.
//!
//! A leader that cannot renew its Lease stops before another may take it. One that is told to end gives the Lease back, so
//! that the next need not wait for it to expire.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use monopod_api::names;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::renewals::Renewals;

/// The Lease.
const NAME: &str = "monopod-controller";
/// How long a leader is believed without a word; client-go's.
const DURATION: Duration = Duration::from_secs(15);
/// How long a leader tries to renew before it stops; client-go's.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between renewals; client-go's.
const RETRY: Duration = Duration::from_secs(2);
/// Between looks of those who follow: Pods wait that long when a leader hands over.
const LOOK: Duration = Duration::from_millis(500);

/// Leads as soon as nobody else does, and until it is told to stop.
pub(crate) async fn lead<F>(client: &Client, identity: &str, stop: &CancellationToken, work: impl Fn() -> F)
where
    F: Future<Output = ()>,
{
    let leases = Api::<Lease>::namespaced(client.clone(), names::SYSTEM_NAMESPACE);
    let election = Election { leases, identity: identity.to_owned(), renewals: Mutex::default() };
    while !stop.is_cancelled() {
        let elected = tokio::select! {
            () = election.wait() => true,
            () = stop.cancelled() => false,
        };
        if !elected {
            return;
        }
        tracing::info!(identity, "leads from now on");
        tokio::select! {
            () = work() => tracing::error!("the leader's work has ended"),
            () = election.hold() => tracing::error!("the Lease could not be renewed; another may lead"),
            () = stop.cancelled() => {}
        }
        election.give_back().await;
    }
}

struct Election {
    leases: Api<Lease>,
    identity: String,
    renewals: Mutex<Renewals>,
}

impl Election {
    /// Waits until we lead.
    async fn wait(&self) {
        let mut fails = false;
        loop {
            match self.try_take().await {
                Ok(true) => return,
                Ok(false) => fails = false,
                // Once is enough to know.
                Err(error) if !std::mem::replace(&mut fails, true) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the Lease cannot be had");
                }
                Err(_) => {}
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends when we may lead no more.
    async fn hold(&self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < RENEW_DEADLINE {
            tokio::time::sleep(RETRY).await;
            // Others count from when it was asked, not from when we heard the answer.
            let asked = Instant::now();
            match tokio::time::timeout_at(renewed + RENEW_DEADLINE, self.try_take()).await {
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the Lease was not renewed");
                }
                Err(_) => tracing::warn!("the Lease was not renewed in time"),
            }
        }
    }

    /// Takes or renews the Lease; false while it is another's.
    async fn try_take(&self) -> Result<bool, kube::Error> {
        let now = Timestamp::now();
        let Some(mut lease) = self.leases.get_opt(NAME).await? else {
            let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(now, None)) };
            return is_taken(self.leases.create(&PostParams::default(), &lease).await);
        };
        let before = lease.spec.take().unwrap_or_default();
        let holder = before.holder_identity.as_deref().unwrap_or_default();
        let is_overdue = self.renewals.lock().await.is_overdue(NAME, &before, Instant::now());
        if holder != self.identity && !holder.is_empty() && !is_overdue {
            return Ok(false);
        }
        lease.spec = Some(self.spec(now, Some(before)));
        // With the version that was read, so that of two who try one succeeds.
        is_taken(self.leases.replace(NAME, &PostParams::default(), &lease).await)
    }

    fn spec(&self, now: Timestamp, before: Option<LeaseSpec>) -> LeaseSpec {
        let before = before.unwrap_or_default();
        let is_renewal = before.holder_identity.as_deref() == Some(&self.identity);
        let (since, changes) = (before.acquire_time, before.lease_transitions.unwrap_or_default());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: since.filter(|_| is_renewal).or(Some(MicroTime(now))),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if is_renewal { changes } else { changes.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }

    async fn give_back(&self) {
        let given = async {
            let Some(mut lease) = self.leases.get_opt(NAME).await? else { return Ok(()) };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                self.leases.replace(NAME, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        match tokio::time::timeout(RETRY, given).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = &error as &dyn std::error::Error, "the Lease is not given back"),
            Err(_) => tracing::warn!("the Lease is not given back in time"),
        }
    }
}

/// Somebody else was quicker, which is no error.
fn is_taken<T>(result: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
