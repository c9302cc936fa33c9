//! Raw block devices in containers.

use k8s_openapi::api::core::v1::PodSpec;

use super::containers::ContainerView;
use super::{Kind, Violation};

/// `volumeDevices` of every container.
pub(super) fn check(spec: &PodSpec, found: &mut Vec<Violation>) {
    for container in ContainerView::all(spec) {
        check_container(&container, found);
    }
}

/// `volumeDevices` of one container.
pub(super) fn check_container(container: &ContainerView<'_>, found: &mut Vec<Violation>) {
    for (index, device) in container.volume_devices.iter().enumerate() {
        found.push(Violation {
            kind: Kind::BlockDevice,
            field: container.path(&format!("volumeDevices[{index}]")),
            fragment: device.name.clone(),
            message: format!("container \"{}\" uses volume \"{}\" as a block device", container.name, device.name),
        });
    }
}
