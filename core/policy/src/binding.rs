//! Which PersistentVolume a new claim will be bound to, for claims that no cluster has seen yet.
//!
//! In a cluster the volume controller binds, and admission reads what it wrote. `monopod explain` reads manifests, in
//! which a claim has no status; it asks here what the controller would do with volumes that exist already (Kubernetes
//! documentation, Persistent Volumes, static provisioning and binding). Volumes that a provisioner would make are out
//! of sight, so such a claim stays unbound. The claims of generic ephemeral volumes are not even in a manifest:
//! [`add_ephemeral_claims`] makes them as their controller does.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus,
    PersistentVolumeClaimTemplate, Pod,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::core::{Selector, SelectorExt};
use monopod_types::Quantity;

use crate::admission::{ephemeral_claim_name, is_open_to};

/// Adds the claims that Kubernetes makes for the generic ephemeral volumes of the Pods, owned by them. A claim that is
/// there already stays as it is, also when it is not the Pod's own (Kubernetes documentation, Ephemeral Volumes).
pub fn add_ephemeral_claims<'a>(claims: &mut Vec<PersistentVolumeClaim>, pods: impl IntoIterator<Item = &'a Pod>) {
    for pod in pods {
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let template = volume.ephemeral.as_ref().and_then(|source| source.volume_claim_template.as_ref());
            let Some(template) = template else { continue };
            let claim = ephemeral_claim(pod, ephemeral_claim_name(pod, volume), template);
            let is_same = |other: &PersistentVolumeClaim| {
                other.metadata.name == claim.metadata.name && namespace(&other.metadata) == namespace(&claim.metadata)
            };
            if !claims.iter().any(is_same) {
                claims.push(claim);
            }
        }
    }
}

fn ephemeral_claim(pod: &Pod, name: String, template: &PersistentVolumeClaimTemplate) -> PersistentVolumeClaim {
    let of_template = template.metadata.clone().unwrap_or_default();
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: Some(namespace(&pod.metadata).to_owned()),
        labels: of_template.labels,
        annotations: of_template.annotations,
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    PersistentVolumeClaim { metadata, spec: Some(template.spec.clone()), status: None }
}

/// Fills in volume and phase of every claim that has no phase yet and that one of the volumes suits, each volume for
/// one claim only. Claims that a cluster has seen stay as they are.
pub fn bind_new_claims(claims: &mut [PersistentVolumeClaim], volumes: &[PersistentVolume]) {
    let mut taken: BTreeSet<String> = claims.iter().filter(|claim| !is_new(claim)).filter_map(volume_name).collect();
    // Whoever names a volume gets it before those that take any.
    let (named, any): (Vec<_>, Vec<_>) =
        claims.iter_mut().filter(|claim| is_new(claim)).partition(|claim| volume_name(claim).is_some());
    for claim in named.into_iter().chain(any) {
        let free = volumes.iter().filter(|volume| !taken.contains(name(volume)));
        let order = |volume: &&PersistentVolume| (!is_reserved(volume), capacity(volume), name(volume).to_owned());
        let Some(volume) = free.filter(|volume| suits(volume, claim)).min_by_key(order) else { continue };
        taken.insert(name(volume).to_owned());
        claim.spec.get_or_insert_default().volume_name = Some(name(volume).to_owned());
        let bound = PersistentVolumeClaimStatus { phase: Some("Bound".to_owned()), ..Default::default() };
        claim.status = Some(bound);
    }
}

fn is_new(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().is_none_or(|status| status.phase.is_none())
}

fn volume_name(claim: &PersistentVolumeClaim) -> Option<String> {
    claim.spec.as_ref()?.volume_name.clone().filter(|name| !name.is_empty())
}

fn name(volume: &PersistentVolume) -> &str {
    volume.metadata.name.as_deref().unwrap_or_default()
}

fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or("default")
}

/// Whether the volume is kept for one claim, which then gets it before any smaller one.
fn is_reserved(volume: &PersistentVolume) -> bool {
    volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some())
}

/// Whether the controller would bind the claim to that volume. One that is reserved for the claim needs neither its
/// class nor its labels.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(wanted) = &claim.spec else { return false };
    let Some(offered) = &volume.spec else { return false };
    let class = |class: &Option<String>| class.clone().unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let modes = |modes: &Option<Vec<String>>| modes.iter().flatten().cloned().collect::<BTreeSet<_>>();
    let is_named = volume_name(claim).is_none_or(|wanted| wanted == name(volume));
    let is_alike = class(&wanted.storage_class_name) == class(&offered.storage_class_name)
        && wanted.selector.as_ref().is_none_or(|selector| selects(selector, volume));
    is_open_to(volume, claim)
        && is_named
        && (is_reserved(volume) || is_alike)
        && mode(&wanted.volume_mode) == mode(&offered.volume_mode)
        && modes(&wanted.access_modes).is_subset(&modes(&offered.access_modes))
        && request(wanted) <= capacity(volume)
}

fn selects(selector: &LabelSelector, volume: &PersistentVolume) -> bool {
    let labels = volume.metadata.labels.clone().unwrap_or_default();
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(&labels))
}

fn request(spec: &PersistentVolumeClaimSpec) -> Quantity {
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    amount(requests.and_then(|requests| requests.get("storage")))
}

fn capacity(volume: &PersistentVolume) -> Quantity {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    amount(capacity.and_then(|capacity| capacity.get("storage")))
}

/// What cannot be read counts as nothing; the API server would have refused it.
fn amount(written: Option<&Written>) -> Quantity {
    written.and_then(|written| written.0.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{PersistentVolume, PersistentVolumeClaim, Pod, add_ephemeral_claims, bind_new_claims};
    use crate::admission::{Inputs, Storage, verdict};

    fn claim(name: &str, spec: &Value) -> PersistentVolumeClaim {
        let claim = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
        serde_json::from_value(claim).expect("the test writes a claim")
    }

    fn volume(name: &str, spec: &Value) -> PersistentVolume {
        let volume = json!({"metadata": {"name": name, "labels": {"tier": "fast"}}, "spec": spec});
        serde_json::from_value(volume).expect("the test writes a volume")
    }

    fn spec(fields: &Value) -> Value {
        let mut spec = json!({
            "accessModes": ["ReadWriteMany"], "storageClassName": "efs",
            "capacity": {"storage": "5Gi"}, "resources": {"requests": {"storage": "5Gi"}},
        });
        let fields = fields.as_object().expect("fields are a map").clone();
        spec.as_object_mut().expect("a spec is a map").extend(fields);
        spec
    }

    /// The volume that the first of the claims is bound to.
    fn bound(claims: &[PersistentVolumeClaim], volumes: &[PersistentVolume]) -> Option<String> {
        let mut claims = claims.to_vec();
        bind_new_claims(&mut claims, volumes);
        let is_bound = claims[0].status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"));
        claims[0].spec.as_ref()?.volume_name.clone().filter(|_| is_bound)
    }

    #[test]
    fn a_new_claim_gets_a_volume_that_suits_it_in_everything() {
        let rows = [
            ("all alike", json!({}), json!({}), true),
            ("the volume is named", json!({"volumeName": "pv"}), json!({}), true),
            ("another volume is named", json!({"volumeName": "other"}), json!({}), false),
            ("another class", json!({"storageClassName": "ebs"}), json!({}), false),
            ("no class on both sides", json!({"storageClassName": ""}), json!({"storageClassName": null}), true),
            ("more is asked than it has", json!({"resources": {"requests": {"storage": "6Gi"}}}), json!({}), false),
            ("it has more than is asked", json!({}), json!({"capacity": {"storage": "1Ti"}}), true),
            ("a mode that it lacks", json!({"accessModes": ["ReadOnlyMany"]}), json!({}), false),
            ("a block device", json!({"volumeMode": "Block"}), json!({}), false),
            ("its label is selected", json!({"selector": {"matchLabels": {"tier": "fast"}}}), json!({}), true),
            ("another label is selected", json!({"selector": {"matchLabels": {"tier": "slow"}}}), json!({}), false),
            ("reserved for it", json!({}), json!({"claimRef": {"namespace": "shop", "name": "c"}}), true),
            ("reserved for another", json!({}), json!({"claimRef": {"namespace": "bank", "name": "c"}}), false),
        ];
        for (name, of_claim, of_volume, suits) in rows {
            let found = bound(&[claim("c", &spec(&of_claim))], &[volume("pv", &spec(&of_volume))]);
            assert_eq!(found.is_some(), suits, "{name}");
        }
    }

    #[test]
    fn the_smallest_volume_that_suits_is_taken_and_each_only_once() {
        let large = volume("a", &spec(&json!({"capacity": {"storage": "10Gi"}})));
        let small = volume("b", &spec(&json!({})));
        let [first, second, third] = ["c", "d", "e"].map(|name| claim(name, &spec(&json!({}))));
        assert_eq!(bound(std::slice::from_ref(&first), &[large.clone(), small.clone()]).as_deref(), Some("b"));
        let mut claims = [first, second, third];
        bind_new_claims(&mut claims, &[large, small]);
        let volumes = claims.each_ref().map(|claim| claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()));
        assert_eq!(volumes, [Some("b"), Some("a"), None]);
    }

    #[test]
    fn a_volume_that_is_reserved_for_the_claim_comes_before_a_smaller_one() {
        let reference = json!({"namespace": "shop", "name": "c"});
        let reserved = json!({"capacity": {"storage": "10Gi"}, "claimRef": reference, "storageClassName": "other"});
        let volumes = [volume("small", &spec(&json!({}))), volume("reserved", &spec(&reserved))];
        assert_eq!(bound(&[claim("c", &spec(&json!({})))], &volumes).as_deref(), Some("reserved"));
        assert_eq!(bound(&[claim("d", &spec(&json!({})))], &volumes).as_deref(), Some("small"));
    }

    #[test]
    fn the_claim_of_a_generic_ephemeral_volume_is_made_for_the_pod_and_can_be_bound() {
        let source = json!({"volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": spec(&json!({}))}});
        let pod = |metadata: &Value| -> Pod {
            let pod = json!({"metadata": metadata, "spec": {
                "containers": [], "volumes": [{"name": "data", "ephemeral": source}],
            }});
            serde_json::from_value(pod).expect("the test writes a Pod")
        };
        let volumes = [volume("pv", &spec(&json!({"nfs": {"server": "s", "path": "/"}})))];
        let rows = [
            (json!({"name": "web", "namespace": "shop"}), "web-data"),
            (json!({"generateName": "web-", "namespace": "shop"}), "web-data"),
        ];
        for (metadata, name) in rows {
            let pod = pod(&metadata);
            let mut claims = Vec::new();
            add_ephemeral_claims(&mut claims, [&pod, &pod]);
            assert_eq!(claims.len(), 1, "{name}");
            assert_eq!(claims[0].metadata.name.as_deref(), Some(name));
            bind_new_claims(&mut claims, &volumes);
            let storage = Storage::new(&claims, &volumes);
            let verdict = verdict(&pod, &Inputs { storage: &storage, nodes: None });
            assert_eq!(verdict.message(), "", "{name}");
        }
    }

    #[test]
    fn a_claim_in_the_way_of_an_ephemeral_volume_stays_as_it_is() {
        let source = json!({"volumeClaimTemplate": {"spec": {}}});
        let pod = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
            "containers": [], "volumes": [{"name": "data", "ephemeral": source}],
        }});
        let pod: Pod = serde_json::from_value(pod).expect("the test writes a Pod");
        let in_the_way = claim("web-data", &spec(&json!({})));
        let mut claims = vec![in_the_way.clone()];
        add_ephemeral_claims(&mut claims, [&pod]);
        assert_eq!(claims, [in_the_way]);
    }

    #[test]
    fn a_volume_goes_to_the_claim_that_names_it() {
        let any = claim("any", &spec(&json!({})));
        let named = claim("named", &spec(&json!({"volumeName": "pv"})));
        assert_eq!(bound(&[any, named], &[volume("pv", &spec(&json!({})))]), None);
    }

    #[test]
    fn a_claim_that_a_cluster_has_seen_stays_as_it_is() {
        let mut pending = claim("c", &spec(&json!({})));
        pending.status = Some(serde_json::from_value(json!({"phase": "Pending"})).expect("the test writes a status"));
        assert_eq!(bound(&[pending], &[volume("pv", &spec(&json!({})))]), None);
    }
}
