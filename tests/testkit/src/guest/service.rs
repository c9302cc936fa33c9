//! The agent's gRPC service of a fake guest.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::{StreamExt, iter, unfold};
use monopod_agent_client::Code;
use monopod_agent_client::v1::agent_server::Agent;
use monopod_agent_client::v1::container_state::Phase;
use monopod_agent_client::v1::{self as proto, attach_request, dial_request, exec_request, read_logs_request};
use monopod_agent_proto::PROTOCOL_VERSION;
use tonic::{Request, Response, Status, Streaming};

use super::script::{ExecScript, Script, Step};
use super::state::{End, KILL};
use super::{Manner, Shared};

type Answer<T> = Result<Response<T>, Status>;
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service; one per connection, over the guest's state.
#[derive(Debug)]
pub(super) struct Service {
    shared: Arc<Shared>,
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Notes a call; fails it when that was asked for, and never returns in a guest that hangs.
    async fn called(&self, call: &str, about: &str) -> Result<(), Status> {
        let (manner, failure, personalized) = self.shared.change(|state| {
            state.calls.push(format!("{call} {about}").trim_end().to_owned());
            let failure = state.failures.get_mut(call).and_then(std::collections::VecDeque::pop_front);
            (state.manner, failure, state.personality.is_some())
        });
        if manner == Manner::Hanging {
            std::future::pending::<()>().await;
        }
        if let Some((code, message)) = failure {
            return Err(Status::new(code, message));
        }
        let at_any_time = ["Hello", "Personalize", "Shutdown", "WatchAgentLog"].contains(&call);
        if personalized || at_any_time { Ok(()) } else { Err(Status::failed_precondition("the guest is nobody's yet")) }
    }

    fn exists(&self, id: &str) -> Result<(), Status> {
        let exists = self.shared.state().containers.contains_key(id);
        if exists { Ok(()) } else { Err(Status::new(Code::NotFound, format!("no container {id}"))) }
    }
}

#[tonic::async_trait]
impl Agent for Service {
    type WatchContainersStream = Messages<proto::ContainerState>;
    type ReadLogsStream = Messages<proto::LogEntry>;
    type ExecStream = Messages<proto::ExecResponse>;
    type AttachStream = Messages<proto::AttachResponse>;
    type DialStream = Messages<proto::DialResponse>;
    type WatchAgentLogStream = Messages<proto::AgentLogEntry>;

    async fn hello(&self, _: Request<proto::HelloRequest>) -> Answer<proto::HelloResponse> {
        self.called("Hello", "").await?;
        let (protocol, personality) = {
            let state = self.shared.state();
            (state.protocol, state.personality.clone())
        };
        Ok(Response::new(proto::HelloResponse {
            protocol: protocol.unwrap_or(PROTOCOL_VERSION),
            guest_version: "fake".to_owned(),
            kernel_release: "6.12.0-fake".to_owned(),
            personalized: personality.is_some(),
            pod_uid: personality.map(|personality| personality.pod_uid).unwrap_or_default(),
        }))
    }

    async fn personalize(&self, request: Request<proto::PersonalizeRequest>) -> Answer<proto::PersonalizeResponse> {
        let request = request.into_inner();
        self.called("Personalize", &request.pod_uid).await?;
        if request.entropy.len() < 32 {
            return Err(Status::invalid_argument("too little entropy"));
        }
        self.shared.change(|state| {
            if state.personality.is_some() {
                return Err(Status::failed_precondition("the guest is a Pod's own already"));
            }
            let boot_id = format!("fake-boot-of-{}", request.pod_uid);
            let wall_clock = request.wall_clock;
            state.personality = Some(request);
            Ok(Response::new(proto::PersonalizeResponse { boot_id, wall_clock, stages: Vec::new() }))
        })
    }

    async fn put_volume(&self, request: Request<proto::PutVolumeRequest>) -> Answer<proto::PutVolumeResponse> {
        let request = request.into_inner();
        self.called("PutVolume", &request.name).await?;
        self.shared.change(|state| state.volumes.insert(request.name.clone(), request));
        Ok(Response::new(proto::PutVolumeResponse {}))
    }

    async fn put_pod_files(&self, request: Request<proto::PutPodFilesRequest>) -> Answer<proto::PutPodFilesResponse> {
        self.called("PutPodFiles", "").await?;
        let files = request.into_inner().files;
        self.shared.change(|state| {
            if let Some(personality) = &mut state.personality {
                personality.files = files;
            }
        });
        Ok(Response::new(proto::PutPodFilesResponse {}))
    }

    async fn create_container(
        &self,
        request: Request<proto::CreateContainerRequest>,
    ) -> Answer<proto::CreateContainerResponse> {
        let request = request.into_inner();
        self.called("CreateContainer", &request.id).await?;
        if self.exists(&request.id).is_ok() {
            return Err(Status::already_exists(format!("container {} exists", request.id)));
        }
        self.shared.change(|state| state.create(request));
        Ok(Response::new(proto::CreateContainerResponse {}))
    }

    async fn start_container(
        &self,
        request: Request<proto::StartContainerRequest>,
    ) -> Answer<proto::StartContainerResponse> {
        let id = request.into_inner().id;
        self.called("StartContainer", &id).await?;
        self.exists(&id)?;
        if let Some(script) = self.shared.change(|state| state.start(&id)) {
            tokio::spawn(play(Arc::clone(&self.shared), id, script));
        }
        Ok(Response::new(proto::StartContainerResponse {}))
    }

    async fn signal_container(
        &self,
        request: Request<proto::SignalContainerRequest>,
    ) -> Answer<proto::SignalContainerResponse> {
        let request = request.into_inner();
        self.called("SignalContainer", &format!("{} {}", request.id, request.signal)).await?;
        self.exists(&request.id)?;
        self.shared.change(|state| state.signal(&request.id, request.signal));
        Ok(Response::new(proto::SignalContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<proto::RemoveContainerRequest>,
    ) -> Answer<proto::RemoveContainerResponse> {
        let id = request.into_inner().id;
        self.called("RemoveContainer", &id).await?;
        if self.shared.state().is_running(&id) {
            return Err(Status::failed_precondition(format!("container {id} runs")));
        }
        self.shared.change(|state| state.containers.remove(&id));
        Ok(Response::new(proto::RemoveContainerResponse {}))
    }

    async fn watch_containers(&self, _: Request<proto::WatchContainersRequest>) -> Answer<Self::WatchContainersStream> {
        self.called("WatchContainers", "").await?;
        let shared = Arc::clone(&self.shared);
        let changed = shared.changed.subscribe();
        let states =
            unfold((shared, changed, BTreeMap::new(), true), |(shared, mut changed, known, first)| async move {
                if !first {
                    changed.changed().await.ok()?;
                }
                changed.mark_unchanged();
                let now: BTreeMap<String, proto::ContainerState> = shared
                    .state()
                    .containers
                    .iter()
                    .map(|(id, container)| (id.clone(), container.state.clone()))
                    .collect();
                let news: Vec<_> = now
                    .iter()
                    .filter(|(id, state)| known.get(*id) != Some(*state))
                    .map(|(_, state)| state.clone())
                    .collect();
                Some((iter(news.into_iter().map(Ok)), (shared, changed, now, false)))
            });
        Ok(Response::new(Box::pin(states.flatten())))
    }

    async fn read_logs(&self, request: Request<Streaming<proto::ReadLogsRequest>>) -> Answer<Self::ReadLogsStream> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|message| message.kind);
        let Some(read_logs_request::Kind::From(from)) = first else {
            return Err(Status::invalid_argument("the first message says from where"));
        };
        self.called("ReadLogs", &from.id).await?;
        self.exists(&from.id)?;
        let (shared, id) = (Arc::clone(&self.shared), from.id.clone());
        tokio::spawn(async move {
            while let Ok(Some(message)) = requests.message().await {
                if let Some(read_logs_request::Kind::Acknowledge(time)) = message.kind {
                    shared.change(|state| {
                        if let Some(container) = state.containers.get_mut(&id) {
                            container.log.retain(|entry| entry.time > time);
                        }
                    });
                }
            }
        });
        Ok(Response::new(Box::pin(log_entries(Arc::clone(&self.shared), from.id, from.after))))
    }

    async fn exec(&self, request: Request<Streaming<proto::ExecRequest>>) -> Answer<Self::ExecStream> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|message| message.kind);
        let Some(exec_request::Kind::Start(start)) = first else {
            return Err(Status::invalid_argument("the first message says what to run"));
        };
        self.called("Exec", &format!("{} {}", start.id, start.args.join(" "))).await?;
        if !self.shared.state().is_running(&start.id) {
            return Err(Status::failed_precondition(format!("container {} does not run", start.id)));
        }
        let program = start.args.first().cloned().unwrap_or_default();
        let scripted = self.shared.state().execs.get(&program).cloned();
        Ok(Response::new(match scripted {
            Some(script) => scripted_exec(script),
            None => echoing_exec(start, requests),
        }))
    }

    async fn attach(&self, request: Request<Streaming<proto::AttachRequest>>) -> Answer<Self::AttachStream> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|message| message.kind);
        let Some(attach_request::Kind::Start(start)) = first else {
            return Err(Status::invalid_argument("the first message says what to attach to"));
        };
        self.called("Attach", &start.id).await?;
        self.exists(&start.id)?;
        let (shared, id) = (Arc::clone(&self.shared), start.id.clone());
        tokio::spawn(async move {
            while let Ok(Some(message)) = requests.message().await {
                if let Some(attach_request::Kind::Stdin(data)) = message.kind {
                    shared.change(|state| {
                        if let Some(container) = state.containers.get_mut(&id) {
                            container.input.extend(data);
                        }
                    });
                }
            }
        });
        let now = self.shared.change(super::State::now);
        Ok(Response::new(attached(Arc::clone(&self.shared), start.id, now)))
    }

    async fn dial(&self, request: Request<Streaming<proto::DialRequest>>) -> Answer<Self::DialStream> {
        use proto::dial_response::Kind;
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|message| message.kind);
        let Some(dial_request::Kind::Port(port)) = first else {
            return Err(Status::invalid_argument("the first message says which port"));
        };
        self.called("Dial", &port.to_string()).await?;
        // Whoever listens says everything back.
        let echo = requests.map(|message| {
            let kind = match message?.kind {
                Some(dial_request::Kind::Data(data)) => Kind::Data(data),
                Some(dial_request::Kind::End(end)) => Kind::End(end),
                Some(dial_request::Kind::Port(_)) | None => return Err(Status::invalid_argument("out of turn")),
            };
            Ok(proto::DialResponse { kind: Some(kind) })
        });
        let connected = proto::DialResponse { kind: Some(Kind::Connected(proto::DialConnected {})) };
        Ok(Response::new(Box::pin(iter([Ok(connected)]).chain(echo))))
    }

    async fn get_stats(&self, _: Request<proto::GetStatsRequest>) -> Answer<proto::GetStatsResponse> {
        self.called("GetStats", "").await?;
        Ok(Response::new(self.shared.state().stats.clone()))
    }

    async fn watch_agent_log(&self, _: Request<proto::WatchAgentLogRequest>) -> Answer<Self::WatchAgentLogStream> {
        self.called("WatchAgentLog", "").await?;
        let entry = proto::AgentLogEntry { time: 1, level: "INFO".to_owned(), message: "fake guest".to_owned() };
        Ok(Response::new(Box::pin(iter([Ok(entry)]).chain(futures_util::stream::pending()))))
    }

    async fn shutdown(&self, _: Request<proto::ShutdownRequest>) -> Answer<proto::ShutdownResponse> {
        self.called("Shutdown", "").await?;
        self.shared.change(|state| {
            let ids: Vec<String> = state.containers.keys().cloned().collect();
            ids.iter().for_each(|id| state.end(id, End::Signal(KILL)));
        });
        self.shared.off.send_replace(true);
        Ok(Response::new(proto::ShutdownResponse {}))
    }
}

/// Does what a container's script says, for as long as it runs.
async fn play(shared: Arc<Shared>, id: String, script: Script) {
    for step in script.steps {
        if let Step::Run(time) = step {
            tokio::time::sleep(time).await;
        }
        if !shared.state().is_running(&id) {
            return;
        }
        shared.change(|state| match step {
            Step::Print(stream, line) => state.print(&id, stream, &line),
            Step::Run(_) => {}
            Step::Exit(code) => state.end(&id, End::Code(code)),
            Step::Die(signal) => state.end(&id, End::Signal(signal)),
            Step::RunOutOfMemory => state.end(&id, End::OutOfMemory),
            Step::Message(text) => state.leave_message(&id, &text),
        });
    }
}

/// Entries of a container's log after a time, until it has ended.
fn log_entries(
    shared: Arc<Shared>,
    id: String,
    after: u64,
) -> impl Stream<Item = Result<proto::LogEntry, Status>> + Send {
    let changed = shared.changed.subscribe();
    let pieces = unfold((shared, changed, id, after), |(shared, mut changed, id, after)| async move {
        loop {
            changed.mark_unchanged();
            let (news, ended) = {
                let state = shared.state();
                let container = state.containers.get(&id)?;
                let news: Vec<_> = container.log.iter().filter(|entry| entry.time > after).cloned().collect();
                (news, container.state.phase() == Phase::Exited)
            };
            if let Some(last) = news.last() {
                let after = last.time;
                return Some((iter(news.into_iter().map(Ok)), (shared, changed, id, after)));
            }
            if ended {
                return None;
            }
            changed.changed().await.ok()?;
        }
    });
    pieces.flatten()
}

fn scripted_exec(script: ExecScript) -> Messages<proto::ExecResponse> {
    let ExecScript { stdout, stderr, runs_for, code, start_error } = script;
    let exit = proto::Exit { code, timed_out: false, start_error: start_error.clone().unwrap_or_default() };
    let mut messages = Vec::new();
    if start_error.is_none() {
        messages.push(started());
        let parts = [(proto::OutputStream::Stdout, stdout), (proto::OutputStream::Stderr, stderr)];
        let parts = parts.into_iter().filter(|(_, text)| !text.is_empty());
        messages.extend(parts.map(|(stream, text)| output(stream, text.into_bytes())));
    }
    let end = futures_util::stream::once(async move {
        tokio::time::sleep(runs_for).await;
        Ok(exec_exit(exit))
    });
    Box::pin(iter(messages.into_iter().map(Ok)).chain(end))
}

/// Prints its arguments, and then what it reads, if it was to read.
fn echoing_exec(start: proto::ExecStart, requests: Streaming<proto::ExecRequest>) -> Messages<proto::ExecResponse> {
    let line = format!("{}\n", start.args.join(" ")).into_bytes();
    let begin = iter([Ok(started()), Ok(output(proto::OutputStream::Stdout, line))]);
    let end = iter([Ok(exec_exit(proto::Exit::default()))]);
    if !start.stdin {
        return Box::pin(begin.chain(end));
    }
    let echo = unfold(requests, |mut requests| async move {
        loop {
            match requests.message().await.ok()??.kind? {
                exec_request::Kind::Stdin(data) => {
                    return Some((Ok(output(proto::OutputStream::Stdout, data)), requests));
                }
                exec_request::Kind::StdinEnd(_) => return None,
                exec_request::Kind::Resize(_) | exec_request::Kind::Start(_) => {}
            }
        }
    });
    Box::pin(begin.chain(echo).chain(end))
}

/// What a container prints from a time on, and its end.
fn attached(shared: Arc<Shared>, id: String, after: u64) -> Messages<proto::AttachResponse> {
    use proto::attach_response::Kind;
    let printed = log_entries(Arc::clone(&shared), id.clone(), after).map(|entry| {
        let mut entry = entry?;
        entry.text.push(b'\n');
        let output = proto::Output { stream: entry.stream, data: entry.text };
        Ok(proto::AttachResponse { kind: Some(Kind::Output(output)) })
    });
    let end = futures_util::stream::once(async move {
        let code = shared.state().containers.get(&id).map_or(0, |container| container.state.exit_code);
        let exit = proto::Exit { code, ..Default::default() };
        Ok(proto::AttachResponse { kind: Some(Kind::Exit(exit)) })
    });
    Box::pin(printed.chain(end))
}

fn started() -> proto::ExecResponse {
    proto::ExecResponse { kind: Some(proto::exec_response::Kind::Started(proto::ExecStarted {})) }
}

fn output(stream: proto::OutputStream, data: Vec<u8>) -> proto::ExecResponse {
    let output = proto::Output { stream: stream.into(), data };
    proto::ExecResponse { kind: Some(proto::exec_response::Kind::Output(output)) }
}

fn exec_exit(exit: proto::Exit) -> proto::ExecResponse {
    proto::ExecResponse { kind: Some(proto::exec_response::Kind::Exit(exit)) }
}
