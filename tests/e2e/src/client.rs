//! Asks a daemon over its socket.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use monopod_host_proto::v1::host_client::HostClient;
use monopod_host_proto::v1::{self as proto, pod_event};
use monopod_host_proto::{MAX_MESSAGE, SOCKET_NAME};
use monopod_testkit::wait::wait_for;
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// Asks a daemon.
#[derive(Clone, Debug)]
pub struct Client {
    /// The calls themselves.
    pub calls: HostClient<Channel>,
}

/// A Pod to run, with what belongs to it.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// The Pod.
    pub pod: Value,
    /// Objects beside it.
    pub objects: Vec<Value>,
    /// Archives with its images.
    pub archives: Vec<PathBuf>,
    /// Ports of the Pod to publish at free ports of the loopback.
    pub ports: Vec<u16>,
}

impl Client {
    /// Connects to the daemon whose socket is in a folder.
    ///
    /// # Errors
    /// When none answers.
    pub async fn connect(run: &Path) -> Result<Self> {
        let path = run.join(SOCKET_NAME);
        let connector = service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://host.invalid").connect_with_connector(connector).await?;
        let calls =
            HostClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
        Ok(Self { calls })
    }

    /// Runs a Pod; its news.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn run(&self, run: Run) -> Result<Streaming<proto::PodEvent>, tonic::Status> {
        let request = proto::RunPodRequest {
            pod_json: run.pod.to_string().into_bytes(),
            objects_json: run.objects.iter().map(|object| object.to_string().into_bytes()).collect(),
            sizing: proto::SizingMode::Exact.into(),
            image_archives: run.archives.iter().map(|path| path.display().to_string()).collect(),
            published_ports: run.ports.iter().map(|port| published(*port)).collect(),
        };
        Ok(self.calls.clone().run_pod(request).await?.into_inner())
    }

    /// The Pod as it is now.
    ///
    /// # Errors
    /// When there is none.
    pub async fn pod(&self, name: &str) -> Result<Pod> {
        let pod = self.inspect(name).await?.pod_json;
        Ok(serde_json::from_slice(&pod)?)
    }

    /// What lists of Pods say of one.
    ///
    /// # Errors
    /// When there is none.
    pub async fn summary(&self, name: &str) -> Result<proto::PodSummary> {
        let pods = self.calls.clone().list_pods(proto::ListPodsRequest::default()).await?.into_inner().pods;
        let found = pods.into_iter().find(|pod| pod.name.as_ref().is_some_and(|found| found.name == name));
        found.with_context(|| format!("there is no Pod {name}"))
    }

    /// All that is known of a Pod.
    ///
    /// # Errors
    /// When there is none.
    pub async fn inspect(&self, name: &str) -> Result<proto::InspectPodResponse> {
        let request = proto::InspectPodRequest { pod: Some(pod_name(name)) };
        Ok(self.calls.clone().inspect_pod(request).await?.into_inner())
    }

    /// Waits until a Pod's status is as wanted.
    pub async fn wait_status(&self, name: &str, what: &str, wanted: impl Fn(&PodStatus) -> bool) -> PodStatus {
        wait_for(what, async || {
            let status = match self.pod(name).await {
                Ok(pod) => pod.status.unwrap_or_default(),
                Err(error) => return Err(format!("{error:#}")),
            };
            if wanted(&status) { Ok(status) } else { Err(serde_json::to_string(&status).unwrap_or_default()) }
        })
        .await
    }

    /// Waits until a Pod is ready.
    pub async fn wait_ready(&self, name: &str) -> PodStatus {
        self.wait_status(name, "the Pod is ready", |status| {
            status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        })
        .await
    }

    /// Ends a Pod.
    ///
    /// # Errors
    /// When there is none.
    pub async fn stop(&self, name: &str, grace_seconds: Option<u32>) -> Result<proto::Finished> {
        let request = proto::StopPodRequest { pod: Some(pod_name(name)), grace_seconds };
        let stopped = self.calls.clone().stop_pod(request).await?.into_inner();
        stopped.finished.context("a stop tells how it ended")
    }

    /// Forgets a Pod that has ended.
    ///
    /// # Errors
    /// When there is none, or it runs.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let request = proto::RemovePodRequest { pod: Some(pod_name(name)), force: false };
        self.calls.clone().remove_pod(request).await?;
        Ok(())
    }

    /// Logs of a container so far.
    ///
    /// # Errors
    /// When there are none.
    pub async fn logs(&self, request: proto::LogsRequest) -> Result<String, tonic::Status> {
        let mut stream = self.calls.clone().logs(request).await?.into_inner();
        let mut text = Vec::new();
        while let Some(piece) = stream.message().await? {
            text.extend(piece.data);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Logs of a Pod's only container so far.
    ///
    /// # Errors
    /// When there are none.
    pub async fn logs_of(&self, name: &str) -> Result<String, tonic::Status> {
        self.logs(proto::LogsRequest { pod: Some(pod_name(name)), ..proto::LogsRequest::default() }).await
    }

    /// Runs a program in a container to its end: code, standard output, standard error.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn exec(&self, name: &str, args: &[&str], input: &[u8]) -> Result<(i32, String, String)> {
        use proto::exec_request::Kind as Ask;
        use proto::exec_response::Kind as Answer;
        let start = proto::ExecStart {
            pod: Some(pod_name(name)),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            stdin: !input.is_empty(),
            ..proto::ExecStart::default()
        };
        let asks = [Ask::Start(start), Ask::Stdin(input.to_vec()), Ask::StdinEnd(proto::Closed {})];
        let asks = asks.map(|kind| proto::ExecRequest { kind: Some(kind) });
        let mut answers = self.calls.clone().exec(tokio_stream::iter(asks)).await?.into_inner();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(answer) = answers.message().await? {
            match answer.kind.context("an answer has content")? {
                Answer::Stdout(data) => stdout.extend(data),
                Answer::Stderr(data) => stderr.extend(data),
                Answer::Started(_) => {}
                Answer::Exit(exit) => {
                    anyhow::ensure!(exit.error.is_empty(), "{}", exit.error);
                    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                    return Ok((exit.code, text(&stdout), text(&stderr)));
                }
            }
        }
        anyhow::bail!("exec ended without an exit code")
    }
}

/// Waits for the end of a Pod that was run; all its news.
///
/// # Errors
/// When the daemon hangs up first.
pub async fn until_finished(news: &mut Streaming<proto::PodEvent>) -> Result<(proto::Finished, Vec<pod_event::Kind>)> {
    let mut all = Vec::new();
    while let Some(event) = news.message().await? {
        let kind = event.kind.context("news have content")?;
        if let pod_event::Kind::Finished(finished) = kind {
            return Ok((finished, all));
        }
        all.push(kind);
    }
    anyhow::bail!("the daemon hung up before the Pod had ended")
}

/// A Pod of the namespace `default`.
pub fn pod_name(name: &str) -> proto::PodName {
    proto::PodName { namespace: String::new(), name: name.to_owned() }
}

fn published(pod_port: u16) -> proto::PublishedPort {
    proto::PublishedPort { host_address: String::new(), host_port: 0, pod_port: pod_port.into() }
}
