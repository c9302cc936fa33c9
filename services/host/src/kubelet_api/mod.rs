//! What the kubelet's HTTP API asks of one node: its only Pod, as the daemon runs it.
//!
//! The command line asks for the same things over the daemon's own socket; what both need is in [`crate::api`].

mod process;
mod usage;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use monopod_agent_proto::v1 as agent;
use monopod_kubelet_http::{
    BackendError, BackendErrorKind, Exec, HealthCheck, LogOptions, LogPieces, LogStream, NodeStats, PodBackend,
    PortStream, Process, Target,
};
use serde_json::json;
use tokio::sync::mpsc;

use crate::api::{container, open_log, running};
use crate::error::HostError;
use crate::host::Host;
use crate::identity::PodName;
use crate::logs::{Options, Stream, follow, nanoseconds};
use crate::pod::{PodHandle, Sandbox};

use usage::Samples;

/// Pieces of a log that may wait for a slow caller.
const QUEUE: usize = 4;

/// The node of one Pod.
#[derive(Debug)]
pub(crate) struct NodeBackend {
    host: Arc<Host>,
    name: PodName,
    uid: String,
    samples: Mutex<Samples>,
}

impl NodeBackend {
    /// The node of the Pod with this name and uid.
    pub(crate) fn new(host: Arc<Host>, name: PodName, uid: String) -> Self {
        Self { host, name, uid, samples: Mutex::default() }
    }

    /// The Pod, whose name and namespace must be those that are asked for.
    fn handle(&self, namespace: &str, pod: &str) -> Result<PodHandle, BackendError> {
        let is_it = self.name.namespace == namespace && self.name.name == pod;
        let handle = self.host.pod(&self.name).ok().filter(|handle| is_it && handle.shared.uid == self.uid);
        handle.ok_or_else(|| {
            BackendError::new(
                BackendErrorKind::NotFound,
                format!("pod \"{pod}\" not found in namespace \"{namespace}\""),
            )
        })
    }

    fn own(&self) -> Result<PodHandle, BackendError> {
        self.handle(&self.name.namespace, &self.name.name)
    }

    fn running(&self, target: &Target) -> Result<(PodHandle, Arc<Sandbox>, String), BackendError> {
        let handle = self.handle(&target.namespace, &target.pod)?;
        let (sandbox, id) = running(&handle, &target.container).map_err(not_ready)?;
        Ok((handle, sandbox, id))
    }
}

/// Something is not there, or not in a state for what was asked.
fn not_ready(error: HostError) -> BackendError {
    let kind = if matches!(error, HostError::NotFound(_)) {
        BackendErrorKind::NotFound
    } else if matches!(error, HostError::Container { .. } | HostError::NotRunning(_)) {
        BackendErrorKind::NotReady
    } else {
        BackendErrorKind::Failed
    };
    BackendError::new(kind, crate::pod::chain(&error))
}

fn failed(error: &dyn std::error::Error) -> BackendError {
    BackendError::new(BackendErrorKind::Failed, crate::pod::chain(error))
}

#[async_trait]
impl PodBackend for NodeBackend {
    fn pods(&self) -> Vec<Arc<Pod>> {
        self.own().ok().and_then(|handle| handle.shared.news.pod()).into_iter().collect()
    }

    async fn logs(&self, target: &Target, options: LogOptions) -> Result<LogPieces, BackendError> {
        let handle = self.handle(&target.namespace, &target.pod)?;
        let name = container(&handle, &target.container).map_err(not_ready)?;
        let stream = match options.stream {
            LogStream::All => None,
            LogStream::Stdout => Some(Stream::Stdout),
            LogStream::Stderr => Some(Stream::Stderr),
        };
        let wanted = Options {
            timestamps: options.timestamps,
            tail_lines: options.tail_lines,
            since: options.since.map_or(0, nanoseconds),
            limit_bytes: options.limit_bytes,
            stream,
        };
        let (reader, progress) = open_log(&handle, &name, options.previous, wanted).await.map_err(not_ready)?;
        let progress = if options.follow { progress } else { None };
        let (to, mut chunks) = mpsc::channel::<Vec<u8>>(QUEUE);
        let (pieces, from) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let carrying = async {
                while let Some(chunk) = chunks.recv().await {
                    if pieces.send(Ok(Bytes::from(chunk))).await.is_err() {
                        break;
                    }
                }
                drop(chunks);
            };
            let (followed, ()) = tokio::join!(follow(reader, progress, to), carrying);
            if let Err(error) = followed {
                let _ = pieces.send(Err(failed(&error))).await;
            }
        });
        Ok(from)
    }

    async fn check_running(&self, target: &Target) -> Result<(), BackendError> {
        self.running(target).map(drop)
    }

    async fn exec(&self, target: &Target, exec: Exec) -> Result<Process, BackendError> {
        let (_, sandbox, id) = self.running(target)?;
        let Exec { args, tty, stdin } = exec;
        let start = agent::ExecStart { id, args, tty, stdin, size: None, timeout_nanoseconds: 0 };
        let process = sandbox.agent.exec(start).await.map_err(|error| failed(&error))?;
        Ok(process::carried(process, stdin))
    }

    async fn attach(&self, target: &Target, stdin: bool) -> Result<Process, BackendError> {
        let (_, sandbox, id) = self.running(target)?;
        let start = agent::AttachStart { id, stdin, stdout: true, stderr: true };
        let process = sandbox.agent.attach(start).await.map_err(|error| failed(&error))?;
        Ok(process::carried(process, stdin))
    }

    async fn dial(&self, namespace: &str, pod: &str, port: u16) -> Result<Box<dyn PortStream>, BackendError> {
        let handle = self.handle(namespace, pod)?;
        let sandbox = handle.shared.sandbox().ok_or_else(|| not_ready(HostError::NotRunning(self.name.clone())))?;
        let stream = sandbox.agent.dial(port).await.map_err(|error| failed(&error))?;
        Ok(Box::new(stream))
    }

    async fn stats(&self) -> Result<NodeStats, BackendError> {
        let handle = self.own()?;
        // A Pod that has ended, or does not run yet, uses nothing; its node is there all the same.
        let Some(sandbox) = handle.shared.sandbox() else { return Ok(usage::idle(&handle)) };
        // Sizes of files take long to count, and nothing that asks often needs them.
        let stats = sandbox.agent.stats(false).await.map_err(|error| failed(&error))?;
        let mut samples = self.samples.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(usage::node(&handle, stats, &mut samples))
    }

    async fn metrics(&self) -> String {
        let running = self.own().map_or(0, |handle| usize::from(handle.shared.sandbox().is_some()));
        format!(
            "# HELP kubelet_running_pods Number of pods that have a running pod sandbox\n\
             # TYPE kubelet_running_pods gauge\nkubelet_running_pods {running}\n"
        )
    }

    async fn probe_metrics(&self) -> String {
        self.own().map_or_else(|_| String::new(), |handle| usage::probes(&handle))
    }

    async fn health(&self) -> Vec<HealthCheck> {
        let problem = self.own().err().map(|error| error.message);
        vec![HealthCheck { name: "ping", problem: None }, HealthCheck { name: "syncloop", problem }]
    }

    fn configuration(&self) -> serde_json::Value {
        let settings = &self.host.machine.settings;
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerLogMaxSize": settings.log_file_size.to_string(),
            "containerLogMaxFiles": settings.log_files,
            "maxPods": 1,
            "seccompDefault": settings.plan.seccomp_default,
            "clusterDomain": settings.plan.dns.cluster.as_ref().map(|dns| dns.domain.clone()),
            "clusterDNS": settings.plan.dns.cluster.as_ref().map(|dns| dns.servers.clone()),
        })
    }
}
