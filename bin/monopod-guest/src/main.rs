//! PID 1 of a microVM. All of it is in the library, so that tests can reach the parts.

use std::process::ExitCode;

fn main() -> ExitCode {
    monopod_guest::main()
}
