//! Port-forward over SPDY, over SPDY within a WebSocket, and over the channels of a WebSocket.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use monopod_kubelet_http::spdy::{Frame, SpdyCodec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::codec::Framed;

use crate::remote::{Spdy, channels, spdy, websocket};
use crate::support::Served;

async fn open<T>(spdy: &mut Spdy<T>, first: u32, port: &str, id: &str) -> Result<()>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    spdy.open(first, &[("streamtype", "error"), ("port", port), ("requestid", id)]).await?;
    spdy.open(first + 2, &[("streamtype", "data"), ("port", port), ("requestid", id)]).await
}

/// What comes on one stream, until it ends, while others are quiet.
async fn stream<T>(spdy: &mut Spdy<T>, wanted: u32, length: usize) -> Result<Vec<u8>>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut all = Vec::new();
    while all.len() < length {
        let frame = spdy.next().await?.context("the connection ended")?;
        let Frame::Data { stream, data, .. } = frame else { bail!("{frame:?}") };
        if stream == wanted {
            all.extend(data);
        } else {
            ensure!(data.is_empty(), "data on stream {stream}");
        }
    }
    Ok(all)
}

#[tokio::test]
async fn many_connections_go_over_one() -> Result<()> {
    let served = Served::new().await?;
    let (mut spdy, protocol) = spdy(&served, "/portForward/shop/web", "portforward.k8s.io").await?;
    assert_eq!(protocol, "portforward.k8s.io");
    open(&mut spdy, 1, "7", "0").await?;
    open(&mut spdy, 5, "7", "1").await?;
    spdy.data(7, b"second", false).await?;
    assert_eq!(stream(&mut spdy, 7, 6).await?, b"second");
    spdy.data(3, b"first", false).await?;
    assert_eq!(stream(&mut spdy, 3, 5).await?, b"first");
    served.left(2).await?;
    // One is ended, the other goes on.
    spdy.data(3, b"", true).await?;
    served.left(1).await?;
    spdy.data(7, b" again", false).await?;
    assert_eq!(stream(&mut spdy, 7, 6).await?, b" again");
    drop(spdy);
    served.left(0).await
}

#[tokio::test]
async fn one_direction_may_end_before_the_other() -> Result<()> {
    let served = Served::new().await?;
    let (mut spdy, _) = spdy(&served, "/portForward/shop/web/uid-1", "portforward.k8s.io").await?;
    open(&mut spdy, 1, "9", "0").await?;
    spdy.data(3, b"so long", true).await?;
    assert_eq!(stream(&mut spdy, 3, 11).await?, b"so long bye");
    served.left(0).await
}

#[tokio::test]
async fn a_stream_that_is_reset_ends_its_connection() -> Result<()> {
    let served = Served::new().await?;
    let (mut spdy, _) = spdy(&served, "/portForward/shop/web", "portforward.k8s.io").await?;
    open(&mut spdy, 1, "7", "0").await?;
    served.left(1).await?;
    spdy.send(Frame::RstStream { stream: 3, status: 5 }).await?;
    served.left(0).await
}

#[tokio::test]
async fn a_port_that_refuses_is_told_on_the_error_stream() -> Result<()> {
    let served = Served::new().await?;
    let (mut spdy, _) = spdy(&served, "/portForward/shop/web", "portforward.k8s.io").await?;
    open(&mut spdy, 1, "81", "0").await?;
    let expected = "error forwarding port 81 to pod web, uid uid-1: connection refused";
    assert_eq!(String::from_utf8(stream(&mut spdy, 1, expected.len()).await?)?, expected);
    assert_eq!(spdy.next().await?, Some(Frame::RstStream { stream: 3, status: 5 }));
    // The next one is another matter.
    assert_eq!(spdy.next().await?, Some(Frame::Data { stream: 1, data: Bytes::new(), fin: true }));
    open(&mut spdy, 5, "7", "1").await?;
    spdy.data(7, b"x", false).await?;
    assert_eq!(stream(&mut spdy, 7, 1).await?, b"x");
    Ok(())
}

#[tokio::test]
async fn half_a_pair_is_not_waited_for() -> Result<()> {
    let served = Served::new().await?;
    let (mut spdy, _) = spdy(&served, "/portForward/shop/web", "portforward.k8s.io").await?;
    spdy.open(1, &[("streamtype", "error"), ("port", "7"), ("requestid", "0")]).await?;
    let expected = "(request=0) timed out waiting for streams";
    assert_eq!(String::from_utf8(stream(&mut spdy, 1, expected.len()).await?)?, expected);
    assert_eq!(spdy.next().await?, Some(Frame::RstStream { stream: 1, status: 5 }));
    Ok(())
}

#[tokio::test]
async fn spdy_goes_through_a_websocket() -> Result<()> {
    let served = Served::new().await?;
    let protocol = "SPDY/3.1+portforward.k8s.io";
    let (socket, chosen) = websocket(&served, "/portForward/shop/web", protocol).await?;
    assert_eq!(chosen, protocol);
    let (near, far) = tokio::io::duplex(4096);
    tokio::spawn(async move {
        let (mut sink, mut source) = socket.split();
        let (mut read, mut write) = tokio::io::split(far);
        let out = async {
            let mut byte = [0; 1];
            // Messages need not be frames.
            while read.read_exact(&mut byte).await.is_ok() {
                sink.send(Message::Binary(Bytes::copy_from_slice(&byte))).await?;
            }
            anyhow::Ok(sink.close().await?)
        };
        let back = async {
            while let Some(Ok(message)) = source.next().await {
                write.write_all(&message.into_data()).await?;
            }
            anyhow::Ok(())
        };
        tokio::try_join!(out, back)
    });
    let mut spdy = Spdy(Framed::new(near, SpdyCodec::default()));
    open(&mut spdy, 1, "7", "0").await?;
    spdy.data(3, b"through", false).await?;
    assert_eq!(stream(&mut spdy, 3, 7).await?, b"through");
    drop(spdy);
    served.left(0).await
}

#[tokio::test]
async fn channels_of_a_websocket_come_in_pairs() -> Result<()> {
    let served = Served::new().await?;
    let path = "/portForward/shop/web?port=9,81";
    let (mut socket, _) = websocket(&served, path, "v4.channel.k8s.io").await?;
    for (channel, port) in [(0, 9), (1, 9), (2, 81), (3, 81)] {
        let message = socket.next().await.context("closed")??;
        assert_eq!(message, Message::Binary(Bytes::copy_from_slice(&[channel, port, 0])));
    }
    let message = socket.next().await.context("closed")??.into_data();
    assert_eq!(&message[..], b"\x03error forwarding port 81 to pod web, uid uid-1: connection refused");
    socket.send(Message::Binary(Bytes::from_static(b"\0hello"))).await?;
    served.left(1).await?;
    socket.close(None).await?;
    let rest = channels(&mut socket).await;
    assert!(rest.is_err() || rest.is_ok_and(|rest| rest.is_empty()));
    served.left(0).await
}
