//! gRPC's health service, without TLS, as the kubelet asks it.

use std::time::Duration;

use monopod_podplan::life::ProbeOutcome;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::{authority, go_duration};

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    pub(super) status: i32,
}

/// `grpc.health.v1.HealthCheckResponse.ServingStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(super) enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

impl ServingStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// Most bytes of an answer.
const MAX_MESSAGE: usize = 4 << 10;

pub(super) async fn probe(host: &str, port: u16, service: &str, timeout: Duration) -> ProbeOutcome {
    let address = authority(host, port);
    let deadline = tokio::time::Instant::now() + timeout;
    let channel = match tokio::time::timeout_at(deadline, connect(&address)).await {
        Ok(Ok(channel)) => channel,
        // The kubelet tries again until the time is over, so it is a time-out for it in both cases.
        Ok(Err(_)) | Err(_) => {
            let shown = go_duration(timeout);
            let message =
                format!("timeout: failed to connect service \"{address}\" within {shown}: context deadline exceeded");
            return ProbeOutcome::Failure(message);
        }
    };
    match tokio::time::timeout_at(deadline, check(channel, service)).await {
        Ok(Ok(response)) if response.status() == ServingStatus::Serving => ProbeOutcome::Success,
        Ok(Ok(response)) => {
            let status = response.status().as_str();
            ProbeOutcome::Failure(format!("service unhealthy (responded with \"{status}\")"))
        }
        Ok(Err(status)) => ProbeOutcome::Failure(refusal(&status, timeout)),
        Err(_elapsed) => ProbeOutcome::Failure(late(timeout)),
    }
}

async fn connect(address: &str) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}"))?.user_agent("kube-probe/1.37")?.connect().await
}

async fn check(channel: Channel, service: &str) -> Result<HealthCheckResponse, Status> {
    let mut client = Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = Request::new(HealthCheckRequest { service: service.to_owned() });
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    Ok(client.unary(request, PathAndQuery::from_static(CHECK), codec).await?.into_inner())
}

fn refusal(status: &Status, timeout: Duration) -> String {
    let (code, message) = (status.code(), status.message());
    if code == Code::Unimplemented {
        let what = "this server does not implement the grpc health protocol (grpc.health.v1.Health)";
        return format!("error: {what}: {message}");
    }
    if code == Code::DeadlineExceeded {
        return late(timeout);
    }
    format!("error: health rpc probe failed: rpc error: code = {code:?} desc = {message}")
}

fn late(timeout: Duration) -> String {
    format!("timeout: health rpc did not complete within {}", go_duration(timeout))
}
