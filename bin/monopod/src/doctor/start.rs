//! How long a guest takes to start here: once by booting, for its template, and then from that.

use std::sync::Arc;
use std::time::Duration;

use monopod_types::{MiB, MilliCpu};
use monopod_vmm::{VmError, VmId, VmSpec, Vmm};
use monopod_vmm_qemu::{Config, QemuVmm, Ready, Users};
use tokio::time::Instant;

use super::Check;

/// How many starts from the template are timed.
const STARTS: usize = 5;

/// Users, control group and number of waiting processes that no daemon has.
pub(super) fn own(config: Config) -> Config {
    let Users { first, places } = config.users;
    let users = Users { first: first + places, places: 8 };
    Config { cgroup: format!("monopod-doctor-{}", std::process::id()), users, spares: 0, ..config }
}

/// Starts guests of the smallest size until their agent answers.
pub(super) async fn measure(config: Config) -> Check {
    let ready = Arc::clone(&config.ready);
    let measured = async {
        let vmm = QemuVmm::new(config).await?;
        let boot = start(&vmm, &*ready, 0).await?;
        let mut starts = Vec::new();
        for number in 1..=STARTS {
            starts.push(start(&vmm, &*ready, number).await?);
        }
        starts.sort_unstable();
        vmm.close().await;
        Ok::<_, VmError>((boot, starts))
    };
    match measured.await {
        Ok((boot, starts)) => {
            let median = starts.get(starts.len() / 2).copied().unwrap_or_default();
            let slowest = starts.last().copied().unwrap_or_default();
            let found = format!(
                "{} ms from a template until the agent answers (median of {STARTS}, slowest {} ms); {} ms for the first, \
                 which made the template",
                median.as_millis(),
                slowest.as_millis(),
                boot.as_millis()
            );
            Check::ok("start", found)
        }
        Err(error) => {
            let mut found = error.to_string();
            if let Some(cause) = std::error::Error::source(&error) {
                found.push_str(": ");
                found.push_str(&cause.to_string());
            }
            Check::failed("start", found, "MONOPOD_LOG=debug shows what QEMU and the guest said")
        }
    }
}

async fn start(vmm: &QemuVmm, ready: &dyn Ready, number: usize) -> Result<Duration, VmError> {
    let started = Instant::now();
    let spec = VmSpec {
        id: VmId::new(format!("doctor-{number}"))?,
        cpu: MilliCpu(1000),
        memory: MiB(512),
        tap: None,
        disks: Vec::new(),
    };
    let vm = vmm.start(spec).await?;
    let answered = async { ready.ready(vm.connect().await?).await };
    let answered = answered.await;
    let took = started.elapsed();
    vm.kill().await?;
    answered.map(|()| took)
}
