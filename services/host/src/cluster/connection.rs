//! How the API server is reached: at one address, as many users.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Request;
use kube::client::Body;
use kube::config::AuthInfo;
use kube::{Client, Config};

use super::ClusterError;

/// The API server, and who we are there. Cheap to clone.
#[derive(Clone)]
pub struct Connection {
    config: Config,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("server", &self.config.cluster_url).finish_non_exhaustive()
    }
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Connection {
    /// The server and the user of a configuration.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Certificates of whoever signs the cluster's, as DER.
    pub(super) fn authority(&self) -> &[Vec<u8>] {
        self.config.root_cert.as_deref().unwrap_or_default()
    }

    /// A client of the configured user.
    pub(super) fn client(&self) -> Result<Client, ClusterError> {
        let failed = |source| ClusterError::Client { user: "the configured user".to_owned(), source: Box::new(source) };
        Client::try_from(self.config.clone()).map_err(failed)
    }

    /// A client of another user.
    pub(super) fn client_of(&self, user: &str, identity: &Identity) -> Result<Client, ClusterError> {
        let mut config = self.config.clone();
        config.auth_info = AuthInfo {
            client_certificate_data: Some(STANDARD.encode(&identity.certificate)),
            client_key_data: Some(STANDARD.encode(&identity.key).into()),
            ..AuthInfo::default()
        };
        let failed = |source| ClusterError::Client { user: user.to_owned(), source: Box::new(source) };
        Client::try_from(config).map_err(failed)
    }

    /// The same, whose certificate can be replaced while it is used.
    pub(super) fn renewable_client_of(&self, user: &str, identity: &Identity) -> Result<RenewableClient, ClusterError> {
        Ok(RenewableClient::new(self.client_of(user, identity)?))
    }
}

/// A client whose requests go by another client, which can be replaced. Connections are their client's, so a new certificate
/// counts from the next request on.
pub(super) struct RenewableClient {
    client: Client,
    current: Arc<Mutex<Client>>,
}

impl RenewableClient {
    fn new(first: Client) -> Self {
        let namespace = first.default_namespace().to_owned();
        let current = Arc::new(Mutex::new(first));
        let shared = Arc::clone(&current);
        let service = tower::service_fn(move |request: Request<Body>| {
            let client = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
            async move { client.send(request).await }
        });
        Self { client: Client::new(service, namespace), current }
    }

    /// What to make requests with.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Takes another client for what is asked from now on.
    pub(super) fn replace(&self, next: Client) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }
}
