//! The task that owns one VM: it alone steps the state machine and calls the [`Driver`].
//!
//! Handles send requests with a reply channel. A request to end the VM is taken at any time, also during the start; the
//! others are carried out beside each other while the VM runs, and are dropped when it ends.

#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use monopod_types::MiB;
use monopod_vmstate::{Action, End, Event, Millis, VmState};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::{ByteStream, Disk, Stage, Vm, VmError, VmExit, VmId};

/// How many requests wait for the task at most.
const QUEUE: usize = 16;

/// What an implementation does for one VM. The task calls it in this order: `start` (which may be dropped at any await),
/// then any of the requests, `kill` at any time after that, `exited` until it returns, and `release` once at the end.
#[async_trait]
pub trait Driver: Debug + Send + Sync + 'static {
    /// Brings the VM to where its agent's channel can be connected to; says what that was made of.
    async fn start(&self) -> Result<Vec<Stage>, VmError>;
    /// Kills the process, if there is one. May be called again.
    fn kill(&self);
    /// Waits for the end of the process; at once when there is none. May be dropped and called again.
    async fn exited(&self) -> VmExit;
    /// Takes back all that the VM had. What cannot be taken back is logged.
    async fn release(&self);
    /// See [`Vm::connect`].
    async fn connect(&self) -> Result<Box<dyn ByteStream>, VmError>;
    /// See [`Vm::attach`].
    async fn attach(&self, disk: Disk) -> Result<(), VmError>;
    /// See [`Vm::detach`].
    async fn detach(&self, serial: &str) -> Result<(), VmError>;
    /// See [`Vm::overhead`].
    async fn overhead(&self) -> Result<MiB, VmError>;
}

/// Where the life of a VM begins for its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It is to be started, within this time.
    Start(Duration),
    /// It runs already.
    Adopted,
}

/// The handle of a VM with a task of its own.
#[derive(Clone, Debug)]
pub struct OwnedVm {
    id: VmId,
    requests: mpsc::Sender<Request>,
    progress: watch::Receiver<Progress>,
}

/// What everybody may know of a VM.
#[derive(Clone, Debug)]
enum Progress {
    Starting,
    Running(Vec<Stage>),
    Gone(VmExit, Vec<Stage>),
}

#[derive(Debug)]
enum Request {
    Connect(oneshot::Sender<Result<Box<dyn ByteStream>, VmError>>),
    Attach(Disk, oneshot::Sender<Result<(), VmError>>),
    Detach(String, oneshot::Sender<Result<(), VmError>>),
    Overhead(oneshot::Sender<Result<MiB, VmError>>),
    Kill,
}

/// Gives a VM to a task of its own. `ended` is called when nothing is left of it, before anybody is told.
pub fn own(id: VmId, driver: Arc<dyn Driver>, life: Life, ended: Box<dyn FnOnce() + Send>) -> (OwnedVm, Starting) {
    let (requests, inbox) = mpsc::channel(QUEUE);
    let (progress, watcher) = watch::channel(match life {
        Life::Start(_) => Progress::Starting,
        Life::Adopted => Progress::Running(Vec::new()),
    });
    let failure = Arc::new(Mutex::new(None));
    let task = Task::new(id.clone(), driver, life, Arc::clone(&failure), progress);
    tokio::spawn(task.run(inbox, ended));
    let vm = OwnedVm { id, requests, progress: watcher };
    let starting = Starting { vm: vm.clone(), failure, over: false };
    (vm, starting)
}

/// The start of a VM. Dropping it before it is over ends the VM.
#[derive(Debug)]
pub struct Starting {
    vm: OwnedVm,
    failure: Arc<Mutex<Option<VmError>>>,
    over: bool,
}

impl Starting {
    /// Waits until the VM runs.
    ///
    /// # Errors
    /// Why it does not; nothing is left of it then.
    pub async fn finished(mut self) -> Result<OwnedVm, VmError> {
        let mut progress = self.vm.progress.clone();
        let ended = match progress.wait_for(|progress| !matches!(progress, Progress::Starting)).await {
            Ok(progress) => matches!(*progress, Progress::Gone(..)),
            Err(_) => true,
        };
        self.over = true;
        if !ended {
            return Ok(self.vm.clone());
        }
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(failure.unwrap_or_else(|| VmError::Gone { id: self.vm.id.clone() }))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // A full queue cannot be: nobody else has a handle while the VM starts but those who want to end it.
        if !self.over {
            drop(self.vm.requests.try_send(Request::Kill));
        }
    }
}

impl OwnedVm {
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T, VmError>>) -> Request) -> Result<T, VmError> {
        let gone = || VmError::Gone { id: self.id.clone() };
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl Vm for OwnedVm {
    fn id(&self) -> &VmId {
        &self.id
    }

    fn stages(&self) -> Vec<Stage> {
        match &*self.progress.borrow() {
            Progress::Starting => Vec::new(),
            Progress::Running(stages) | Progress::Gone(_, stages) => stages.clone(),
        }
    }

    async fn connect(&self) -> Result<Box<dyn ByteStream>, VmError> {
        self.ask(Request::Connect).await
    }

    async fn attach(&self, disk: Disk) -> Result<(), VmError> {
        disk.check()?;
        self.ask(|reply| Request::Attach(disk, reply)).await
    }

    async fn detach(&self, serial: &str) -> Result<(), VmError> {
        self.ask(|reply| Request::Detach(serial.to_owned(), reply)).await
    }

    async fn kill(&self) -> Result<(), VmError> {
        // A closed queue means that it has ended.
        drop(self.requests.send(Request::Kill).await);
        self.wait().await;
        Ok(())
    }

    async fn wait(&self) -> VmExit {
        let mut progress = self.progress.clone();
        match progress.wait_for(|progress| matches!(progress, Progress::Gone(..))).await.as_deref() {
            Ok(Progress::Gone(exit, _)) => exit.clone(),
            Ok(Progress::Starting | Progress::Running(_)) | Err(_) => {
                VmExit::VmmDied("the task of the microVM failed".to_owned())
            }
        }
    }

    async fn overhead(&self) -> Result<MiB, VmError> {
        self.ask(Request::Overhead).await
    }
}

type StartHandle = JoinHandle<Result<Vec<Stage>, VmError>>;

struct Task {
    id: VmId,
    driver: Arc<dyn Driver>,
    state: VmState,
    since: Instant,
    life: Life,
    start: Option<StartHandle>,
    running: JoinSet<()>,
    stages: Vec<Stage>,
    exit: Option<VmExit>,
    failure: Arc<Mutex<Option<VmError>>>,
    progress: watch::Sender<Progress>,
}

/// What the task woke up for.
enum Wake {
    Started(Result<Vec<Stage>, VmError>),
    Exited(VmExit),
    Asked(Request),
    Time,
}

impl Task {
    fn new(
        id: VmId,
        driver: Arc<dyn Driver>,
        life: Life,
        failure: Arc<Mutex<Option<VmError>>>,
        progress: watch::Sender<Progress>,
    ) -> Self {
        let state = match life {
            Life::Start(limit) => VmState::starting(Millis(to_millis(limit))),
            Life::Adopted => VmState::adopted(),
        };
        let (since, running) = (Instant::now(), JoinSet::new());
        Self { id, driver, state, since, life, start: None, running, stages: Vec::new(), exit: None, failure, progress }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Request>, ended: Box<dyn FnOnce() + Send>) {
        if let VmState::Starting { .. } = self.state {
            let driver = Arc::clone(&self.driver);
            // A task of its own, so that a panic in it ends this VM and nothing else.
            self.start = Some(tokio::spawn(async move { driver.start().await }));
        }
        let mut ended = Some(ended);
        while !matches!(self.state, VmState::Gone { .. }) {
            let event = match self.wake(&mut inbox).await {
                Wake::Started(outcome) => self.start_ended(outcome),
                Wake::Exited(exit) => {
                    self.exit.get_or_insert(exit);
                    Event::Exited
                }
                Wake::Asked(Request::Kill) => Event::KillAsked,
                Wake::Asked(request) => {
                    self.serve(request);
                    continue;
                }
                Wake::Time => Event::Tick,
            };
            self.step(event, &mut ended).await;
        }
    }

    /// Waits for the next thing that happens. All of it may be dropped and waited for again.
    async fn wake(&mut self, inbox: &mut mpsc::Receiver<Request>) -> Wake {
        let tick = self.state.next_tick().map(|at| self.since + Duration::from_millis(at.0));
        let id = self.id.clone();
        let exited = self.start.is_none();
        let start = async {
            match self.start.as_mut() {
                Some(handle) => match handle.await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(VmError::Bug { id }),
                },
                None => std::future::pending().await,
            }
        };
        let time = async {
            match tick {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            outcome = start => Wake::Started(outcome),
            exit = self.driver.exited(), if exited => Wake::Exited(exit),
            Some(request) = inbox.recv() => Wake::Asked(request),
            () = time => Wake::Time,
        }
    }

    fn start_ended(&mut self, outcome: Result<Vec<Stage>, VmError>) -> Event {
        self.start = None;
        match outcome {
            Ok(stages) => {
                self.stages = stages;
                Event::StartSucceeded
            }
            Err(error) => {
                self.fail(error);
                Event::StartFailed
            }
        }
    }

    async fn step(&mut self, event: Event, ended: &mut Option<Box<dyn FnOnce() + Send>>) {
        let mut event = Some(event);
        while let Some(this) = event.take() {
            let (next, actions) = self.state.step(this, Millis(to_millis(self.since.elapsed())));
            self.state = next;
            for action in actions {
                match action {
                    Action::AbandonStart => self.abandon_start().await,
                    Action::TellStarted => {
                        self.progress.send_replace(Progress::Running(self.stages.clone()));
                    }
                    Action::Kill => self.driver.kill(),
                    Action::Release => {
                        self.running.shutdown().await;
                        self.driver.release().await;
                        event = Some(Event::Released);
                    }
                    Action::TellGone(end) => self.tell_gone(end, ended.take()),
                }
            }
        }
    }

    async fn abandon_start(&mut self) {
        if let Some(handle) = self.start.take() {
            handle.abort();
            drop(handle.await);
        }
    }

    fn fail(&self, error: VmError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn tell_gone(&mut self, end: End, ended: Option<Box<dyn FnOnce() + Send>>) {
        let id = self.id.clone();
        let died = |exit: Option<VmExit>| exit.unwrap_or_else(|| VmExit::VmmDied("no reason is known".to_owned()));
        let exit = match end {
            End::Asked => {
                self.fail(VmError::Cancelled { id });
                VmExit::Killed
            }
            End::ByItself => died(self.exit.take()),
            End::StartFailed => {
                self.fail(VmError::Bug { id });
                VmExit::Killed
            }
            End::StartTimedOut => {
                let limit = if let Life::Start(limit) = self.life { limit } else { Duration::ZERO };
                self.fail(VmError::TimedOut { what: format!("the start of microVM {id}"), limit });
                VmExit::Killed
            }
        };
        if let Some(ended) = ended {
            ended();
        }
        self.progress.send_replace(Progress::Gone(exit, std::mem::take(&mut self.stages)));
    }

    /// Carries a request out beside the others. While the VM does not run, the reply channel is dropped, which says so.
    fn serve(&mut self, request: Request) {
        while self.running.try_join_next().is_some() {}
        if !matches!(self.state, VmState::Running) {
            return;
        }
        let driver = Arc::clone(&self.driver);
        self.running.spawn(async move {
            // Nobody is there to hear the reply when the caller has given up.
            match request {
                Request::Connect(reply) => drop(reply.send(driver.connect().await)),
                Request::Attach(disk, reply) => drop(reply.send(driver.attach(disk).await)),
                Request::Detach(serial, reply) => drop(reply.send(driver.detach(&serial).await)),
                Request::Overhead(reply) => drop(reply.send(driver.overhead().await)),
                Request::Kill => {}
            }
        });
    }
}

fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
