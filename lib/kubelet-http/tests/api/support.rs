//! A node that is served, and a client that speaks to it over TLS.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HeaderValue;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use monopod_kubelet_http::{Auth, Limits, NodeConfig, NodeHandle, NodeServer, ServingIdentity, server_config};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::fake::{FakeApi, FakeBackend};

/// Nothing here takes nearly as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate authority.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

pub(crate) type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    pub(crate) fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    fn sign(&self, mut params: CertificateParams, purpose: ExtendedKeyUsagePurpose) -> Result<Identity> {
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok((certificate, PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?))
    }

    pub(crate) fn client(&self, name: &str) -> Result<Identity> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "testers");
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// TLS of a node that this authority vouches for, both ways.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>> {
        let params = CertificateParams::new(vec!["localhost".to_owned()])?;
        let (certificate, key) = self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)?;
        let identity = ServingIdentity { chain: vec![certificate], key };
        Ok(server_config(identity, std::slice::from_ref(&self.certificate))?)
    }
}

/// A node that is served until this is dropped.
pub(crate) struct Served {
    pub(crate) authority: Authority,
    pub(crate) backend: Arc<FakeBackend>,
    pub(crate) api: Arc<FakeApi>,
    pub(crate) handle: NodeHandle,
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Served {
    pub(crate) async fn new() -> Result<Self> {
        Self::with(Limits { stream_creation: Duration::from_millis(300), ..Limits::default() }).await
    }

    pub(crate) async fn with(limits: Limits) -> Result<Self> {
        let authority = Authority::new()?;
        let (backend, api) = (Arc::new(FakeBackend::default()), Arc::new(FakeApi::default()));
        let listen = "127.0.0.1:0".parse()?;
        let config = NodeConfig { name: "node-1".to_owned(), listen, tls: authority.server()?, limits };
        let server = NodeServer::bind(config, Arc::new(Auth::new(api.client())), backend.clone()).await?;
        let (address, handle) = (server.address(), server.handle());
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(server.run(shutdown.clone()));
        Ok(Self { authority, backend, api, handle, address, shutdown, running })
    }

    /// Ends the node, and with it all that it does.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.shutdown.cancel();
        Ok(tokio::time::timeout(PATIENCE, &mut self.running).await??)
    }

    pub(crate) async fn tls(&self, trusted: &Authority, identity: Option<Identity>) -> Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.certificate.clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match identity {
            Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key)?,
            None => config.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost")?;
        Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
    }

    /// A request on a connection of its own.
    pub(crate) async fn send(
        &self,
        identity: Option<Identity>,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>> {
        let stream = self.tls(&self.authority, identity).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection.with_upgrades());
        Ok(tokio::time::timeout(PATIENCE, sender.send_request(request)).await??)
    }

    /// What somebody who may do everything gets.
    pub(crate) async fn get(&self, path: &str) -> Result<(StatusCode, String)> {
        let response = self.send(Some(self.authority.client("admin")?), request("GET", path, &[])?).await?;
        text(response).await
    }

    /// A connection of streams.
    pub(crate) async fn upgrade(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<(Response<Incoming>, TokioIo<Upgraded>)> {
        let request = request("GET", path, headers)?;
        let mut response = self.send(Some(self.authority.client("admin")?), request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (status, text) = text(response).await?;
            anyhow::bail!("{status}: {text}");
        }
        let upgraded = hyper::upgrade::on(&mut response).await?;
        Ok((response, TokioIo::new(upgraded)))
    }

    /// Waits until so many programs and connections are left.
    pub(crate) async fn left(&self, count: usize) -> Result<()> {
        let mut running = self.backend.running.subscribe();
        let waited = tokio::time::timeout(PATIENCE, running.wait_for(|running| *running == count)).await;
        let last = *self.backend.running.borrow();
        waited.with_context(|| format!("{last} run, expected {count}"))?.map(drop).context("the backend is gone")
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Request<Empty<Bytes>>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::try_from(*value)?);
    }
    Ok(request.body(Empty::new())?)
}

pub(crate) async fn text(response: Response<Incoming>) -> Result<(StatusCode, String)> {
    let status = response.status();
    let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await??;
    Ok((status, String::from_utf8(body.to_bytes().to_vec())?))
}
