//! Where output of a session goes: a stream of a SPDY connection, or a channel of a WebSocket.

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::channels::Coding;
use crate::spdy::{self, Frame, Headers};

/// The peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer has hung up")]
pub(crate) struct Gone;

/// One direction of a session, towards the caller.
#[derive(Clone, Debug)]
pub(crate) enum Outlet {
    /// A stream.
    Spdy { stream: u32, frames: mpsc::Sender<Frame> },
    /// A channel.
    WebSocket { channel: u8, coding: Coding, messages: mpsc::Sender<Message> },
}

impl Outlet {
    /// Sends bytes; waits while the peer is slow.
    pub(crate) async fn send(&self, data: Bytes) -> Result<(), Gone> {
        match self {
            Self::Spdy { stream, frames } => say(frames, Frame::Data { stream: *stream, data, fin: false }).await,
            Self::WebSocket { channel, coding, messages } => {
                messages.send(coding.message(*channel, &data)).await.map_err(|_| Gone)
            }
        }
    }

    /// Says that a stream is taken; channels are there from the start.
    pub(crate) async fn accept(&self) {
        if let Self::Spdy { stream, frames } = self {
            let _ = say(frames, Frame::SynReply { stream: *stream, headers: Headers::default() }).await;
        }
    }

    /// Says that nothing more follows. Channels have no end of their own, they end with their WebSocket.
    pub(crate) async fn finish(&self) {
        if let Self::Spdy { stream, frames } = self {
            let _ = say(frames, Frame::Data { stream: *stream, data: Bytes::new(), fin: true }).await;
        }
    }

    /// Gives the stream up in both directions.
    pub(crate) async fn reset(&self) {
        if let Self::Spdy { stream, frames } = self {
            let _ = say(frames, spdy::cancel(*stream)).await;
        }
    }
}

async fn say(frames: &mpsc::Sender<Frame>, frame: Frame) -> Result<(), Gone> {
    frames.send(frame).await.map_err(|_| Gone)
}

impl Coding {
    /// A message of a channel.
    pub(crate) fn message(self, channel: u8, data: &[u8]) -> Message {
        match self {
            Self::Binary => {
                let mut message = BytesMut::with_capacity(data.len() + 1);
                message.put_u8(channel);
                message.put_slice(data);
                Message::Binary(message.freeze())
            }
            Self::Base64 => {
                use base64::Engine as _;
                let mut text = String::from(char::from(b'0' + channel));
                base64::engine::general_purpose::STANDARD.encode_string(data, &mut text);
                Message::Text(text.into())
            }
        }
    }
}
