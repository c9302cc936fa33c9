//! Pods that belong to a DaemonSet: one per node means nothing where a node is made for one Pod.

use k8s_openapi::api::core::v1::Pod;

use super::{Kind, Violation};

/// Owners of kind DaemonSet, of whatever API group: all of them mean one Pod per node.
pub(super) fn check(pod: &Pod, found: &mut Vec<Violation>) {
    for (index, owner) in pod.metadata.owner_references.iter().flatten().enumerate() {
        if owner.kind == "DaemonSet" {
            found.push(Violation {
                kind: Kind::OwnedByDaemonSet,
                field: format!("metadata.ownerReferences[{index}]"),
                fragment: format!("DaemonSet {}", owner.name),
                message: format!("the Pod belongs to the DaemonSet \"{}\"", owner.name),
            });
        }
    }
}
