//! A guest without a VM: the agent's service with scripted containers, over any byte stream.
//!
//! What happens to it is remembered ([`FakeGuest::calls`]), and it can be told to fail once, to hang, or to say garbage.
//! It keeps the protocol's promises, or a test of a host would prove little: nothing before `Personalize`, states that
//! say all, logs that are kept until they are acknowledged, connections one after another.

mod script;
mod service;
mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use monopod_agent_client::v1::agent_server::AgentServer;
use monopod_agent_client::v1::{
    ContainerState, CreateContainerRequest, GetStatsResponse, PersonalizeRequest, PutVolumeRequest,
};
use monopod_agent_client::{Code, contract};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

pub use script::{ExecScript, Script};
use service::Service;
pub(crate) use state::State;

/// Manner in which a guest meets a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// As it must.
    #[default]
    Sane,
    /// Reads and never says a word.
    Silent,
    /// Answers the handshake and never a call.
    Hanging,
    /// Says garbage without end.
    Garbage,
    /// Answers the handshake and then says garbage.
    GarbageAfterHandshake,
}

/// A guest without a VM. Clones are the same guest.
#[derive(Clone, Debug)]
pub struct FakeGuest {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// Counts changes of the state.
    pub(crate) changed: watch::Sender<u64>,
    /// True when the guest has powered itself off.
    pub(crate) off: watch::Sender<bool>,
}

impl Default for FakeGuest {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeGuest {
    /// A guest that has just been restored: not personalized, nothing scripted.
    pub fn new() -> Self {
        let shared = Shared { state: Mutex::default(), changed: watch::Sender::new(0), off: watch::Sender::new(false) };
        Self { shared: Arc::new(shared) }
    }

    /// Serves one connection to its end.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let manner = self.shared.state().manner;
        // That the host hangs up is how every connection ends.
        drop(match manner {
            Manner::Sane | Manner::Hanging => {
                contract::serve(stream, AgentServer::new(Service::new(Arc::clone(&self.shared)))).await
            }
            Manner::Silent => silence(stream).await,
            Manner::Garbage => garbage(stream).await,
            Manner::GarbageAfterHandshake => match contract::accept(stream).await {
                Ok(stream) => garbage(stream).await,
                Err(error) => Err(error),
            },
        });
    }

    /// How it meets connections and calls from now on.
    pub fn set_manner(&self, manner: Manner) {
        self.shared.change(|state| state.manner = manner);
    }

    /// It speaks another version of the protocol from now on.
    pub fn speak_protocol(&self, protocol: u32) {
        self.shared.change(|state| state.protocol = Some(protocol));
    }

    /// What containers of a name do, when they are started from now on.
    pub fn script(&self, container: &str, script: Script) {
        self.shared.change(|state| state.scripts.insert(container.to_owned(), script));
    }

    /// What an exec of a program does from now on; others print their arguments and what they read.
    pub fn script_exec(&self, program: &str, script: ExecScript) {
        self.shared.change(|state| state.execs.insert(program.to_owned(), script));
    }

    /// The next call of a name, such as `CreateContainer`, fails.
    pub fn fail_next(&self, call: &str, code: Code, message: &str) {
        let failure = (code, message.to_owned());
        self.shared.change(|state| state.failures.entry(call.to_owned()).or_default().push_back(failure));
    }

    /// What `GetStats` answers from now on.
    pub fn set_stats(&self, stats: GetStatsResponse) {
        self.shared.change(|state| state.stats = stats);
    }

    /// Names of all calls so far, with what they are about: `StartContainer web-0`.
    pub fn calls(&self) -> Vec<String> {
        self.shared.state().calls.clone()
    }

    /// What it was personalized with.
    pub fn personality(&self) -> Option<PersonalizeRequest> {
        self.shared.state().personality.clone()
    }

    /// Volumes as they were put last.
    pub fn volumes(&self) -> BTreeMap<String, PutVolumeRequest> {
        self.shared.state().volumes.clone()
    }

    /// What containers were asked to be, by id.
    pub fn containers(&self) -> BTreeMap<String, CreateContainerRequest> {
        let state = self.shared.state();
        state.containers.iter().map(|(id, container)| (id.clone(), container.request.clone())).collect()
    }

    /// States of all containers.
    pub fn container_states(&self) -> Vec<ContainerState> {
        self.shared.state().containers.values().map(|container| container.state.clone()).collect()
    }

    /// Log entries of a container that the host has not acknowledged.
    pub fn kept_log_entries(&self, id: &str) -> usize {
        self.shared.state().containers.get(id).map_or(0, |container| container.log.len())
    }

    /// Has a container print a line of its own accord.
    pub fn print(&self, id: &str, line: &str) {
        use monopod_agent_client::v1::OutputStream::Stdout;
        self.shared.change(|state| state.print(id, Stdout, line));
    }

    /// Has a container end of its own accord.
    pub fn end(&self, id: &str, code: i32) {
        self.shared.change(|state| state.end(id, state::End::Code(code)));
    }

    /// Waits until the guest has powered itself off.
    pub(crate) async fn powered_off(&self) {
        let mut off = self.shared.off.subscribe();
        // The sender lives as long as we do.
        drop(off.wait_for(|off| *off).await);
    }
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells whoever waits for a change.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.send_modify(|count| *count += 1);
        result
    }
}

async fn silence(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
}

/// Says garbage until the host hangs up.
async fn garbage(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    loop {
        stream.write_all(&[0x5a; 4096]).await?;
        // On a runtime with one thread, others are to have their turn.
        tokio::task::yield_now().await;
    }
}
