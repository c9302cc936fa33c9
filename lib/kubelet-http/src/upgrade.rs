//! Turns a request into a connection of streams: which protocol it asks for, which versions both sides know, the answer.

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::channels::goodbye;
use crate::reply::{Answer, Body, refuse};

/// The largest message of a WebSocket, as the kubelet has it: a client may send all of its input as one.
const MAX_MESSAGE: usize = 32 << 20;
/// Bytes that may wait on their way through a tunnel.
const TUNNEL: usize = 64 << 10;
/// What protocols are called when they go through a WebSocket.
const TUNNEL_PREFIX: &str = "SPDY/3.1+";
const PROTOCOL: &str = "x-stream-protocol-version";
const ACCEPTED: &str = "x-accepted-stream-protocol-versions";

/// What a request asks to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    WebSocket,
    Spdy,
}

impl Kind {
    /// Reads the headers of a request.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        if !values(headers, "connection").any(|value| value.eq_ignore_ascii_case("upgrade")) {
            return None;
        }
        let mut wanted = values(headers, "upgrade");
        wanted.find_map(|value| match value.to_ascii_lowercase().as_str() {
            "websocket" => Some(Self::WebSocket),
            "spdy/3.1" => Some(Self::Spdy),
            _ => None,
        })
    }
}

/// The parts of a header that may be a list.
fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let all = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',').map(str::trim)).filter(|value| !value.is_empty())
}

/// A protocol that both sides know, and the answer that says so.
#[derive(Debug)]
pub(crate) struct Agreed {
    /// Empty when the client asks for none.
    pub(crate) protocol: String,
    pub(crate) answer: Response<Body>,
}

/// Agrees on a WebSocket: the first of the client's protocols that is known.
pub(crate) fn websocket(headers: &HeaderMap, known: &[&str]) -> Result<Agreed, Box<Answer>> {
    let bad = |message: &str| refuse(StatusCode::BAD_REQUEST, format!("unable to upgrade: {message}"));
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| bad("there is no Sec-WebSocket-Key"))?;
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(bad("Sec-WebSocket-Version is not 13"));
    }
    let mut wanted = values(headers, "sec-websocket-protocol").peekable();
    let protocol = if wanted.peek().is_none() { known.iter().find(|one| one.is_empty()).copied() } else { None };
    let protocol = protocol.or_else(|| wanted.find(|one| known.contains(one)));
    let protocol = protocol.ok_or_else(|| {
        let asked: Vec<_> = values(headers, "sec-websocket-protocol").collect();
        let message = format!("requested protocol(s) are not supported: {asked:?}; supports {known:?}");
        refuse(StatusCode::FORBIDDEN, message)
    })?;
    let mut answer = switching("websocket");
    let accept =
        HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| bad("the key cannot be answered"))?;
    answer.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if !protocol.is_empty() {
        let named = HeaderValue::try_from(protocol).map_err(|_| bad("the protocol cannot be named"))?;
        answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, named);
    }
    Ok(Agreed { protocol: protocol.to_owned(), answer })
}

/// Agrees on SPDY: the first of the client's protocols that is known.
pub(crate) fn spdy(headers: &HeaderMap, known: &[&str]) -> Result<Agreed, Box<Answer>> {
    let wanted: Vec<_> = values(headers, PROTOCOL).collect();
    if wanted.is_empty() {
        let message = "unable to upgrade: header X-Stream-Protocol-Version names no protocol";
        return Err(refuse(StatusCode::BAD_REQUEST, message.to_owned()));
    }
    let Some(protocol) = wanted.iter().find(|one| known.contains(one)) else {
        let message = format!("unable to negotiate protocol: client supports {wanted:?}, server accepts {known:?}");
        let mut refusal = refuse(StatusCode::FORBIDDEN, format!("unable to upgrade: {message}"));
        for one in known {
            if let Ok(value) = HeaderValue::try_from(*one) {
                refusal.headers_mut().append(ACCEPTED, value);
            }
        }
        return Err(refusal);
    };
    let mut answer = switching("SPDY/3.1");
    if let Ok(value) = HeaderValue::try_from(*protocol) {
        answer.headers_mut().insert(PROTOCOL, value);
    }
    Ok(Agreed { protocol: (*protocol).to_owned(), answer })
}

/// Agrees on SPDY within a WebSocket, when that is what the client asks for.
pub(crate) fn asks_for_tunnel(headers: &HeaderMap) -> bool {
    values(headers, "sec-websocket-protocol").any(|one| one.starts_with(TUNNEL_PREFIX))
}

fn switching(to: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(to));
    answer
}

/// The bytes below the answer, once it is sent.
pub(crate) type Raw = TokioIo<Upgraded>;

/// Waits until the answer is sent.
pub(crate) async fn raw(upgrade: OnUpgrade) -> Option<Raw> {
    match upgrade.await {
        Ok(upgraded) => Some(TokioIo::new(upgraded)),
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "a connection was not upgraded");
            None
        }
    }
}

/// The WebSocket on a connection.
pub(crate) async fn websocket_on<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> WebSocketStream<T> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// The bytes that go through a WebSocket in binary messages, whose borders mean nothing.
pub(crate) fn tunnel<T>(socket: WebSocketStream<T>) -> DuplexStream
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (near, far) = tokio::io::duplex(TUNNEL);
    tokio::spawn(async move {
        if let Err(error) = pump(socket, far).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a tunnel ended");
        }
    });
    near
}

async fn pump<T>(socket: WebSocketStream<T>, far: DuplexStream) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    use futures_util::{SinkExt as _, StreamExt as _};
    let (mut sink, mut source) = socket.split();
    let (mut read, mut write) = tokio::io::split(far);
    let inward = async {
        while let Some(message) = source.next().await.transpose()? {
            match message {
                Message::Binary(data) => write.write_all(&data).await?,
                Message::Close(_) => break,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        write.shutdown().await?;
        Ok(())
    };
    let outward = async {
        let mut buffer = vec![0; TUNNEL / 2];
        loop {
            let length = read.read(&mut buffer).await?;
            let Some(data) = buffer.get(..length).filter(|data| !data.is_empty()) else { break };
            sink.send(Message::Binary(Bytes::copy_from_slice(data))).await?;
        }
        sink.send(goodbye()).await
    };
    tokio::try_join!(inward, outward).map(|_| ())
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};

    use super::{Kind, spdy, websocket};

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn upgrades_are_known_by_their_headers() {
        let kind = |connection, upgrade| Kind::of(&headers(&[("connection", connection), ("upgrade", upgrade)]));
        assert_eq!(kind("Upgrade", "websocket"), Some(Kind::WebSocket));
        assert_eq!(kind("keep-alive, upgrade", "SPDY/3.1"), Some(Kind::Spdy));
        assert_eq!(kind("keep-alive", "websocket"), None);
        assert_eq!(kind("upgrade", "h2c"), None);
    }

    #[test]
    fn the_first_protocol_of_the_client_that_is_known_is_taken() {
        let asked = headers(&[("x-stream-protocol-version", "v9, v4.channel.k8s.io, v3.channel.k8s.io")]);
        let agreed = spdy(&asked, &["v3.channel.k8s.io", "v4.channel.k8s.io"]).unwrap();
        assert_eq!(agreed.protocol, "v4.channel.k8s.io");
        let refused = spdy(&asked, &["v1"]).unwrap_err();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        assert_eq!(refused.headers()["x-accepted-stream-protocol-versions"], "v1");
    }

    #[test]
    fn a_websocket_without_protocol_gets_the_nameless_one() {
        let asked = headers(&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("sec-websocket-version", "13")]);
        let agreed = websocket(&asked, &["a", ""]).unwrap();
        assert_eq!(agreed.protocol, "");
        // The example of RFC 6455.
        assert_eq!(agreed.answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(websocket(&asked, &["a"]).unwrap_err().status(), StatusCode::FORBIDDEN);
    }
}
