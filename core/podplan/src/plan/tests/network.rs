//! Claims, NFS and EFS.

use monopod_agent_proto::v1::Nfs;
use monopod_agent_proto::v1::put_volume_request::Kind;
use serde_json::{Value, json};

use super::super::{AccessPoint, FileSystem};
use super::support::{World, container_in};

/// A world whose container mounts volume `v`: claim `claim`, bound to `pv` of this spec.
fn bound(persistent: &Value) -> World {
    let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "claim"}});
    with_claim(&volume, &json!({"volumeName": "pv"}), &json!({"phase": "Bound"}))
        .with(json!({"kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": persistent}))
}

fn with_claim(volume: &Value, spec: &Value, status: &Value) -> World {
    container_in(&json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}), &json!({"volumes": [volume]})).with(
        json!({
            "kind": "PersistentVolumeClaim", "metadata": {"name": "claim", "namespace": "shop", "uid": "u1"},
            "spec": spec, "status": status,
        }),
    )
}

fn nfs(world: &World) -> Result<Nfs, String> {
    match world.volumes().map_err(|errors| errors.to_string())?.remove(0).kind {
        Some(Kind::Nfs(nfs)) => Ok(nfs),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nfs_is_mounted_from_the_pod_or_from_a_persistent_volume() {
    let volume = json!({"name": "v", "nfs": {"server": "nfs.example", "path": "/data", "readOnly": true}});
    let world =
        container_in(&json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}), &json!({"volumes": [volume]}));
    let expected =
        Nfs { server: "nfs.example".to_owned(), export: "/data".to_owned(), options: vec![], read_only: true };
    assert_eq!(nfs(&world), Ok(expected.clone()));
    let options = ["nfsvers=4.1", "hard"];
    let world = bound(&json!({"nfs": {"server": "nfs.example", "path": "/data"}, "mountOptions": options}));
    let options = options.map(str::to_owned).into();
    assert_eq!(nfs(&world), Ok(Nfs { options, read_only: false, ..expected }));
    let mut read_only = world;
    read_only.pod["spec"]["volumes"][0]["persistentVolumeClaim"]["readOnly"] = json!(true);
    assert!(nfs(&read_only).unwrap().read_only);
    assert!(read_only.request().unwrap().mounts[0].read_only);
}

#[test]
fn a_claim_that_leads_nowhere_is_told_in_the_kubelets_words() {
    let start = "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process \
                 volumes=[v]: error processing PVC shop/claim:";
    let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "claim"}});
    let bound_status = json!({"phase": "Bound"});
    let mut without = with_claim(&volume, &json!({}), &bound_status);
    without.objects.clear();
    let persistent = json!({"kind": "PersistentVolume", "metadata": {"name": "pv"},
        "spec": {"claimRef": {"uid": "u2"}, "nfs": {"server": "s", "path": "/"}}});
    for (world, problem) in [
        (without, "failed to fetch PVC from API server: persistentvolumeclaims \"claim\" not found"),
        (with_claim(&volume, &json!({"volumeName": "pv"}), &json!({"phase": "Pending"})), "PVC is not bound"),
        (with_claim(&volume, &json!({}), &bound_status), "PVC has empty pvc.Spec.VolumeName"),
        (
            with_claim(&volume, &json!({"volumeName": "pv"}), &bound_status),
            "failed to fetch PV pv from API server: persistentvolumes \"pv\" not found",
        ),
        (
            with_claim(&volume, &json!({"volumeName": "pv"}), &bound_status).with(persistent),
            "found PV object pv but its pv.Spec.ClaimRef.UID u2 does not point to claim.UID u1",
        ),
    ] {
        assert_eq!(nfs(&world), Err(format!("{start} {problem}")));
    }
    let mut deleted = with_claim(&volume, &json!({"volumeName": "pv"}), &bound_status);
    deleted.objects[0]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(nfs(&deleted), Err(format!("{start} PVC is being deleted")));
    let block = bound(&json!({"volumeMode": "Block", "nfs": {"server": "s", "path": "/"}}));
    assert!(nfs(&block).unwrap_err().ends_with("volume v has volumeMode Block, but is specified in volumeMounts"));
    let other = bound(&json!({"csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-1"}}));
    let message = "failed to get Plugin from volumeSpec for volume \"pv\" err=no volume plugin matched";
    assert!(nfs(&other).unwrap_err().ends_with(message));
}

const FILE_SYSTEM: &str = "fs-0123456789abcdef0";
const ACCESS_POINT: &str = "fsap-0123456789abcdef0";

fn efs(handle: &str, attributes: &Value) -> World {
    let source = json!({"driver": "efs.csi.aws.com", "volumeHandle": handle, "volumeAttributes": attributes});
    let mut world = bound(&json!({"csi": source, "mountOptions": ["tls", "accesspoint=x", "timeo=100"]}));
    let known = FileSystem {
        server: "nfs.example".to_owned(),
        export: "/export".to_owned(),
        access_points: [(ACCESS_POINT.to_owned(), AccessPoint { path: "/apps/web".to_owned() })].into(),
        allow_clear_text: true,
    };
    world.settings.file_systems.insert(FILE_SYSTEM.to_owned(), known);
    world
}

#[test]
fn efs_handles_lead_to_an_nfs_server() {
    for (handle, export) in [
        (FILE_SYSTEM.to_owned(), "/export"),
        (format!("{FILE_SYSTEM}:/a//b/"), "/export/a/b"),
        (format!("{FILE_SYSTEM}::{ACCESS_POINT}"), "/export/apps/web"),
        (format!("{FILE_SYSTEM}:/a:{ACCESS_POINT}"), "/export/apps/web/a"),
        (format!("efs:{FILE_SYSTEM}:/a:"), "/export/a"),
    ] {
        let found = nfs(&efs(&handle, &json!({}))).unwrap();
        assert_eq!((found.server.as_str(), found.export.as_str()), ("nfs.example", export), "{handle}");
        let options = ["nfsvers=4.1", "rsize=1048576", "wsize=1048576", "hard", "retrans=2", "noresvport", "timeo=100"];
        assert_eq!(found.options, options);
    }
}

#[test]
fn a_handle_that_is_none_is_refused() {
    for (handle, problem) in [
        ("", "it does not begin with a file system such as fs-0123abcd"),
        ("fs-1", "it does not begin with a file system such as fs-0123abcd"),
        ("s3files:x", "it does not begin with a file system such as fs-0123abcd"),
        ("fs-01234567::ap-1", "its third field is no access point such as fsap-0123abcd"),
        ("fs-01234567:::", "it has more than three fields"),
        ("fs-01234567:/../x", "its path leads upwards"),
    ] {
        let expected =
            format!("MountVolume.SetUp failed for volume \"pv\" : volume handle {handle:?} is invalid: {problem}");
        assert_eq!(nfs(&efs(handle, &json!({}))), Err(expected));
    }
}

#[test]
fn encryption_in_transit_is_not_dropped_in_silence() {
    let start = "MountVolume.SetUp failed for volume \"pv\" :";
    let mut world = efs(FILE_SYSTEM, &json!({}));
    world.settings.file_systems.get_mut(FILE_SYSTEM).unwrap().allow_clear_text = false;
    let message = format!(
        "{start} file system {FILE_SYSTEM} asks for encryption in transit, which is not available: set the volume attribute \
         encryptInTransit to \"false\", or allow clear text for it in the host's configuration"
    );
    assert_eq!(nfs(&world), Err(message));
    let mut plain = efs(FILE_SYSTEM, &json!({"encryptInTransit": "false"}));
    plain.settings.file_systems.get_mut(FILE_SYSTEM).unwrap().allow_clear_text = false;
    assert!(nfs(&plain).is_ok());
}

#[test]
fn an_unknown_file_system_needs_the_address_of_a_mount_target() {
    let start = "MountVolume.SetUp failed for volume \"pv\" :";
    let message = format!(
        "{start} no NFS server is known for file system fs-01234567: name it in the host's configuration, or set the volume \
         attribute mounttargetip"
    );
    assert_eq!(nfs(&efs("fs-01234567", &json!({"encryptInTransit": "false"}))), Err(message));
    let attributes = json!({"encryptInTransit": "false", "mounttargetip": "192.0.2.4"});
    let found = nfs(&efs("fs-01234567:/a", &attributes)).unwrap();
    assert_eq!((found.server.as_str(), found.export.as_str()), ("192.0.2.4", "/a"));
    let message =
        format!("{start} access point {ACCESS_POINT} of file system fs-01234567 is not in the host's configuration");
    assert_eq!(nfs(&efs(&format!("fs-01234567::{ACCESS_POINT}"), &attributes)), Err(message));
}
