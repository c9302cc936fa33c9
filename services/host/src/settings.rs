//! What the daemon can be told.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use monopod_agent_client::Deadlines;
use monopod_podplan::life::LifeSettings;
use monopod_podplan::plan::PlanSettings;

use crate::logs::Limits;

/// Settings of the host daemon. The default is the kubelet's, where it has one.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is kept: images, journals, logs, disks.
    pub root: PathBuf,
    /// What is gone after a restart of the machine: the socket, running microVMs.
    pub run: PathBuf,
    /// What Pods learn as the name of their node, where none is written in them.
    pub node_name: String,
    /// What Pods learn as the addresses of their node; where none is set, the node is the microVM and has those of the Pod.
    pub node_addresses: Vec<IpAddr>,
    /// Rules for containers.
    pub plan: PlanSettings,
    /// Times of restarts, probes and the like.
    pub life: LifeSettings,
    /// How long to wait for a guest.
    pub deadlines: Deadlines,
    /// How much of each container's log is kept.
    pub log_file_size: u64,
    /// How many files of this size.
    pub log_files: usize,
    /// How often images and logs that nobody needs are looked for. A pull that finds the disk full does not wait for it.
    pub housekeeping_period: Duration,
    /// How often disk usage is held against limits.
    pub eviction_period: Duration,
    /// How long a guest may take until its agent answers, when it is booted.
    pub boot_patience: Duration,
    /// How long the guest of a former daemon may take to answer this one.
    pub adopt_patience: Duration,
    /// How long a guest may take to power itself off before it is ended.
    pub shutdown_patience: Duration,
    /// How long a guest may not take the order to kill a container before it counts as lost.
    pub kill_order_patience: Duration,
}

impl Settings {
    /// The usual settings with these folders.
    pub fn new(root: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        let limits = Limits::default();
        Self {
            root: root.into(),
            run: run.into(),
            node_name: node_name(),
            node_addresses: Vec::new(),
            plan: PlanSettings::default(),
            life: LifeSettings::default(),
            deadlines: Deadlines::default(),
            log_file_size: limits.file_size,
            log_files: limits.files,
            housekeeping_period: Duration::from_secs(300),
            eviction_period: Duration::from_secs(10),
            boot_patience: Duration::from_secs(180),
            adopt_patience: Duration::from_secs(60),
            shutdown_patience: Duration::from_secs(10),
            kill_order_patience: Duration::from_secs(60),
        }
    }

    /// Addresses of the node of a Pod with these.
    pub(crate) fn host_addresses(&self, pod: &[IpAddr]) -> Vec<IpAddr> {
        if self.node_addresses.is_empty() { pod.to_vec() } else { self.node_addresses.clone() }
    }

    pub(crate) fn log_limits(&self) -> Limits {
        Limits { file_size: self.log_file_size, files: self.log_files }
    }
}

fn node_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "localhost".to_owned())
}
