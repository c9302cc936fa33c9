//! One port per node: connections, TLS, and what all requests go through.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Attributes, Auth, User, subresources, verb};
use crate::backend::PodBackend;
use crate::reply::{Answer, text};
use crate::routes;
use crate::tls;

/// How long a client has for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may rest between requests.
const REST: Duration = Duration::from_secs(90);
/// How long accepting rests after it failed, as when there are no descriptors.
const AFTER_FAILURE: Duration = Duration::from_millis(200);
/// All headers of a request.
const MAX_HEADERS: usize = 64 << 10;

/// What connections of a node are held to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections for requests at once. More wait.
    pub connections: usize,
    /// Connections of streams at once. More are refused.
    pub sessions: usize,
    /// How long a connection of streams may rest.
    pub idle: Duration,
    /// How long a client has to open its streams.
    pub stream_creation: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            sessions: 256,
            idle: Duration::from_secs(4 * 60 * 60),
            stream_creation: Duration::from_secs(30),
        }
    }
}

/// One node to serve.
#[derive(Debug)]
pub struct NodeConfig {
    /// The name of its Node object, for which callers need rights.
    pub name: String,
    /// Where to listen; port 0 for any.
    pub listen: SocketAddr,
    /// How it speaks TLS.
    pub tls: Arc<ServerConfig>,
    /// Limits of its connections.
    pub limits: Limits,
}

/// A node cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The port cannot be had.
    #[error("failed to listen on {address} for node {node}")]
    Listen {
        /// The node.
        node: String,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// What requests need to know of their node.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) backend: Arc<dyn PodBackend>,
    pub(crate) limits: Limits,
    auth: Arc<Auth>,
    sessions: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Node {
    /// Room for one more connection of streams, for as long as the answer is held.
    pub(crate) fn session(&self) -> Result<OwnedSemaphorePermit, Box<Answer>> {
        let most = self.limits.sessions;
        let message = || {
            format!("node {} has all the connections of streams that it may have ({most}), try again later", self.name)
        };
        let place = Arc::clone(&self.sessions).try_acquire_owned();
        place.map_err(|_| Box::new(text(StatusCode::TOO_MANY_REQUESTS, message())))
    }

    /// Runs a session beside the connection it came from; it ends with the node.
    pub(crate) fn spawn(&self, session: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move { shutdown.run_until_cancelled(session).await });
    }
}

/// The port of a node.
pub struct NodeServer {
    node: Arc<Node>,
    listener: TcpListener,
    address: SocketAddr,
    tls: watch::Sender<Arc<ServerConfig>>,
}

impl std::fmt::Debug for NodeServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NodeServer").field("node", &self.node.name).field("address", &self.address).finish()
    }
}

/// Changes the TLS of a node that runs.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    tls: watch::Sender<Arc<ServerConfig>>,
}

impl NodeHandle {
    /// New connections use this: a renewed certificate, or another client authority.
    pub fn set_tls(&self, tls: Arc<ServerConfig>) {
        self.tls.send_replace(tls);
    }
}

impl NodeServer {
    /// Takes the port of a node.
    ///
    /// # Errors
    ///
    /// When the port cannot be had.
    pub async fn bind(config: NodeConfig, auth: Arc<Auth>, backend: Arc<dyn PodBackend>) -> Result<Self, ServerError> {
        let NodeConfig { name, listen, tls, limits } = config;
        let failed = |source| ServerError::Listen { node: name.clone(), address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let sessions = Arc::new(Semaphore::new(limits.sessions));
        let node = Arc::new(Node { name, backend, limits, auth, sessions, tasks, shutdown });
        Ok(Self { node, listener, address, tls: watch::Sender::new(tls) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For what may change while it runs.
    pub fn handle(&self) -> NodeHandle {
        NodeHandle { tls: self.tls.clone() }
    }

    /// Serves until the token is cancelled, then ends all connections and sessions.
    pub async fn run(self, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.node.limits.connections));
        let accepting = async {
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                match self.listener.accept().await {
                    Ok((stream, _)) => self.connect(stream, place),
                    Err(error) => {
                        self.complain(&error);
                        tokio::time::sleep(AFTER_FAILURE).await;
                    }
                }
            }
        };
        shutdown.run_until_cancelled(accepting).await;
        self.node.shutdown.cancel();
        self.node.tasks.close();
        self.node.tasks.wait().await;
    }

    fn complain(&self, error: &std::io::Error) {
        let error: &dyn std::error::Error = error;
        tracing::warn!(node = self.node.name, error, "failed to accept a connection");
    }

    fn connect(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let (node, tls) = (Arc::clone(&self.node), Arc::clone(&self.tls.borrow()));
        self.node.spawn(async move {
            // A session holds its place no longer than the connection is one of requests.
            let _place = place;
            if let Err(error) = connection(&node, tls, stream).await {
                tracing::debug!(node = node.name, error = &*error, "a connection ended");
            }
        });
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn connection(node: &Arc<Node>, tls: Arc<ServerConfig>, stream: TcpStream) -> Result<(), AnyError> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream)).await??;
    let certificates = stream.get_ref().1.peer_certificates();
    let caller = certificates.and_then(<[_]>::first).and_then(tls::user).map(Arc::new);
    let service = service_fn(|request| {
        let (node, caller) = (Arc::clone(node), caller.clone());
        async move { Ok::<_, Infallible>(answer(&node, caller.as_deref(), request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(REST).max_buf_size(MAX_HEADERS);
    server.serve_connection(TokioIo::new(stream), service).with_upgrades().await?;
    Ok(())
}

/// Who, whether they may, then what.
async fn answer(node: &Arc<Node>, caller: Option<&User>, request: Request<Incoming>) -> Answer {
    match admit(node, caller, &request).await {
        Ok(()) => routes::answer(node, request).await,
        Err(refusal) => *refusal,
    }
}

async fn admit(node: &Node, caller: Option<&User>, request: &Request<Incoming>) -> Result<(), Box<Answer>> {
    let unauthorized = || Box::new(text(StatusCode::UNAUTHORIZED, "Unauthorized"));
    let user = match node.auth.authenticate(caller, request.headers()).await {
        Ok(Some(user)) => user,
        Ok(None) => return Err(unauthorized()),
        Err(error) => {
            tracing::error!(node = node.name, error = &error as &dyn std::error::Error, "failed to authenticate");
            return Err(unauthorized());
        }
    };
    let verb = verb(request.method());
    let subresources = subresources(request.uri().path());
    let User { name, .. } = &user;
    for subresource in &subresources {
        let attributes = Attributes { verb, node: node.name.clone(), subresource };
        match node.auth.allows(&user, attributes).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(node = node.name, error = &error as &dyn std::error::Error, "failed to authorize");
                let what = format!("user={name}, verb={verb}, resource=nodes, subresource={subresource}");
                let message = format!("Authorization error ({what})");
                return Err(Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, message)));
            }
        }
    }
    let shown = subresources.join(" ");
    let message = format!("Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[{shown}])\n");
    Err(Box::new(text(StatusCode::FORBIDDEN, message)))
}
