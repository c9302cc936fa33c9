//! What this machine has for Pods: microVMs, network, disks, images. One for the whole daemon.

use std::fmt;
use std::sync::Arc;

use monopod_hostnet::HostNet;
use monopod_images::ImageSource;
use monopod_types::PodUid;
use monopod_vmm::{VmId, Vmm};
use monopod_volumes::{Owner, ScratchDisks};
use tokio::sync::Notify;

use crate::metrics::Metrics;
use crate::probes::Prober;
use crate::settings::Settings;

/// The parts that Pods are made of.
pub(crate) struct Machine {
    /// Makes microVMs.
    pub(crate) vmm: Arc<dyn Vmm>,
    /// Connects them.
    pub(crate) net: Arc<dyn HostNet>,
    /// Gives images.
    pub(crate) images: Arc<dyn ImageSource>,
    /// Gives scratch disks.
    pub(crate) disks: ScratchDisks,
    /// The user that scratch disks belong to.
    pub(crate) disk_owner: Owner,
    pub(crate) prober: Prober,
    pub(crate) metrics: Arc<Metrics>,
    /// A pull has found the disk full.
    pub(crate) room_wanted: Notify,
    /// What the daemon was told.
    pub(crate) settings: Settings,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("vmm", &self.vmm).field("net", &self.net).finish_non_exhaustive()
    }
}

impl Machine {
    /// Takes back whatever of the machine a Pod may hold. Not an error for a Pod that holds nothing; what cannot be taken
    /// back now is found at the next start of the daemon.
    pub(crate) async fn release(&self, uid: &PodUid) {
        if let Ok(id) = VmId::try_from(uid)
            && let Err(error) = self.vmm.kill(&id).await
        {
            tracing::error!(uid = uid.as_str(), error = &error as &dyn std::error::Error, "microVM is left behind");
        }
        if let Err(error) = self.net.detach(uid).await {
            tracing::error!(uid = uid.as_str(), error = &error as &dyn std::error::Error, "tap is left behind");
        }
        if let Err(error) = self.disks.remove(uid) {
            tracing::error!(uid = uid.as_str(), error = &error as &dyn std::error::Error, "disk is left behind");
        }
    }
}
