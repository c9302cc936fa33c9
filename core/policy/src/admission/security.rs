//! Security contexts: rights beyond those of an ordinary container, and profiles that only a node could hold.
//!
//! Per container the reference names added capabilities, then privilege escalation, then privileged mode; ours follow,
//! and the Pod's own context comes last. SELinux options are accepted and have no effect, as on every node without
//! SELinux.

use k8s_openapi::api::core::v1::{AppArmorProfile, Capabilities, PodSpec, SeccompProfile, SecurityContext};

use super::containers::ContainerView;
use super::{Kind, Violation};

/// The capabilities of a container that asks for nothing: containerd's default set, without the prefix `CAP_`.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The sysctls that a kubelet allows without being told to (Kubernetes documentation, "Using sysctls in a Kubernetes
/// Cluster", safe and unsafe sysctls).
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// The security contexts of every container and of the Pod.
pub(super) fn check(spec: &PodSpec, found: &mut Vec<Violation>) {
    for container in ContainerView::all(spec) {
        check_container(&container, found);
    }
    check_pod(spec, found);
}

/// The security context of one container.
pub(super) fn check_container(container: &ContainerView<'_>, found: &mut Vec<Violation>) {
    let Some(context) = container.security_context else { return };
    check_rights(container, context, found);
    let path = |field: &str| container.path(&format!("securityContext.{field}"));
    let who = format_args!("container \"{}\"", container.name);
    check_profiles(context.seccomp_profile.as_ref(), context.app_armor_profile.as_ref(), who, path, found);
}

fn check_rights(container: &ContainerView<'_>, context: &SecurityContext, found: &mut Vec<Violation>) {
    let mut add = |kind, field: &str, fragment: String, what: &str| {
        let field = container.path(&format!("securityContext.{field}"));
        let message = format!("container \"{}\" {what}", container.name);
        found.push(Violation { kind, field, fragment, message });
    };
    if let Some(names) = context.capabilities.as_ref().and_then(refused_capabilities) {
        let what = format!("adds the capabilities {names}");
        add(Kind::AddedCapabilities, "capabilities.add", format!("Capabilities added: {names}"), &what);
    }
    if context.allow_privilege_escalation == Some(true) {
        let fragment = "AllowPrivilegeEscalation".to_owned();
        add(Kind::PrivilegeEscalation, "allowPrivilegeEscalation", fragment, "may gain rights while it runs");
    }
    if context.privileged == Some(true) {
        add(Kind::PrivilegedContainer, "privileged", "Privileged".to_owned(), "asks for privileged mode");
    }
    if let Some(mount) = context.proc_mount.as_deref().filter(|mount| *mount != "Default") {
        let what = format!("asks for /proc as {mount}");
        add(Kind::UnmaskedProcMount, "procMount", format!("ProcMount: {mount}"), &what);
    }
}

/// The added names outside the default set, as they are written: `CAP_CHOWN` is not `CHOWN`, and `ALL` is no name.
fn refused_capabilities(capabilities: &Capabilities) -> Option<String> {
    let added = capabilities.add.as_deref().unwrap_or_default();
    let is_refused = |name: &&String| !DEFAULT_CAPABILITIES.contains(&name.as_str());
    let refused: Vec<&str> = added.iter().filter(is_refused).map(String::as_str).collect();
    (!refused.is_empty()).then(|| refused.join(", "))
}

fn check_pod(spec: &PodSpec, found: &mut Vec<Violation>) {
    let Some(context) = &spec.security_context else { return };
    let path = |field: &str| format!("spec.securityContext.{field}");
    check_profiles(context.seccomp_profile.as_ref(), context.app_armor_profile.as_ref(), "the Pod", path, found);
    for (index, sysctl) in context.sysctls.iter().flatten().enumerate() {
        if !is_safe_sysctl(&sysctl.name) {
            found.push(Violation {
                kind: Kind::UnsafeSysctl,
                field: path(&format!("sysctls[{index}]")),
                fragment: format!("Sysctl: {}", sysctl.name),
                message: format!("the Pod sets the unsafe sysctl {}", sysctl.name),
            });
        }
    }
}

/// Profiles that would have to be on the node before the Pod: `Localhost`, for a microVM does not exist before its Pod.
fn check_profiles(
    seccomp: Option<&SeccompProfile>,
    app_armor: Option<&AppArmorProfile>,
    who: impl std::fmt::Display,
    path: impl Fn(&str) -> String,
    found: &mut Vec<Violation>,
) {
    if seccomp.is_some_and(|profile| profile.type_ == "Localhost") {
        found.push(Violation {
            kind: Kind::LocalSeccompProfile,
            field: path("seccompProfile"),
            fragment: "SeccompProfile: Localhost".to_owned(),
            message: format!("{who} names a seccomp profile on the node's disk"),
        });
    }
    if app_armor.is_some_and(|profile| profile.type_ == "Localhost") {
        found.push(Violation {
            kind: Kind::LocalAppArmorProfile,
            field: path("appArmorProfile"),
            fragment: "AppArmorProfile: Localhost".to_owned(),
            message: format!("{who} names an AppArmor profile loaded on the node"),
        });
    }
}

/// Kubernetes takes `net.ipv4.tcp_rmem` and `net/ipv4/tcp_rmem` for one name: the first separator tells which it is.
fn is_safe_sysctl(name: &str) -> bool {
    let has_slashes = name.chars().find(|c| matches!(c, '.' | '/')) == Some('/');
    let dotted = |byte| match byte {
        b'/' if has_slashes => b'.',
        b'.' if has_slashes => b'/',
        _ => byte,
    };
    SAFE_SYSCTLS.iter().any(|safe| safe.bytes().eq(name.bytes().map(dotted)))
}
