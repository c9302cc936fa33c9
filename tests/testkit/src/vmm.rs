//! A `Vmm` without guests: each VM is a [`FakeGuest`] at the end of a pipe.
//!
//! VMs belong to a [`FakeMachine`], which survives the `FakeVmm`: a test that "kills the daemon" drops the latter and
//! makes a new one on the same machine. The life of a VM is the real one, `core/vmstate` in its task.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use monopod_types::MiB;
use monopod_vmm::{ByteStream, Disk, Driver, Life, OwnedVm, Stage, Vm, VmError, VmExit, VmId, VmSpec, Vmm, own};
use tokio::io::{copy_bidirectional, duplex};
use tokio::sync::watch;

use crate::guest::FakeGuest;

/// Bytes that the pipe to a guest holds.
const PIPE: usize = 64 << 10;

/// How long a start may take.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What happens to the next VM that is started.
#[derive(Debug)]
pub enum NextStart {
    /// It fails.
    Fails(VmError),
    /// It takes so long.
    Takes(Duration),
}

/// VMs that run, whoever started them. Clones are the same machine.
#[derive(Clone, Debug, Default)]
pub struct FakeMachine {
    shared: Arc<Mutex<Machine>>,
}

#[derive(Debug, Default)]
struct Machine {
    running: BTreeMap<VmId, Arc<FakeVm>>,
    next_starts: VecDeque<NextStart>,
    /// Made before their VM, so that they can be scripted.
    guests: BTreeMap<VmId, FakeGuest>,
    calls: Vec<String>,
}

/// A `Vmm` without guests.
#[derive(Clone, Debug, Default)]
pub struct FakeVmm {
    machine: FakeMachine,
}

/// One VM of a fake machine.
#[derive(Debug)]
struct FakeVm {
    id: VmId,
    machine: FakeMachine,
    guest: FakeGuest,
    disks: Mutex<Vec<Disk>>,
    /// Kept open like QEMU does.
    _tap: Option<std::os::fd::OwnedFd>,
    next_start: Mutex<Option<NextStart>>,
    exit: watch::Sender<Option<VmExit>>,
    /// The handle of the daemon that has it.
    owner: Mutex<Option<OwnedVm>>,
}

impl FakeMachine {
    /// The guest of a VM: the one that runs, or the one that will. So it can be scripted ahead.
    pub fn guest(&self, id: &VmId) -> FakeGuest {
        self.lock().guests.entry(id.clone()).or_default().clone()
    }

    /// Names of the VMs that run.
    pub fn running(&self) -> Vec<VmId> {
        self.lock().running.keys().cloned().collect()
    }

    /// Disks of a VM that runs.
    pub fn disks(&self, id: &VmId) -> Vec<Disk> {
        let vm = self.lock().running.get(id).cloned();
        vm.map(|vm| vm.disks().clone()).unwrap_or_default()
    }

    /// The VM ends by itself in some way, such as `VmExit::Panicked`.
    pub fn end(&self, id: &VmId, exit: VmExit) {
        let vm = self.lock().running.get(id).cloned();
        if let Some(vm) = vm {
            vm.end(exit);
        }
    }

    /// What the next start does; several are taken in turn.
    pub fn next_start(&self, next: NextStart) {
        self.lock().next_starts.push_back(next);
    }

    /// What was asked of the machine so far: `start web`, `attach web image-1`, `kill web`.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn called(&self, call: String) {
        self.lock().calls.push(call);
    }
}

impl FakeVmm {
    /// A machine of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another daemon on a machine.
    pub fn on(machine: &FakeMachine) -> Self {
        Self { machine: machine.clone() }
    }

    /// Its machine.
    pub fn machine(&self) -> &FakeMachine {
        &self.machine
    }

    fn new_vm(&self, spec: VmSpec) -> Result<Arc<FakeVm>, VmError> {
        let VmSpec { id, tap, disks, .. } = spec;
        self.machine.called(format!("start {id}"));
        let guest = self.machine.guest(&id);
        let mut machine = self.machine.lock();
        if machine.running.contains_key(&id) {
            return Err(VmError::Exists { id });
        }
        let vm = Arc::new(FakeVm {
            id: id.clone(),
            machine: self.machine.clone(),
            guest,
            disks: Mutex::new(disks),
            _tap: tap,
            next_start: Mutex::new(machine.next_starts.pop_front()),
            exit: watch::Sender::new(None),
            owner: Mutex::default(),
        });
        machine.running.insert(id, Arc::clone(&vm));
        Ok(vm)
    }
}

#[async_trait]
impl Vmm for FakeVmm {
    async fn start(&self, spec: VmSpec) -> Result<Arc<dyn Vm>, VmError> {
        spec.check()?;
        let id = spec.id.clone();
        let vm = self.new_vm(spec)?;
        let (owner, starting) = own(id, Arc::clone(&vm) as Arc<dyn Driver>, Life::Start(START_LIMIT), Box::new(|| {}));
        vm.belongs_to(owner);
        Ok(Arc::new(starting.finished().await?))
    }

    async fn kill(&self, id: &VmId) -> Result<(), VmError> {
        let vm = self.machine.lock().running.get(id).cloned();
        let Some(vm) = vm else { return Ok(()) };
        self.machine.called(format!("kill {id}"));
        let owner = vm.owner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(owner) = owner { owner.kill().await } else { Ok(()) }
    }

    async fn adopt(&self) -> Result<Vec<Arc<dyn Vm>>, VmError> {
        let running: Vec<Arc<FakeVm>> = self.machine.lock().running.values().cloned().collect();
        let adopt = |vm: Arc<FakeVm>| {
            let driver = Arc::clone(&vm) as Arc<dyn Driver>;
            let (owner, starting) = own(vm.id.clone(), driver, Life::Adopted, Box::new(|| {}));
            // It runs already: dropped before it is over, the start would end it.
            tokio::spawn(starting.finished());
            vm.belongs_to(owner.clone());
            Arc::new(owner) as Arc<dyn Vm>
        };
        Ok(running.into_iter().map(adopt).collect())
    }

    fn accelerator(&self) -> &'static str {
        "fake"
    }

    fn guest_version(&self) -> &'static str {
        "fake"
    }
}

impl FakeVm {
    fn end(&self, exit: VmExit) {
        self.exit.send_if_modified(|now| {
            let first = now.is_none();
            if first {
                *now = Some(exit);
            }
            first
        });
    }

    fn belongs_to(&self, owner: OwnedVm) {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = Some(owner);
    }

    fn disks(&self) -> MutexGuard<'_, Vec<Disk>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Driver for FakeVm {
    async fn start(&self) -> Result<Vec<Stage>, VmError> {
        let next = self.next_start.lock().unwrap_or_else(PoisonError::into_inner).take();
        match next {
            Some(NextStart::Fails(error)) => Err(error),
            Some(NextStart::Takes(time)) => {
                tokio::time::sleep(time).await;
                Ok(vec![Stage { name: "process", took: time }])
            }
            None => Ok(vec![Stage { name: "process", took: Duration::ZERO }]),
        }
    }

    fn kill(&self) {
        self.end(VmExit::Killed);
    }

    async fn exited(&self) -> VmExit {
        let mut exit = self.exit.subscribe();
        tokio::select! {
            exit = exit.wait_for(Option::is_some) => {
                exit.ok().and_then(|exit| exit.clone()).unwrap_or(VmExit::Killed)
            }
            () = self.guest.powered_off() => VmExit::PoweredOff,
        }
    }

    async fn release(&self) {
        self.end(VmExit::PoweredOff);
        let mut machine = self.machine.lock();
        machine.running.remove(&self.id);
        // The next VM of that name is another one.
        machine.guests.remove(&self.id);
    }

    async fn connect(&self) -> Result<Box<dyn ByteStream>, VmError> {
        let (ours, mut outer) = duplex(PIPE);
        let (mut inner, theirs) = duplex(PIPE);
        let guest = self.guest.clone();
        tokio::spawn(async move { guest.serve(theirs).await });
        let mut exit = self.exit.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = copy_bidirectional(&mut outer, &mut inner) => {}
                // The stream breaks when the VM ends.
                _ = exit.wait_for(Option::is_some) => {}
            }
        });
        Ok(Box::new(ours))
    }

    async fn attach(&self, disk: Disk) -> Result<(), VmError> {
        self.machine.called(format!("attach {} {}", self.id, disk.serial));
        if !disk.path.exists() {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(VmError::Host { what: format!("open disk {}", disk.path.display()), source });
        }
        let mut disks = self.disks();
        if disks.iter().any(|other| other.serial == disk.serial) {
            return Err(VmError::InvalidSpec { what: format!("two disks with serial {}", disk.serial) });
        }
        disks.push(disk);
        Ok(())
    }

    async fn detach(&self, serial: &str) -> Result<(), VmError> {
        self.machine.called(format!("detach {} {serial}", self.id));
        let mut disks = self.disks();
        let before = disks.len();
        disks.retain(|disk| disk.serial != serial);
        if disks.len() == before { Err(VmError::NoDisk { serial: serial.to_owned() }) } else { Ok(()) }
    }

    async fn overhead(&self) -> Result<MiB, VmError> {
        Ok(MiB(1))
    }
}
