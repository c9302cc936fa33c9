//! Certificates of nodes: one of a client for each, and one by which all their ports are served.
//!
//! The controller approves a client certificate of a node only for an address in a block of the host that asks; the
//! API server's signer issues it. The ports of all nodes are on one address, so they share one serving certificate; the
//! signer wants it asked for as a node, which is the first that has a certificate. [`keep`] makes all of them anew in time,
//! also those in use.

mod kept;
mod signing;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use kube::Client;
use monopod_kubelet_http::{ServingIdentity, server_config};
use rcgen::{CertificateParams, SanType};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::sync::{OnceCell, watch};

use super::connection::{Connection, Identity, RenewableClient};
use super::{ClusterError, ClusterSettings, Link};
use signing::Wanted;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// Requests that are made at once.
const AT_ONCE: usize = 4;
/// Between looks at what is to be made anew.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// All of them.
pub(super) struct Certificates {
    connection: Connection,
    /// As the host.
    client: Client,
    host: String,
    address: std::net::IpAddr,
    folder: PathBuf,
    /// Nodes in use.
    nodes: Mutex<BTreeMap<String, Arc<OnceCell<RenewableClient>>>>,
    /// When the certificate of a node that was read or made is to be made anew.
    renewals: Mutex<BTreeMap<String, Timestamp>>,
    serving: OnceCell<Serving>,
}

/// A node as which requests are made; its certificate is kept fresh until this is dropped.
pub(super) struct AsNode {
    client: Client,
    _in_use: Arc<OnceCell<RenewableClient>>,
}

impl AsNode {
    /// The client.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }
}

/// How all ports speak TLS.
struct Serving {
    /// The node that asked for it.
    node: String,
    tls: watch::Sender<Arc<ServerConfig>>,
    renew_at: Mutex<Timestamp>,
}

impl Certificates {
    /// Opens the folder in which they are kept.
    pub(super) fn open(
        connection: Connection,
        client: Client,
        settings: &ClusterSettings,
    ) -> Result<Self, ClusterError> {
        // Another cluster's certificates are of no use, so each has a folder of its own.
        let mut hasher = DefaultHasher::new();
        connection.authority().hash(&mut hasher);
        let folder = settings.folder.join(format!("{:016x}", hasher.finish()));
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|source| ClusterError::Io { action: format!("make {}", folder.display()), source })?;
        let (host, address) = (settings.host_name.clone(), settings.address);
        let (nodes, renewals, serving) = (Mutex::default(), Mutex::default(), OnceCell::new());
        Ok(Self { connection, client, host, address, folder, nodes, renewals, serving })
    }

    /// A client that is a node. Made with the first call, which waits for the signature where there is no certificate.
    pub(super) async fn as_node(&self, name: &str) -> Result<AsNode, ClusterError> {
        let node = Arc::clone(lock(&self.nodes).entry(name.to_owned()).or_default());
        let make = async || {
            let identity = self.identity(name).await?;
            self.connection.renewable_client_of(&user_name(name), &identity)
        };
        let client = node.get_or_try_init(make).await?.client();
        Ok(AsNode { client, _in_use: node })
    }

    /// Forgets the client of a node that nobody uses any more; its certificate stays for the next Pod.
    pub(super) fn forget(&self, name: &str) {
        let mut nodes = lock(&self.nodes);
        // The next Pod may have it already.
        if nodes.get(name).is_some_and(|node| Arc::strong_count(node) == 1) {
            nodes.remove(name);
        }
    }

    /// The certificate of a node: from the folder, or from the signer where there is none or it is old.
    async fn identity(&self, node: &str) -> Result<Identity, ClusterError> {
        let sign = async {
            let (user, usages) = (user_name(node), ["digital signature", "client auth"]);
            let params = CertificateParams::default();
            let request = Wanted { user: &user, host: &self.host, signer: CLIENT_SIGNER, usages: &usages, params };
            request.sign(&self.client).await
        };
        let (identity, renew_at) = self.fresh(&format!("{node}.pem"), sign).await?;
        lock(&self.renewals).insert(node.to_owned(), renew_at);
        Ok(identity)
    }

    /// What a file holds, and until when it is good; where there is none or it is old, what `sign` gives, kept in the file.
    async fn fresh(
        &self,
        file: &str,
        sign: impl Future<Output = Result<Identity, ClusterError>>,
    ) -> Result<(Identity, Timestamp), ClusterError> {
        let file = self.folder.join(file);
        if let Some(identity) = kept::read(&file) {
            let renew_at = kept::renew_at(&identity.certificate);
            if Timestamp::now() < renew_at {
                return Ok((identity, renew_at));
            }
        }
        let identity = sign.await?;
        kept::write(&file, &identity)?;
        let renew_at = kept::renew_at(&identity.certificate);
        Ok((identity, renew_at))
    }

    /// Makes sure that a node's certificate is fresh, also where it is in use.
    async fn renew(&self, name: &str) -> Result<(), ClusterError> {
        let identity = self.identity(name).await?;
        let node = lock(&self.nodes).get(name).cloned();
        if let Some(client) = node.as_ref().and_then(|node| node.get()) {
            client.replace(self.connection.client_of(&user_name(name), &identity)?);
        }
        Ok(())
    }

    /// Nodes whose certificates are to be made, or made anew.
    fn due(&self, ahead: &[String]) -> Vec<String> {
        let (renewals, now) = (lock(&self.renewals), Timestamp::now());
        let missing = ahead.iter().filter(|node| !renewals.contains_key(*node));
        let old = renewals.iter().filter(|(_, at)| **at <= now).map(|(node, _)| node);
        missing.chain(old).cloned().collect()
    }

    /// How the ports of nodes speak TLS, now and later. `node` asks for the certificate where there is none.
    pub(super) async fn serving(&self, node: &str) -> Result<watch::Receiver<Arc<ServerConfig>>, ClusterError> {
        let make = async || {
            let (tls, renew_at) = self.make_serving(node).await?;
            Ok::<_, ClusterError>(Serving {
                node: node.to_owned(),
                tls: watch::Sender::new(tls),
                renew_at: renew_at.into(),
            })
        };
        Ok(self.serving.get_or_try_init(make).await?.tls.subscribe())
    }

    async fn renew_serving(&self) -> Result<(), ClusterError> {
        let Some(serving) = self.serving.get() else { return Ok(()) };
        if Timestamp::now() < *lock(&serving.renew_at) {
            return Ok(());
        }
        let (tls, renew_at) = self.make_serving(&serving.node).await?;
        serving.tls.send_replace(tls);
        *lock(&serving.renew_at) = renew_at;
        Ok(())
    }

    async fn make_serving(&self, node: &str) -> Result<(Arc<ServerConfig>, Timestamp), ClusterError> {
        let user = user_name(node);
        let sign = async {
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![SanType::IpAddress(self.address)];
            let usages = ["digital signature", "server auth"];
            let request = Wanted { user: &user, host: &self.host, signer: SERVING_SIGNER, usages: &usages, params };
            let asking = self.as_node(node).await?;
            let identity = request.sign(&asking.client).await?;
            drop(asking);
            self.forget(node);
            Ok(identity)
        };
        let (identity, renew_at) = self.fresh(&format!("serving-{}.pem", self.address), sign).await?;
        let unusable = |source| ClusterError::Certificate { user: user.clone(), source };
        let serving = ServingIdentity::from_pem(identity.certificate.as_bytes(), identity.key.as_bytes());
        let authority: Vec<_> =
            self.connection.authority().iter().map(|der| CertificateDer::from(der.clone())).collect();
        let tls = server_config(serving.map_err(unusable)?, &authority).map_err(unusable)?;
        Ok((tls, renew_at))
    }
}

/// Makes the certificates of the first nodes before their Pods come, and all that are known anew in time, for ever.
pub(super) async fn keep(link: Arc<Link>, nodes: Vec<String>) {
    let certificates = &link.certificates;
    let ahead = &nodes[..nodes.len().min(link.settings.certificates_ahead)];
    let mut is_first = true;
    loop {
        let renewing = certificates.due(ahead).into_iter().map(|node| async move {
            if let Err(error) = certificates.renew(&node).await {
                tracing::warn!(
                    node,
                    error = &error as &dyn std::error::Error,
                    "the certificate of a node is not made yet"
                );
            }
        });
        futures_util::stream::iter(renewing).buffer_unordered(AT_ONCE).collect::<()>().await;
        let serving = match nodes.first() {
            Some(node) if is_first => certificates.serving(node).await.map(drop),
            Some(_) | None => certificates.renew_serving().await,
        };
        match serving {
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the certificate of nodes' ports is not made yet"
                );
            }
            Ok(()) if is_first && certificates.due(ahead).is_empty() => {
                is_first = false;
                tracing::info!(count = ahead.len(), "certificates of nodes are ready");
            }
            Ok(()) => {}
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one insertion, removal or assignment, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn user_name(node: &str) -> String {
    format!("system:node:{node}")
}
