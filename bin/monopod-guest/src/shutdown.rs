//! The end of a guest's life: nothing that the Pod wrote is lost, and the machine is off soon after.

use std::sync::Arc;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot};

use crate::reaper::Reaper;
use crate::server::Pod;
use crate::volumes::unmount;

/// How long a network file system may take to let go. Its server may be gone for good.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(5);
/// From the answer until the power goes, so that the host sees the answer.
const PARTING: Duration = Duration::from_millis(20);

/// Kills what runs, flushes and unmounts; then powers off, once the caller has answered.
pub(crate) async fn shutdown(pod: Option<Arc<Pod>>, reaper: &Reaper) {
    if let Some(pod) = pod {
        pod.containers.kill_all().await;
        for target in pod.volumes.network_mounts() {
            if let Err(error) = unmount(&target, reaper, UNMOUNT_LIMIT).await {
                tracing::warn!(%error, ?target, "failed to unmount a network file system");
            }
        }
        let flushed = tokio::task::spawn_blocking(move || flush(&pod)).await;
        if let Err(error) = flushed {
            tracing::error!(%error, "failed to flush the scratch disk");
        }
    }
    tokio::spawn(async {
        tokio::time::sleep(PARTING).await;
        let Err(error) = reboot(RebootMode::RB_POWER_OFF);
        tracing::error!(%error, "failed to power off");
    });
}

/// Leaves the scratch disk clean. Where something still holds it, read-only is as good.
fn flush(pod: &Pod) {
    let scratch = pod.paths.scratch();
    nix::unistd::sync();
    if umount2(&scratch, MntFlags::empty()).is_err() {
        let none: Option<&str> = None;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        if let Err(error) = mount(none, &scratch, none, flags, none) {
            tracing::warn!(%error, "failed to unmount the scratch disk");
        }
    }
}
