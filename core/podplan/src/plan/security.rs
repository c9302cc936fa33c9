//! What a container may do (kubelet, `determineEffectiveSecurityContext`; containerd, its default capabilities).
//!
//! Nothing is ever privileged: a Pod that asks for it is refused before it comes here.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Capabilities, Container, SeccompProfile};
use monopod_agent_proto::v1::{self, Seccomp};
use monopod_policy::admission::DEFAULT_CAPABILITIES;

use super::context::PodContext;
use super::error::PlanError;

/// What `ALL` adds, besides the default.
const OTHER_CAPABILITIES: [&str; 27] = [
    "CAP_DAC_READ_SEARCH",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_LEASE",
    "CAP_AUDIT_CONTROL",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What the container may do.
pub(super) fn security(context: &PodContext<'_>, container: &Container) -> Result<v1::Security, PlanError> {
    let own = container.security_context.as_ref();
    let is_unmasked = own.is_some_and(|own| own.proc_mount.as_deref() == Some("Unmasked"));
    let paths = |paths: &[&str]| -> Vec<String> {
        if is_unmasked { Vec::new() } else { paths.iter().map(|&path| path.to_owned()).collect() }
    };
    Ok(v1::Security {
        capabilities: capabilities(own.and_then(|own| own.capabilities.as_ref())),
        no_new_privileges: own.is_some_and(|own| own.allow_privilege_escalation == Some(false)),
        seccomp: seccomp(context, container)?.into(),
        masked_paths: paths(&MASKED_PATHS),
        read_only_paths: paths(&READ_ONLY_PATHS),
    })
}

/// The default with what is added and without what is dropped. `ALL` comes first on either side, as in containerd, so
/// that `drop: [ALL]` with `add: [CHOWN]` leaves one.
fn capabilities(asked: Option<&Capabilities>) -> Vec<String> {
    let names = |list: Option<&Vec<String>>| -> Vec<String> { list.into_iter().flatten().map(|n| full(n)).collect() };
    let added = names(asked.and_then(|asked| asked.add.as_ref()));
    let dropped = names(asked.and_then(|asked| asked.drop.as_ref()));
    let is_all = |name: &String| name == "CAP_ALL";
    let mut set: BTreeSet<String> = DEFAULT_CAPABILITIES.iter().map(|name| format!("CAP_{name}")).collect();
    if added.iter().any(is_all) {
        set.extend(OTHER_CAPABILITIES.map(str::to_owned));
    }
    if dropped.iter().any(is_all) {
        set.clear();
    }
    set.extend(added.into_iter().filter(|name| !is_all(name)));
    set.retain(|name| !dropped.contains(name));
    set.into_iter().collect()
}

/// The kernel's name of a capability, which a Pod writes without `CAP_`.
fn full(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
}

/// The container's profile, else the Pod's, else the host's default.
fn seccomp(context: &PodContext<'_>, container: &Container) -> Result<Seccomp, PlanError> {
    let own = container.security_context.as_ref().and_then(|own| own.seccomp_profile.as_ref());
    let of_pod = || context.spec().security_context.as_ref()?.seccomp_profile.as_ref();
    match own.or_else(of_pod) {
        Some(SeccompProfile { type_, .. }) if type_ == "RuntimeDefault" => Ok(Seccomp::RuntimeDefault),
        Some(SeccompProfile { type_, localhost_profile }) if type_ == "Localhost" => {
            Err(PlanError::LocalSeccompProfile { profile: localhost_profile.clone().unwrap_or_default() })
        }
        Some(_) => Ok(Seccomp::Unconfined),
        None if context.settings.seccomp_default => Ok(Seccomp::RuntimeDefault),
        None => Ok(Seccomp::Unconfined),
    }
}
