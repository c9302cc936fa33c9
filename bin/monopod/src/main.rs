//! The `monopod` program. Everything is in the library of the same name, so that examples and tests reach it.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if let Some(failure) = monopod::enter_jail() {
        return failure;
    }
    monopod::run(monopod::Arguments::parse()).into()
}
