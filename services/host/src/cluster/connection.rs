//! How the API server is reached: by one way, as many users.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::AuthInfo;
use kube::{Client, Config};

use super::ClusterError;

/// Makes a client of a configuration.
type Make = dyn Fn(Config) -> Result<Client, kube::Error> + Send + Sync;

/// The way to the API server. Cheap to clone.
#[derive(Clone)]
pub struct Connection {
    config: Config,
    make: Arc<Make>,
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
        Self::with(config, Client::try_from)
    }

    /// The same, with clients that connect in a way of their own.
    pub fn with(config: Config, make: impl Fn(Config) -> Result<Client, kube::Error> + Send + Sync + 'static) -> Self {
        Self { config, make: Arc::new(make) }
    }

    /// Certificates of whoever signs the cluster's, as DER.
    pub(super) fn authority(&self) -> &[Vec<u8>] {
        self.config.root_cert.as_deref().unwrap_or_default()
    }

    /// A client of the configured user.
    pub(super) fn client(&self) -> Result<Client, ClusterError> {
        let failed = |source| ClusterError::Client { user: "the configured user".to_owned(), source: Box::new(source) };
        (self.make)(self.config.clone()).map_err(failed)
    }

    /// A client of another user.
    pub(super) fn client_of(&self, user: &str, identity: &Identity) -> Result<Client, ClusterError> {
        let mut config = self.config.clone();
        config.auth_info = AuthInfo {
            client_certificate_data: Some(STANDARD.encode(&identity.certificate)),
            client_key_data: Some(STANDARD.encode(&identity.key).into()),
            ..AuthInfo::default()
        };
        (self.make)(config).map_err(|source| ClusterError::Client { user: user.to_owned(), source: Box::new(source) })
    }
}
