//! One connection to a guest: from opening the byte stream to the answered `Hello`.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::rt::TokioIo;
use monopod_agent_proto::v1::agent_client::AgentClient as Agent;
use monopod_agent_proto::v1::{HelloRequest, HelloResponse};
use monopod_agent_proto::{MAX_REQUEST, MAX_RESPONSE, PROTOCOL_VERSION};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::deadlines::Deadlines;
use crate::error::AgentError;
use crate::handshake::{find_guest, fresh_mark};
use crate::link::{Link, LinkStream};
use crate::transport::AgentTransport;

/// Data that a guest may send on one stream before the caller has taken it.
const STREAM_WINDOW: u32 = 128 << 10;
/// The same for all streams together.
const CONNECTION_WINDOW: u32 = 256 << 10;
/// Largest set of headers or trailers.
const MAX_HEADERS: u32 = 16 << 10;

/// One connection to a guest. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) agent: Agent<Channel>,
    pub(crate) link: Arc<Link>,
    pub(crate) hello: HelloResponse,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.close();
    }
}

impl Connection {
    /// Opens a connection within the deadline.
    ///
    /// # Errors
    /// When there is no agent in time, or one that speaks another protocol.
    pub(crate) async fn open(transport: &dyn AgentTransport, deadlines: Deadlines) -> Result<Self, AgentError> {
        let (link, agent) = timeout(deadlines.connect, Self::link(transport, deadlines))
            .await
            .map_err(|_| AgentError::Timeout { call: "connect", after: deadlines.connect })??;
        let mut connection = Self { agent, link, hello: HelloResponse::default() };
        connection.hello = timeout(deadlines.connect, connection.say_hello())
            .await
            .map_err(|_| AgentError::Timeout { call: "Hello", after: deadlines.connect })??;
        Ok(connection)
    }

    async fn link(
        transport: &dyn AgentTransport,
        deadlines: Deadlines,
    ) -> Result<(Arc<Link>, Agent<Channel>), AgentError> {
        let failed = |source| AgentError::Connect { source };
        let mut stream = transport.connect().await.map_err(failed)?;
        let mark = fresh_mark().map_err(failed)?;
        let rest = find_guest(&mut *stream, &mark).await.map_err(failed)?;
        let (link, stream) = Link::new(stream, rest);
        match channel(stream, deadlines).await {
            Ok(channel) => {
                let agent =
                    Agent::new(channel).max_decoding_message_size(MAX_RESPONSE).max_encoding_message_size(MAX_REQUEST);
                Ok((link, agent))
            }
            Err(error) => {
                link.close();
                Err(AgentError::Unreachable { call: "connect", source: Some(Box::new(error)) })
            }
        }
    }

    async fn say_hello(&self) -> Result<HelloResponse, AgentError> {
        let request = HelloRequest { protocol: PROTOCOL_VERSION };
        let answer = self.agent.clone().hello(request).await;
        let hello = answer.map_err(|status| self.error("Hello", status))?.into_inner();
        self.link.delivered();
        if hello.protocol != PROTOCOL_VERSION {
            return Err(AgentError::VersionMismatch { ours: PROTOCOL_VERSION, theirs: hello.protocol });
        }
        Ok(hello)
    }

    /// What a status of this connection means.
    fn error(&self, call: &'static str, status: tonic::Status) -> AgentError {
        error_on(&self.link, call, status)
    }
}

/// What a status means, given what is known of the connection that it came over.
pub(crate) fn error_on(link: &Link, call: &'static str, status: tonic::Status) -> AgentError {
    if link.is_flooded() {
        return AgentError::Misbehaved { call, what: "too many frames" };
    }
    AgentError::from_status(call, status)
}

/// HTTP/2 over one stream. tonic would connect again by itself, past the handshake; here its second attempt fails.
async fn channel(stream: LinkStream, deadlines: Deadlines) -> Result<Channel, tonic::transport::Error> {
    let once = Arc::new(Mutex::new(Some(stream)));
    let connector = service_fn(move |_| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { stream.map(TokioIo::new).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    Endpoint::from_static("http://guest")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keep_alive_interval(deadlines.silence)
        .keep_alive_timeout(deadlines.sign_of_life)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}
