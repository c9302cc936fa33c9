//! The life of one VM as a pure state machine: what each event means in each state.
//!
//! The task in `lib/vmm` owns the only instance, reports what happens and carries the actions out.
//!
//! ```text
//! Starting ──StartSucceeded──▶ Running
//!    │ StartFailed, KillAsked,    │ KillAsked      │ Exited
//!    │ Tick past the deadline     ▼                ▼
//!    └─────────────────────────▶ Ending ──Exited─▶ Releasing ──Released──▶ Gone
//! ```

#[cfg(test)]
mod tests;

/// A moment in milliseconds of a clock that never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// The moment that lies so many milliseconds later.
    #[must_use]
    pub fn plus(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

/// After how many milliseconds without an end the process is killed once more.
pub const KILL_AGAIN_AFTER: u64 = 2_000;

/// Where a VM is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmState {
    /// The process is made, the guest boots or is restored.
    Starting {
        /// When the start counts as failed.
        deadline: Millis,
    },
    /// The agent's channel can be connected to.
    Running,
    /// The process has been killed and is waited for.
    Ending {
        /// Why it ends.
        end: End,
        /// When it is killed once more.
        again: Millis,
    },
    /// The process has ended; what it had is taken back.
    Releasing {
        /// Why it ended.
        end: End,
    },
    /// Nothing is left.
    Gone {
        /// Why it ended.
        end: End,
    },
}

/// Why a VM ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// We were asked to end it.
    Asked,
    /// The process ended without being asked: the guest powered off, gave up, or the process died.
    ByItself,
    /// It could not be started.
    StartFailed,
    /// Its start took too long.
    StartTimedOut,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The agent's channel can be connected to.
    StartSucceeded,
    /// The start gave up.
    StartFailed,
    /// Somebody wants it gone.
    KillAsked,
    /// The process has ended, or there never was one.
    Exited,
    /// All that it had is taken back.
    Released,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stop starting it, wherever the start is.
    AbandonStart,
    /// Tell whoever started it that it runs.
    TellStarted,
    /// Kill its process, if it has one.
    Kill,
    /// Take back all that it had.
    Release,
    /// Tell everybody who waits that nothing is left, and why it ended.
    TellGone(End),
}

impl VmState {
    /// A VM whose start has to be over by `deadline`.
    #[must_use]
    pub fn starting(deadline: Millis) -> Self {
        Self::Starting { deadline }
    }

    /// A VM that an earlier life of the daemon started.
    #[must_use]
    pub fn adopted() -> Self {
        Self::Running
    }

    /// When the next [`Event::Tick`] matters, if time matters at all.
    #[must_use]
    pub fn next_tick(self) -> Option<Millis> {
        match self {
            Self::Starting { deadline } => Some(deadline),
            Self::Ending { again, .. } => Some(again),
            Self::Running | Self::Releasing { .. } | Self::Gone { .. } => None,
        }
    }

    /// What an event means here. Late or repeated news changes nothing.
    #[must_use]
    pub fn step(self, event: Event, now: Millis) -> (Self, Vec<Action>) {
        match self {
            Self::Starting { deadline } => starting(deadline, event, now),
            Self::Running => running(event, now),
            Self::Ending { end, again } => ending(end, again, event, now),
            Self::Releasing { end } => releasing(end, event),
            Self::Gone { .. } => (self, Vec::new()),
        }
    }
}

fn starting(deadline: Millis, event: Event, now: Millis) -> (VmState, Vec<Action>) {
    let ending = |end| VmState::Ending { end, again: now.plus(KILL_AGAIN_AFTER) };
    let unchanged = (VmState::Starting { deadline }, Vec::new());
    match event {
        Event::StartSucceeded => (VmState::Running, vec![Action::TellStarted]),
        Event::StartFailed => (ending(End::StartFailed), vec![Action::Kill]),
        Event::KillAsked => (ending(End::Asked), vec![Action::AbandonStart, Action::Kill]),
        Event::Exited => (VmState::Releasing { end: End::StartFailed }, vec![Action::AbandonStart, Action::Release]),
        Event::Tick => {
            if now < deadline {
                return unchanged;
            }
            (ending(End::StartTimedOut), vec![Action::AbandonStart, Action::Kill])
        }
        Event::Released => unchanged,
    }
}

fn running(event: Event, now: Millis) -> (VmState, Vec<Action>) {
    match event {
        Event::KillAsked => {
            (VmState::Ending { end: End::Asked, again: now.plus(KILL_AGAIN_AFTER) }, vec![Action::Kill])
        }
        Event::Exited => (VmState::Releasing { end: End::ByItself }, vec![Action::Release]),
        Event::StartSucceeded | Event::StartFailed | Event::Released | Event::Tick => (VmState::Running, Vec::new()),
    }
}

fn ending(end: End, again: Millis, event: Event, now: Millis) -> (VmState, Vec<Action>) {
    let unchanged = (VmState::Ending { end, again }, Vec::new());
    match event {
        Event::Exited => (VmState::Releasing { end }, vec![Action::Release]),
        Event::Tick => {
            if now < again {
                return unchanged;
            }
            (VmState::Ending { end, again: now.plus(KILL_AGAIN_AFTER) }, vec![Action::Kill])
        }
        Event::StartSucceeded | Event::StartFailed | Event::KillAsked | Event::Released => unchanged,
    }
}

fn releasing(end: End, event: Event) -> (VmState, Vec<Action>) {
    match event {
        Event::Released => (VmState::Gone { end }, vec![Action::TellGone(end)]),
        Event::StartSucceeded | Event::StartFailed | Event::KillAsked | Event::Exited | Event::Tick => {
            (VmState::Releasing { end }, Vec::new())
        }
    }
}
