//! One SPDY connection: streams come in, frames go out, until the peer goes or nobody holds it any more.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

use super::{Frame, Headers, SpdyCodec, SpdyError};
use crate::activity::Activity;
use crate::outlet::Outlet;

/// Pieces of data that may wait for the reader of one stream.
const INPUT_QUEUE: usize = 4;
/// Frames that may wait for the peer.
const OUTPUT_QUEUE: usize = 8;
/// Streams that may be open at once.
const MAX_STREAMS: usize = 256;
/// How long the peer has to close its end after ours.
const LINGER: Duration = Duration::from_secs(5);

const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 3;
const CANCEL: u32 = 5;

/// A stream that the peer has opened.
#[derive(Debug)]
pub(crate) struct SpdyStream {
    pub(crate) id: u32,
    pub(crate) headers: Headers,
    /// What the peer sends, until it says that nothing more follows.
    pub(crate) input: mpsc::Receiver<Bytes>,
    pub(crate) output: Outlet,
    /// The peer has given the stream up, or the connection is gone.
    pub(crate) reset: Arc<CancellationToken>,
}

impl SpdyStream {
    /// Tells the peer that the stream is taken, which it waits for.
    pub(crate) async fn accept(&self) {
        self.output.accept().await;
    }
}

/// Keeps a connection open: when this and all outputs are dropped, what was sent is flushed and the connection ends.
#[derive(Debug)]
pub(crate) struct SpdyConnection {
    _frames: mpsc::Sender<Frame>,
    /// The connection is gone.
    pub(crate) gone: CancellationToken,
}

/// What the reading half knows of a stream.
#[derive(Debug)]
struct Open {
    input: Option<mpsc::Sender<Bytes>>,
    /// Nobody asks, once the stream is forgotten.
    reset: Weak<CancellationToken>,
}

impl Open {
    fn is_used(&self) -> bool {
        self.reset.strong_count() > 0 || self.input.as_ref().is_some_and(|input| !input.is_closed())
    }
}

/// Runs a connection; the streams come in as the peer opens them.
pub(crate) fn serve<T>(io: T, idle: Duration) -> (SpdyConnection, mpsc::Receiver<SpdyStream>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (frames, outgoing) = mpsc::channel(OUTPUT_QUEUE);
    let (opened, streams) = mpsc::channel(1);
    let (sink, source) = Framed::new(io, SpdyCodec::default()).split();
    let gone = CancellationToken::new();
    let activity = Arc::new(Activity::new());
    let mut reading =
        Reading { frames: frames.downgrade(), opened, streams: HashMap::new(), last: 0, gone: gone.clone() };
    let ended = gone.clone().drop_guard();
    tokio::spawn(async move {
        let _ended = ended;
        let read = reading.run(source, &activity);
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
            tracing::debug!(error = &error as &dyn std::error::Error, "a SPDY connection ended");
        }
    });
    (SpdyConnection { _frames: frames, gone }, streams)
}

/// Writes what is to be said, and says goodbye when nobody has anything to say.
async fn write<T>(
    mut sink: SplitSink<Framed<T, SpdyCodec>, Frame>,
    mut outgoing: mpsc::Receiver<Frame>,
    activity: &Activity,
) -> Result<(), SpdyError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(frame) = outgoing.recv().await {
        activity.touch();
        sink.feed(frame).await?;
        if outgoing.is_empty() {
            sink.flush().await?;
        }
    }
    sink.send(Frame::GoAway { last: 0 }).await?;
    sink.close().await
}

/// The reading half of a connection.
#[derive(Debug)]
struct Reading {
    /// Weak, so that the connection ends when its users are gone.
    frames: mpsc::WeakSender<Frame>,
    opened: mpsc::Sender<SpdyStream>,
    streams: HashMap<u32, Open>,
    last: u32,
    gone: CancellationToken,
}

impl Reading {
    async fn run<T>(
        &mut self,
        mut source: SplitStream<Framed<T, SpdyCodec>>,
        activity: &Activity,
    ) -> Result<(), SpdyError>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        while let Some(frame) = source.next().await.transpose()? {
            activity.touch();
            match frame {
                Frame::SynStream { stream, headers, fin } => self.open(stream, headers, fin).await,
                Frame::Data { stream, data, fin } => self.data(stream, data, fin).await,
                Frame::RstStream { stream, .. } => {
                    if let Some(reset) = self.streams.remove(&stream).and_then(|open| open.reset.upgrade()) {
                        reset.cancel();
                    }
                }
                // Even numbers would answer pings of ours.
                Frame::Ping(id) if id % 2 == 1 => self.say(Frame::Ping(id)).await,
                Frame::Ping(_) | Frame::GoAway { .. } | Frame::SynReply { .. } | Frame::Ignored => {}
            }
        }
        Ok(())
    }

    async fn say(&self, frame: Frame) {
        if let Some(frames) = self.frames.upgrade() {
            // A writer that is gone ends the connection.
            let _ = frames.send(frame).await;
        }
    }

    async fn open(&mut self, id: u32, headers: Headers, fin: bool) {
        if id.is_multiple_of(2) || id <= self.last {
            return self.say(Frame::RstStream { stream: id, status: PROTOCOL_ERROR }).await;
        }
        self.last = id;
        self.streams.retain(|_, open| open.is_used());
        let Some(frames) = self.frames.upgrade().filter(|_| self.streams.len() < MAX_STREAMS) else {
            return self.say(Frame::RstStream { stream: id, status: REFUSED_STREAM }).await;
        };
        let (input, taken) = mpsc::channel(INPUT_QUEUE);
        let reset = Arc::new(self.gone.child_token());
        self.streams.insert(id, Open { input: Some(input).filter(|_| !fin), reset: Arc::downgrade(&reset) });
        let output = Outlet::Spdy { stream: id, frames };
        let stream = SpdyStream { id, headers, input: taken, output, reset };
        if let Err(refused) = self.opened.send(stream).await {
            refused.0.output.reset().await;
        }
    }

    async fn data(&mut self, id: u32, data: Bytes, fin: bool) {
        // Data of a stream that is closed here may still be on its way.
        let Some(open) = self.streams.get_mut(&id) else { return };
        if let Some(input) = open.input.as_ref().filter(|_| !data.is_empty()) {
            // Fails for a reader that is gone, who so does not stop the others.
            let _ = input.send(data).await;
        }
        if fin {
            open.input = None;
        }
    }
}

/// A frame that gives a stream up.
pub(crate) fn cancel(stream: u32) -> Frame {
    Frame::RstStream { stream, status: CANCEL }
}
