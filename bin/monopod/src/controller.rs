//! `monopod controller`: the control plane of Monopod.

use std::net::SocketAddr;
use std::path::PathBuf;

use monopod_controller::{ControllerError, Settings, WebhookAddress};
use monopod_policy::mutation::IdentitySettings;
use tokio_util::sync::CancellationToken;

use crate::Exit;
use crate::service::{self, KubeconfigUnusable};

/// Run the control plane: webhooks on every replica, and under one lease the scheduler and the other controllers.
///
/// It ends orderly at SIGTERM or Ctrl-C, and hands over to the next replica.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How the API server is reached [default: the ServiceAccount of the Pod that this runs in].
    #[arg(long, value_name = "FILE", env = "MONOPOD_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Name among the replicas [default: the host name].
    #[arg(long, value_name = "NAME", env = "MONOPOD_IDENTITY")]
    identity: Option<String>,
    /// Region of the nodes: it is in their labels and names.
    #[arg(long, env = "MONOPOD_REGION", default_value = "local")]
    region: String,
    /// Where the webhooks listen.
    #[arg(long, value_name = "ADDRESS", env = "MONOPOD_WEBHOOK_LISTEN", default_value = "0.0.0.0:9443")]
    webhook_listen: SocketAddr,
    /// Where the API server finds the webhooks [default: the Service monopod-webhook].
    #[arg(long, value_name = "URL", env = "MONOPOD_WEBHOOK_URL")]
    webhook_url: Option<String>,
    /// Where /livez, /readyz, /metrics and /state are.
    #[arg(long, value_name = "ADDRESS", env = "MONOPOD_STATUS_LISTEN", default_value = "0.0.0.0:9440")]
    status_listen: SocketAddr,
}

/// Why the controller does not run.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigUnusable),
    #[error("not in a cluster; name a kubeconfig with --kubeconfig")]
    NotInCluster(#[from] kube::config::InClusterError),
    #[error("failed to connect to the API server")]
    Client(#[from] kube::Error),
    #[error(transparent)]
    Controller(#[from] ControllerError),
}

/// Runs the subcommand, until it is told to end.
pub(crate) async fn run(arguments: Arguments) -> Exit {
    service::start_log();
    match serve(arguments).await {
        Ok(()) => Exit::Success,
        Err(error) => {
            crate::terminal::error(&error);
            Exit::Failed
        }
    }
}

async fn serve(arguments: Arguments) -> Result<(), StartError> {
    let config = match &arguments.kubeconfig {
        Some(file) => service::read_kubeconfig(file).await?,
        None => kube::Config::incluster()?,
    };
    let client = kube::Client::try_from(config)?;
    let settings = Settings {
        identity: arguments.identity.unwrap_or_else(service::host_name),
        identities: IdentitySettings { region: Some(arguments.region.clone()), ..IdentitySettings::default() },
        region: arguments.region,
        architecture: service::architecture().to_owned(),
        webhook_listen: arguments.webhook_listen,
        webhook_address: arguments.webhook_url.map_or(WebhookAddress::Service, WebhookAddress::Url),
        status_listen: arguments.status_listen,
    };
    let stop = CancellationToken::new();
    tokio::spawn(service::until_told(stop.clone()));
    Ok(monopod_controller::run(client, settings, stop).await?)
}
