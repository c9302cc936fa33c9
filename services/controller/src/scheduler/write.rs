//! The three writes of a placement, and what there is to do when one of them fails.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};
use monopod_api::{MicrovmPod, names};
use monopod_policy::placement::CommonLabels;
use monopod_policy::record::{self, Record};
use monopod_policy::sizing::Size;
use serde_json::json;

use super::world::{Orphan, Unbound, Unlabelled};

/// Between attempts at a write of which must be known what has become of it.
const PAUSE: Duration = Duration::from_millis(500);

/// What has become of a placement.
#[derive(Debug)]
pub(super) enum Written {
    /// The Pod is bound.
    Bound,
    /// The Pod is gone, or was bound by somebody else: its place is free.
    PodGone,
    /// Another Pod's Node has the address.
    AddressTaken,
    /// The API server did not take the first or second write; nothing is decided.
    Failed(kube::Error),
}

/// Writes a placement.
pub(super) async fn place(client: &Client, record: &Record, size: &Size, common: &CommonLabels) -> Written {
    monopod_faults::point("controller/decided");
    let pods = Api::<Pod>::namespaced(client.clone(), &record.namespace);
    let patch = Patch::Merge(record.pod_patch(size));
    match pods.patch_metadata(&record.pod, &PatchParams::default(), &patch).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Written::PodGone,
        Err(error) => return Written::Failed(error),
    }
    monopod_faults::point("controller/labelled");
    let unbound = Unbound {
        namespace: record.namespace.clone(),
        pod: record.pod.clone(),
        uid: record.uid.clone(),
        node: record.node.as_str().to_owned(),
    };
    if let Some(refused) = create(client, record, common, &unbound).await {
        return refused;
    }
    monopod_faults::point("controller/node-made");
    let written = bind_with(client, &unbound, &record.binding()).await;
    monopod_faults::point("controller/bound");
    written
}

/// Makes the Node; what has become of the placement when there is none. Tries until it is known whether the Node is there: an
/// answer that got lost may be one that said yes.
async fn create(client: &Client, record: &Record, common: &CommonLabels, unbound: &Unbound) -> Option<Written> {
    let (nodes, node) = (Api::<Node>::all(client.clone()), record.node(common));
    loop {
        match nodes.create(&PostParams::default(), &node).await {
            Ok(_) => return None,
            Err(kube::Error::Api(status)) if status.code == 409 => match is_ours(&nodes, record).await {
                Ok(true) => return None,
                Ok(false) => return Some(Written::AddressTaken),
                Err(error) => wait(unbound, &error).await,
            },
            Err(kube::Error::Api(status)) if matches!(status.code, 400..=499) && status.code != 429 => {
                return Some(Written::Failed(kube::Error::Api(status)));
            }
            Err(error) => wait(unbound, &error).await,
        }
    }
}

/// Whether the Node that has our name is this Pod's: an answer of the API server may have been lost.
async fn is_ours(nodes: &Api<Node>, record: &Record) -> Result<bool, kube::Error> {
    let node = nodes.get_opt(record.node.as_str()).await?;
    Ok(node.is_some_and(|node| record::read(&node).is_ok_and(|taken| taken.pod.uid == record.uid.as_str())))
}

/// Binds a Pod to the Node that was made for it.
pub(super) async fn bind(client: &Client, unbound: &Unbound) -> Written {
    bind_with(client, unbound, &record::binding(&unbound.namespace, &unbound.pod, &unbound.uid, &unbound.node)).await
}

/// Tries until it is known what has become of the Pod: with the Node its place is decided.
async fn bind_with(client: &Client, unbound: &Unbound, binding: &Binding) -> Written {
    let (pods, params) = (Api::<Pod>::namespaced(client.clone(), &unbound.namespace), PostParams::default());
    loop {
        let bound = pods.create_subresource::<Binding, serde_json::Value>("binding", &unbound.pod, &params, binding);
        match bound.await {
            Ok(_) => return Written::Bound,
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                match pods.get_opt(&unbound.pod).await {
                    Ok(pod) if is_bound_here(pod.as_ref(), unbound) => return Written::Bound,
                    Ok(_) => return Written::PodGone,
                    Err(error) => wait(unbound, &error).await,
                }
            }
            // Somebody else's rule forbids it; others are not to wait for that.
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 401 | 403 | 422) => {
                return Written::Failed(kube::Error::Api(status));
            }
            Err(error) => wait(unbound, &error).await,
        }
    }
}

async fn wait(unbound: &Unbound, error: &kube::Error) {
    let (pod, node) = (&unbound.pod, &unbound.node);
    tracing::warn!(
        namespace = unbound.namespace,
        pod,
        node,
        error = error as &dyn std::error::Error,
        "a pod is not bound yet"
    );
    tokio::time::sleep(PAUSE).await;
}

fn is_bound_here(pod: Option<&Pod>, unbound: &Unbound) -> bool {
    pod.is_some_and(|pod| {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        pod.uid().as_deref() == Some(unbound.uid.as_str()) && node == Some(unbound.node.as_str())
    })
}

/// Gives a Pod back the label by which its host finds it: somebody took or changed it, who may change labels.
pub(super) async fn label(client: &Client, Unlabelled { pod, host }: &Unlabelled) {
    let pods = Api::<Pod>::namespaced(client.clone(), &pod.namespace);
    let labels = json!({ names::HOST_LABEL: host.as_str(), names::PROFILE_LABEL: pod.profile });
    let patch = Patch::Merge(json!({"metadata": {"uid": pod.uid, "labels": labels}}));
    if let Err(error) = pods.patch_metadata(&pod.name, &PatchParams::default(), &patch).await {
        let (namespace, pod) = (&pod.namespace, &pod.name);
        tracing::warn!(namespace, pod, error = &error as &dyn std::error::Error, "a pod does not get its label back");
    }
}

/// Removes the Node of a Pod that is gone. A Pod that is still there, which no cache may hide, keeps it.
pub(super) async fn remove_orphan(client: &Client, orphan: &Orphan, host_is_gone: bool) -> Result<(), kube::Error> {
    if !host_is_gone && is_there(client, &orphan.pod).await? {
        return Ok(());
    }
    let nodes = Api::<Node>::all(client.clone());
    let Some(node) = nodes.get_opt(&orphan.node).await? else { return Ok(()) };
    monopod_faults::point("controller/orphan-found");
    if record::read(&node).is_ok_and(|taken| taken.pod != orphan.pod) {
        return Ok(());
    }
    let preconditions = Some(Preconditions { uid: node.uid(), resource_version: None });
    match nodes.delete(&orphan.node, &DeleteParams { preconditions, ..DeleteParams::default() }).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        result => result.map(drop),
    }
}

async fn is_there(client: &Client, pod: &MicrovmPod) -> Result<bool, kube::Error> {
    let found = Api::<Pod>::namespaced(client.clone(), &pod.namespace).get_metadata_opt(&pod.name).await?;
    Ok(found.is_some_and(|found| found.uid().as_deref() == Some(&*pod.uid)))
}
