//! The kubelet's HTTP API: logs, exec, attach, port-forward, stats and metrics of a node's Pods.
//!
//! ```text
//! API server ──TLS──▶ NodeServer, one port per node
//!                       auth      who calls, and may they? TokenReview, SubjectAccessReview
//!                       routes    which path
//!                       upgrade   WebSocket, SPDY/3.1, or SPDY/3.1 within a WebSocket
//!                       channels, spdy ─▶ session, port_forward ─▶ PodBackend
//! ```
//!
//! Many nodes live in one process: they share an [`Auth`], and each has a port, a certificate and a [`PodBackend`] of its
//! own. A node whose kubelet speaks WebSocket says so in its status, as a declared feature: [`DECLARED_FEATURE`].

mod activity;
mod auth;
mod backend;
mod channels;
#[doc(hidden)]
pub mod fuzz;
mod logs;
mod outlet;
mod port_forward;
mod query;
mod remote;
mod reply;
mod routes;
mod server;
mod session;
pub mod spdy;
mod stats;
mod tls;
mod upgrade;

pub use auth::{Auth, AuthError, User};
pub use backend::{
    BackendError, BackendErrorKind, Exec, HealthCheck, LogOptions, LogPieces, LogStream, PodBackend, PortStream,
    Process, ProcessInput, ProcessOutput, Target, TerminalSize,
};
pub use channels::{Coding, Incoming};
pub use server::{Limits, NodeConfig, NodeHandle, NodeServer, ServerError};
pub use stats::{ContainerStats, FileSystemUsage, NetworkUsage, NodeStats, PodStats, Usage};
pub use tls::{ServingIdentity, TlsError, client_authority, server_config};

/// The feature that a Node declares for the API server to speak WebSocket to its kubelet, from Kubernetes 1.36 on.
pub const DECLARED_FEATURE: &str = "ExtendWebSocketsToKubelet";
