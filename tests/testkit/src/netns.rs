//! Network namespaces of a test's own.

use std::fs::File;
use std::future::Future;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::runtime::Builder;

use crate::remains::{Remains, remove_at_end};

/// A named network namespace with its loopback up. Dropping it removes it, with all interfaces in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one; its name begins with `monopod-test-`.
    ///
    /// # Errors
    /// When the machine does not let us.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("monopod-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        remove_at_end(Remains::Namespace(&name))?;
        checked("ip", &["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.run("ip", &["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// As `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A program that will run in the namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a program in the namespace to its end; its output.
    ///
    /// # Errors
    /// When it cannot be run or fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let arguments: Vec<&str> = ["netns", "exec", &self.name, program].iter().chain(arguments).copied().collect();
        checked("ip", &arguments)
    }

    /// Connects this namespace and another by a pair of interfaces, each with an address such as `10.0.0.1/24`.
    ///
    /// # Errors
    /// When the machine does not let us.
    pub fn connect(
        &self,
        interface: &str,
        address: &str,
        other: &Self,
        theirs: &str,
        their_address: &str,
    ) -> Result<()> {
        let peer = ["peer", "name", theirs, "netns", &other.name];
        let add = ["link", "add", interface, "type", "veth"];
        self.run("ip", &add.iter().chain(&peer).copied().collect::<Vec<_>>())?;
        for (namespace, interface, address) in [(self, interface, address), (other, theirs, their_address)] {
            namespace.run("ip", &["addr", "add", address, "dev", interface, "nodad"])?;
            namespace.run("ip", &["link", "set", interface, "up"])?;
        }
        Ok(())
    }

    /// Runs asynchronous code in the namespace, in a thread and runtime of its own; what it starts is in there, too.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    ///
    /// # Panics
    /// When the code does.
    pub fn block_on<T, F>(&self, code: impl FnOnce() -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        let path = format!("/run/netns/{}", self.name);
        let thread = std::thread::spawn(move || {
            let file = File::open(&path).with_context(|| format!("failed to open {path}"))?;
            setns(&file, CloneFlags::CLONE_NEWNET).context("failed to enter a network namespace")?;
            run_here(code())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A test that failed has said why; there is nobody to tell more.
        drop(checked("ip", &["netns", "del", &self.name]));
    }
}

/// Runs asynchronous code in a new network namespace without a name, which ends with the code.
///
/// # Errors
/// When the machine does not let us.
///
/// # Panics
/// When the code does.
pub fn in_new_namespace<T, F>(code: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("failed to make a network namespace; that needs root")?;
        checked("ip", &["link", "set", "lo", "up"])?;
        run_here(code())
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn run_here<T>(code: impl Future<Output = T>) -> Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build().context("failed to make a runtime")?;
    Ok(runtime.block_on(code))
}

/// Runs a program to its end; its output.
fn checked(program: &str, arguments: &[&str]) -> Result<String> {
    let output: Output =
        Command::new(program).args(arguments).output().with_context(|| format!("failed to run {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?} failed: {errors}");
    String::from_utf8(output.stdout).with_context(|| format!("{program} does not print text"))
}
