//! What a container may use, as a cgroup and limits are told.

use monopod_agent_proto::v1;
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

/// Length of one accounting period of the CPU limit, in microseconds.
const PERIOD: u64 = 100_000;
/// Least quota that the kernel takes, in microseconds.
const LEAST_QUOTA: u64 = 1_000;
/// Least weight, in shares of the old cgroups, and so the one of a container that asks for nothing.
const LEAST_SHARES: u64 = 2;
/// Most shares.
const MOST_SHARES: u64 = 262_144;

/// CPU shares of a request: 1024 for each CPU.
pub(crate) fn shares(millis: u64) -> u64 {
    (millis.saturating_mul(1024) / 1000).clamp(LEAST_SHARES, MOST_SHARES)
}

/// Microseconds of CPU time per period; none without a limit.
fn quota(millis: u64) -> Option<i64> {
    let quota = (millis > 0).then(|| (millis.saturating_mul(PERIOD) / 1000).max(LEAST_QUOTA))?;
    Some(i64::try_from(quota).unwrap_or(i64::MAX))
}

/// The cgroup of a container.
pub(crate) fn cgroup(wanted: &v1::Resources) -> LinuxResources {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(Some(shares(wanted.cpu_request_millis)));
    if let Some(quota) = quota(wanted.cpu_limit_millis) {
        cpu.set_quota(Some(quota)).set_period(Some(PERIOD));
    }
    let mut memory = LinuxMemory::default();
    if wanted.memory_limit > 0 {
        memory.set_limit(Some(i64::try_from(wanted.memory_limit).unwrap_or(i64::MAX)));
    }
    let mut resources = LinuxResources::default();
    // No list of devices: the device nodes that a container gets are all that it needs.
    resources.set_cpu(Some(cpu)).set_memory(Some(memory)).set_devices(None);
    // Out of memory, the container ends as a whole instead of limping on without one of its processes.
    resources.set_unified(Some([("memory.oom.group".to_owned(), "1".to_owned())].into()));
    resources
}

#[cfg(test)]
mod tests {
    use monopod_agent_proto::v1;

    use super::{cgroup, quota, shares};

    #[test]
    fn requests_become_shares_as_the_kubelet_counts_them() {
        assert_eq!([0, 1, 100, 250, 1000, 1_000_000].map(shares), [2, 2, 102, 256, 1024, 262_144]);
    }

    #[test]
    fn limits_become_time_in_a_tenth_of_a_second() {
        let quotas = [0, 1, 10, 250, 1500].map(quota);
        assert_eq!(quotas, [None, Some(1000), Some(1000), Some(25_000), Some(150_000)]);
    }

    #[test]
    fn a_container_without_limits_is_bound_by_its_machine_only() {
        let resources = cgroup(&v1::Resources::default());
        assert_eq!(resources.cpu().as_ref().unwrap().quota(), None);
        assert_eq!(resources.memory().as_ref().unwrap().limit(), None);
    }
}
