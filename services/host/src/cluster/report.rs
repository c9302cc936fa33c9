//! What the Host object says of the machine as it is now: how much of it no Pod has, and what it is short of.

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use monopod_api::{Host as HostObject, HostResources, names};
use monopod_types::Quantity as Amount;
use nix::sys::statvfs::statvfs;
use serde_json::json;

use super::registration::{HEARTBEAT, condition};
use super::{ClusterError, ClusterSettings};
use crate::host::Host;
use crate::journal::SizeRecord;

/// Memory that must be available, or the machine is short of it; the kubelet's.
const ENOUGH_MEMORY: u64 = 100 << 20;
/// Disk that must be free, or the machine is short of it: a tenth, as with the kubelet, but no more than this.
const ENOUGH_DISK: u64 = 10 << 30;

/// How the machine is.
#[derive(Clone, Debug, PartialEq)]
struct Report {
    free: HostResources,
    is_short_of_memory: bool,
    is_short_of_disk: bool,
}

/// Writes what has changed, with every heartbeat at most. Never ends.
pub(super) async fn keep(client: Client, settings: ClusterSettings, host: Arc<Host>) {
    let (mut ticks, mut said) = (tokio::time::interval(HEARTBEAT), None);
    loop {
        ticks.tick().await;
        let report = look(&settings, &host);
        if said.as_ref() == Some(&report) {
            continue;
        }
        match say(&client, &settings.host_name, &report).await {
            Ok(()) => said = Some(report),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the Host object is not up to date"),
        }
    }
}

async fn say(client: &Client, name: &str, report: &Report) -> Result<(), ClusterError> {
    let hosts = Api::<HostObject>::all(client.clone());
    let host = hosts.get(name).await.map_err(ClusterError::asking(format!("read Host {name}")))?;
    let memory = if report.is_short_of_memory {
        condition(
            &host,
            names::MEMORY_PRESSURE,
            true,
            "TooLittleMemory",
            "the machine has less than 100 MiB of memory available",
        )
    } else {
        condition(&host, names::MEMORY_PRESSURE, false, "EnoughMemory", "the machine has memory available")
    };
    let disk = if report.is_short_of_disk {
        let message = "the file system of the host daemon's folder is nearly full; make room on it";
        condition(&host, names::DISK_PRESSURE, true, "TooLittleDisk", message)
    } else {
        condition(&host, names::DISK_PRESSURE, false, "EnoughDisk", "the file system of the host daemon has room")
    };
    let known = host.status.iter().flat_map(|status| &status.conditions);
    let others = known.filter(|one| ![names::MEMORY_PRESSURE, names::DISK_PRESSURE].contains(&&*one.type_));
    let conditions: Vec<_> = others.cloned().chain([memory, disk]).collect();
    // With the version that was read: the controller may have written meanwhile, and we try again.
    let patch = json!({
        "metadata": {"resourceVersion": host.metadata.resource_version},
        "status": {"free": report.free, "conditions": conditions},
    });
    let said = hosts.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    said.map(drop).map_err(ClusterError::asking(format!("write the status of Host {name}")))
}

fn look(settings: &ClusterSettings, host: &Host) -> Report {
    let running = host.pods().into_iter().filter(|handle| handle.shared.news.finished().is_none());
    let sizes: Vec<SizeRecord> = running.map(|handle| handle.shared.size).collect();
    Report {
        free: free(&settings.facts.capacity, &sizes),
        is_short_of_memory: machine_memory("MemAvailable").is_some_and(|available| available < ENOUGH_MEMORY),
        is_short_of_disk: is_nearly_full(&settings.folder),
    }
}

/// What the Pods leave of a machine.
fn free(capacity: &HostResources, pods: &[SizeRecord]) -> HostResources {
    let read = |quantity: &Quantity| quantity.0.parse::<Amount>().ok();
    let sum = |part: fn(&SizeRecord) -> u64| pods.iter().map(part).fold(0_u64, u64::saturating_add);
    let cpu = read(&capacity.cpu).map_or(0, |has| has.to_milli_cpu().0).saturating_sub(sum(|size| size.milli_cpu));
    let memory = read(&capacity.memory).map_or(0, |has| has.to_mib().0).saturating_sub(sum(|size| size.memory_mib));
    let disk =
        read(&capacity.ephemeral_storage).map_or(0, |has| has.to_gib().0).saturating_sub(sum(|size| size.scratch_gib));
    HostResources {
        cpu: Quantity(format!("{cpu}m")),
        memory: Quantity(format!("{memory}Mi")),
        ephemeral_storage: Quantity(format!("{disk}Gi")),
    }
}

/// Bytes that a line of `/proc/meminfo` tells of, such as `MemTotal` (proc(5)); none when there is no such line.
pub fn machine_memory(line: &str) -> Option<u64> {
    let known = std::fs::read_to_string("/proc/meminfo").ok()?;
    let amount = known.lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(':'))?;
    amount.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn is_nearly_full(folder: &Path) -> bool {
    // A folder that cannot be asked is no reason to take no Pods.
    statvfs(folder).is_ok_and(|size| {
        let (free, all) = (size.blocks_available(), size.blocks());
        let free_bytes = free.saturating_mul(size.fragment_size());
        free < all / 10 && free_bytes < ENOUGH_DISK
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use monopod_api::HostResources;

    use super::free;
    use crate::journal::SizeRecord;

    #[test]
    fn what_pods_have_is_not_free() {
        let of = |cpu: &str, memory: &str, disk: &str| {
            let [cpu, memory, disk] = [cpu, memory, disk].map(|text| Quantity(text.to_owned()));
            HostResources { cpu, memory, ephemeral_storage: disk }
        };
        let pods = [SizeRecord { milli_cpu: 250, memory_mib: 512, scratch_gib: 20 }; 3];
        assert_eq!(free(&of("2", "4Gi", "100Gi"), &pods), of("1250m", "2560Mi", "40Gi"));
        assert_eq!(free(&of("500m", "1Gi", "1Gi"), &pods), of("0m", "0Mi", "0Gi"));
    }
}
