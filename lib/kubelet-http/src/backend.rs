//! What the API needs of whoever runs the Pods of a node: [`PodBackend`].

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::stats::NodeStats;

/// One container of a Pod of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Namespace of the Pod.
    pub namespace: String,
    /// Name of the Pod.
    pub pod: String,
    /// Name of the container; an init or ephemeral one, too.
    pub container: String,
}

/// Which part of a log is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Goes on with what is written later.
    pub follow: bool,
    /// Of the instance of the container before this one.
    pub previous: bool,
    /// Begins each line with its time.
    pub timestamps: bool,
    /// Only what was written then or later.
    pub since: Option<Timestamp>,
    /// Only so many lines from the end.
    pub tail_lines: Option<u64>,
    /// Not more bytes than these.
    pub limit_bytes: Option<u64>,
    /// What the container wrote to one of its outputs, or to both.
    pub stream: LogStream,
}

/// Outputs of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogStream {
    /// Both, in the order of their times.
    #[default]
    All,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A program that is to be started in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether it has an input.
    pub stdin: bool,
}

/// Columns and rows of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// What a program is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessInput {
    /// Bytes of its input.
    Stdin(Bytes),
    /// Its input is at its end.
    StdinEnd,
    /// Its terminal has another size.
    Resize(TerminalSize),
}

/// What a program gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessOutput {
    /// Bytes of its output, or of its terminal.
    Stdout(Bytes),
    /// Bytes of its error output.
    Stderr(Bytes),
    /// It has ended. Nothing follows.
    Exited {
        /// Its exit code.
        code: i32,
    },
}

/// A program that runs. It is given up when `input` and `output` are dropped; a container goes on without its client.
#[derive(Debug)]
pub struct Process {
    /// What it is given.
    pub input: mpsc::Sender<ProcessInput>,
    /// What it gives, the exit or an error last.
    pub output: mpsc::Receiver<Result<ProcessOutput, BackendError>>,
}

/// Pieces of a log. Whoever drops it, wants no more.
pub type LogPieces = mpsc::Receiver<Result<Bytes, BackendError>>;

/// A connection to a port of a Pod.
pub trait PortStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> PortStream for T {}

/// A part of what makes a node healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Its name, one word.
    pub name: &'static str,
    /// What is wrong, for the log: callers are told only that something is.
    pub problem: Option<String>,
}

/// Whoever runs the Pods of one node.
///
/// Errors say what, which object and why, in the words that `kubectl` will show.
#[async_trait]
pub trait PodBackend: Send + Sync + 'static {
    /// The Pods of the node, with what is known of their status.
    fn pods(&self) -> Vec<Arc<Pod>>;

    /// One of them.
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let is_it = |pod: &Pod| {
            pod.metadata.name.as_deref() == Some(name) && pod.metadata.namespace.as_deref() == Some(namespace)
        };
        self.pods().into_iter().find(|pod| is_it(pod))
    }

    /// Opens the log of a container.
    async fn logs(&self, target: &Target, options: LogOptions) -> Result<LogPieces, BackendError>;

    /// Whether a program could be started in the container, or its output be followed, now. Asked before a connection
    /// becomes one of streams, since errors are shown better before than after.
    async fn check_running(&self, target: &Target) -> Result<(), BackendError>;

    /// Starts a program in a container.
    async fn exec(&self, target: &Target, exec: Exec) -> Result<Process, BackendError>;

    /// The input and output of a container's own program, from now on.
    async fn attach(&self, target: &Target, stdin: bool) -> Result<Process, BackendError>;

    /// Connects to a port of a Pod's loopback.
    async fn dial(&self, namespace: &str, pod: &str, port: u16) -> Result<Box<dyn PortStream>, BackendError>;

    /// What the node and its Pods use.
    async fn stats(&self) -> Result<NodeStats, BackendError>;

    /// Metrics of the node itself as Prometheus text: `/metrics`.
    async fn metrics(&self) -> String;

    /// Metrics of probes as Prometheus text: `/metrics/probes`.
    async fn probe_metrics(&self) -> String;

    /// What must be well for the node to be: `/healthz`.
    async fn health(&self) -> Vec<HealthCheck>;

    /// The settings that count, as a `KubeletConfiguration`: `/configz`.
    fn configuration(&self) -> serde_json::Value;
}

/// Why the backend did not do something.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BackendError {
    /// What sort of failure it is.
    pub kind: BackendErrorKind,
    /// What, which object and why.
    pub message: String,
}

/// Sorts of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendErrorKind {
    /// There is no such thing.
    NotFound,
    /// It is there, but not in a state for this.
    NotReady,
    /// It should have been possible.
    Failed,
}

impl BackendError {
    /// An error of a kind.
    pub fn new(kind: BackendErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
