//! A network namespace per test, and what tests do in it.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod guest;
pub(crate) mod outside;

use std::future::Future;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

/// Runs a test in a new network namespace, which ends with the thread that it runs in and what it started.
pub(crate) fn in_new_namespace(test: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("needs root: a network namespace for the test");
        run("ip", &["link", "set", "lo", "up"]);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(100), test).await.expect("the test ends") });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a program in the thread's namespace; its output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("it prints text")
}

/// Waits for a condition.
pub(crate) async fn settled(what: &str, condition: impl Fn() -> Result<(), String>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(status) = condition() {
        assert!(Instant::now() < deadline, "not yet: {what}: {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
