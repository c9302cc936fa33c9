//! Makes the volumes of a Pod in its guest, and keeps their files up to date.

use std::time::Instant;

use futures_util::future::try_join_all;
use monopod_agent_proto::v1::PutVolumeRequest;
use monopod_podplan::life::Event;
use monopod_podplan::plan::{pod_files, volume_updates, volumes};

use super::Sandbox;
use super::work::{Work, chain};
use crate::objects::Objects;

/// Makes all volumes, and answers the machine.
pub(super) async fn mount(work: &Work, sandbox: &Sandbox) {
    let begun = Instant::now();
    let planned = work.with_context(&sandbox.facts.addresses, volumes);
    let event = match planned {
        Err(errors) => Event::VolumeFailed { message: errors.to_string() },
        Ok(requests) => match put(sandbox, requests).await {
            Err(message) => Event::VolumeFailed { message },
            Ok(()) => {
                work.shared.stage("volumes", begun);
                Event::VolumesReady
            }
        },
    };
    work.tell(event).await;
}

/// Brings the files of volumes up to date after objects, or the Pod, have changed; `before` are the objects of then.
pub(super) async fn update(work: &Work, before: &Objects, sandbox: &Sandbox) {
    let addresses = &sandbox.facts.addresses;
    let old = work.with_objects(before, addresses, volumes).unwrap_or_default();
    // What is missing now stays as it was, as with the kubelet.
    let Ok(new) = work.with_context(addresses, volumes) else { return };
    if let Err(error) = put(sandbox, volume_updates(&old, &new)).await {
        tracing::warn!(pod = %work.shared.name, error, "volumes are not up to date");
    }
    let files = work.with_context(addresses, pod_files);
    if let Ok(plan) = files
        && let Err(error) = sandbox.agent.put_pod_files(plan.files).await
    {
        tracing::warn!(pod = %work.shared.name, error = &error as &dyn std::error::Error, "files of the pod are not up to date");
    }
}

async fn put(sandbox: &Sandbox, requests: Vec<PutVolumeRequest>) -> Result<(), String> {
    let puts = requests.into_iter().map(|request| async {
        let name = request.name.clone();
        let put = sandbox.agent.put_volume(request).await;
        put.map_err(|error| format!("MountVolume.SetUp failed for volume \"{name}\" : {}", chain(&error)))
    });
    try_join_all(puts).await.map(drop)
}
