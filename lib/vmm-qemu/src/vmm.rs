//! The implementation of `Vmm`: which VMs there are, and the way to each one's task.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use monopod_vmm::{Life, OwnedVm, Vm, VmError, VmId, VmSpec, Vmm, own};
use tokio::process::Command;

use crate::cgroup::Cgroup;
use crate::config::Config;
use crate::driver::{Common, QemuDriver};
use crate::place::Places;
use crate::seat::Seat;
use crate::spares::Spares;
use crate::template::Templates;

/// Makes VMs with QEMU.
#[derive(Debug)]
pub struct QemuVmm {
    common: Arc<Common>,
    vms: Arc<Mutex<HashMap<VmId, OwnedVm>>>,
    qemu_version: String,
}

impl QemuVmm {
    /// Prepares folders and asks QEMU for its version; starts no VM. [`Vmm::adopt`] is to be called before the first
    /// start, as long as nobody else has the names of the VMs that are left.
    ///
    /// # Errors
    /// When QEMU is not there or the folders cannot be made.
    pub async fn new(config: Config) -> Result<Self, VmError> {
        let qemu_version = qemu_version(&config.qemu).await?;
        let config = Arc::new(config);
        std::fs::create_dir_all(&config.run).map_err(VmError::host("make the run folder"))?;
        let places = Places::new(Arc::clone(&config));
        let templates = Templates::new(Arc::clone(&config), Arc::clone(&places), qemu_version.clone())?;
        let spares = Spares::new(Arc::clone(&config), Arc::clone(&places));
        Ok(Self { common: Arc::new(Common { config, places, templates, spares }), vms: Arc::default(), qemu_version })
    }

    /// Version of QEMU, such as `10.0.2`.
    #[must_use]
    pub fn qemu_version(&self) -> &str {
        &self.qemu_version
    }

    /// Ends what waits for VMs to come; to be called when the daemon ends in order. VMs run on; without any, nothing is
    /// left on the machine but folders.
    pub async fn close(&self) {
        self.common.spares.close().await;
        Cgroup::remove_parent(&self.common.config.cgroup);
    }

    /// How many processes wait for VMs to come.
    #[must_use]
    pub fn spares(&self) -> usize {
        self.common.spares.waiting()
    }

    /// Enters a VM under its name, unless that is taken, and gives it to a task of its own.
    fn enter(&self, id: VmId, driver: QemuDriver, life: Life) -> Result<(OwnedVm, monopod_vmm::Starting), VmError> {
        let mut vms = self.vms.lock().unwrap_or_else(PoisonError::into_inner);
        if vms.contains_key(&id) {
            return Err(VmError::Exists { id });
        }
        let (all, name) = (Arc::clone(&self.vms), id.clone());
        let ended = Box::new(move || drop(all.lock().unwrap_or_else(PoisonError::into_inner).remove(&name)));
        let (vm, starting) = own(id.clone(), Arc::new(driver), life, ended);
        vms.insert(id, vm.clone());
        Ok((vm, starting))
    }
}

#[async_trait]
impl Vmm for QemuVmm {
    async fn start(&self, spec: VmSpec) -> Result<Arc<dyn Vm>, VmError> {
        let id = spec.id.clone();
        let driver = QemuDriver::new(Arc::clone(&self.common), spec)?;
        let (_, starting) = self.enter(id, driver, Life::Start(self.common.config.limits.start))?;
        Ok(Arc::new(starting.finished().await?))
    }

    async fn kill(&self, id: &VmId) -> Result<(), VmError> {
        let vm = self.vms.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        match vm {
            Some(vm) => vm.kill().await,
            None => Ok(()),
        }
    }

    async fn adopt(&self) -> Result<Vec<Arc<dyn Vm>>, VmError> {
        let mut adopted: Vec<Arc<dyn Vm>> = Vec::new();
        for place in self.common.places.left_over()? {
            match Seat::adopt(&self.common.config, place).await {
                Ok((seat, id)) => {
                    let driver = QemuDriver::adopted(Arc::clone(&self.common), seat);
                    let (vm, starting) = self.enter(id, driver, Life::Adopted)?;
                    starting.finished().await?;
                    adopted.push(Arc::new(vm));
                }
                Err(place) => place.clear().await,
            }
        }
        Ok(adopted)
    }

    fn accelerator(&self) -> &str {
        self.common.config.accelerator.as_str()
    }

    fn guest_version(&self) -> &str {
        &self.common.config.guest.version
    }
}

/// Asks a QEMU program for its version.
pub(crate) async fn qemu_version(program: &Path) -> Result<String, VmError> {
    let name = || VmError::host(format!("ask {} for its version", program.display()));
    let output = Command::new(program).arg("--version").kill_on_drop(true).output().await.map_err(name())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_ascii_whitespace().skip_while(|word| *word != "version").nth(1);
    version.map(str::to_owned).ok_or_else(|| name()(std::io::ErrorKind::InvalidData.into()))
}
