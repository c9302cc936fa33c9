//! Containers: made from a request, run by libcontainer, watched until they end.

use std::process::ExitCode;

use monopod_agent_proto::v1;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::paths::Paths;
use crate::reaper::Reaper;
use crate::volumes::Volumes;

/// What a stream of answers is, whatever makes it.
pub type Answers<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What containers need to know of the Pod they belong to. Made once, by a successful Personalize.
#[derive(Clone, Debug)]
pub struct PodContext {
    /// Where things are. `scratch`, `shm`, `hosts`, `resolv_conf` and `hostname` exist by now.
    pub paths: Paths,
    /// The Pod's host name, which the UTS namespace that all containers share has already.
    pub hostname: String,
    /// One process namespace for all containers, instead of one each.
    pub share_process_namespace: bool,
    /// Tells how processes ended. Nobody else may wait for one.
    pub reaper: Reaper,
    /// The Pod's volumes, by name.
    pub volumes: Volumes,
}

/// All containers of the Pod. Clones are handles to the same ones.
#[derive(Clone, Debug)]
pub struct Containers {}

#[expect(clippy::unused_async, reason = "not built yet")]
impl Containers {
    /// None yet.
    ///
    /// # Errors
    /// When the folders they need cannot be made.
    pub fn new(_context: PodContext) -> Result<Self, std::io::Error> {
        Ok(Self {})
    }

    /// `CreateContainer`.
    pub async fn create(&self, _request: v1::CreateContainerRequest) -> Result<(), Status> {
        Err(Status::unimplemented("CreateContainer"))
    }

    /// `StartContainer`.
    pub async fn start(&self, _request: v1::StartContainerRequest) -> Result<(), Status> {
        Err(Status::unimplemented("StartContainer"))
    }

    /// `SignalContainer`.
    pub async fn signal(&self, _request: v1::SignalContainerRequest) -> Result<(), Status> {
        Err(Status::unimplemented("SignalContainer"))
    }

    /// `RemoveContainer`.
    pub async fn remove(&self, _request: v1::RemoveContainerRequest) -> Result<(), Status> {
        Err(Status::unimplemented("RemoveContainer"))
    }

    /// `WatchContainers`.
    pub fn watch(&self) -> Answers<v1::ContainerState> {
        Box::pin(tokio_stream::empty())
    }

    /// `ReadLogs`.
    pub async fn read_logs(&self, _requests: Streaming<v1::ReadLogsRequest>) -> Result<Answers<v1::LogEntry>, Status> {
        Err(Status::unimplemented("ReadLogs"))
    }

    /// `Exec`.
    pub async fn exec(&self, _requests: Streaming<v1::ExecRequest>) -> Result<Answers<v1::ExecResponse>, Status> {
        Err(Status::unimplemented("Exec"))
    }

    /// `Attach`.
    pub async fn attach(&self, _requests: Streaming<v1::AttachRequest>) -> Result<Answers<v1::AttachResponse>, Status> {
        Err(Status::unimplemented("Attach"))
    }

    /// The containers' part of `GetStats`.
    pub async fn stats(&self, _disk_usage: bool) -> Vec<v1::ContainerStats> {
        Vec::new()
    }

    /// Kills what still runs and waits until it has ended. Called once, by `Shutdown`; nothing is started after it.
    pub async fn kill_all(&self) {}
}

/// Runs the helper that this process was started as, if its arguments say that it is one. Called first thing, while
/// the process has one thread.
pub fn helper_main() -> Option<ExitCode> {
    None
}
