//! Exec and attach over WebSocket and SPDY.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use monopod_kubelet_http::Limits;
use monopod_kubelet_http::spdy::{Frame, Headers, SpdyCodec};
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::codec::Framed;

use crate::support::{PATIENCE, Served};

pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A WebSocket, and the protocol that the server chose.
pub(crate) async fn websocket(served: &Served, path: &str, protocols: &str) -> Result<(Socket, String)> {
    let mut headers = vec![
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    if !protocols.is_empty() {
        headers.push(("sec-websocket-protocol", protocols));
    }
    let (response, io) = served.upgrade(path, &headers).await?;
    let chosen = response.headers().get("sec-websocket-protocol").map(|value| value.to_str()).transpose()?;
    let chosen = chosen.unwrap_or_default().to_owned();
    Ok((WebSocketStream::from_raw_socket(io, Role::Client, None).await, chosen))
}

/// All that comes on each channel until the WebSocket is closed.
pub(crate) async fn channels(socket: &mut Socket) -> Result<BTreeMap<u8, Vec<u8>>> {
    let mut channels: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    while let Some(message) = tokio::time::timeout(PATIENCE, socket.next()).await?.transpose()? {
        if let Message::Close(end) = message {
            // Clients of Kubernetes take an end without this code for a failure.
            assert_eq!(end.context("an end without a code")?.code, CloseCode::Normal);
            break;
        }
        let Message::Binary(data) = message else { bail!("{message:?}") };
        let (channel, data) = data.split_first().context("a message without channel")?;
        channels.entry(*channel).or_default().extend(data);
    }
    Ok(channels)
}

fn status(channels: &BTreeMap<u8, Vec<u8>>) -> Result<Value> {
    Ok(serde_json::from_slice(channels.get(&3).context("no status")?)?)
}

#[tokio::test]
async fn version_5_of_the_websocket_closes_the_input() -> Result<()> {
    let served = Served::new().await?;
    let path = "/exec/shop/web/app?command=cat&input=1&output=1&error=1";
    let (mut socket, protocol) = websocket(&served, path, "v9, v5.channel.k8s.io, v4.channel.k8s.io").await?;
    assert_eq!(protocol, "v5.channel.k8s.io");
    socket.send(Message::Binary(Bytes::from_static(b"\0hello"))).await?;
    socket.send(Message::Binary(Bytes::from_static(b"\xff\0"))).await?;
    let channels = channels(&mut socket).await?;
    assert_eq!(channels[&1], b"hello");
    assert_eq!(status(&channels)?["status"], "Success");
    served.left(0).await
}

#[tokio::test]
async fn an_exit_code_is_told_in_the_status() -> Result<()> {
    let served = Served::new().await?;
    let path = "/exec/shop/web/uid-1/app?command=exit&command=7&output=1&error=1";
    let (mut socket, _) = websocket(&served, path, "v4.channel.k8s.io").await?;
    let channels = channels(&mut socket).await?;
    assert_eq!((&*channels[&1], &*channels[&2]), (&b"out"[..], &b"err"[..]));
    let status = status(&channels)?;
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "7");
    Ok(())
}

#[tokio::test]
async fn the_first_version_tells_failures_as_text() -> Result<()> {
    let served = Served::new().await?;
    let (mut socket, protocol) = websocket(&served, "/exec/shop/web/app?command=fail&output=1", "").await?;
    assert_eq!(protocol, "");
    let channels = channels(&mut socket).await?;
    let text = String::from_utf8(channels[&3].clone())?;
    assert_eq!(text, "Internal error occurred: error executing command in container: no such program");
    Ok(())
}

#[tokio::test]
async fn base64_is_text() -> Result<()> {
    let served = Served::new().await?;
    let path = "/exec/shop/web/app?command=sizes&output=1&tty=1";
    let (mut socket, _) = websocket(&served, path, "v4.base64.channel.k8s.io").await?;
    // {"Width":80,"Height":24}
    socket.send(Message::text("4eyJXaWR0aCI6ODAsIkhlaWdodCI6MjR9")).await?;
    assert_eq!(socket.next().await.context("closed")??, Message::text("1"));
    assert_eq!(socket.next().await.context("closed")??, Message::text("1ODB4MjQ="));
    Ok(())
}

#[tokio::test]
async fn attaching_ends_well_however_the_container_ends() -> Result<()> {
    let served = Served::new().await?;
    let (mut socket, _) = websocket(&served, "/attach/shop/web/app?output=1", "v5.channel.k8s.io").await?;
    let channels = channels(&mut socket).await?;
    assert_eq!(channels[&1], b"out");
    assert!(!channels.contains_key(&2), "the error output was not asked for");
    assert_eq!(status(&channels)?["status"], "Success");
    Ok(())
}

#[tokio::test]
async fn a_container_that_does_not_run_is_told_before_the_upgrade() -> Result<()> {
    let served = Served::new().await?;
    let answered = websocket(&served, "/exec/shop/web/setup?command=cat&output=1", "v5.channel.k8s.io").await;
    assert_eq!(answered.unwrap_err().to_string(), "500 Internal Server Error: container not found (\"setup\")");
    Ok(())
}

#[tokio::test]
async fn a_program_ends_when_its_client_goes() -> Result<()> {
    let served = Served::new().await?;
    let path = "/exec/shop/web/app?command=cat&input=1&output=1";
    let (socket, _) = websocket(&served, path, "v4.channel.k8s.io").await?;
    served.left(1).await?;
    drop(socket);
    served.left(0).await
}

#[tokio::test]
async fn one_session_too_many_is_refused() -> Result<()> {
    let served = Served::with(Limits { sessions: 1, ..Limits::default() }).await?;
    let path = "/exec/shop/web/app?command=cat&input=1&output=1";
    let (first, _) = websocket(&served, path, "v4.channel.k8s.io").await?;
    served.left(1).await?;
    let refused = websocket(&served, path, "v4.channel.k8s.io").await.map(drop).unwrap_err().to_string();
    let expected =
        "429 Too Many Requests: node node-1 has all the connections of streams that it may have (1), try again later";
    assert_eq!(refused, expected);
    drop(first);
    served.left(0).await
}

#[tokio::test]
async fn a_program_ends_when_its_node_does() -> Result<()> {
    let mut served = Served::new().await?;
    let path = "/exec/shop/web/app?command=cat&input=1&output=1";
    let (_socket, _) = websocket(&served, path, "v4.channel.k8s.io").await?;
    served.left(1).await?;
    served.stop().await?;
    served.left(0).await
}

/// The client's side of SPDY.
pub(crate) struct Spdy<T>(pub(crate) Framed<T, SpdyCodec>);

pub(crate) async fn spdy(served: &Served, path: &str, protocols: &str) -> Result<(Spdy<TokioIo<Upgraded>>, String)> {
    let headers = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", protocols)];
    let (response, io) = served.upgrade(path, &headers).await?;
    let chosen = response.headers()["x-stream-protocol-version"].to_str()?.to_owned();
    Ok((Spdy(Framed::new(io, SpdyCodec::default())), chosen))
}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Spdy<T> {
    pub(crate) async fn send(&mut self, frame: Frame) -> Result<()> {
        Ok(self.0.send(frame).await?)
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Frame>> {
        Ok(tokio::time::timeout(PATIENCE, self.0.next()).await?.transpose()?)
    }

    /// Opens a stream, and waits until it is taken.
    pub(crate) async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) -> Result<()> {
        let headers = headers.iter().copied().collect();
        self.send(Frame::SynStream { stream, headers, fin: false }).await?;
        match self.next().await? {
            Some(Frame::SynReply { stream: same, headers }) if same == stream && headers == Headers::default() => {
                Ok(())
            }
            other => bail!("{other:?}"),
        }
    }

    pub(crate) async fn data(&mut self, stream: u32, data: &'static [u8], fin: bool) -> Result<()> {
        self.send(Frame::Data { stream, data: Bytes::from_static(data), fin }).await
    }

    /// All data of each stream until the connection ends, and the streams that were ended.
    pub(crate) async fn rest(&mut self) -> Result<(BTreeMap<u32, Vec<u8>>, Vec<u32>)> {
        let (mut streams, mut ended): (BTreeMap<u32, Vec<u8>>, _) = (BTreeMap::new(), Vec::new());
        while let Some(frame) = self.next().await? {
            if matches!(frame, Frame::GoAway { .. }) {
                break;
            }
            let Frame::Data { stream, data, fin } = frame else { bail!("{frame:?}") };
            streams.entry(stream).or_default().extend(data);
            ended.extend(fin.then_some(stream));
        }
        Ok((streams, ended))
    }
}

#[tokio::test]
async fn spdy_carries_each_stream_apart() -> Result<()> {
    let served = Served::new().await?;
    let path = "/exec/shop/web/app?command=cat&input=1&output=1&error=1";
    let (mut spdy, protocol) = spdy(&served, path, "v5.channel.k8s.io, v4.channel.k8s.io").await?;
    assert_eq!(protocol, "v4.channel.k8s.io");
    for (stream, name) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        spdy.open(stream, &[("streamtype", name)]).await?;
    }
    spdy.send(Frame::Ping(1)).await?;
    assert_eq!(spdy.next().await?, Some(Frame::Ping(1)));
    spdy.data(3, b"hello ", false).await?;
    spdy.data(3, b"there", true).await?;
    let (streams, mut ended) = spdy.rest().await?;
    ended.sort_unstable();
    assert_eq!(ended, [1, 5, 7]);
    assert_eq!(streams[&5], b"hello there");
    assert_eq!(streams[&1], br#"{"metadata":{},"status":"Success"}"#);
    served.left(0).await
}

#[tokio::test]
async fn a_terminal_has_its_size_from_a_stream() -> Result<()> {
    let served = Served::new().await?;
    let path = "/exec/shop/web/app?command=sizes&output=1&error=1&tty=1";
    let (mut spdy, _) = spdy(&served, path, "v4.channel.k8s.io").await?;
    for (stream, name) in [(1, "error"), (3, "stdout"), (5, "resize")] {
        spdy.open(stream, &[("streamtype", name)]).await?;
    }
    spdy.data(5, br#"{"Width":120,"Height":40}"#, false).await?;
    let (streams, _) = spdy.rest().await?;
    assert_eq!(streams[&3], b"120x40");
    Ok(())
}

#[tokio::test]
async fn much_output_waits_for_who_reads_it() -> Result<()> {
    let served = Served::new().await?;
    let (mut spdy, _) = spdy(&served, "/exec/shop/web/app?command=flood&output=1", "v4.channel.k8s.io").await?;
    for (stream, name) in [(1, "error"), (3, "stdout")] {
        spdy.open(stream, &[("streamtype", name)]).await?;
    }
    let (streams, _) = spdy.rest().await?;
    assert_eq!(streams[&3].len(), 4 << 20);
    Ok(())
}

#[tokio::test]
async fn who_does_not_open_the_streams_is_not_waited_for() -> Result<()> {
    let served = Served::new().await?;
    let (mut spdy, _) = spdy(&served, "/exec/shop/web/app?command=cat&output=1", "v4.channel.k8s.io").await?;
    spdy.open(1, &[("streamtype", "error")]).await?;
    let (streams, _) = spdy.rest().await?;
    assert!(streams.is_empty());
    served.left(0).await
}

#[tokio::test]
async fn streams_that_mean_nothing_are_given_up() -> Result<()> {
    let served = Served::new().await?;
    let (mut spdy, _) = spdy(&served, "/exec/shop/web/app?command=cat&output=1", "v4.channel.k8s.io").await?;
    spdy.open(1, &[("streamtype", "error")]).await?;
    for (stream, name) in [(3, "other"), (5, "error"), (5, "stdout"), (6, "stdout")] {
        let headers = Headers::from_iter([("streamtype", name)]);
        spdy.send(Frame::SynStream { stream, headers, fin: false }).await?;
        let answer = spdy.next().await?;
        assert!(matches!(answer, Some(Frame::RstStream { stream: same, .. }) if same == stream), "{name}: {answer:?}");
    }
    Ok(())
}
