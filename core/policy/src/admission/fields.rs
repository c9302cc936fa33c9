//! Fields of the Pod that ask for something of the machine: its namespaces, its system, its name.
//!
//! `HostNetwork`, `HostPID` and `HostIPC` are the reference's words in the reference's order; ours follow.

use k8s_openapi::api::core::v1::PodSpec;

use super::containers::ContainerView;
use super::{Kind, Violation};

/// Namespaces of the host, user namespaces and Windows.
pub(super) fn check(spec: &PodSpec, found: &mut Vec<Violation>) {
    let namespaces = [
        (spec.host_network, Kind::HostNetwork, "hostNetwork", "HostNetwork", "the host's network"),
        (spec.host_pid, Kind::HostPID, "hostPID", "HostPID", "the host's processes"),
        (spec.host_ipc, Kind::HostIPC, "hostIPC", "HostIPC", "the host's inter-process communication"),
    ];
    for (asked, kind, field, fragment, what) in namespaces {
        if asked == Some(true) {
            found.push(violation(kind, &format!("spec.{field}"), fragment, format!("the Pod asks for {what}")));
        }
    }
    if spec.host_users == Some(false) {
        let message = "the Pod asks for a user namespace of its own".to_owned();
        found.push(violation(Kind::UserNamespace, "spec.hostUsers", "HostUsers", message));
    }
    check_windows(spec, found);
}

/// `nodeName` in a Pod that nobody has bound yet.
pub(super) fn check_node_name(spec: &PodSpec, found: &mut Vec<Violation>) {
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        let message = format!("the Pod names its node \"{node}\" and so passes by every scheduler");
        found.push(violation(Kind::NodeNameSet, "spec.nodeName", "NodeName", message));
    }
}

fn check_windows(spec: &PodSpec, found: &mut Vec<Violation>) {
    if let Some(os) = spec.os.as_ref().filter(|os| os.name != "linux") {
        let message = format!("the Pod is made for the operating system \"{}\"", os.name);
        found.push(violation(Kind::WindowsPod, "spec.os.name", "OS", message));
    }
    if spec.security_context.as_ref().is_some_and(|context| context.windows_options.is_some()) {
        let message = "the Pod has options for Windows".to_owned();
        found.push(violation(Kind::WindowsPod, "spec.securityContext.windowsOptions", "WindowsOptions", message));
    }
    for container in ContainerView::all(spec) {
        check_container(&container, found);
    }
}

/// `windowsOptions` of one container.
pub(super) fn check_container(container: &ContainerView<'_>, found: &mut Vec<Violation>) {
    if container.security_context.is_some_and(|context| context.windows_options.is_some()) {
        let field = container.path("securityContext.windowsOptions");
        let message = format!("container \"{}\" has options for Windows", container.name);
        found.push(violation(Kind::WindowsPod, &field, "WindowsOptions", message));
    }
}

fn violation(kind: Kind, field: &str, fragment: &str, message: String) -> Violation {
    Violation { kind, field: field.to_owned(), fragment: fragment.to_owned(), message }
}
