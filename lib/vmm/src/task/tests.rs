//! The task with a driver that does what the test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use monopod_types::MiB;
use tokio::sync::Notify;

use super::{Driver, Life, OwnedVm, Starting, own};
use crate::{ByteStream, Disk, Stage, Vm, VmError, VmExit, VmId};

/// How a start goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Succeeds,
    Fails,
    Panics,
    Hangs,
}

#[derive(Debug)]
struct Scripted {
    start: Start,
    killed: AtomicBool,
    news: Notify,
    released: AtomicUsize,
}

#[async_trait]
impl Driver for Scripted {
    async fn start(&self) -> Result<Vec<Stage>, VmError> {
        match self.start {
            Start::Succeeds => Ok(vec![Stage { name: "process", took: Duration::from_millis(1) }]),
            Start::Fails => Err(VmError::Full { places: 1 }),
            Start::Panics => panic!("a defect"),
            Start::Hangs => std::future::pending().await,
        }
    }
    fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.news.notify_one();
    }
    async fn exited(&self) -> VmExit {
        while !self.killed.load(Ordering::SeqCst) {
            self.news.notified().await;
        }
        VmExit::PoweredOff
    }
    async fn release(&self) {
        self.released.fetch_add(1, Ordering::SeqCst);
    }
    async fn connect(&self) -> Result<Box<dyn ByteStream>, VmError> {
        std::future::pending().await
    }
    async fn attach(&self, _: Disk) -> Result<(), VmError> {
        Ok(())
    }
    async fn detach(&self, _: &str) -> Result<(), VmError> {
        Ok(())
    }
    async fn overhead(&self) -> Result<MiB, VmError> {
        Ok(MiB(38))
    }
}

fn owned(start: Start, limit: Duration) -> (Arc<Scripted>, OwnedVm, Starting) {
    let driver = Scripted { start, killed: AtomicBool::default(), news: Notify::new(), released: AtomicUsize::new(0) };
    let driver = Arc::new(driver);
    let (vm, starting) = own(VmId::new("web").unwrap(), Arc::clone(&driver) as _, Life::Start(limit), Box::new(|| {}));
    (driver, vm, starting)
}

const LONG: Duration = Duration::from_secs(60);

fn released(driver: &Scripted) -> usize {
    driver.released.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_started_vm_answers_until_it_is_killed() {
    let (driver, vm, starting) = owned(Start::Succeeds, LONG);
    starting.finished().await.unwrap();
    assert_eq!(vm.stages().len(), 1);
    assert_eq!(vm.overhead().await.unwrap(), MiB(38));
    vm.kill().await.unwrap();
    assert_eq!((vm.wait().await, released(&driver)), (VmExit::Killed, 1));
    assert_eq!(vm.overhead().await.unwrap_err().reason(), "VmGone");
}

#[tokio::test]
async fn a_failed_start_is_released_and_told() {
    let (driver, _, starting) = owned(Start::Fails, LONG);
    assert_eq!(starting.finished().await.unwrap_err().reason(), "NoVmPlace");
    assert_eq!(released(&driver), 1);
}

#[tokio::test]
async fn a_panic_ends_its_vm_and_nothing_else() {
    let (driver, _, starting) = owned(Start::Panics, LONG);
    assert_eq!(starting.finished().await.unwrap_err().reason(), "VmTaskFailed");
    assert_eq!(released(&driver), 1);
}

#[tokio::test]
async fn stop_during_the_start_cancels_it() {
    let (driver, vm, starting) = owned(Start::Hangs, LONG);
    let (start, kill) = tokio::join!(starting.finished(), vm.kill());
    kill.unwrap();
    assert_eq!(start.unwrap_err().reason(), "VmStartCancelled");
    assert_eq!(released(&driver), 1);
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_is_ended() {
    let (driver, vm, starting) = owned(Start::Hangs, LONG);
    drop(starting);
    assert_eq!(vm.wait().await, VmExit::Killed);
    assert_eq!(released(&driver), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_takes_too_long_is_ended() {
    let (driver, _, starting) = owned(Start::Hangs, LONG);
    assert_eq!(starting.finished().await.unwrap_err().reason(), "VmTimedOut");
    assert_eq!(released(&driver), 1);
}

#[tokio::test]
async fn a_request_in_the_air_ends_with_the_vm() {
    let (_, vm, starting) = owned(Start::Succeeds, LONG);
    starting.finished().await.unwrap();
    let (connect, kill) = tokio::join!(vm.connect(), vm.kill());
    kill.unwrap();
    assert_eq!(connect.unwrap_err().reason(), "VmGone");
}

#[tokio::test]
async fn an_end_by_itself_is_told_as_it_was() {
    let (driver, vm, starting) = owned(Start::Succeeds, LONG);
    starting.finished().await.unwrap();
    driver.killed.store(true, Ordering::SeqCst);
    driver.news.notify_one();
    assert_eq!(vm.wait().await, VmExit::PoweredOff);
    assert_eq!(released(&driver), 1);
}
