//! Certificates of nodes: one of a client for each, and one by which all their ports are served.
//!
//! The controller approves a client certificate of a node only for an address in a block of the host that asks; the
//! API server's signer issues it. The ports of all nodes are on one address, so they share one serving certificate; the
//! signer wants it asked for as a node, which is the first that has a certificate.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use monopod_kubelet_http::{ServingIdentity, server_config};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::sync::{OnceCell, Semaphore};
use x509_parser::pem::parse_x509_pem;

use super::connection::{Connection, Identity};
use super::{ClusterError, ClusterSettings, Link};

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// How long a request may stay unanswered.
const SIGNING_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a request.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Requests that are made at once.
const AT_ONCE: usize = 4;
/// Between attempts to make certificates ahead.
const PAUSE: Duration = Duration::from_secs(10);

/// All of them.
pub(super) struct Certificates {
    connection: Connection,
    /// As the host.
    client: Client,
    host: String,
    address: std::net::IpAddr,
    folder: PathBuf,
    nodes: Mutex<BTreeMap<String, Arc<OnceCell<Client>>>>,
    serving: OnceCell<Arc<ServerConfig>>,
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
        let (nodes, serving) = (Mutex::default(), OnceCell::new());
        Ok(Self { connection, client, host, address, folder, nodes, serving })
    }

    /// A client that is a node. Made with the first call, which waits for the signature where there is no certificate.
    pub(super) async fn client_of(&self, node: &str) -> Result<Client, ClusterError> {
        let cell = Arc::clone(self.lock().entry(node.to_owned()).or_default());
        cell.get_or_try_init(|| self.make_client(node)).await.cloned()
    }

    /// Forgets the client of a node whose Pod is gone; its certificate stays for the next.
    pub(super) fn forget(&self, node: &str) {
        self.lock().remove(node);
    }

    async fn make_client(&self, node: &str) -> Result<Client, ClusterError> {
        let identity = self.identity(node).await?;
        self.connection.client_of(&user_name(node), &identity)
    }

    /// The certificate of a node, from the folder or from the signer.
    async fn identity(&self, node: &str) -> Result<Identity, ClusterError> {
        let file = self.folder.join(format!("{node}.pem"));
        if let Some(identity) = read(&file) {
            return Ok(identity);
        }
        let params = CertificateParams::default();
        let usages = ["digital signature", "client auth"];
        let request = Wanted { node, host: &self.host, signer: CLIENT_SIGNER, usages: &usages, params };
        let identity = request.sign(&self.client).await?;
        write(&file, &identity)?;
        Ok(identity)
    }

    /// How the ports of nodes speak TLS. `node` asks for the certificate where there is none.
    pub(super) async fn serving(&self, node: &str) -> Result<Arc<ServerConfig>, ClusterError> {
        self.serving.get_or_try_init(|| self.make_serving(node)).await.cloned()
    }

    async fn make_serving(&self, node: &str) -> Result<Arc<ServerConfig>, ClusterError> {
        let file = self.folder.join(format!("serving-{}.pem", self.address));
        let identity = match read(&file) {
            Some(identity) => identity,
            None => {
                let mut params = CertificateParams::default();
                params.subject_alt_names = vec![SanType::IpAddress(self.address)];
                let usages = ["digital signature", "server auth"];
                let request = Wanted { node, host: &self.host, signer: SERVING_SIGNER, usages: &usages, params };
                let identity = request.sign(&self.client_of(node).await?).await?;
                write(&file, &identity)?;
                identity
            }
        };
        let unusable = |source| ClusterError::Certificate { user: user_name(node), source };
        let serving = ServingIdentity::from_pem(identity.certificate.as_bytes(), identity.key.as_bytes());
        let authority: Vec<_> =
            self.connection.authority().iter().map(|der| CertificateDer::from(der.clone())).collect();
        server_config(serving.map_err(unusable)?, &authority).map_err(unusable)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<OnceCell<Client>>>> {
        // Every change is one insertion or removal, so a panic elsewhere leaves nothing half done.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the certificates of the first nodes before their Pods come.
pub(super) async fn make_ahead(link: Arc<Link>, nodes: Vec<String>) {
    let places = Semaphore::new(AT_ONCE);
    let each = nodes.iter().take(link.settings.certificates_ahead).map(|node| {
        let (link, places) = (&link, &places);
        async move {
            let _place = places.acquire().await;
            while let Err(error) = link.certificates.identity(node).await {
                tracing::warn!(node, error = &error as &dyn std::error::Error, "a node has no certificate yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    });
    futures_util::future::join_all(each).await;
    if let Some(node) = nodes.first()
        && let Err(error) = link.certificates.serving(node).await
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "nodes have no serving certificate yet");
    }
    tracing::info!(count = nodes.len().min(link.settings.certificates_ahead), "certificates of nodes are ready");
}

/// A certificate that is wanted.
struct Wanted<'a> {
    node: &'a str,
    host: &'a str,
    signer: &'a str,
    usages: &'a [&'a str],
    params: CertificateParams,
}

impl Wanted<'_> {
    async fn sign(mut self, client: &Client) -> Result<Identity, ClusterError> {
        let user = user_name(self.node);
        let invalid = |source| ClusterError::Request { user: user.clone(), source };
        let key = KeyPair::generate().map_err(invalid)?;
        self.params.distinguished_name = rcgen::DistinguishedName::new();
        self.params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        self.params.distinguished_name.push(DnType::CommonName, &user);
        let request = self.params.serialize_request(&key).and_then(|request| request.pem()).map_err(invalid)?;
        let requests = Api::<CertificateSigningRequest>::all(client.clone());
        let object = CertificateSigningRequest {
            metadata: ObjectMeta { generate_name: Some(format!("{}-", self.host)), ..ObjectMeta::default() },
            spec: CertificateSigningRequestSpec {
                request: ByteString(request.into_bytes()),
                signer_name: self.signer.to_owned(),
                usages: Some(self.usages.iter().map(|usage| (*usage).to_owned()).collect()),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        };
        let made = requests.create(&PostParams::default(), &object).await;
        let made = made.map_err(ClusterError::asking(format!("request a certificate for {user}")))?;
        let name = made.metadata.name.unwrap_or_default();
        let certificate = wait_signed(&requests, &name, &user).await?;
        Ok(Identity { certificate, key: key.serialize_pem() })
    }
}

async fn wait_signed(
    requests: &Api<CertificateSigningRequest>,
    name: &str,
    user: &str,
) -> Result<String, ClusterError> {
    let not_signed =
        |problem: String| ClusterError::NotSigned { name: name.to_owned(), user: user.to_owned(), problem };
    let deadline = tokio::time::Instant::now() + SIGNING_PATIENCE;
    while tokio::time::Instant::now() < deadline {
        let request = requests.get(name).await.map_err(ClusterError::asking(format!("read request {name}")))?;
        let status = request.status.unwrap_or_default();
        if let Some(certificate) = status.certificate {
            return Ok(String::from_utf8_lossy(&certificate.0).into_owned());
        }
        let refused = status.conditions.iter().flatten().find(|one| matches!(one.type_.as_str(), "Denied" | "Failed"));
        if let Some(refused) = refused {
            let why = refused.message.as_deref().unwrap_or_default();
            return Err(not_signed(format!("was {}: {why}", refused.type_.to_lowercase())));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(not_signed(
        "was not signed in time; is the controller running, and this machine's Host object as it should be?".to_owned(),
    ))
}

fn user_name(node: &str) -> String {
    format!("system:node:{node}")
}

/// A certificate that was kept, while at least a fifth of its life is left.
fn read(file: &Path) -> Option<Identity> {
    let text = std::fs::read_to_string(file).ok()?;
    let (key, certificate) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let certificate = format!("-----BEGIN CERTIFICATE-----{certificate}");
    let (_, pem) = parse_x509_pem(certificate.as_bytes()).ok()?;
    let validity = pem.parse_x509().ok()?.validity().clone();
    let (begin, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let is_young = end.saturating_sub(Timestamp::now().as_second()) > end.saturating_sub(begin) / 5;
    is_young.then(|| Identity { certificate, key: key.to_owned() })
}

fn write(file: &Path, identity: &Identity) -> Result<(), ClusterError> {
    let fresh = file.with_extension("new");
    let written = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut open| open.write_all(format!("{}{}", identity.key, identity.certificate).as_bytes()))
        .and_then(|()| std::fs::rename(&fresh, file));
    written.map_err(|source| ClusterError::Io { action: format!("write {}", file.display()), source })
}
