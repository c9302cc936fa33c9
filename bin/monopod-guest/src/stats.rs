//! What the Pod uses.

use monopod_agent_proto::v1;
use tonic::Status;

use crate::server::Pod;

/// `GetStats`.
pub(crate) async fn stats(pod: &Pod, disk_usage: bool) -> Result<v1::GetStatsResponse, Status> {
    Ok(v1::GetStatsResponse { containers: pod.containers.stats(disk_usage).await, ..Default::default() })
}
