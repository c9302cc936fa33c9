//! The control plane of Monopod: one program, as many replicas as wanted.
//!
//! ```text
//! every replica  webhook: what the API server asks when objects are made and changed
//!                status:  /livez, /readyz, /metrics, and a page of what it believes
//! the leader     scheduler: a host and an address for every Pod of a profile; Nodes of Pods that are gone
//!                subnets:   blocks of addresses for hosts
//!                approver:  certificates of nodes
//!                heartbeats: hosts that are silent
//!                profiles:  status, and the end of a profile's Pods
//! ```
//! What is decided is in `monopod_policy`. Kubernetes objects are the only state: a controller that starts anew reads from
//! them how far the last one came.

mod approver;
mod certificates;
mod heartbeats;
mod known;
mod leader;
mod profiles;
mod registration;
mod renewals;
mod scheduler;
mod server;
mod status;
mod subnets;
pub mod webhook;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use monopod_policy::mutation::IdentitySettings;
use monopod_policy::placement::CommonLabels;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use certificates::Certificates;
use known::Caches;
pub use registration::WebhookAddress;
#[doc(hidden)]
pub use scheduler::harness;
use status::Status;

/// How often the webhooks' certificate is looked after.
const CERTIFICATE_PERIOD: Duration = Duration::from_secs(30);
/// Between attempts to get one at the start.
const PAUSE: Duration = Duration::from_secs(1);
/// How long requests are still taken after we were told to end: until the Service knows it.
const DRAIN: Duration = Duration::from_secs(3);

/// What the controller is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// By which it is known among its replicas.
    pub identity: String,
    /// Value of the region labels of nodes.
    pub region: String,
    /// Architecture of nodes, in Kubernetes' spelling: `amd64`, `arm64`.
    pub architecture: String,
    /// Where the webhooks listen.
    pub webhook_listen: SocketAddr,
    /// Where the API server finds them.
    pub webhook_address: WebhookAddress,
    /// Where `/livez`, `/readyz`, `/metrics` and `/state` are.
    pub status_listen: SocketAddr,
    /// What Pods get whose `ServiceAccount` has a role.
    pub identities: IdentitySettings,
}

/// Why the controller does not run.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// A port cannot be had.
    #[error("failed to listen on {address}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Runs until it is told to stop: the leader's work is handed over, requests that came are answered.
///
/// # Errors
/// When a port cannot be had. An API server that does not answer is waited for.
pub async fn run(client: Client, settings: Settings, stop: CancellationToken) -> Result<(), ControllerError> {
    let failed = |address| move |source| ControllerError::Listen { address, source };
    let webhooks = server::listen(settings.webhook_listen).await.map_err(failed(settings.webhook_listen))?;
    let pages = server::listen(settings.status_listen).await.map_err(failed(settings.status_listen))?;
    let status = Arc::new(Status::new(&settings.identity));
    let ended = CancellationToken::new();
    let pages = tokio::spawn(server::serve_status(pages, Arc::clone(&status), ended.clone()));
    let serving = serve_webhooks(&client, &settings, webhooks, Arc::clone(&status), ended.clone());
    let leading = async {
        leader::lead(&client, &settings.identity, &stop, || lead(&client, &settings, &status)).await;
        status.set_leading(false);
        // Whoever balances requests among replicas learns that we end, before we do.
        status.set_ready(false);
        tokio::time::sleep(DRAIN).await;
        ended.cancel();
    };
    tokio::join!(serving, leading);
    // It has no more to say.
    let _ = pages.await;
    Ok(())
}

async fn lead(client: &Client, settings: &Settings, status: &Arc<Status>) {
    status.set_leading(true);
    let common = CommonLabels { region: settings.region.clone(), architecture: settings.architecture.clone() };
    tokio::select! {
        () = scheduler::run(client.clone(), common, Arc::clone(status)) => {}
        () = subnets::run(client.clone()) => {}
        () = heartbeats::run(client.clone()) => {}
        () = approver::run(client.clone()) => {}
        () = profiles::run(client.clone()) => {}
    }
}

async fn serve_webhooks(
    client: &Client,
    settings: &Settings,
    listener: tokio::net::TcpListener,
    status: Arc<Status>,
    ended: CancellationToken,
) {
    let caches = Arc::new(Caches::begin(client, settings.identities.clone()));
    let started = async {
        caches.wait_filled().await;
        loop {
            match secure(client, settings, None).await {
                Ok((certificates, Some(tls))) => return (certificates, tls),
                Ok((_, None)) => {}
                Err(error) => tracing::warn!(error = &*error, "webhooks are not served yet"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let Some((certificates, tls)) = ended.run_until_cancelled(started).await else { return };
    let (renew, tls) = watch::channel(tls);
    let looking_after = keep_secure(client, settings, certificates, renew);
    status.set_ready(true);
    tracing::info!(address = %settings.webhook_listen, "webhooks are served");
    tokio::select! {
        () = server::serve_webhooks(listener, tls, caches, status, ended) => {}
        () = looking_after => {}
    }
}

/// Looks after the certificate for ever.
async fn keep_secure(
    client: &Client,
    settings: &Settings,
    mut known: Certificates,
    renew: watch::Sender<Arc<ServerConfig>>,
) {
    loop {
        tokio::time::sleep(CERTIFICATE_PERIOD).await;
        match secure(client, settings, Some(&known)).await {
            Ok((certificates, tls)) => {
                if let Some(tls) = tls {
                    tracing::info!("webhooks have another certificate");
                    renew.send_replace(tls);
                }
                known = certificates;
            }
            Err(error) => tracing::warn!(error = &*error, "the webhooks' certificate is not looked after"),
        }
    }
}

/// Gets the certificate and tells the API server whom to believe; TLS settings where they are others than before.
async fn secure(
    client: &Client,
    settings: &Settings,
    known: Option<&Certificates>,
) -> Result<(Certificates, Option<Arc<ServerConfig>>), Box<dyn std::error::Error + Send + Sync>> {
    let certificates = certificates::current(client, &settings.webhook_address.hosts()).await?;
    registration::register(client, &settings.webhook_address, &certificates.authorities).await?;
    let is_same = known.is_some_and(|known| known.certificate == certificates.certificate);
    let tls = if is_same { None } else { Some(server::tls(&certificates)?) };
    Ok((certificates, tls))
}
