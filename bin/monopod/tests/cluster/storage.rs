//! Volumes that outlive Pods: claims, and network file systems behind them.

use anyhow::{Result, ensure};

use crate::stage::{PATIENCE, Stage, on_stage};

/// Pods of both hosts that leave their names in a volume and go on.
const WRITERS: &str = r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared, namespace: shop}
spec: {accessModes: [ReadWriteMany], storageClassName: "", volumeName: shared, resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: writer, namespace: shop}
spec:
  serviceName: writer
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: writer}}
  template:
    metadata: {labels: {app: writer}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: monopod.local/busybox:1
          command: [sh, -c, "hostname > /data/$(hostname); trap 'exit 0' TERM; while true; do sleep 1; done"]
          volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: shared}}]
"#;

/// A server that everybody knows by its address.
const NFS: &str = r#"
apiVersion: v1
kind: PersistentVolume
metadata: {name: shared}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ""
  capacity: {storage: 1Gi}
  nfs: {server: 10.90.0.1, path: /export}
"#;

/// The same folder as the users of Amazon EFS write it, without encryption on the way.
const EFS: &str = r#"
apiVersion: v1
kind: PersistentVolume
metadata: {name: efs}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ""
  capacity: {storage: 1Gi}
  csi:
    driver: efs.csi.aws.com
    volumeHandle: fs-0123456789abcdef0:/export
    volumeAttributes: {mounttargetip: 10.90.0.1, encryptInTransit: "false"}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: efs, namespace: shop}
spec: {accessModes: [ReadWriteMany], storageClassName: "", volumeName: efs, resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: reader, namespace: shop}
spec:
  restartPolicy: Never
  containers:
    - name: main
      image: monopod.local/busybox:1
      command: [sh, -c, "cat /data/*"]
      volumeMounts: [{name: data, mountPath: /data, readOnly: true}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: efs}}]
"#;

#[tokio::test]
async fn cluster_pods_wait_for_their_claims_and_share_what_is_behind_them() -> Result<()> {
    on_stage(2, async |stage| {
        let files = stage.cluster.serve_files().await?;
        stage.apply(WRITERS).await?;
        let events = ["events", "-n", "shop", "--for", "pod/writer-0"];
        let is_told = |text: &str| text.contains("Pod not supported on Fargate") && text.contains("shared");
        let told = stage.wait_printed("the claim is not bound", &events, is_told).await;
        ensure!(told.contains("not bound"), "in the words of the reference: {told}");

        // It is bound by Kubernetes once there is a volume, and the Pods are looked at again.
        stage.apply(NFS).await?;
        stage.kubectl(&["rollout", "status", "-n", "shop", "statefulset/writer", PATIENCE]).await?;
        ensure!(hosts(stage).await? == "host-2 host-3", "{}", hosts(stage).await?);
        for pod in ["writer-0", "writer-1"] {
            let all = ["exec", "-n", "shop", pod, "--", "sh", "-c", "cat /data/*"];
            stage.wait_printed("both Pods see both files", &all, |text| text == "writer-0\nwriter-1\n").await;
        }
        ensure!(files.export().join("writer-1").exists(), "the files are the server's");
        let identity = ["cat", "/sys/module/nfs/parameters/nfs4_unique_id"];
        let of = async |pod| stage.kubectl(&[&["exec", "-n", "shop", pod, "--"][..], &identity].concat()).await;
        let (one, other) = (of("writer-0").await?, of("writer-1").await?);
        ensure!(one.len() > 30 && one != other, "the server tells the clients apart: {one} {other}");

        stage.apply(EFS).await?;
        let ended = "--for=jsonpath={.status.phase}=Succeeded";
        stage.kubectl(&["wait", "-n", "shop", "pod/reader", ended, PATIENCE]).await?;
        let read = stage.kubectl(&["logs", "-n", "shop", "reader"]).await?;
        ensure!(read == "writer-0\nwriter-1\n", "{read}");

        stage.kubectl(&["delete", "-n", "shop", "statefulset/writer", "pod/reader"]).await?;
        stage.wait_nothing_left().await?;
        ensure!(files.export().join("writer-0").exists(), "what was written stays");
        Ok(())
    })
    .await
}

/// The hosts of the writers, in order.
async fn hosts(stage: &Stage<'_>) -> Result<String> {
    let columns = "jsonpath={.items[*].metadata.labels.monopod\\.dev/host}";
    let printed = stage.kubectl(&["get", "pods", "-n", "shop", "-l", "app=writer", "-o", columns]).await?;
    let mut names: Vec<&str> = printed.split(' ').collect();
    names.sort_unstable();
    Ok(names.join(" "))
}
