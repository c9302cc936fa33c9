//! What the task of lib/vmm drives: one VM, first on its way, then in its seat.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use monopod_types::{MiB, MilliCpu};
use monopod_vmm::{ByteStream, Disk, Driver, Stage, VmError, VmExit, VmId, VmSpec};
use tokio::time::Instant;

use crate::arguments::{Origin, Shape};
use crate::config::Config;
use crate::place::Places;
use crate::seat::{OpenDisk, Purpose, Seat};
use crate::template::Templates;

/// What all VMs have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) config: Arc<Config>,
    pub(crate) places: Arc<Places>,
    pub(crate) templates: Arc<Templates>,
}

/// One VM.
#[derive(Debug)]
pub(crate) struct QemuDriver {
    common: Arc<Common>,
    wish: Option<Wish>,
    /// Where it sits now; a start that falls back leaves one seat for another.
    seat: Mutex<Option<Arc<Seat>>>,
}

/// What is to be started.
#[derive(Debug)]
struct Wish {
    id: VmId,
    cpu: MilliCpu,
    shape: Shape,
    tap: Option<Arc<OwnedFd>>,
    disks: Vec<OpenDisk>,
}

/// Notes how long each part takes.
struct Watch {
    since: Instant,
    stages: Vec<Stage>,
}

impl Watch {
    fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        self.stages.push(Stage { name, took: now - self.since });
        self.since = now;
    }
}

impl QemuDriver {
    /// For a VM that is to be started; opens its disks.
    pub(crate) fn new(common: Arc<Common>, spec: VmSpec) -> Result<Self, VmError> {
        spec.check()?;
        let (accelerator, vcpus) = (common.config.accelerator, spec.vcpus());
        let shape = Shape { accelerator, vcpus, memory: spec.memory };
        let disks = spec.disks.into_iter().map(OpenDisk::open).collect::<Result<_, _>>()?;
        let wish = Wish { id: spec.id, cpu: spec.cpu, shape, tap: spec.tap.map(Arc::new), disks };
        Ok(Self { common, wish: Some(wish), seat: Mutex::new(None) })
    }

    /// For a VM that an earlier life of the daemon started.
    pub(crate) fn adopted(common: Arc<Common>, seat: Seat) -> Self {
        Self { common, wish: None, seat: Mutex::new(Some(Arc::new(seat))) }
    }

    fn seat(&self) -> Option<Arc<Seat>> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn seated(&self) -> Result<Arc<Seat>, VmError> {
        self.seat().ok_or_else(|| VmError::Control { what: "there is no process".to_owned() })
    }

    async fn restore(&self, wish: &Wish, watch: &mut Watch) -> Result<(), VmError> {
        let template = self.common.templates.get(wish.shape).await?;
        watch.lap("template");
        let restored = self.bring_up(wish, Origin::Restore, Some(template.folder.clone()), watch).await;
        if restored.is_err() {
            self.common.templates.discard(&template);
        }
        restored
    }

    async fn bring_up(
        &self,
        wish: &Wish,
        origin: Origin,
        template: Option<PathBuf>,
        watch: &mut Watch,
    ) -> Result<(), VmError> {
        let (config, places) = (&self.common.config, &self.common.places);
        let purpose = Purpose { id: Some(wish.id.clone()), shape: wish.shape, origin, template, tap: wish.tap.clone() };
        let (seat, entering) = Seat::open(config, places, &purpose)?;
        let seat = Arc::new(seat);
        *self.seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&seat));
        seat.enter(entering).await?;
        watch.lap("process");
        seat.control().await?;
        watch.lap("control");
        if origin == Origin::Restore {
            seat.load().await?;
            watch.lap("load");
        }
        for disk in &wish.disks {
            seat.attach(disk).await?;
        }
        watch.lap("disks");
        seat.place.cgroup.cap_cpu(wish.cpu + config.allowance.cpu)?;
        seat.started()?;
        seat.resume().await?;
        watch.lap("resume");
        Ok(())
    }
}

#[async_trait]
impl Driver for QemuDriver {
    async fn start(&self) -> Result<Vec<Stage>, VmError> {
        let Some(wish) = &self.wish else { return Ok(Vec::new()) };
        let mut watch = Watch { since: Instant::now(), stages: Vec::new() };
        if self.common.config.templates {
            match self.restore(wish, &mut watch).await {
                Ok(()) => return Ok(watch.stages),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(vm = %wish.id, error, "a microVM is booted, as it could not be restored");
                }
            }
            self.release().await;
            watch.lap("restore-failed");
        }
        self.bring_up(wish, Origin::Boot, None, &mut watch).await?;
        Ok(watch.stages)
    }

    fn kill(&self) {
        if let Some(seat) = self.seat() {
            seat.kill();
        }
    }

    async fn exited(&self) -> VmExit {
        match self.seat() {
            Some(seat) => seat.ended().await,
            None => VmExit::Killed,
        }
    }

    async fn release(&self) {
        // Left in its seat until it is cleared, for the case that this is interrupted.
        if let Some(seat) = self.seat() {
            seat.clear().await;
            self.seat.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    async fn connect(&self) -> Result<Box<dyn ByteStream>, VmError> {
        self.seated()?.agent().await
    }

    async fn attach(&self, disk: Disk) -> Result<(), VmError> {
        self.seated()?.attach(&OpenDisk::open(disk)?).await
    }

    async fn detach(&self, serial: &str) -> Result<(), VmError> {
        self.seated()?.detach(serial).await
    }

    async fn overhead(&self) -> Result<MiB, VmError> {
        self.seated()?.overhead()
    }
}
