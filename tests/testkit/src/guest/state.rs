//! What a fake guest knows.

use std::collections::{BTreeMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use monopod_agent_client::Code;
use monopod_agent_client::v1::container_state::Phase;
use monopod_agent_client::v1::{
    ContainerState, CreateContainerRequest, GetStatsResponse, LogEntry, OutputStream, PersonalizeRequest,
    PutVolumeRequest,
};

use super::{ExecScript, Manner, Script};

/// SIGKILL and SIGTERM.
pub(super) const KILL: i32 = 9;
pub(super) const TERMINATE: i32 = 15;

/// Everything about a fake guest.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(super) manner: Manner,
    pub(super) protocol: Option<u32>,
    pub(super) scripts: BTreeMap<String, Script>,
    pub(super) execs: BTreeMap<String, ExecScript>,
    pub(super) failures: BTreeMap<String, VecDeque<(Code, String)>>,
    pub(super) stats: GetStatsResponse,
    pub(super) calls: Vec<String>,
    pub(super) personality: Option<PersonalizeRequest>,
    pub(super) volumes: BTreeMap<String, PutVolumeRequest>,
    pub(super) containers: BTreeMap<String, Container>,
    last_time: u64,
}

/// A container of a fake guest.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) request: CreateContainerRequest,
    pub(super) state: ContainerState,
    /// What the host has not acknowledged.
    pub(super) log: VecDeque<LogEntry>,
    /// What was written to its input.
    pub(super) input: Vec<u8>,
}

/// How a container ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Code(i32),
    Signal(i32),
    OutOfMemory,
}

impl State {
    /// A time later than all before.
    pub(super) fn now(&mut self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.last_time = now.max(self.last_time + 1);
        self.last_time
    }

    pub(super) fn create(&mut self, request: CreateContainerRequest) {
        let (id, name, created_at) = (request.id.clone(), request.name.clone(), self.now());
        let state =
            ContainerState { id: id.clone(), name, phase: Phase::Created.into(), created_at, ..Default::default() };
        self.containers.insert(id, Container { request, state, log: VecDeque::new(), input: Vec::new() });
    }

    /// Starts a container; its script, unless it cannot be started.
    pub(super) fn start(&mut self, id: &str) -> Option<Script> {
        let now = self.now();
        let name = self.containers.get(id)?.state.name.clone();
        let script = self.scripts.get(&name).cloned().unwrap_or_default();
        let state = &mut self.containers.get_mut(id)?.state;
        if let Some(why) = &script.start_error {
            state.phase = Phase::Exited.into();
            (state.start_error, state.exit_code, state.finished_at) = (why.clone(), 128, now);
            return None;
        }
        state.phase = Phase::Running.into();
        state.started_at = now;
        Some(script)
    }

    pub(super) fn is_running(&self, id: &str) -> bool {
        self.containers.get(id).is_some_and(|container| container.state.phase() == Phase::Running)
    }

    pub(super) fn print(&mut self, id: &str, stream: OutputStream, line: &str) {
        let time = self.now();
        if let Some(container) = self.containers.get_mut(id) {
            let text = line.as_bytes().to_vec();
            container.log.push_back(LogEntry { time, stream: stream.into(), text, partial: false });
        }
    }

    pub(super) fn leave_message(&mut self, id: &str, text: &str) {
        if let Some(container) = self.containers.get_mut(id) {
            container.state.termination_message = text.as_bytes().to_vec();
        }
    }

    /// Ends a container that runs.
    pub(super) fn end(&mut self, id: &str, end: End) {
        if !self.is_running(id) {
            return;
        }
        let now = self.now();
        if let Some(container) = self.containers.get_mut(id) {
            let state = &mut container.state;
            state.phase = Phase::Exited.into();
            state.finished_at = now;
            state.oom_killed = end == End::OutOfMemory;
            state.signal = match end {
                End::Code(_) => 0,
                End::Signal(signal) => signal,
                End::OutOfMemory => KILL,
            };
            state.exit_code = if let End::Code(code) = end { code } else { 128 + state.signal };
        }
    }

    /// What a signal does to a container.
    pub(super) fn signal(&mut self, id: &str, signal: i32) {
        let Some(container) = self.containers.get(id) else { return };
        let ignores = self.scripts.get(&container.state.name).is_some_and(|script| script.ignores_sigterm);
        if signal != TERMINATE || !ignores {
            self.end(id, End::Signal(signal));
        }
    }
}
