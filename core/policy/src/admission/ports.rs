//! Ports on the host's addresses.
//!
//! The API server fills in `hostPort` where `hostNetwork` is set, and then both are complained about; nothing here
//! fills it in.

use k8s_openapi::api::core::v1::{ContainerPort, PodSpec};

use super::containers::ContainerView;
use super::{Kind, Violation};

/// `hostPort` and `hostIP` of every container.
pub(super) fn check(spec: &PodSpec, found: &mut Vec<Violation>) {
    for container in ContainerView::all(spec) {
        check_container(&container, found);
    }
}

/// `hostPort` and `hostIP` of one container.
pub(super) fn check_container(container: &ContainerView<'_>, found: &mut Vec<Violation>) {
    for (index, port) in container.ports.iter().enumerate() {
        let Some(field) = host_field(port) else { continue };
        found.push(Violation {
            kind: Kind::HostPort,
            field: container.path(&format!("ports[{index}].{field}")),
            fragment: "port contains HostIP or HostPort".to_owned(),
            message: format!(
                "port {} of container \"{}\" asks for an address or port of the host",
                port.container_port, container.name
            ),
        });
    }
}

fn host_field(port: &ContainerPort) -> Option<&'static str> {
    if port.host_port.is_some_and(|number| number != 0) {
        return Some("hostPort");
    }
    port.host_ip.as_deref().is_some_and(|address| !address.is_empty()).then_some("hostIP")
}
