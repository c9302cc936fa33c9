//! What the Pod uses: of the machine, of the network, of disks; its containers' part comes from [`crate::containers`].

use std::fs;
use std::io;
use std::path::Path;

use monopod_agent_proto::v1;
use tonic::Status;

use crate::server::Pod;
use crate::volumes::filesystem;

const INTERFACES: &str = "/sys/class/net";

/// `GetStats`. What cannot be read is left out, and said in the log.
pub(crate) async fn stats(pod: &Pod, disk_usage: bool) -> Result<v1::GetStatsResponse, Status> {
    let containers = pod.containers.stats(disk_usage).await;
    let volumes = if disk_usage { pod.volumes.usage().await } else { Vec::new() };
    let memory = read("/proc/meminfo").unwrap_or_default();
    Ok(v1::GetStatsResponse {
        time: crate::agent_log::now(),
        pod: Some(pod.containers.pod_usage()),
        containers,
        network: logged("the network", network(Path::new(INTERFACES))),
        volumes,
        scratch: logged("the scratch disk", filesystem(&pod.paths.scratch())),
        memory_total: meminfo(&memory, "MemTotal"),
        memory_available: meminfo(&memory, "MemAvailable"),
        agent_memory: read("/proc/self/status").map_or(0, |text| meminfo(&text, "VmRSS")),
    })
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn logged<T>(what: &str, measured: io::Result<T>) -> Option<T> {
    measured.map_err(|error| tracing::warn!(%error, "failed to measure {what}")).ok()
}

/// A line such as `MemTotal:  123 kB` of a file in /proc, in bytes; 0 where there is none.
fn meminfo(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kibibytes = value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Counters of all cards together.
fn network(interfaces: &Path) -> io::Result<v1::NetworkStats> {
    let mut total = v1::NetworkStats::default();
    for entry in fs::read_dir(interfaces)? {
        let folder = entry?.path();
        if !folder.join("device").exists() {
            continue;
        }
        let count = |name: &str| -> u64 {
            let text = fs::read_to_string(folder.join("statistics").join(name)).unwrap_or_default();
            text.trim_end().parse().unwrap_or(0)
        };
        total.received_bytes += count("rx_bytes");
        total.received_packets += count("rx_packets");
        total.receive_errors += count("rx_errors");
        total.sent_bytes += count("tx_bytes");
        total.sent_packets += count("tx_packets");
        total.send_errors += count("tx_errors");
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{meminfo, network};

    #[test]
    fn lines_of_proc_are_read_in_bytes() {
        let text = "MemTotal:         991 kB\nMemAvailable:    77 kB\nVmRSS:\t    8 kB\n";
        assert_eq!((meminfo(text, "MemTotal"), meminfo(text, "VmRSS"), meminfo(text, "Mem")), (991 << 10, 8 << 10, 0));
    }

    #[test]
    fn the_loopback_does_not_count() {
        let interfaces = tempfile::tempdir().unwrap();
        for (name, device) in [("lo", false), ("eth0", true)] {
            let folder = interfaces.path().join(name);
            fs::create_dir_all(folder.join("statistics")).unwrap();
            fs::write(folder.join("statistics/rx_bytes"), "7\n").unwrap();
            if device {
                fs::create_dir(folder.join("device")).unwrap();
            }
        }
        assert_eq!(network(interfaces.path()).unwrap().received_bytes, 7);
    }
}
