//! What the daemons of this program have in common: their log, the signals that end them, the way to a cluster.

use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// A kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to use kubeconfig {}", file.display())]
pub(crate) struct KubeconfigUnusable {
    file: PathBuf,
    source: KubeconfigError,
}

/// What is logged when nothing is said: errors of the client for the API server are told by whoever made the call.
const DEFAULT_LOG: &str = "info,kube_client=off";

/// Begins the log on standard error; `MONOPOD_LOG` says how much.
pub(crate) fn start_log() {
    let filter = EnvFilter::try_from_env("MONOPOD_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A second one in one process is a mistake that costs nothing.
    let _ = log.try_init();
}

/// Cancels when the process is told to end.
pub(crate) async fn until_told(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be listened for; end the process with SIGKILL, which harms no Pod");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
}

/// The server and user that a kubeconfig names.
pub(crate) async fn read_kubeconfig(file: &Path) -> Result<kube::Config, KubeconfigUnusable> {
    let unusable = |source| KubeconfigUnusable { file: file.to_owned(), source };
    let kubeconfig = Kubeconfig::read_from(file).map_err(unusable)?;
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(unusable)
}

/// The name of this machine.
pub(crate) fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "localhost".to_owned()).to_lowercase()
}

/// The name of this machine's processor, as Kubernetes has it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
