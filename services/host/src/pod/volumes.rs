//! Makes the volumes of a Pod in its guest, and keeps their files up to date.

use std::time::Instant;

use futures_util::future::try_join_all;
use monopod_agent_proto::v1::PutVolumeRequest;
use monopod_podplan::life::Event;
use monopod_podplan::plan::{pod_files, possible_volumes, volume_updates, volumes};

use super::work::{Work, chain};
use super::{Sandbox, nfs};

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

/// Brings the files of volumes up to date after objects, or the Pod, have changed; `before` is the work of then.
pub(super) async fn update(work: &Work, before: &Work, sandbox: &Sandbox) {
    let addresses = &sandbox.facts.addresses;
    // A volume whose object is missing now stays as it was, as with the kubelet, and holds up no other.
    let (old, _) = before.with_context(addresses, possible_volumes);
    let (new, _) = work.with_context(addresses, possible_volumes);
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
        let failed = |why: String| format!("MountVolume.SetUp failed for volume \"{name}\" : {why}");
        let request = nfs::resolve(request).await.map_err(failed)?;
        sandbox.agent.put_volume(request).await.map_err(|error| failed(chain(&error)))
    });
    try_join_all(puts).await.map(drop)
}
