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
use crate::spares::Spares;
use crate::template::{Template, Templates};

/// What all VMs have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) config: Arc<Config>,
    pub(crate) places: Arc<Places>,
    pub(crate) templates: Arc<Templates>,
    pub(crate) spares: Arc<Spares>,
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
    tap: Option<OwnedFd>,
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
        let wish = Wish { id: spec.id, cpu: spec.cpu, shape, tap: spec.tap, disks };
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

    fn sit(&self, seat: Seat) -> Arc<Seat> {
        let seat = Arc::new(seat);
        *self.seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&seat));
        seat
    }

    /// A guest that stands still where its template was saved.
    async fn restore(&self, wish: &Wish, template: &Template, watch: &mut Watch) -> Result<Arc<Seat>, VmError> {
        let seat = self.launch(wish, Origin::Restore, Some(template.folder.clone()), watch).await?;
        seat.load().await?;
        watch.lap("load");
        Ok(seat)
    }

    /// Starts from a template; false when that is not to be and the guest has to be booted.
    async fn start_from_template(&self, wish: &Wish, watch: &mut Watch) -> Result<bool, VmError> {
        let template = match self.common.templates.get(wish.shape).await {
            Ok(template) => template,
            Err(error) => {
                tell_of_boot(wish, &error);
                return Ok(false);
            }
        };
        watch.lap("template");
        if !self.use_spare(wish, watch).await {
            match self.restore(wish, &template, watch).await {
                // From here on a failure is none of the template's.
                Ok(seat) => self.equip(&seat, wish, watch).await?,
                Err(error) => {
                    tell_of_boot(wish, &error);
                    self.common.templates.discard(&template);
                    self.release().await;
                    watch.lap("restore-failed");
                    return Ok(false);
                }
            }
        }
        self.common.spares.refill(wish.shape, template);
        Ok(true)
    }

    /// Whether there was a process that had loaded the template already, and it could be used.
    async fn use_spare(&self, wish: &Wish, watch: &mut Watch) -> bool {
        let Some(seat) = self.common.spares.take(wish.shape) else { return false };
        let seat = self.sit(seat);
        watch.lap("spare");
        let Err(error) = self.equip(&seat, wish, watch).await else { return true };
        tracing::warn!(vm = %wish.id, error = &error as &dyn std::error::Error, "a spare could not be used");
        self.release().await;
        watch.lap("spare-failed");
        false
    }

    /// Starts a process and connects to its control channel.
    async fn launch(
        &self,
        wish: &Wish,
        origin: Origin,
        template: Option<PathBuf>,
        watch: &mut Watch,
    ) -> Result<Arc<Seat>, VmError> {
        let (config, places) = (&self.common.config, &self.common.places);
        let purpose = Purpose { id: Some(wish.id.clone()), shape: wish.shape, origin, template };
        let (seat, entering) = Seat::open(config, places, &purpose)?;
        let seat = self.sit(seat);
        seat.enter(entering).await?;
        watch.lap("process");
        seat.control().await?;
        watch.lap("control");
        Ok(seat)
    }

    /// Gives a guest that stands still what is its own, then lets it go.
    async fn equip(&self, seat: &Arc<Seat>, wish: &Wish, watch: &mut Watch) -> Result<(), VmError> {
        if let Some(tap) = &wish.tap {
            seat.plug(tap).await?;
            watch.lap("network");
        }
        for disk in &wish.disks {
            seat.attach(disk).await?;
        }
        watch.lap("disks");
        seat.started(&wish.id, wish.cpu + self.common.config.allowance.cpu)?;
        seat.resume().await?;
        seat.cap_soon();
        watch.lap("resume");
        Ok(())
    }
}

fn tell_of_boot(wish: &Wish, error: &VmError) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(vm = %wish.id, error, "a microVM is booted, as it could not be restored");
}

#[async_trait]
impl Driver for QemuDriver {
    async fn start(&self) -> Result<Vec<Stage>, VmError> {
        let Some(wish) = &self.wish else { return Ok(Vec::new()) };
        let mut watch = Watch { since: Instant::now(), stages: Vec::new() };
        if self.common.config.templates && self.start_from_template(wish, &mut watch).await? {
            return Ok(watch.stages);
        }
        let seat = self.launch(wish, Origin::Boot, None, &mut watch).await?;
        self.equip(&seat, wish, &mut watch).await?;
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
