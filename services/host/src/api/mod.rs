//! The local front of the daemon: gRPC over a Unix socket that only its owner may open.

mod convert;
mod images;
mod logs;
mod pods;
mod shown;
mod stats;
mod streams;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::Stream;
use monopod_host_proto::v1::host_server::{Host as HostService, HostServer};
use monopod_host_proto::v1::{self as proto};
use monopod_host_proto::{MAX_MESSAGE, SOCKET_NAME};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::host::Host;

pub(crate) use logs::{container, open_log};
pub(crate) use streams::running;

/// What a streaming call gives.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The socket of the daemon.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon answers there.
    #[error("another daemon serves {}", .0.display())]
    Taken(PathBuf),
    /// The system said no.
    #[error("failed to listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Serving ended.
    #[error("failed to serve")]
    Serve(#[source] tonic::transport::Error),
}

impl SocketError {
    /// Event reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Taken(_) => "AnotherDaemon",
            Self::Listen { .. } | Self::Serve(_) => "SocketFailed",
        }
    }
}

impl Socket {
    /// Takes the socket in the run folder; one that a killed daemon has left is replaced.
    ///
    /// # Errors
    /// When another daemon answers there, or the system says no.
    pub async fn bind(run: &Path) -> Result<Self, SocketError> {
        let path = run.join(SOCKET_NAME);
        let failed = |source| SocketError::Listen { path: path.clone(), source };
        std::fs::create_dir_all(run).map_err(failed)?;
        if UnixStream::connect(&path).await.is_ok() {
            return Err(SocketError::Taken(path));
        }
        // Made under another name, so that nobody can connect before it is ours alone.
        let new = path.with_extension("new");
        let _ = std::fs::remove_file(&new);
        let listener = UnixListener::bind(&new).map_err(failed)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        std::fs::rename(&new, &path).map_err(failed)?;
        Ok(Self { listener, path })
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// When connections can no longer be taken.
    pub async fn serve(self, host: Arc<Host>, stop: CancellationToken) -> Result<(), SocketError> {
        let Self { listener, path } = self;
        let service = HostServer::new(Api { host, stop: stop.clone() })
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned());
        let served = serving.await.map_err(SocketError::Serve);
        let _ = std::fs::remove_file(path);
        served
    }
}

/// The service.
#[derive(Clone, Debug)]
struct Api {
    host: Arc<Host>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl HostService for Api {
    type RunPodStream = Answers<proto::PodEvent>;
    type WatchPodStream = Answers<proto::PodEvent>;
    type LogsStream = Answers<proto::LogsResponse>;
    type ExecStream = Answers<proto::ExecResponse>;
    type AttachStream = Answers<proto::AttachResponse>;
    type PortForwardStream = Answers<proto::PortForwardResponse>;

    async fn info(&self, _: Request<proto::InfoRequest>) -> Result<Response<proto::InfoResponse>, Status> {
        Ok(Response::new(pods::info(&self.host)))
    }

    async fn run_pod(&self, request: Request<proto::RunPodRequest>) -> Result<Response<Self::RunPodStream>, Status> {
        let handle = pods::run(&self.host, request.into_inner()).await?;
        Ok(Response::new(self.until_stop(pods::news(&handle))))
    }

    async fn watch_pod(
        &self,
        request: Request<proto::WatchPodRequest>,
    ) -> Result<Response<Self::WatchPodStream>, Status> {
        let handle = self.host.pod(&convert::pod_name(request.into_inner().pod)?).map_err(convert::status)?;
        Ok(Response::new(self.until_stop(pods::news(&handle))))
    }

    async fn list_pods(
        &self,
        request: Request<proto::ListPodsRequest>,
    ) -> Result<Response<proto::ListPodsResponse>, Status> {
        Ok(Response::new(pods::list(&self.host, &request.into_inner().namespace)))
    }

    async fn inspect_pod(
        &self,
        request: Request<proto::InspectPodRequest>,
    ) -> Result<Response<proto::InspectPodResponse>, Status> {
        pods::inspect(&self.host, request.into_inner()).await.map(Response::new)
    }

    async fn stop_pod(
        &self,
        request: Request<proto::StopPodRequest>,
    ) -> Result<Response<proto::StopPodResponse>, Status> {
        pods::stop(&self.host, request.into_inner()).await.map(Response::new)
    }

    async fn remove_pod(
        &self,
        request: Request<proto::RemovePodRequest>,
    ) -> Result<Response<proto::RemovePodResponse>, Status> {
        let proto::RemovePodRequest { pod, force } = request.into_inner();
        self.host.remove(&convert::pod_name(pod)?, force).await.map_err(convert::status)?;
        Ok(Response::new(proto::RemovePodResponse {}))
    }

    async fn apply_objects(
        &self,
        request: Request<proto::ApplyObjectsRequest>,
    ) -> Result<Response<proto::ApplyObjectsResponse>, Status> {
        pods::apply(&self.host, &request.into_inner()).await.map(Response::new)
    }

    async fn logs(&self, request: Request<proto::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let logs = logs::logs(&self.host, request.into_inner()).await?;
        Ok(Response::new(self.until_stop(logs)))
    }

    async fn exec(
        &self,
        request: Request<Streaming<proto::ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let exec = streams::exec(&self.host, request.into_inner()).await?;
        Ok(Response::new(self.until_stop(exec)))
    }

    async fn attach(
        &self,
        request: Request<Streaming<proto::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let attach = streams::attach(&self.host, request.into_inner()).await?;
        Ok(Response::new(self.until_stop(attach)))
    }

    async fn port_forward(
        &self,
        request: Request<Streaming<proto::PortForwardRequest>>,
    ) -> Result<Response<Self::PortForwardStream>, Status> {
        let forward = streams::port_forward(&self.host, request.into_inner()).await?;
        Ok(Response::new(self.until_stop(forward)))
    }

    async fn stats(&self, request: Request<proto::StatsRequest>) -> Result<Response<proto::StatsResponse>, Status> {
        stats::stats(&self.host, request.into_inner()).await.map(Response::new)
    }

    async fn list_images(
        &self,
        _: Request<proto::ListImagesRequest>,
    ) -> Result<Response<proto::ListImagesResponse>, Status> {
        images::list(&self.host).map(Response::new)
    }

    async fn load_images(
        &self,
        request: Request<proto::LoadImagesRequest>,
    ) -> Result<Response<proto::LoadImagesResponse>, Status> {
        images::load(&self.host, &request.into_inner()).await.map(Response::new)
    }

    async fn remove_image(
        &self,
        request: Request<proto::RemoveImageRequest>,
    ) -> Result<Response<proto::RemoveImageResponse>, Status> {
        images::remove(&self.host, &request.into_inner()).await.map(Response::new)
    }

    async fn prune_images(
        &self,
        _: Request<proto::PruneImagesRequest>,
    ) -> Result<Response<proto::PruneImagesResponse>, Status> {
        images::prune(&self.host).await.map(Response::new)
    }
}

impl Api {
    /// Ends a stream when the daemon stops, which would otherwise wait for it.
    fn until_stop<T: Send + 'static>(&self, answers: Answers<T>) -> Answers<T> {
        use futures_util::StreamExt as _;
        Box::pin(answers.take_until(self.stop.clone().cancelled_owned()))
    }
}
