//! The client: every call of the protocol, with its deadline.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use monopod_agent_proto::MAX_REQUEST;
use monopod_agent_proto::v1::agent_client::AgentClient as Agent;
use monopod_agent_proto::v1::{
    AgentLogEntry, AttachStart, ContainerState, CreateContainerRequest, ExecStart, GetStatsRequest, GetStatsResponse,
    HelloResponse, LogsFrom, PersonalizeRequest, PersonalizeResponse, PodFiles, PutPodFilesRequest, PutVolumeRequest,
    ReadLogsRequest, RemoveContainerRequest, ShutdownRequest, SignalContainerRequest, StartContainerRequest,
    WatchAgentLogRequest, WatchContainersRequest, read_logs_request,
};
use prost::Message;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::connection::{Connection, error_on};
use crate::deadlines::Deadlines;
use crate::dial::{DialStream, dial_requests};
use crate::error::AgentError;
use crate::link::Link;
use crate::messages::{LogReader, Messages, log_requests};
use crate::process::{self, Process, QUEUE, attach_requests, exec_requests};
use crate::transport::AgentTransport;

/// The agent of one guest. Clones share one connection, which is made at the first call.
///
/// # Guarantees
/// Every call and every opening of a stream ends within its deadline and the one of connecting. A broken connection is
/// replaced at the next call. A call that may be repeated without harm is repeated once when its connection broke; any
/// other reports [`AgentError::Unreachable`], and the caller finds out what became of it.
#[derive(Clone, Debug)]
pub struct AgentClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    transport: Box<dyn AgentTransport>,
    deadlines: Deadlines,
    connection: Mutex<Option<Connection>>,
}

/// What a call needs of the connection.
#[derive(Clone, Debug)]
struct Line {
    agent: Agent<Channel>,
    link: Arc<Link>,
}

/// Whether a call whose connection broke is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    Once,
    Never,
}

/// A call's name, deadline and manner.
#[derive(Clone, Copy, Debug)]
struct Call {
    name: &'static str,
    deadline: Duration,
    repeat: Repeat,
}

impl AgentClient {
    /// A client that connects at its first call.
    pub fn new(transport: impl AgentTransport, deadlines: Deadlines) -> Self {
        let shared = Shared { transport: Box::new(transport), deadlines, connection: Mutex::new(None) };
        Self { shared: Arc::new(shared) }
    }

    /// Connects, if there is no connection, and tells who answered.
    ///
    /// # Errors
    /// When no agent of our protocol answers in time.
    pub async fn hello(&self) -> Result<HelloResponse, AgentError> {
        let mut held = self.shared.connection.lock().await;
        Ok(self.ensured(&mut held).await?.hello.clone())
    }

    /// Drops the connection, with everything that runs on it, and makes a new one.
    ///
    /// # Errors
    /// As [`hello`](Self::hello).
    pub async fn reconnect(&self) -> Result<HelloResponse, AgentError> {
        let mut held = self.shared.connection.lock().await;
        *held = None;
        Ok(self.ensured(&mut held).await?.hello.clone())
    }

    /// Drops the connection, with everything that runs on it. The next call makes a new one.
    pub async fn disconnect(&self) {
        *self.shared.connection.lock().await = None;
    }

    /// Makes the guest a Pod's own.
    ///
    /// # Errors
    /// When the guest refuses, or cannot be asked. It happens once per life: not repeated.
    pub async fn personalize(&self, request: PersonalizeRequest) -> Result<PersonalizeResponse, AgentError> {
        let call = self.long("Personalize", Repeat::Never);
        self.unary(call, request, |mut agent, request| async move { agent.personalize(request).await }).await
    }

    /// Makes a volume or brings one up to date.
    ///
    /// # Errors
    /// When the guest refuses, or cannot be asked.
    pub async fn put_volume(&self, request: PutVolumeRequest) -> Result<(), AgentError> {
        let call = self.long("PutVolume", Repeat::Once);
        self.unary(call, request, |mut agent, request| async move { agent.put_volume(request).await }).await?;
        Ok(())
    }

    /// Replaces the Pod-wide files.
    ///
    /// # Errors
    /// When the guest refuses, or cannot be asked.
    pub async fn put_pod_files(&self, files: PodFiles) -> Result<(), AgentError> {
        let request = PutPodFilesRequest { files: Some(files) };
        let call = self.short("PutPodFiles", Repeat::Once);
        self.unary(call, request, |mut agent, request| async move { agent.put_pod_files(request).await }).await?;
        Ok(())
    }

    /// Makes a container, up to its first program.
    ///
    /// # Errors
    /// When the guest refuses, or cannot be asked.
    pub async fn create_container(&self, request: CreateContainerRequest) -> Result<(), AgentError> {
        let call = self.long("CreateContainer", Repeat::Never);
        self.unary(call, request, |mut agent, request| async move { agent.create_container(request).await }).await?;
        Ok(())
    }

    /// Starts a created container.
    ///
    /// # Errors
    /// When the guest refuses, or cannot be asked.
    pub async fn start_container(&self, id: &str) -> Result<(), AgentError> {
        let request = StartContainerRequest { id: id.to_owned() };
        let call = self.short("StartContainer", Repeat::Never);
        self.unary(call, request, |mut agent, request| async move { agent.start_container(request).await }).await?;
        Ok(())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the guest refuses, or cannot be asked.
    pub async fn signal_container(&self, request: SignalContainerRequest) -> Result<(), AgentError> {
        let call = self.short("SignalContainer", Repeat::Never);
        self.unary(call, request, |mut agent, request| async move { agent.signal_container(request).await }).await?;
        Ok(())
    }

    /// Removes a container that has ended; an unknown one is no error.
    ///
    /// # Errors
    /// When the guest refuses, or cannot be asked.
    pub async fn remove_container(&self, id: &str) -> Result<(), AgentError> {
        let request = RemoveContainerRequest { id: id.to_owned() };
        let call = self.long("RemoveContainer", Repeat::Once);
        self.unary(call, request, |mut agent, request| async move { agent.remove_container(request).await }).await?;
        Ok(())
    }

    /// What the Pod uses.
    ///
    /// # Errors
    /// When the guest refuses, or cannot be asked.
    pub async fn stats(&self, disk_usage: bool) -> Result<GetStatsResponse, AgentError> {
        let request = GetStatsRequest { disk_usage };
        let call = self.short("GetStats", Repeat::Once);
        self.unary(call, request, |mut agent, request| async move { agent.get_stats(request).await }).await
    }

    /// Kills what runs and powers the guest off. The connection may break before the answer comes.
    ///
    /// # Errors
    /// When the guest refuses, or cannot be asked.
    pub async fn shutdown(&self) -> Result<(), AgentError> {
        let call = self.long("Shutdown", Repeat::Never);
        let request = ShutdownRequest {};
        self.unary(call, request, |mut agent, request| async move { agent.shutdown(request).await }).await?;
        Ok(())
    }

    /// The state of every container, then every change.
    ///
    /// # Errors
    /// When the guest refuses, or cannot be asked.
    pub async fn watch_containers(&self) -> Result<Messages<ContainerState>, AgentError> {
        let call = self.short("WatchContainers", Repeat::Once);
        let request = WatchContainersRequest {};
        let open = |mut agent: Agent<Channel>, request| async move { agent.watch_containers(request).await };
        let (stream, link) = self.open(call, request, open).await?;
        Ok(Messages::new(call.name, stream, link))
    }

    /// What the agent has to say for the host's log.
    ///
    /// # Errors
    /// When the guest refuses, or cannot be asked.
    pub async fn watch_agent_log(&self) -> Result<Messages<AgentLogEntry>, AgentError> {
        let call = self.short("WatchAgentLog", Repeat::Once);
        let request = WatchAgentLogRequest {};
        let open = |mut agent: Agent<Channel>, request| async move { agent.watch_agent_log(request).await };
        let (stream, link) = self.open(call, request, open).await?;
        Ok(Messages::new(call.name, stream, link))
    }

    /// The log of a container, from after a time on; see [`LogReader::acknowledge`].
    ///
    /// # Errors
    /// When the guest refuses, or cannot be asked.
    pub async fn read_logs(&self, id: &str, after: u64) -> Result<LogReader, AgentError> {
        let call = self.short("ReadLogs", Repeat::Once);
        let acknowledged = watch::Sender::new(after);
        let from = read_logs_request::Kind::From(LogsFrom { id: id.to_owned(), after });
        let first = ReadLogsRequest { kind: Some(from) };
        let requests = || log_requests(first.clone(), acknowledged.subscribe());
        let open = |mut agent: Agent<Channel>, requests| async move { agent.read_logs(requests).await };
        let (stream, link) = self.open_with(call, requests, open).await?;
        Ok(LogReader::new(Messages::new(call.name, stream, link), acknowledged))
    }

    /// Runs a further program in a container.
    ///
    /// # Errors
    /// When the guest refuses, or cannot be asked.
    pub async fn exec(&self, start: ExecStart) -> Result<Process, AgentError> {
        let call = self.short("Exec", Repeat::Never);
        fits(call, &start)?;
        let (input, inputs) = process::input();
        let requests = exec_requests(start, inputs);
        let open = |mut agent: Agent<Channel>, requests| async move { agent.exec(requests).await };
        let (stream, link) = self.open_once(call, requests, open).await?;
        Ok(process::exec(input, Messages::new(call.name, stream, link)))
    }

    /// Joins the input and output of a container's first process.
    ///
    /// # Errors
    /// When the guest refuses, or cannot be asked.
    pub async fn attach(&self, start: AttachStart) -> Result<Process, AgentError> {
        let call = self.short("Attach", Repeat::Never);
        let (input, inputs) = process::input();
        let requests = attach_requests(start, inputs);
        let open = |mut agent: Agent<Channel>, requests| async move { agent.attach(requests).await };
        let (stream, link) = self.open_once(call, requests, open).await?;
        Ok(process::attach(input, Messages::new(call.name, stream, link)))
    }

    /// Connects to a port of the Pod's loopback.
    ///
    /// # Errors
    /// When nothing listens there (a refusal with the guest's words), or the guest cannot be asked.
    pub async fn dial(&self, port: u16) -> Result<DialStream, AgentError> {
        let call = self.short("Dial", Repeat::Never);
        let (sender, data) = mpsc::channel(QUEUE);
        let open = |mut agent: Agent<Channel>, requests| async move { agent.dial(requests).await };
        let connected = async {
            let (stream, link) = self.open_once(call, dial_requests(port, data), open).await?;
            DialStream::connected(sender, Messages::new(call.name, stream, link)).await
        };
        in_time(call, connected).await
    }

    fn short(&self, name: &'static str, repeat: Repeat) -> Call {
        Call { name, deadline: self.shared.deadlines.call, repeat }
    }

    fn long(&self, name: &'static str, repeat: Repeat) -> Call {
        Call { name, deadline: self.shared.deadlines.long_call, repeat }
    }
}

/// How calls are made.
impl AgentClient {
    /// The connection, made anew where there is none that works.
    async fn ensured<'c>(&self, held: &'c mut Option<Connection>) -> Result<&'c Connection, AgentError> {
        // The old one is closed before the new one is asked for: a port takes one at a time.
        if held.as_ref().is_some_and(|connection| connection.link.is_closed()) {
            *held = None;
        }
        if held.is_none() {
            let connection = Connection::open(&*self.shared.transport, self.shared.deadlines).await?;
            tracing::debug!(guest = connection.hello.guest_version, "connected to the guest agent");
            *held = Some(connection);
        }
        Ok(held.as_ref().expect("it was there or has been made"))
    }

    async fn line(&self) -> Result<Line, AgentError> {
        let mut held = self.shared.connection.lock().await;
        let connection = self.ensured(&mut held).await?;
        Ok(Line { agent: connection.agent.clone(), link: Arc::clone(&connection.link) })
    }

    async fn unary<Q, A, F>(
        &self,
        call: Call,
        request: Q,
        make: impl Fn(Agent<Channel>, Q) -> F,
    ) -> Result<A, AgentError>
    where
        Q: Message + Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        fits(call, &request)?;
        let (answer, link) = self.open(call, request, make).await?;
        link.delivered();
        Ok(answer)
    }

    /// Makes a call whose request can be sent twice; its answer, and the link that it came over.
    async fn open<Q, A, F>(
        &self,
        call: Call,
        request: Q,
        make: impl Fn(Agent<Channel>, Q) -> F,
    ) -> Result<(A, Arc<Link>), AgentError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.open_with(call, || request.clone(), make).await
    }

    async fn open_with<Q, A, F>(
        &self,
        call: Call,
        request: impl Fn() -> Q,
        make: impl Fn(Agent<Channel>, Q) -> F,
    ) -> Result<(A, Arc<Link>), AgentError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let failed = match self.open_once(call, request(), &make).await {
            Err(error @ AgentError::Unreachable { .. }) if call.repeat == Repeat::Once => error,
            result => return result,
        };
        tracing::debug!(call = call.name, error = &failed as &dyn std::error::Error, "repeated on a new connection");
        self.open_once(call, request(), &make).await
    }

    async fn open_once<Q, A, F>(
        &self,
        call: Call,
        request: Q,
        make: impl FnOnce(Agent<Channel>, Q) -> F,
    ) -> Result<(A, Arc<Link>), AgentError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let Line { agent, link } = self.line().await?;
        let answered = async {
            let answer = make(agent, request).await;
            answer.map(Response::into_inner).map_err(|status| error_on(&link, call.name, status))
        };
        match in_time(call, answered).await {
            Ok(answer) => Ok((answer, link)),
            Err(error) => {
                if let AgentError::Unreachable { .. } = error {
                    // It may not have noticed yet; the next call must not be made on it.
                    link.close();
                }
                Err(error)
            }
        }
    }
}

/// Refuses what the guest would not take; found out later, it would look like a broken connection.
fn fits(call: Call, request: &impl Message) -> Result<(), AgentError> {
    if request.encoded_len() > MAX_REQUEST { Err(AgentError::TooLarge { call: call.name }) } else { Ok(()) }
}

async fn in_time<A>(call: Call, answered: impl Future<Output = Result<A, AgentError>>) -> Result<A, AgentError> {
    let late = |_| AgentError::Timeout { call: call.name, after: call.deadline };
    timeout(call.deadline, answered).await.map_err(late)?
}
