//! The control plane of Monopod: one program, as many replicas as wanted.
//!
//! ```text
//! every replica  webhook: what the API server asks when objects are made and changed
//! the leader     scheduler: a host and an address for every Pod of a profile; Nodes of Pods that are gone
//!                subnets:   blocks of addresses for hosts
//!                approver:  certificates of nodes
//!                profiles:  status, and the end of a profile's Pods
//! ```
//! What is decided is in `monopod_policy`. Kubernetes objects are the only state: a controller that starts anew reads from
//! them how far the last one came.

mod approver;
mod leader;
mod profiles;
mod scheduler;
mod subnets;
pub mod webhook;

use kube::Client;
use monopod_policy::placement::CommonLabels;
use tokio_util::sync::CancellationToken;

/// What the controller is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// By which it is known among its replicas.
    pub identity: String,
    /// Value of the region labels of nodes.
    pub region: String,
    /// Architecture of nodes, in Kubernetes' spelling: `amd64`, `arm64`.
    pub architecture: String,
}

/// Runs until it is told to stop. The leader's work is handed over then.
pub async fn run(client: Client, settings: Settings, stop: CancellationToken) {
    let common = CommonLabels { region: settings.region.clone(), architecture: settings.architecture.clone() };
    let work = || {
        let (client, common) = (client.clone(), common.clone());
        async move {
            tokio::select! {
                () = scheduler::run(client.clone(), common) => {}
                () = subnets::run(client.clone()) => {}
                () = approver::run(client.clone()) => {}
                () = profiles::run(client.clone()) => {}
            }
        }
    };
    leader::lead(&client, &settings.identity, &stop, work).await;
}
