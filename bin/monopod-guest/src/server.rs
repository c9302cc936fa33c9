//! What the host can ask: the gRPC service. Each call checks that the guest is somebody's, then hands on.

use std::sync::Arc;

use monopod_agent_proto::{MAX_CHUNK, MAX_REQUEST, PROTOCOL_VERSION, v1};
use tokio::sync::{Mutex, RwLock};
use tonic::{Request, Response, Status, Streaming};

use crate::agent_log::AgentLog;
use crate::containers::{Answers, Containers};
use crate::paths::Paths;
use crate::reaper::Reaper;
use crate::volumes::Volumes;
use crate::{dial, personalize, shutdown, stats};

/// The service over gRPC, with its limits.
pub type AgentServer = v1::agent_server::AgentServer<Agent>;

/// The guest as the host sees it. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Agent {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    image_version: String,
    kernel_release: String,
    paths: Paths,
    reaper: Reaper,
    log: AgentLog,
    life: RwLock<Life>,
    /// One statistics walk and one volume change at a time.
    volume_turn: Mutex<()>,
}

/// Whose the guest is. Goes one way only.
#[derive(Debug)]
enum Life {
    /// Nobody's yet: what a template holds.
    Fresh,
    /// Personalize failed half-way: the guest may not be unique, so it runs nothing, ever.
    Spoilt,
    /// A Pod's own.
    Personal(Arc<Pod>),
}

/// What there is after Personalize.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) paths: Paths,
    pub(crate) containers: Containers,
    pub(crate) volumes: Volumes,
}

/// What the agent knows of itself when it starts.
#[derive(Debug)]
pub struct Identity {
    /// Kernel release and content digest of the guest image.
    pub image_version: String,
    /// As uname says.
    pub kernel_release: String,
}

impl Agent {
    /// A guest that is nobody's yet.
    #[must_use]
    pub fn new(identity: Identity, paths: Paths, reaper: Reaper, log: AgentLog) -> Self {
        let Identity { image_version, kernel_release } = identity;
        let life = RwLock::new(Life::Fresh);
        let volume_turn = Mutex::new(());
        Self { shared: Arc::new(Shared { image_version, kernel_release, paths, reaper, log, life, volume_turn }) }
    }

    /// The service for one connection.
    #[must_use]
    pub fn service(&self) -> AgentServer {
        AgentServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST + MAX_CHUNK)
    }

    async fn pod(&self) -> Result<Arc<Pod>, Status> {
        match &*self.shared.life.read().await {
            Life::Fresh => Err(Status::failed_precondition("the guest has not been personalized")),
            Life::Spoilt => Err(Status::failed_precondition("personalizing the guest has failed")),
            Life::Personal(pod) => Ok(Arc::clone(pod)),
        }
    }
}

#[tonic::async_trait]
impl v1::agent_server::Agent for Agent {
    async fn hello(&self, _: Request<v1::HelloRequest>) -> Result<Response<v1::HelloResponse>, Status> {
        // Somebody writes only while a Personalize is under way: then it has not succeeded yet.
        let pod_uid = self.shared.life.try_read().ok().and_then(|life| match &*life {
            Life::Fresh | Life::Spoilt => None,
            Life::Personal(pod) => Some(pod.uid.clone()),
        });
        Ok(Response::new(v1::HelloResponse {
            protocol: PROTOCOL_VERSION,
            guest_version: self.shared.image_version.clone(),
            kernel_release: self.shared.kernel_release.clone(),
            personalized: pod_uid.is_some(),
            pod_uid: pod_uid.unwrap_or_default(),
        }))
    }

    async fn personalize(
        &self,
        request: Request<v1::PersonalizeRequest>,
    ) -> Result<Response<v1::PersonalizeResponse>, Status> {
        let mut life = self.shared.life.write().await;
        match &*life {
            Life::Fresh => {}
            Life::Spoilt | Life::Personal(_) => {
                return Err(Status::failed_precondition("the guest has been personalized before"));
            }
        }
        // Whatever happens from here on, even if this call is dropped, the guest is not fresh any more.
        *life = Life::Spoilt;
        let (pod, response) =
            personalize::personalize(request.into_inner(), &self.shared.paths, &self.shared.reaper).await?;
        *life = Life::Personal(Arc::new(pod));
        Ok(Response::new(response))
    }

    async fn put_volume(
        &self,
        request: Request<v1::PutVolumeRequest>,
    ) -> Result<Response<v1::PutVolumeResponse>, Status> {
        let pod = self.pod().await?;
        let _turn = self.shared.volume_turn.lock().await;
        pod.volumes.put(request.into_inner()).await?;
        Ok(Response::new(v1::PutVolumeResponse {}))
    }

    async fn put_pod_files(
        &self,
        request: Request<v1::PutPodFilesRequest>,
    ) -> Result<Response<v1::PutPodFilesResponse>, Status> {
        let pod = self.pod().await?;
        let files = request.into_inner().files.unwrap_or_default();
        personalize::write_pod_files(&pod.paths, &files)?;
        Ok(Response::new(v1::PutPodFilesResponse {}))
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Result<Response<v1::CreateContainerResponse>, Status> {
        self.pod().await?.containers.create(request.into_inner()).await?;
        Ok(Response::new(v1::CreateContainerResponse {}))
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Result<Response<v1::StartContainerResponse>, Status> {
        self.pod().await?.containers.start(request.into_inner()).await?;
        Ok(Response::new(v1::StartContainerResponse {}))
    }

    async fn signal_container(
        &self,
        request: Request<v1::SignalContainerRequest>,
    ) -> Result<Response<v1::SignalContainerResponse>, Status> {
        self.pod().await?.containers.signal(request.into_inner()).await?;
        Ok(Response::new(v1::SignalContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Result<Response<v1::RemoveContainerResponse>, Status> {
        self.pod().await?.containers.remove(request.into_inner()).await?;
        Ok(Response::new(v1::RemoveContainerResponse {}))
    }

    type WatchContainersStream = Answers<v1::ContainerState>;

    async fn watch_containers(
        &self,
        _: Request<v1::WatchContainersRequest>,
    ) -> Result<Response<Self::WatchContainersStream>, Status> {
        Ok(Response::new(self.pod().await?.containers.watch()))
    }

    type ReadLogsStream = Answers<v1::LogEntry>;

    async fn read_logs(
        &self,
        requests: Request<Streaming<v1::ReadLogsRequest>>,
    ) -> Result<Response<Self::ReadLogsStream>, Status> {
        Ok(Response::new(self.pod().await?.containers.read_logs(requests.into_inner()).await?))
    }

    type ExecStream = Answers<v1::ExecResponse>;

    async fn exec(&self, requests: Request<Streaming<v1::ExecRequest>>) -> Result<Response<Self::ExecStream>, Status> {
        Ok(Response::new(self.pod().await?.containers.exec(requests.into_inner()).await?))
    }

    type AttachStream = Answers<v1::AttachResponse>;

    async fn attach(
        &self,
        requests: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        Ok(Response::new(self.pod().await?.containers.attach(requests.into_inner()).await?))
    }

    type DialStream = Answers<v1::DialResponse>;

    async fn dial(&self, requests: Request<Streaming<v1::DialRequest>>) -> Result<Response<Self::DialStream>, Status> {
        self.pod().await?;
        Ok(Response::new(dial::dial(requests.into_inner()).await?))
    }

    async fn get_stats(&self, request: Request<v1::GetStatsRequest>) -> Result<Response<v1::GetStatsResponse>, Status> {
        let pod = self.pod().await?;
        Ok(Response::new(stats::stats(&pod, request.into_inner().disk_usage).await?))
    }

    type WatchAgentLogStream = Answers<v1::AgentLogEntry>;

    async fn watch_agent_log(
        &self,
        _: Request<v1::WatchAgentLogRequest>,
    ) -> Result<Response<Self::WatchAgentLogStream>, Status> {
        Ok(Response::new(self.shared.log.watch()))
    }

    async fn shutdown(&self, _: Request<v1::ShutdownRequest>) -> Result<Response<v1::ShutdownResponse>, Status> {
        let pod = match &*self.shared.life.read().await {
            Life::Fresh | Life::Spoilt => None,
            Life::Personal(pod) => Some(Arc::clone(pod)),
        };
        shutdown::shutdown(pod, &self.shared.reaper).await;
        Ok(Response::new(v1::ShutdownResponse {}))
    }
}
