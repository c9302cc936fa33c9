//! What the exit code of every subcommand means.

use std::process::ExitCode;

/// How a run of the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything is as it was asked for.
    Success = 0,
    /// The question was answered, and the answer is no: a Pod is not taken by any profile or not supported.
    Refused = 1,
    /// The arguments or the input cannot be used.
    BadInput = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
