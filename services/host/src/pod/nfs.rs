//! Finds the address of an NFS server: guests are given addresses, since the machine's own name resolution is what knows
//! servers by name, as it does for the kubelet's mounts.

use std::net::IpAddr;
use std::time::Duration;

use monopod_agent_proto::v1::PutVolumeRequest;
use monopod_agent_proto::v1::put_volume_request::Kind;

/// The port that is asked for, which does not matter to the answer.
const NFS_PORT: u16 = 2049;
/// Longer than resolvers try.
const LIMIT: Duration = Duration::from_secs(30);

/// Puts the server's address in the place of its name, if there is a server with a name.
///
/// # Errors
/// When the name has no address now, in the words of mount.nfs.
pub(super) async fn resolve(mut request: PutVolumeRequest) -> Result<PutVolumeRequest, String> {
    let Some(Kind::Nfs(nfs)) = &mut request.kind else { return Ok(request) };
    let plain = nfs.server.trim_start_matches('[').trim_end_matches(']');
    if plain.parse::<IpAddr>().is_ok() {
        return Ok(request);
    }
    let failed = |why: String| format!("mount.nfs: Failed to resolve server {}: {why}", nfs.server);
    let looked_up = tokio::time::timeout(LIMIT, tokio::net::lookup_host((nfs.server.as_str(), NFS_PORT))).await;
    let addresses = looked_up.map_err(|_| failed("no answer in time".to_owned()))?;
    let addresses: Vec<_> = addresses.map_err(|error| failed(error.to_string()))?.map(|address| address.ip()).collect();
    // Guests may have no IPv6, and most servers have both.
    let address = addresses.iter().find(|address| address.is_ipv4()).or_else(|| addresses.first());
    let address = address.ok_or_else(|| failed("it has no address".to_owned()))?;
    nfs.server = address.to_string();
    Ok(request)
}

#[cfg(test)]
mod tests {
    use monopod_agent_proto::v1::put_volume_request::Kind;
    use monopod_agent_proto::v1::{EmptyDir, Nfs, PutVolumeRequest};

    use super::resolve;

    fn request(server: &str) -> PutVolumeRequest {
        let nfs = Nfs { server: server.to_owned(), export: "/data".to_owned(), ..Nfs::default() };
        PutVolumeRequest { name: "v".to_owned(), kind: Some(Kind::Nfs(nfs)), ..PutVolumeRequest::default() }
    }

    #[tokio::test]
    async fn a_name_becomes_an_address_and_an_address_stays() {
        assert_eq!(resolve(request("localhost")).await.unwrap(), request("127.0.0.1"));
        assert_eq!(resolve(request("10.1.2.3")).await.unwrap(), request("10.1.2.3"));
        assert_eq!(resolve(request("fd00::1")).await.unwrap(), request("fd00::1"));
    }

    #[tokio::test]
    async fn a_name_without_address_is_told() {
        let error = resolve(request("no-such-server.invalid")).await.unwrap_err();
        assert!(error.starts_with("mount.nfs: Failed to resolve server no-such-server.invalid: "), "{error}");
    }

    #[tokio::test]
    async fn other_volumes_are_left_alone() {
        let volume =
            PutVolumeRequest { kind: Some(Kind::EmptyDir(EmptyDir::default())), ..PutVolumeRequest::default() };
        assert_eq!(resolve(volume.clone()).await.unwrap(), volume);
    }
}
