//! Makes a container by libcontainer; its process waits in there until it is told to start.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::errno::Errno;
use oci_spec::runtime::Spec;

use super::chain;
use crate::containers::control::{self, Reply};
use crate::containers::lookup::describe;
use crate::containers::process::{self, ProcessPlan, Ready, Role, Stdio};

/// Exit code of a process whose program the kernel would not run.
const NOT_RUN: i32 = 255;

pub(super) fn run(
    socket: &UnixStream,
    bundle: &Path,
    state: &Path,
    key: &str,
    plan: ProcessPlan,
    stdio: Option<Stdio>,
) -> Result<(), String> {
    let socket_of_process = socket.try_clone().map_err(|error| error.to_string())?;
    let payload = Payload {
        plan: Rc::new(plan),
        stdio: Rc::new(stdio),
        socket: Rc::new(socket_of_process),
        ready: Rc::default(),
    };
    let container = ContainerBuilder::new(key.to_owned(), SyscallType::default())
        .with_root_path(state)
        .map(|builder| builder.with_executor(payload).as_init(bundle).with_systemd(false).with_detach(true))
        .and_then(|builder| builder.build())
        .map_err(|error| chain(&error))?;
    let pid = container.pid().ok_or("the runtime does not tell the process")?;
    control::send(socket, &Reply::Process(pid.as_raw())).map_err(|error| error.to_string())
}

/// What runs in the container's process, after the runtime has made everything around it.
#[derive(Clone)]
struct Payload {
    plan: Rc<ProcessPlan>,
    stdio: Rc<Option<Stdio>>,
    socket: Rc<UnixStream>,
    ready: Rc<RefCell<Option<Ready>>>,
}

impl Executor for Payload {
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        let hand_over = |terminal: std::os::fd::BorrowedFd<'_>| {
            control::send_terminal(&self.socket, terminal).map_err(|_| Errno::EPIPE)
        };
        match process::prepare(&self.plan, Role::First, self.stdio.as_ref().as_ref(), hand_over) {
            Ok(ready) => {
                self.ready.replace(Some(ready));
                Ok(())
            }
            Err(error) => {
                let text = chain(&error);
                // The runtime would wrap the text in its own words; the agent takes the first reason that it hears.
                let _ = control::send(&self.socket, &Reply::Refused(text.clone()));
                Err(ExecutorValidationError::ArgValidationError(text))
            }
        }
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // The program gets its environment when it is run.
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let ready = self.ready.take().ok_or(ExecutorError::InvalidArg)?;
        let error = ready.run();
        // The container has started as far as anybody outside can tell, so this goes where its output goes.
        let _ = writeln!(std::io::stderr(), "exec {}: {}", ready.program(), describe(error));
        std::process::exit(NOT_RUN);
    }
}
