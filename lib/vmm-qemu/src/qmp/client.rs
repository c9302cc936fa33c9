//! The client: commands with numbers and deadlines, replies, events.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use monopod_vmm::VmError;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::AbortHandle;

use super::message::{MAX_LINE, Message, decode};

/// Events that are kept for a listener that is slow; older ones are lost to it.
const EVENTS: usize = 256;

/// The control channel of one QEMU.
#[derive(Debug)]
pub(crate) struct Client {
    stream: Arc<UnixStream>,
    /// One command is written at a time.
    writing: tokio::sync::Mutex<u64>,
    shared: Arc<Shared>,
    limit: Duration,
    reader: AbortHandle,
}

/// Who waits for the reply to which command.
type Pending = HashMap<u64, oneshot::Sender<Result<Value, String>>>;

#[derive(Debug)]
struct Shared {
    /// Commands without a reply yet; none once the channel is closed.
    pending: Mutex<Option<Pending>>,
    events: broadcast::Sender<(String, Value)>,
    shutdown: watch::Sender<Shutdown>,
}

/// Whether the guest has stopped for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// It has not, as far as is known.
    No,
    /// It has, for this reason in QEMU's words.
    Because(String),
    /// The channel is closed, so nothing more will be known.
    Closed,
}

impl Client {
    /// Waits for the greeting on a fresh connection and agrees on capabilities.
    pub(crate) async fn greet(stream: UnixStream, limit: Duration) -> Result<Self, VmError> {
        let stream = Arc::new(stream);
        let (events, _) = broadcast::channel(EVENTS);
        let shutdown = watch::Sender::new(Shutdown::No);
        let shared = Arc::new(Shared { pending: Mutex::new(Some(HashMap::new())), events, shutdown });
        let mut lines = Lines { stream: Arc::clone(&stream), buffer: Vec::new() };
        match tokio::time::timeout(limit, lines.next()).await {
            Ok(Ok(Message::Greeting { .. })) => {}
            Ok(Ok(Message::Reply { .. } | Message::Event { .. })) => return Err(control("no greeting")),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(VmError::TimedOut { what: "the VMM's greeting".to_owned(), limit }),
        }
        let reader = tokio::spawn(read(lines, Arc::clone(&shared))).abort_handle();
        let client = Self { stream, writing: tokio::sync::Mutex::new(0), shared, limit, reader };
        client.command("qmp_capabilities", json!({})).await?;
        Ok(client)
    }

    /// Carries out one command.
    pub(crate) async fn command(&self, name: &str, arguments: Value) -> Result<Value, VmError> {
        self.send(name, arguments, None).await
    }

    /// Carries out one command that takes an open file.
    pub(crate) async fn command_with_file(&self, name: &str, arguments: Value, file: impl AsFd) -> Result<(), VmError> {
        self.send(name, arguments, Some(file.as_fd())).await.map(drop)
    }

    async fn send(&self, name: &str, arguments: Value, file: Option<BorrowedFd<'_>>) -> Result<Value, VmError> {
        let late = |_| VmError::TimedOut { what: format!("the VMM's reply to {name}"), limit: self.limit };
        tokio::time::timeout(self.limit, self.exchange(name, arguments, file)).await.map_err(late)?
    }

    async fn exchange(&self, name: &str, arguments: Value, file: Option<BorrowedFd<'_>>) -> Result<Value, VmError> {
        let (reply, outcome) = oneshot::channel();
        {
            let mut last = self.writing.lock().await;
            *last += 1;
            let id = *last;
            match self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                Some(pending) => drop(pending.insert(id, reply)),
                None => return Err(control("it is closed")),
            }
            let mut line = json!({"execute": name, "arguments": arguments, "id": id}).to_string().into_bytes();
            line.push(b'\n');
            let written = self.write(&line, file).await;
            written.map_err(|error| control(format!("failed to write {name}: {error}")))?;
        }
        match outcome.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(message)) => Err(VmError::Refused { command: name.to_owned(), message }),
            Err(_) => Err(control(format!("it was closed during {name}"))),
        }
    }

    /// Writes all of a line, a file with its first bytes.
    async fn write(&self, mut bytes: &[u8], mut file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = self.stream.async_io(Interest::WRITABLE, || send_some(&self.stream, bytes, file)).await?;
            file = None;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Events from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<(String, Value)> {
        self.shared.events.subscribe()
    }

    /// Waits until the guest has stopped for good, or the channel is closed.
    pub(crate) async fn shutdown(&self) -> Shutdown {
        let mut shutdown = self.shared.shutdown.subscribe();
        match shutdown.wait_for(|state| *state != Shutdown::No).await {
            Ok(state) => state.clone(),
            Err(_) => Shutdown::Closed,
        }
    }

    /// Takes note that the guest had stopped for good before we were connected.
    pub(crate) fn has_shut_down(&self, reason: &str) {
        self.shared.shutdown.send_replace(Shutdown::Because(reason.to_owned()));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Waits for an event that fits.
pub(crate) async fn wait_for(
    events: &mut broadcast::Receiver<(String, Value)>,
    fits: impl Fn(&str, &Value) -> bool,
) -> Result<Value, VmError> {
    loop {
        match events.recv().await {
            Ok((name, data)) => {
                if fits(&name, &data) {
                    return Ok(data);
                }
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return Err(control("it was closed")),
        }
    }
}

fn control(what: impl Into<String>) -> VmError {
    VmError::Control { what: what.into() }
}

fn send_some(stream: &UnixStream, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = file.map(|file| [file]);
    if let Some(files) = &files {
        ancillary.push(SendAncillaryMessage::ScmRights(files));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// Reads until the channel is closed or says what it may not, then lets everybody know who waits.
async fn read(mut lines: Lines, shared: Arc<Shared>) {
    loop {
        match lines.next().await {
            Ok(Message::Reply { id: Some(id), outcome }) => {
                let pending =
                    shared.pending.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(|p| p.remove(&id));
                if let Some(reply) = pending {
                    drop(reply.send(outcome));
                }
            }
            Ok(Message::Event { name, data }) => {
                if name == "SHUTDOWN" {
                    let reason = data.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
                    shared.shutdown.send_replace(Shutdown::Because(reason));
                }
                // Nobody listens most of the time.
                drop(shared.events.send((name, data)));
            }
            Ok(Message::Greeting { .. } | Message::Reply { id: None, .. }) => {}
            Err(_) => break,
        }
    }
    drop(shared.pending.lock().unwrap_or_else(PoisonError::into_inner).take());
    shared.shutdown.send_if_modified(|state| {
        let open = *state == Shutdown::No;
        if open {
            *state = Shutdown::Closed;
        }
        open
    });
}

/// The messages of a stream.
struct Lines {
    stream: Arc<UnixStream>,
    buffer: Vec<u8>,
}

impl Lines {
    async fn next(&mut self) -> Result<Message, VmError> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer.iter().skip(searched).position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=searched + at).collect();
                return decode(line.trim_ascii()).map_err(|error| control(error.to_string()));
            }
            searched = self.buffer.len();
            if searched > MAX_LINE {
                return Err(control("endless line"));
            }
            self.fill().await.map_err(|error| control(error.to_string()))?;
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 8 << 10];
        let read = self.stream.async_io(Interest::READABLE, || self.stream.try_read(&mut chunk)).await?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was closed by the VMM"));
        }
        self.buffer.extend(chunk.iter().take(read));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::UnixStream;

    use super::{Client, MAX_LINE, Shutdown};

    const GREETING: &[u8] = b"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10}}}}\n";
    const LIMIT: Duration = Duration::from_secs(20);

    /// A QEMU of a few lines: greets, then answers each command with the next of these lines.
    async fn qemu(answers: Vec<Vec<u8>>) -> Result<Client, monopod_vmm::VmError> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            let (read, mut write) = theirs.into_split();
            write.write_all(GREETING).await.unwrap();
            let mut commands = BufReader::new(read).lines();
            for answer in answers {
                commands.next_line().await.unwrap();
                // The client may have given up.
                drop(write.write_all(&answer).await);
            }
        });
        Client::greet(ours, LIMIT).await
    }

    fn line(text: &str) -> Vec<u8> {
        format!("{text}\n").into_bytes()
    }

    #[tokio::test]
    async fn replies_find_their_commands_among_events() {
        let event = r#"{"event": "RESUME"}"#;
        let answers = vec![line(r#"{"return": {}, "id": 1}"#), line(&format!("{event}\n{{\"return\": 5, \"id\": 2}}"))];
        let client = qemu(answers).await.unwrap();
        let mut events = client.events();
        assert_eq!(client.command("query-x", json!({})).await.unwrap(), json!(5));
        assert_eq!(events.recv().await.unwrap().0, "RESUME");
    }

    #[tokio::test]
    async fn a_refusal_says_which_command_and_why() {
        let answers = vec![line(r#"{"return": {}, "id": 1}"#), line(r#"{"error": {"desc": "no bus"}, "id": 2}"#)];
        let client = qemu(answers).await.unwrap();
        let error = client.command("device_add", json!({})).await.unwrap_err();
        assert_eq!(error.to_string(), "the VMM refused device_add: no bus");
    }

    #[tokio::test]
    async fn a_closed_channel_ends_all_waiting() {
        let client = qemu(vec![line(r#"{"return": {}, "id": 1}"#)]).await.unwrap();
        assert_eq!(client.command("stop", json!({})).await.unwrap_err().reason(), "VmmControlFailed");
        assert_eq!(client.shutdown().await, Shutdown::Closed);
    }

    #[tokio::test]
    async fn an_endless_line_closes_the_channel() {
        let endless = vec![b'x'; MAX_LINE + (64 << 10)];
        let client = qemu(vec![line(r#"{"return": {}, "id": 1}"#), endless]).await.unwrap();
        assert_eq!(client.command("stop", json!({})).await.unwrap_err().reason(), "VmmControlFailed");
    }

    #[tokio::test]
    async fn a_guests_end_is_known_with_its_reason() {
        let shutdown = r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#;
        let client = qemu(vec![line(&format!("{{\"return\": {{}}, \"id\": 1}}\n{shutdown}"))]).await.unwrap();
        assert_eq!(client.shutdown().await, Shutdown::Because("guest-shutdown".to_owned()));
    }
}
