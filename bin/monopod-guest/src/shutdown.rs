//! The end of a guest's life.

use std::sync::Arc;

use crate::server::Pod;

/// Kills what runs, flushes and unmounts, powers off.
pub(crate) async fn shutdown(pod: Option<Arc<Pod>>) {
    if let Some(pod) = pod {
        pod.containers.kill_all().await;
    }
    nix::unistd::sync();
    let Err(error) = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_POWER_OFF);
    tracing::error!(%error, "failed to power off");
}
