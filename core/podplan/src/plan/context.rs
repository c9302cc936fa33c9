//! What a plan depends on: the Pod, the objects it refers to, what is known when it runs, and the host's settings.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::dns::DnsSettings;
use super::shape::MachineShape;
use super::sources::Sources;
use super::volumes::FileSystems;

/// Everything that the plan of one Pod depends on.
#[derive(Clone, Copy, Debug)]
pub struct PodContext<'a> {
    /// The Pod, as the API server stores it. What the API server would have filled in counts as filled in.
    pub pod: &'a Pod,
    /// The objects that it refers to.
    pub sources: &'a Sources<'a>,
    /// What is known of it at run time.
    pub facts: &'a RuntimeFacts,
    /// Settings of the host.
    pub settings: &'a PlanSettings,
}

/// What is known of a Pod when it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeFacts {
    /// Addresses of the Pod, the first one first.
    pub pod_ips: Vec<IpAddr>,
    /// Addresses of the node, the first one first.
    pub host_ips: Vec<IpAddr>,
    /// Name of the node, where the Pod itself names none.
    pub node_name: String,
    /// The microVM.
    pub machine: MachineShape,
}

/// Settings of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanSettings {
    /// Name resolution.
    pub dns: DnsSettings,
    /// Whether a container that says nothing about seccomp gets the runtime's default profile, as with the kubelet's
    /// `--seccomp-default`. Default: no.
    pub seccomp_default: bool,
    /// Resource limits of every process. Default: open files and processes, soft 1024 and hard 65535, those of AWS
    /// Fargate on EKS.
    pub rlimits: Vec<Rlimit>,
    /// Kernel parameters of every Pod, which the Pod's own override. Default: those of containerd, which let any user
    /// open low ports and send pings.
    pub sysctls: BTreeMap<String, String>,
    /// Network file systems that volumes may name.
    pub file_systems: FileSystems,
}

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// Such as `RLIMIT_NOFILE`.
    pub name: String,
    /// What a process has.
    pub soft: u64,
    /// What it may raise it to.
    pub hard: u64,
}

/// What an image says about running it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program where there is no entrypoint.
    pub cmd: Vec<String>,
    /// Variables as `NAME=value`.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group`, in any mix; empty for root.
    pub user: String,
    /// Directory to start in; empty for `/`.
    pub working_dir: String,
    /// Name or number of the signal that asks it to stop; empty for SIGTERM.
    pub stop_signal: String,
}

impl Default for PlanSettings {
    fn default() -> Self {
        let limit = |name: &str| Rlimit { name: name.to_owned(), soft: 1024, hard: 65_535 };
        let sysctls = [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];
        Self {
            dns: DnsSettings::default(),
            seccomp_default: false,
            rlimits: vec![limit("RLIMIT_NOFILE"), limit("RLIMIT_NPROC")],
            sysctls: sysctls.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            file_systems: FileSystems::default(),
        }
    }
}

impl<'a> PodContext<'a> {
    pub(super) fn spec(&self) -> &'a PodSpec {
        spec(self.pod)
    }

    pub(super) fn namespace(&self) -> &'a str {
        namespace(self.pod)
    }
}

/// The spec; one that says nothing where there is none.
pub(super) fn spec(pod: &Pod) -> &PodSpec {
    static NOTHING: LazyLock<PodSpec> = LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&NOTHING)
}

pub(super) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

pub(super) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The Pod as the kubelet names it in messages: `web_shop(uid)`.
pub(super) fn described(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), pod.metadata.uid.as_deref().unwrap_or_default())
}
