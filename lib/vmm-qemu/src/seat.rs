//! A seat is a QEMU process in its place, with its control channel: all that boots, restores, disks and ends are made of.

mod disks;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use monopod_types::{MiB, MilliCpu};
use monopod_vmm::{ByteStream, VmError, VmExit, VmId};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use crate::arguments::{Channels, HUB, Inherited, Origin, Program, Shape, arguments, inside};
use crate::config::{Accelerator, Config};
use crate::console::last_words;
use crate::jail::{Bind, Launched, Order, launch};
use crate::place::{Place, Places};
use crate::process::Process;
use crate::qmp::{Client, Shutdown, wait_for};
use crate::record::Record;

pub(crate) use disks::OpenDisk;

/// Name of the control channel's socket in a place's folder.
const CONTROL: &str = "control";
/// Name of the agent's socket.
const AGENT: &str = "agent";
/// Name of the file with what the process says.
const LOG: &str = "log";

/// Bytes of the log that are quoted.
const QUOTED: usize = 500;

/// How long the control channel may be closed before the process is killed for it.
const SILENCE: Duration = Duration::from_secs(5);

/// What a process is started for.
#[derive(Debug)]
pub(crate) struct Purpose {
    pub(crate) id: Option<VmId>,
    pub(crate) shape: Shape,
    pub(crate) origin: Origin,
    /// The template's folder, to be filled or to be restored.
    pub(crate) template: Option<PathBuf>,
}

/// A QEMU process in its place.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) place: Place,
    config: Arc<Config>,
    record: Mutex<Record>,
    process: Process,
    client: OnceLock<Client>,
    disks: tokio::sync::Mutex<disks::Disks>,
    /// How it ended, once that is known.
    exit: Mutex<Option<VmExit>>,
    /// Caps its CPU time when its start is over.
    capping: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// A process on its way into its jail.
#[derive(Debug)]
pub(crate) struct Entering {
    socket: std::os::unix::net::UnixStream,
}

impl Seat {
    /// Starts a process. Does not wait: the caller must hold the seat before it may be interrupted.
    pub(crate) fn open(
        config: &Arc<Config>,
        places: &Arc<Places>,
        purpose: &Purpose,
    ) -> Result<(Self, Entering), VmError> {
        let record = Record::new(purpose.id.as_ref().map(|id| id.as_str().to_owned()));
        let place = places.take(&record, purpose.shape.memory + config.allowance.memory)?;
        match start_process(config, &place, purpose) {
            Ok((process, socket)) => {
                let seat = Self {
                    place,
                    config: Arc::clone(config),
                    record: Mutex::new(record),
                    process,
                    client: OnceLock::new(),
                    disks: tokio::sync::Mutex::default(),
                    exit: Mutex::new(None),
                    capping: Mutex::new(None),
                };
                Ok((seat, Entering { socket }))
            }
            Err(error) => {
                place.unfurnish();
                Err(error)
            }
        }
    }

    /// Takes over the process in a place that an earlier life of the daemon left; none when it has ended or was never
    /// ready.
    pub(crate) async fn adopt(config: &Arc<Config>, place: Place) -> Result<(Self, VmId), Place> {
        let Some((record, process, id)) = left_running(&place) else { return Err(place) };
        let client = match UnixStream::connect(place.folder.join(CONTROL)).await {
            Ok(stream) => Client::greet(stream, config.limits.command).await,
            Err(error) => Err(VmError::host("connect to the control channel")(error)),
        };
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!(vm = %id, error = &error as &dyn std::error::Error, "a microVM of an earlier life is lost");
                return Err(place);
            }
        };
        let status = client.command("query-status", json!({})).await.unwrap_or_default();
        if status.get("status").and_then(Value::as_str) == Some("shutdown") {
            client.has_shut_down("");
        }
        let disks = disks::Disks::found(&client).await.unwrap_or_default();
        let seat = Self {
            place,
            config: Arc::clone(config),
            record: Mutex::new(record),
            process,
            client: OnceLock::from(client),
            disks: tokio::sync::Mutex::new(disks),
            exit: Mutex::new(None),
            capping: Mutex::new(None),
        };
        seat.cap();
        Ok((seat, id))
    }

    /// Waits until the process is in its jail.
    pub(crate) async fn enter(&self, entering: Entering) -> Result<(), VmError> {
        Launched::entered(entering.socket).await
    }

    /// Connects to the control channel.
    pub(crate) async fn control(&self) -> Result<&Client, VmError> {
        let stream = UnixStream::connect(self.place.folder.join(CONTROL)).await;
        let stream = stream.map_err(VmError::host("connect to the control channel"))?;
        match Client::greet(stream, self.config.limits.command).await {
            Ok(client) => Ok(self.client.get_or_init(|| client)),
            Err(error) => Err(self.explained(error).await),
        }
    }

    /// When the control channel fails because the process has ended, that is what is to be told.
    async fn explained(&self, error: VmError) -> VmError {
        match tokio::time::timeout(Duration::from_secs(1), self.process.ended()).await {
            Ok(how) => VmError::Died { how: self.with_log(how) },
            Err(_) => error,
        }
    }

    pub(crate) fn client(&self) -> Result<&Client, VmError> {
        self.client.get().ok_or_else(|| VmError::Control { what: "it is not open yet".to_owned() })
    }

    /// Carries out one command.
    pub(crate) async fn command(&self, name: &str, arguments: Value) -> Result<Value, VmError> {
        self.client()?.command(name, arguments).await
    }

    /// Saves the stopped guest to its template's folder.
    pub(crate) async fn save(&self) -> Result<(), VmError> {
        self.transfer("migrate").await
    }

    /// Loads the guest from its template's folder.
    pub(crate) async fn load(&self) -> Result<(), VmError> {
        self.transfer("migrate-incoming").await
    }

    /// Either way: the memory is a shared file and stays where it is; only the state of the devices goes through.
    async fn transfer(&self, command: &str) -> Result<(), VmError> {
        let client = self.client()?;
        let on = |name: &str| json!({"capability": name, "state": true});
        let capabilities = json!({"capabilities": [on("x-ignore-shared"), on("events")]});
        client.command("migrate-set-capabilities", capabilities).await?;
        let mut events = client.events();
        client.command(command, json!({"uri": format!("file:{}", inside::STATE)})).await?;
        let over = wait_for(&mut events, |name, data| {
            name == "MIGRATION" && matches!(data.get("status").and_then(Value::as_str), Some("completed" | "failed"))
        });
        let limit = self.config.limits.transfer;
        let late = |_| VmError::TimedOut { what: command.to_owned(), limit };
        let data = match tokio::time::timeout(limit, over).await.map_err(late)? {
            Ok(data) => data,
            Err(error) => return Err(self.explained(error).await),
        };
        if data.get("status").and_then(Value::as_str) == Some("completed") {
            return Ok(());
        }
        let about = client.command("query-migrate", json!({})).await.unwrap_or_default();
        let message = about.get("error-desc").and_then(Value::as_str).unwrap_or("it failed").to_owned();
        Err(VmError::Refused { command: command.to_owned(), message })
    }

    /// Plugs a tap into the network card.
    pub(crate) async fn plug(&self, tap: &OwnedFd) -> Result<(), VmError> {
        let client = self.client()?;
        let host = json!({"type": "tap", "id": "tap", "fd": "tap", "vhost": false});
        let cable = json!({"type": "hubport", "id": "cable", "hubid": HUB, "netdev": "tap"});
        // Written at once; QEMU carries them out one after the other.
        let (handed, host, cable) = tokio::join!(
            client.command_with_file("getfd", json!({"fdname": "tap"}), tap),
            client.command("netdev_add", host),
            client.command("netdev_add", cable),
        );
        handed.and(host).and(cable).map(drop)
    }

    /// Lets the guest's processors run.
    pub(crate) async fn resume(&self) -> Result<(), VmError> {
        self.command("cont", json!({})).await.map(drop)
    }

    /// Caps its CPU time from now on, as is written down.
    fn cap(&self) {
        let cap = self.record.lock().unwrap_or_else(PoisonError::into_inner).cpu_cap;
        let Some(cap) = cap else { return };
        if let Err(error) = self.place.cgroup.cap_cpu(MilliCpu(cap))
            && self.known_exit().is_none()
        {
            let error: &dyn std::error::Error = &error;
            tracing::error!(folder = %self.place.folder.display(), error, "CPU time of the microVM is not capped");
        }
    }

    /// Caps its CPU time when it has had the time to start. Ends with the seat.
    pub(crate) fn cap_soon(self: &Arc<Self>) {
        let (seat, after) = (Arc::downgrade(self), self.config.allowance.start);
        let task = tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(seat) = seat.upgrade() {
                seat.cap();
            }
        });
        *self.capping.lock().unwrap_or_else(PoisonError::into_inner) = Some(AbortOnDropHandle::new(task));
    }

    /// Writes down whose it is, what CPU time it may use, and that it can be adopted from now on.
    pub(crate) fn started(&self, id: &VmId, cpu: MilliCpu) -> Result<(), VmError> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.process = self.process.record();
        record.id = Some(id.as_str().to_owned());
        record.started = true;
        record.cpu_cap = Some(cpu.0);
        record.write(&self.place.folder).map_err(VmError::host("write down the microVM"))
    }

    /// Connects to the agent's stream.
    pub(crate) async fn agent(&self) -> Result<Box<dyn ByteStream>, VmError> {
        let stream = UnixStream::connect(self.place.folder.join(AGENT)).await;
        Ok(Box::new(stream.map_err(VmError::host("connect to the agent's channel"))?))
    }

    /// Kills the process.
    pub(crate) fn kill(&self) {
        self.process.kill();
    }

    /// Waits for the end of the guest or its process and says how that was. A guest that has stopped for good is asked
    /// for its last words and its process is killed. May be dropped and called again.
    pub(crate) async fn ended(&self) -> VmExit {
        let exit = match self.known_exit() {
            Some(exit) => exit,
            None => self.find_exit().await,
        };
        *self.exit.lock().unwrap_or_else(PoisonError::into_inner) = Some(exit.clone());
        self.kill();
        self.process.ended().await;
        exit
    }

    fn known_exit(&self) -> Option<VmExit> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn find_exit(&self) -> VmExit {
        let shutdown = async {
            match self.client.get() {
                Some(client) => client.shutdown().await,
                None => std::future::pending().await,
            }
        };
        let died = |how| VmExit::VmmDied(self.with_log(how));
        tokio::select! {
            biased;
            how = self.process.ended() => died(how),
            shutdown = shutdown => match shutdown {
                Shutdown::Because(reason) => self.stopped(&reason).await,
                Shutdown::Closed | Shutdown::No => match tokio::time::timeout(SILENCE, self.process.ended()).await {
                    Ok(how) => died(how),
                    Err(_) => VmExit::VmmDied("its control channel failed".to_owned()),
                },
            },
        }
    }

    /// Tells a guest that powered off from one that gave up, by why QEMU says it stopped and what its kernel said.
    async fn stopped(&self, reason: &str) -> VmExit {
        let size = crate::arguments::CONSOLE_BYTES;
        let said = self.command("ringbuf-read", json!({"device": "console", "size": size})).await.unwrap_or_default();
        match (last_words(said.as_str().unwrap_or_default()), reason) {
            (Some(words), _) => VmExit::Panicked(words),
            (None, "guest-reset") => VmExit::Panicked("it restarted without a word".to_owned()),
            (None, _) => VmExit::PoweredOff,
        }
    }

    /// Adds the end of what the process said to how it ended.
    fn with_log(&self, how: String) -> String {
        let text = fs::read(self.place.folder.join(LOG)).unwrap_or_default();
        let text = text.get(text.len().saturating_sub(QUOTED)..).unwrap_or(&text);
        let text = String::from_utf8_lossy(text);
        // Warnings, as of a card without a cable, explain no end.
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains(": warning: ")).collect();
        let text: String = lines.join("; ").chars().filter(|letter| !letter.is_control()).collect();
        if text.is_empty() { how } else { format!("{how}: {text}") }
    }

    /// Memory that it costs this machine beyond the guest's own.
    pub(crate) fn overhead(&self) -> Result<MiB, VmError> {
        self.process.overhead().map_err(VmError::host("measure the VMM's memory"))
    }

    /// Kills it and takes everything back.
    pub(crate) async fn clear(&self) {
        self.kill();
        self.process.ended().await;
        self.place.clear().await;
    }
}

/// The record, process and name of a place whose VM can be adopted.
fn left_running(place: &Place) -> Option<(Record, Process, VmId)> {
    let record = Record::read(&place.folder)?;
    if record.version != 1 || !record.started || record.boot_id != crate::record::boot_id() {
        return None;
    }
    let process = Process::adopt(record.process?).ok().flatten()?;
    let id = VmId::new(record.id.clone()?).ok()?;
    Some((record, process, id))
}

fn start_process(
    config: &Config,
    place: &Place,
    purpose: &Purpose,
) -> Result<(Process, std::os::unix::net::UnixStream), VmError> {
    let listen = |name| UnixListener::bind(place.folder.join(name)).map_err(VmError::host(format!("listen on {name}")));
    let (control, agent) = (listen(CONTROL)?, listen(AGENT)?);
    let root = place.folder.join("root");
    fs::create_dir(&root).map_err(VmError::host("make the jail's root"))?;
    let kvm = match purpose.shape.accelerator {
        Accelerator::Kvm => Some(open_kvm().map_err(VmError::host("open /dev/kvm"))?),
        Accelerator::Tcg => None,
    };
    let mut files = vec![control.as_fd(), agent.as_fd()];
    let kvm = kvm.as_ref().map(|kvm| inherit(&mut files, kvm.as_fd()));
    let channels = Channels { control: Inherited(0), agent: Inherited(1), kvm };
    let program = Program { qemu: &config.qemu, kernel_parameters: &config.guest.kernel_parameters };
    let order = Order {
        cgroup_entrances: place.cgroup.entrances(),
        root,
        binds: binds(config, purpose),
        user: place.user,
        command: arguments(&program, purpose.shape, purpose.origin, channels),
    };
    let log = log_file(&place.folder).map_err(VmError::host("make the VMM's log"))?;
    let (child, socket) = launch(&config.jail, &order, &files, log)?.into_parts();
    let process = Process::started(child).map_err(VmError::host("watch the VMM's process"))?;
    Ok((process, socket))
}

fn inherit<'a>(files: &mut Vec<BorrowedFd<'a>>, file: BorrowedFd<'a>) -> Inherited {
    files.push(file);
    Inherited(files.len() - 1)
}

fn open_kvm() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/kvm")
}

fn log_file(folder: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).append(true).open(folder.join(LOG))
}

/// What of the host a process sees.
fn binds(config: &Config, purpose: &Purpose) -> Vec<Bind> {
    let mut binds = crate::jail::program_binds();
    match purpose.origin {
        Origin::Boot | Origin::MakeTemplate => {
            binds.push(Bind::read_only(&config.guest.kernel, inside::KERNEL));
            binds.push(Bind::read_only(&config.guest.initrd, inside::INITRD));
        }
        Origin::Restore => {}
    }
    if let Some(template) = &purpose.template {
        binds.push(match purpose.origin {
            Origin::MakeTemplate => Bind::read_write(template, inside::TEMPLATE),
            Origin::Boot | Origin::Restore => Bind::read_only(template, inside::TEMPLATE),
        });
    }
    binds
}
