//! Several channels over one WebSocket, as Kubernetes does it: each message begins with the number of its channel.
//!
//! ```text
//! binary    01 68 65 6c 6c 6f      channel 1, "hello"
//! base64    "1aGVsbG8="            the same as text
//! closing   ff 00                  version 5: nothing more follows on channel 0
//! ```

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::{Buf as _, Bytes};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;
use crate::outlet::Outlet;

/// Messages that may wait for the reader of one channel.
const INPUT_QUEUE: usize = 4;
/// Messages that may wait for the peer.
const OUTPUT_QUEUE: usize = 8;
/// How long the peer has to answer our goodbye.
const LINGER: Duration = Duration::from_secs(5);
/// The number that is no channel, but says that one is closed.
const CLOSE: u8 = 255;

/// How messages of channels are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// The number of the channel, then the bytes.
    Binary,
    /// The number of the channel as a digit, then base64.
    Base64,
}

/// What a message of the peer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Bytes on a channel.
    Data(u8, Bytes),
    /// Nothing more follows on a channel.
    End(u8),
    /// Nothing that means anything.
    Nothing,
    /// The peer does not keep to the protocol.
    Wrong,
}

impl Incoming {
    /// Reads the content of a message. Only version 5 of the protocol `can_close` channels.
    pub fn parse(mut message: Bytes, coding: Coding, can_close: bool) -> Self {
        if message.is_empty() {
            return Self::Nothing;
        }
        let channel = message.get_u8();
        if can_close && channel == CLOSE {
            return match message.as_ref() {
                [channel] => Self::End(*channel),
                _ => Self::Wrong,
            };
        }
        match coding {
            Coding::Binary => Self::Data(channel, message),
            Coding::Base64 => {
                let decoded = base64::engine::general_purpose::STANDARD.decode(message.as_ref());
                match (channel.checked_sub(b'0'), decoded) {
                    (Some(channel), Ok(data)) => Self::Data(channel, data.into()),
                    (None, _) | (_, Err(_)) => Self::Nothing,
                }
            }
        }
    }
}

/// A protocol of channels.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) coding: Coding,
    pub(crate) can_close: bool,
    /// For each channel, whether the peer's messages on it are read.
    pub(crate) reads: Vec<bool>,
}

/// Channels of one WebSocket. When this and all outlets are dropped, what was sent is flushed and the WebSocket closed.
#[derive(Debug)]
pub(crate) struct Channels {
    /// What comes in on each channel that is read.
    pub(crate) inputs: Vec<Option<mpsc::Receiver<Bytes>>>,
    coding: Coding,
    messages: mpsc::Sender<Message>,
    /// The peer is gone.
    pub(crate) gone: CancellationToken,
}

impl Channels {
    /// Runs the channels of a WebSocket.
    pub(crate) fn serve<T>(socket: WebSocketStream<T>, layout: &Layout, idle: Duration) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (messages, outgoing) = mpsc::channel(OUTPUT_QUEUE);
        let (senders, inputs): (Vec<_>, Vec<_>) = layout.reads.iter().map(|reads| input(*reads)).unzip();
        let gone = CancellationToken::new();
        let ended = gone.clone().drop_guard();
        let (sink, source) = socket.split();
        let (coding, can_close) = (layout.coding, layout.can_close);
        let activity = Arc::new(Activity::new());
        tokio::spawn(async move {
            let _ended = ended;
            let read = read(source, senders, coding, can_close, &activity);
            tokio::pin!(read);
            let result = tokio::select! {
                result = &mut read => result,
                () = activity.idle(idle) => Ok(()),
                result = write(sink, outgoing, &activity) => match result {
                    Ok(()) => tokio::time::timeout(LINGER, &mut read).await.unwrap_or(Ok(())),
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = result {
                tracing::debug!(error = &error as &dyn std::error::Error, "a WebSocket ended");
            }
        });
        Self { inputs, coding, messages, gone }
    }

    /// The way back on a channel.
    pub(crate) fn outlet(&self, channel: u8) -> Outlet {
        Outlet::WebSocket { channel, coding: self.coding, messages: self.messages.clone() }
    }

    /// Takes the input of a channel.
    pub(crate) fn take(&mut self, channel: usize) -> Option<mpsc::Receiver<Bytes>> {
        self.inputs.get_mut(channel).and_then(Option::take)
    }
}

type Input = Option<mpsc::Sender<Bytes>>;

fn input(reads: bool) -> (Input, Option<mpsc::Receiver<Bytes>>) {
    let (to, from) = mpsc::channel(INPUT_QUEUE);
    if reads { (Some(to), Some(from)) } else { (None, None) }
}

async fn read<T>(
    mut source: SplitStream<WebSocketStream<T>>,
    mut inputs: Vec<Input>,
    coding: Coding,
    can_close: bool,
    activity: &Activity,
) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = source.next().await.transpose()? {
        activity.touch();
        let content = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        match Incoming::parse(content, coding, can_close) {
            Incoming::Data(channel, data) => {
                // Channels that nobody reads are there to be ignored.
                let input = inputs.get(usize::from(channel)).and_then(Option::as_ref);
                if let Some(input) = input.filter(|_| !data.is_empty()) {
                    let _ = input.send(data).await;
                }
            }
            Incoming::End(channel) => match inputs.get_mut(usize::from(channel)) {
                Some(input) => *input = None,
                None => break,
            },
            Incoming::Nothing => {}
            Incoming::Wrong => break,
        }
    }
    Ok(())
}

async fn write<T>(
    mut sink: SplitSink<WebSocketStream<T>, Message>,
    mut outgoing: mpsc::Receiver<Message>,
    activity: &Activity,
) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = outgoing.recv().await {
        activity.touch();
        sink.feed(message).await?;
        if outgoing.is_empty() {
            sink.flush().await?;
        }
    }
    sink.send(goodbye()).await
}

/// The end of a WebSocket. It says that all is well: clients of Kubernetes take an end without a code for a failure.
pub(crate) fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{Coding, Incoming};

    fn parse(message: &'static [u8], coding: Coding, can_close: bool) -> Incoming {
        Incoming::parse(Bytes::from_static(message), coding, can_close)
    }

    #[test]
    fn messages_of_the_examples_are_read() {
        assert_eq!(parse(b"\0foo\n", Coding::Binary, false), Incoming::Data(0, "foo\n".into()));
        assert_eq!(parse(b"0Zm9vCgo=", Coding::Base64, false), Incoming::Data(0, "foo\n\n".into()));
        assert_eq!(parse(b"", Coding::Binary, true), Incoming::Nothing);
        assert_eq!(parse(b"\x01", Coding::Binary, true), Incoming::Data(1, Bytes::new()));
        assert_eq!(parse(b"0?", Coding::Base64, false), Incoming::Nothing);
    }

    #[test]
    fn only_version_5_closes_channels() {
        assert_eq!(parse(b"\xff\0", Coding::Binary, true), Incoming::End(0));
        assert_eq!(parse(b"\xff", Coding::Binary, true), Incoming::Wrong);
        assert_eq!(parse(b"\xff\0\0", Coding::Binary, true), Incoming::Wrong);
        assert_eq!(parse(b"\xff\0", Coding::Binary, false), Incoming::Data(255, Bytes::from_static(b"\0")));
    }

    proptest! {
        /// What is written for a channel is read as that.
        #[test]
        fn what_is_written_is_read(
            channel in 0_u8..10, data in proptest::collection::vec(any::<u8>(), 0..100), is_binary in any::<bool>(),
        ) {
            let coding = if is_binary { Coding::Binary } else { Coding::Base64 };
            let message = coding.message(channel, &data).into_data();
            prop_assert_eq!(Incoming::parse(message, coding, true), Incoming::Data(channel, data.into()));
        }
    }
}
