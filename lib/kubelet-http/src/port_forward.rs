//! `/portForward`: connections to ports of a Pod, many over one.
//!
//! Over SPDY each of them is a pair of streams, `data` and `error`, with the same `requestid`. Over a WebSocket the ports
//! are named beforehand, and each has two channels.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backend::PodBackend;
use crate::channels::{Channels, Coding, Layout};
use crate::outlet::Outlet;
use crate::query::Query;
use crate::reply::{Answer, refuse, text};
use crate::server::{Limits, Node};
use crate::spdy::{self, SpdyStream};
use crate::upgrade::{self, Kind};

const SPDY_PROTOCOL: &str = "portforward.k8s.io";
const TUNNEL_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
const WEBSOCKET_PROTOCOLS: [&str; 3] = ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""];
/// Ports of one WebSocket, which has numbers for no more than twice as many channels.
const MAX_PORTS: usize = 64;
/// Bytes that are read from a port at once.
const PIECE: usize = 16 << 10;

/// The Pod whose ports are asked for.
#[derive(Clone, Debug)]
pub(crate) struct PodTarget {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// One connection to a port.
#[derive(Debug)]
struct Forward {
    port: u16,
    input: mpsc::Receiver<Bytes>,
    output: Outlet,
    error: Outlet,
    /// The client has given it up.
    reset: Arc<CancellationToken>,
}

/// Answers a request, and carries the connections on.
pub(crate) async fn serve(
    node: &Arc<Node>,
    mut request: Request<Incoming>,
    pod: PodTarget,
    query: &Query,
) -> Result<Answer, Box<Answer>> {
    let headers = request.headers();
    let required = || Box::new(text(StatusCode::BAD_REQUEST, "Upgrade request required"));
    let kind = Kind::of(headers).ok_or_else(required)?;
    let is_tunnel = upgrade::asks_for_tunnel(headers);
    let (agreed, ports) = match kind {
        Kind::Spdy => (upgrade::spdy(headers, &[SPDY_PROTOCOL])?, Vec::new()),
        Kind::WebSocket if is_tunnel => (upgrade::websocket(headers, &[TUNNEL_PROTOCOL])?, Vec::new()),
        Kind::WebSocket => {
            let ports = ports(query).map_err(|message| refuse(StatusCode::BAD_REQUEST, message))?;
            (upgrade::websocket(headers, &WEBSOCKET_PROTOCOLS)?, ports)
        }
    };
    let place = node.session()?;
    let upgraded = hyper::upgrade::on(&mut request);
    let (backend, limits, protocol) = (Arc::clone(&node.backend), node.limits.clone(), agreed.protocol);
    node.spawn(async move {
        let _place = place;
        let Some(raw) = upgrade::raw(upgraded).await else { return };
        match kind {
            Kind::Spdy => over_spdy(raw, backend, pod, &limits).await,
            Kind::WebSocket if is_tunnel => {
                let bytes = upgrade::tunnel(upgrade::websocket_on(raw).await);
                over_spdy(bytes, backend, pod, &limits).await;
            }
            Kind::WebSocket => {
                let coding = if protocol.contains("base64") { Coding::Base64 } else { Coding::Binary };
                over_websocket(upgrade::websocket_on(raw).await, coding, &ports, backend, pod, &limits).await;
            }
        }
    });
    Ok(agreed.answer)
}

/// The ports that a request names.
fn ports(query: &Query) -> Result<Vec<u16>, String> {
    let texts = query.all("port");
    if texts.is_empty() {
        return Err("query parameter \"port\" is required".to_owned());
    }
    let ports: Vec<_> = texts.iter().flat_map(|text| text.split(',')).map(port).collect::<Result<_, _>>()?;
    if ports.len() > MAX_PORTS {
        return Err(format!("{} ports are asked for, {MAX_PORTS} are possible", ports.len()));
    }
    Ok(ports)
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) => Err(format!("port {text:?} must be > 0")),
        Ok(port) => Ok(port),
        Err(error) => Err(format!("unable to parse {text:?} as a port: {error}")),
    }
}

/// One stream of a pair that waits for the other.
#[derive(Debug)]
struct Half {
    stream: SpdyStream,
    is_data: bool,
    port: u16,
    deadline: Instant,
}

async fn over_spdy<T>(io: T, backend: Arc<dyn PodBackend>, pod: PodTarget, limits: &Limits)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (connection, mut opened) = spdy::serve(io, limits.idle);
    let mut halves: HashMap<String, Half> = HashMap::new();
    let mut forwards = JoinSet::new();
    loop {
        let first = halves.values().map(|half| half.deadline).min();
        let stream = tokio::select! {
            stream = opened.recv() => stream,
            () = connection.gone.cancelled() => None,
            Some(_) = forwards.join_next() => continue,
            () = until(first) => {
                expire(&mut halves).await;
                continue;
            }
        };
        let Some(stream) = stream else { return };
        let Some((id, half)) = half(stream, limits).await else { continue };
        match halves.remove(&id) {
            Some(other) if other.is_data != half.is_data => {
                let forward = pair(half, other);
                forwards.spawn(carry(forward, Arc::clone(&backend), pod.clone()));
            }
            Some(other) => {
                half.stream.output.reset().await;
                halves.insert(id, other);
            }
            None => {
                halves.insert(id, half);
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Gives up streams whose other half did not come.
async fn expire(halves: &mut HashMap<String, Half>) {
    let now = Instant::now();
    let late: Vec<_> = halves.extract_if(|_, half| half.deadline <= now).collect();
    for (id, half) in late {
        if !half.is_data {
            let message = format!("(request={id}) timed out waiting for streams");
            let _ = half.stream.output.send(message.into()).await;
        }
        half.stream.output.reset().await;
    }
}

/// Takes a stream that says what it is for; others are given up.
async fn half(stream: SpdyStream, limits: &Limits) -> Option<(String, Half)> {
    let asked = stream.headers.get("port").map(port).and_then(Result::ok);
    let is_data = match stream.headers.get("streamtype") {
        Some("data") => Some(true),
        Some("error") => Some(false),
        Some(_) | None => None,
    };
    let (Some(port), Some(is_data)) = (asked, is_data) else {
        stream.output.reset().await;
        return None;
    };
    // Old clients give no id; theirs is the number of the stream for errors, which they open first.
    let numbered = || if is_data { stream.id.saturating_sub(2) } else { stream.id }.to_string();
    let id = stream.headers.get("requestid").map_or_else(numbered, str::to_owned);
    stream.accept().await;
    Some((id, Half { stream, is_data, port, deadline: Instant::now() + limits.stream_creation }))
}

fn pair(one: Half, other: Half) -> Forward {
    let (data, error) = if one.is_data { (one, other) } else { (other, one) };
    let SpdyStream { input, output, reset, .. } = data.stream;
    Forward { port: data.port, input, output, error: error.stream.output, reset }
}

async fn over_websocket<T>(
    socket: tokio_tungstenite::WebSocketStream<T>,
    coding: Coding,
    ports: &[u16],
    backend: Arc<dyn PodBackend>,
    pod: PodTarget,
    limits: &Limits,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let layout = Layout { coding, can_close: false, reads: ports.iter().flat_map(|_| [true, false]).collect() };
    let mut channels = Channels::serve(socket, &layout, limits.idle);
    let reset = Arc::new(channels.gone.clone());
    let mut forwards = JoinSet::new();
    for (number, port) in (0_u8..).step_by(2).zip(ports) {
        let Some(input) = channels.take(usize::from(number)) else { continue };
        let (output, error) = (channels.outlet(number), channels.outlet(number + 1));
        for outlet in [&output, &error] {
            let _ = outlet.send(Bytes::copy_from_slice(&port.to_le_bytes())).await;
        }
        let forward = Forward { port: *port, input, output, error, reset: Arc::clone(&reset) };
        forwards.spawn(carry(forward, Arc::clone(&backend), pod.clone()));
    }
    while forwards.join_next().await.is_some() {}
}

/// Carries one connection until the Pod closes it or the client gives it up.
async fn carry(forward: Forward, backend: Arc<dyn PodBackend>, pod: PodTarget) {
    let Forward { port, input, output, error, reset } = forward;
    let carried = async {
        match backend.dial(&pod.namespace, &pod.name, port).await {
            Ok(stream) => copy(stream, input, &output).await,
            Err(problem) => Err(problem.to_string()),
        }
    };
    let carried = tokio::select! {
        carried = carried => carried,
        () = reset.cancelled() => return,
    };
    match carried {
        Ok(()) => output.finish().await,
        Err(problem) => {
            let PodTarget { name, uid, .. } = &pod;
            let message = format!("error forwarding port {port} to pod {name}, uid {uid}: {problem}");
            let _ = error.send(message.into()).await;
            output.reset().await;
        }
    }
    error.finish().await;
}

async fn copy(
    stream: impl AsyncRead + AsyncWrite,
    mut input: mpsc::Receiver<Bytes>,
    output: &Outlet,
) -> Result<(), String> {
    let (mut read, mut write) = tokio::io::split(stream);
    let inward = async {
        while let Some(data) = input.recv().await {
            if write.write_all(&data).await.is_err() {
                break;
            }
        }
        let _ = write.shutdown().await;
        // The other direction says when it is over.
        std::future::pending::<()>().await;
    };
    let outward = async {
        let mut buffer = vec![0; PIECE];
        loop {
            let length = read.read(&mut buffer).await.map_err(|error| error.to_string())?;
            let Some(data) = buffer.get(..length).filter(|data| !data.is_empty()) else { return Ok(()) };
            if output.send(Bytes::copy_from_slice(data)).await.is_err() {
                return Ok(());
            }
        }
    };
    tokio::select! {
        result = outward => result,
        () = inward => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::ports;
    use crate::query::Query;

    #[test]
    fn ports_come_in_lists_and_repeated() {
        let read = |query| ports(&Query::parse(Some(query)));
        assert_eq!(read("port=80,443&port=8080"), Ok(vec![80, 443, 8080]));
        assert_eq!(read("x=1").unwrap_err(), "query parameter \"port\" is required");
        assert_eq!(read("port=0").unwrap_err(), "port \"0\" must be > 0");
        assert!(read("port=65536").unwrap_err().starts_with("unable to parse \"65536\" as a port"));
        let many = vec!["1"; 65].join(",");
        assert_eq!(read(&format!("port={many}")).unwrap_err(), "65 ports are asked for, 64 are possible");
    }
}
