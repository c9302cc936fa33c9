//! A thread that lives in a network namespace as long as its owner: what it starts is in there, and dies should it die.
//!
//! A process asks the kernel to be killed when the *thread* that started it ends, so threads of a runtime, which come and
//! go, must not start any.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};
use tokio::net::{TcpSocket, TcpStream};

type Job = Box<dyn FnOnce() + Send>;

/// Does things inside a network namespace. The thread ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    jobs: Sender<Job>,
}

impl Inside {
    pub(crate) fn enter(namespace: &str) -> Result<Self> {
        let path = format!("/run/netns/{namespace}");
        let (jobs, todo) = channel::<Job>();
        let (entered, is_inside) = channel();
        let body = move || {
            let result = File::open(&path)
                .with_context(|| format!("failed to open {path}"))
                .and_then(|file| setns(&file, CloneFlags::CLONE_NEWNET).context("failed to enter a network namespace"));
            let failed = result.is_err();
            if entered.send(result).is_ok() && !failed {
                todo.into_iter().for_each(|job| job());
            }
        };
        std::thread::Builder::new().name("cluster".to_owned()).spawn(body)?;
        is_inside.recv().context("a thread ended at once")??;
        Ok(Self { jobs })
    }

    /// Starts a program inside. It is killed when the owner of the thread ends, however that ends.
    pub(crate) fn spawn(&self, mut command: Command) -> Result<Child> {
        let (answer, answered) = channel();
        let job = move || drop(answer.send(command.spawn().with_context(|| format!("failed to start {command:?}"))));
        self.jobs.send(Box::new(job)).ok().context("the thread of a cluster has ended")?;
        answered.recv().context("the thread of a cluster has ended")?
    }

    /// Connects to an address as seen from inside.
    pub(crate) async fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        // A socket belongs to the namespace it was made in, wherever it is used.
        let make = move || if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        self.jobs
            .send(Box::new(move || drop(answer.send(make()))))
            .ok()
            .context("the thread of a cluster has ended")?;
        let socket = answered.await.context("the thread of a cluster has ended")?.context("failed to make a socket")?;
        socket.connect(address).await.with_context(|| format!("failed to connect to {address}"))
    }
}

/// A program that is killed when the thread that starts it ends.
pub(crate) fn bound(program: &std::path::Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}
