//! A program in a container with its input and output: exec, and attach to the container's own first process.

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt, once, unfold};
use monopod_agent_proto::v1::{
    AttachRequest, AttachResponse, AttachStart, ExecRequest, ExecResponse, ExecStart, Exit, Output, OutputStream,
    StdinEnd, TerminalSize, attach_request, attach_response, exec_request, exec_response,
};
use monopod_agent_proto::{MAX_CHUNK, MAX_RESPONSE};
use tokio::sync::mpsc;

use crate::error::AgentError;
use crate::messages::Messages;

/// Messages to a guest that wait for it to take them.
pub(crate) const QUEUE: usize = 4;

/// Both directions of a program.
#[derive(Debug)]
pub struct Process {
    /// What the program reads.
    pub input: ProcessInput,
    /// What it writes, and how it ends.
    pub output: ProcessOutput,
}

/// What a program reads. Dropping it ends the program's input.
#[derive(Clone, Debug)]
pub struct ProcessInput {
    sender: mpsc::Sender<Input>,
}

/// What a program writes, and how it ends. Dropping it ends the call; the program goes on without its client, as with
/// containerd.
#[derive(Debug)]
pub struct ProcessOutput {
    messages: OutputMessages,
}

/// What a program does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// It runs; only of exec.
    Started,
    /// It wrote.
    Output {
        /// Where to; everything is standard output with a terminal.
        stream: OutputStream,
        /// What.
        data: Bytes,
    },
    /// It has ended; the last event.
    Exited(Exit),
}

/// What goes to a program.
#[derive(Debug)]
pub(crate) enum Input {
    Data(Vec<u8>),
    End,
    Resize(TerminalSize),
}

#[derive(Debug)]
enum OutputMessages {
    Exec(Messages<ExecResponse>),
    Attach(Messages<AttachResponse>),
}

impl ProcessInput {
    /// Writes to the program's input; waits while the program does not read.
    ///
    /// # Errors
    /// When the call has ended.
    pub async fn write(&self, data: &[u8]) -> Result<(), AgentError> {
        for chunk in data.chunks(MAX_CHUNK) {
            self.send(Input::Data(chunk.to_vec())).await?;
        }
        Ok(())
    }

    /// Ends the program's input.
    ///
    /// # Errors
    /// When the call has ended.
    pub async fn end(&self) -> Result<(), AgentError> {
        self.send(Input::End).await
    }

    /// Gives the program's terminal another size.
    ///
    /// # Errors
    /// When the call has ended.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), AgentError> {
        self.send(Input::Resize(size)).await
    }

    async fn send(&self, input: Input) -> Result<(), AgentError> {
        self.sender.send(input).await.map_err(|_| AgentError::broken("input"))
    }
}

impl ProcessOutput {
    /// Waits for the next event; `None` after [`ProcessEvent::Exited`].
    ///
    /// # Errors
    /// When the stream breaks, or the guest breaks the protocol.
    pub async fn next(&mut self) -> Result<Option<ProcessEvent>, AgentError> {
        match &mut self.messages {
            OutputMessages::Exec(messages) => {
                let Some(message) = messages.next().await? else { return Ok(None) };
                Ok(Some(match message.kind {
                    Some(exec_response::Kind::Started(_)) => ProcessEvent::Started,
                    Some(exec_response::Kind::Output(output)) => written(output),
                    Some(exec_response::Kind::Exit(exit)) => ProcessEvent::Exited(exit),
                    None => return Err(empty(messages.call())),
                }))
            }
            OutputMessages::Attach(messages) => {
                let Some(message) = messages.next().await? else { return Ok(None) };
                Ok(Some(match message.kind {
                    Some(attach_response::Kind::Output(output)) => written(output),
                    Some(attach_response::Kind::Exit(exit)) => ProcessEvent::Exited(exit),
                    None => return Err(empty(messages.call())),
                }))
            }
        }
    }
}

fn written(output: Output) -> ProcessEvent {
    debug_assert!(output.data.len() <= MAX_RESPONSE);
    let stream = output.stream();
    ProcessEvent::Output { stream, data: output.data.into() }
}

fn empty(call: &'static str) -> AgentError {
    AgentError::Misbehaved { call, what: "a message without content" }
}

/// The input half of a call, and where its messages come out.
pub(crate) fn input() -> (ProcessInput, mpsc::Receiver<Input>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (ProcessInput { sender }, receiver)
}

/// Both directions of an exec.
pub(crate) fn exec(input: ProcessInput, messages: Messages<ExecResponse>) -> Process {
    Process { input, output: ProcessOutput { messages: OutputMessages::Exec(messages) } }
}

/// Both directions of an attach.
pub(crate) fn attach(input: ProcessInput, messages: Messages<AttachResponse>) -> Process {
    Process { input, output: ProcessOutput { messages: OutputMessages::Attach(messages) } }
}

/// The messages of an exec: its start, then its input.
pub(crate) fn exec_requests(
    start: ExecStart,
    inputs: mpsc::Receiver<Input>,
) -> impl Stream<Item = ExecRequest> + Send + 'static {
    use exec_request::Kind;
    first_then(Kind::Start(start), inputs, |input| match input {
        Input::Data(data) => Kind::Stdin(data),
        Input::End => Kind::StdinEnd(StdinEnd {}),
        Input::Resize(size) => Kind::Resize(size),
    })
    .map(|kind| ExecRequest { kind: Some(kind) })
}

/// The messages of an attach: its start, then its input.
pub(crate) fn attach_requests(
    start: AttachStart,
    inputs: mpsc::Receiver<Input>,
) -> impl Stream<Item = AttachRequest> + Send + 'static {
    use attach_request::Kind;
    first_then(Kind::Start(start), inputs, |input| match input {
        Input::Data(data) => Kind::Stdin(data),
        Input::End => Kind::StdinEnd(StdinEnd {}),
        Input::Resize(size) => Kind::Resize(size),
    })
    .map(|kind| AttachRequest { kind: Some(kind) })
}

fn first_then<K: Send + 'static>(
    first: K,
    inputs: mpsc::Receiver<Input>,
    kind: fn(Input) -> K,
) -> impl Stream<Item = K> + Send + 'static {
    let later = unfold(inputs, move |mut inputs| async move {
        let input = inputs.recv().await?;
        Some((kind(input), inputs))
    });
    once(async { first }).chain(later)
}
