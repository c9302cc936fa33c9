//! What the exit code of every subcommand means.

use std::process::ExitCode;

/// How a run of the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything is as it was asked for.
    Success,
    /// The question was answered, and the answer is no: a Pod is not taken by any profile or not supported.
    Refused,
    /// The arguments or the input cannot be used.
    BadInput,
    /// It could not be done: no daemon, no such Pod, something broke. 125, as container tools have it, so that it is not
    /// mistaken for the code of a program in a Pod.
    Failed,
    /// What a program in a Pod ended with.
    Program(u8),
}

impl Exit {
    /// The exit of a program in a Pod; codes that no process can have count as 255.
    pub(crate) fn of_program(code: i32) -> Self {
        Self::Program(u8::try_from(code).unwrap_or(u8::MAX))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Refused => 1,
            Exit::BadInput => 2,
            Exit::Failed => 125,
            Exit::Program(code) => code,
        })
    }
}
