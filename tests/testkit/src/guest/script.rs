//! What a container of a fake guest does.

use std::time::Duration;

use monopod_agent_client::v1::OutputStream;

/// What a container does, step by step. After its last step it waits for a signal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    pub(crate) steps: Vec<Step>,
    pub(crate) ignores_sigterm: bool,
    pub(crate) start_error: Option<String>,
}

/// One step of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Print(OutputStream, String),
    Run(Duration),
    Exit(i32),
    Die(i32),
    RunOutOfMemory,
    Message(String),
}

impl Script {
    /// Runs until a signal ends it.
    pub fn runs() -> Self {
        Self::default()
    }

    /// Cannot be started.
    pub fn fails_to_start(why: &str) -> Self {
        Self { start_error: Some(why.to_owned()), ..Self::default() }
    }

    /// Writes a line to standard output.
    #[must_use]
    pub fn prints(self, line: &str) -> Self {
        self.then(Step::Print(OutputStream::Stdout, line.to_owned()))
    }

    /// Writes a line to standard error.
    #[must_use]
    pub fn complains(self, line: &str) -> Self {
        self.then(Step::Print(OutputStream::Stderr, line.to_owned()))
    }

    /// Does nothing for a time.
    #[must_use]
    pub fn runs_for(self, time: Duration) -> Self {
        self.then(Step::Run(time))
    }

    /// Leaves a termination message.
    #[must_use]
    pub fn leaves_message(self, text: &str) -> Self {
        self.then(Step::Message(text.to_owned()))
    }

    /// Ends with a code.
    #[must_use]
    pub fn exits(self, code: i32) -> Self {
        self.then(Step::Exit(code))
    }

    /// Is ended by a signal.
    #[must_use]
    pub fn dies_of(self, signal: i32) -> Self {
        self.then(Step::Die(signal))
    }

    /// Is killed for memory.
    #[must_use]
    pub fn runs_out_of_memory(self) -> Self {
        self.then(Step::RunOutOfMemory)
    }

    /// Does not end on SIGTERM.
    #[must_use]
    pub fn ignores_sigterm(self) -> Self {
        Self { ignores_sigterm: true, ..self }
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// What an exec in a fake guest does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecScript {
    /// To standard output.
    pub stdout: String,
    /// To standard error.
    pub stderr: String,
    /// How long it runs.
    pub runs_for: Duration,
    /// How it ends.
    pub code: i32,
    /// Why it cannot be started.
    pub start_error: Option<String>,
}
