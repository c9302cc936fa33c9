//! Claims, the volumes behind them, and generic ephemeral volumes.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use super::super::{Kind, claim_names};
use super::{claim, kinds, pod, verdict_with, volume};

fn with_claim() -> Pod {
    pod(json!({ "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "c" } }] }))
}

fn with_ephemeral() -> Pod {
    pod(json!({ "volumes": [{ "name": "data", "ephemeral": { "volumeClaimTemplate": { "spec": {} } } }] }))
}

fn efs() -> Value {
    json!({ "csi": { "driver": "efs.csi.aws.com", "volumeHandle": "fs-1" } })
}

/// The claim as Kubernetes makes it for the volume `data` of the Pod `web`.
fn ephemeral_claim(owner_uid: &str) -> PersistentVolumeClaim {
    let mut claim = claim("web-data", "Bound", Some("pv"));
    let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": "web", "uid": owner_uid, "controller": true });
    claim.metadata.owner_references = Some(vec![serde_json::from_value(owner).unwrap()]);
    claim
}

#[test]
fn a_claim_bound_to_an_efs_or_an_nfs_volume_is_supported() {
    for source in [efs(), json!({ "nfs": { "server": "10.0.0.9", "path": "/" } })] {
        let verdict = verdict_with(&with_claim(), &[claim("c", "Bound", Some("pv"))], &[volume("pv", "c", source)]);
        assert_eq!(kinds(&verdict), []);
    }
}

#[test]
fn a_claim_counts_as_bound_only_when_claim_and_volume_say_so() {
    let rows: [(&str, PersistentVolumeClaim, PersistentVolume); 6] = [
        ("phase Pending", claim("c", "Pending", Some("pv")), volume("pv", "c", efs())),
        ("phase Lost", claim("c", "Lost", Some("pv")), volume("pv", "c", efs())),
        ("no volume named", claim("c", "Bound", None), volume("pv", "c", efs())),
        ("volume bound to another claim", claim("c", "Bound", Some("pv")), volume("pv", "other", efs())),
        ("volume bound to that name elsewhere", claim("c", "Bound", Some("pv")), foreign_volume()),
        ("volume bound to an earlier claim of that name", reborn_claim(), volume("pv", "c", efs())),
    ];
    for (name, claim, volume) in rows {
        let verdict = verdict_with(&with_claim(), &[claim], &[volume]);
        assert_eq!(kinds(&verdict), [Kind::PersistentVolumeClaimNotBound], "{name}");
    }
}

fn foreign_volume() -> PersistentVolume {
    let mut volume = volume("pv", "c", efs());
    let claim_ref = json!({ "namespace": "bank", "name": "c" });
    volume.spec.as_mut().unwrap().claim_ref = Some(serde_json::from_value(claim_ref).unwrap());
    volume
}

fn reborn_claim() -> PersistentVolumeClaim {
    let mut claim = claim("c", "Bound", Some("pv"));
    claim.metadata.uid = Some("another-uid".to_owned());
    claim
}

#[test]
fn a_claim_of_the_same_name_in_another_namespace_does_not_count() {
    let mut foreign = claim("c", "Bound", Some("pv"));
    foreign.metadata.namespace = Some("bank".to_owned());
    let verdict = verdict_with(&with_claim(), &[foreign], &[volume("pv", "c", efs())]);
    assert_eq!(kinds(&verdict), [Kind::PersistentVolumeClaimNotFound]);
}

#[test]
fn a_generic_ephemeral_volume_stands_and_falls_with_its_claim() {
    let pv = [volume("pv", "web-data", efs())];
    let unbound = PersistentVolumeClaim { status: None, ..ephemeral_claim("web-uid") };
    let rows = [
        ("bound and the Pod's own", Some(ephemeral_claim("web-uid")), None),
        ("not made yet", None, Some(Kind::EphemeralVolumeNotBound)),
        ("not bound yet", Some(unbound), Some(Kind::EphemeralVolumeNotBound)),
        ("made for an earlier Pod", Some(ephemeral_claim("old-uid")), Some(Kind::PersistentVolumeClaimNotOwned)),
        ("made by a person", Some(claim("web-data", "Bound", Some("pv"))), Some(Kind::PersistentVolumeClaimNotOwned)),
    ];
    for (name, claim, kind) in rows {
        let verdict = verdict_with(&with_ephemeral(), claim.as_slice(), &pv);
        assert_eq!(kinds(&verdict), kind.as_slice(), "{name}");
    }
}

#[test]
fn what_a_claim_lacks_may_come_and_what_the_pod_lacks_may_not() {
    let waits = verdict_with(&with_claim(), &[], &[]);
    assert!(waits.may_change());

    let mut never = with_claim();
    never.spec.as_mut().unwrap().host_network = Some(true);
    assert!(!verdict_with(&never, &[], &[]).may_change());

    let supported = verdict_with(&pod(json!({})), &[], &[]);
    assert!(!supported.may_change());
}

#[test]
fn the_names_of_all_claims_of_a_pod_can_be_asked_for() {
    let pod = pod(json!({ "volumes": [
        { "name": "a", "emptyDir": {} },
        { "name": "b", "persistentVolumeClaim": { "claimName": "c" } },
        { "name": "data", "ephemeral": {} },
    ] }));
    assert_eq!(claim_names(&pod).collect::<Vec<_>>(), ["c", "web-data"]);
}
