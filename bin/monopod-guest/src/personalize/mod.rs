//! Makes a restored guest one Pod's own.

use monopod_agent_proto::v1;
use tonic::Status;

use crate::paths::Paths;
use crate::reaper::Reaper;
use crate::server::Pod;

/// Everything in order, or nothing at all.
pub(crate) async fn personalize(
    _request: v1::PersonalizeRequest,
    _paths: &Paths,
    _reaper: &Reaper,
) -> Result<(Pod, v1::PersonalizeResponse), Status> {
    Err(Status::unimplemented("Personalize"))
}

/// Writes the Pod's files in place.
pub(crate) fn write_pod_files(_paths: &Paths, _files: &v1::PodFiles) -> Result<(), Status> {
    Err(Status::unimplemented("PutPodFiles"))
}
