//! The jail's program for the tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    monopod_vmm_qemu::jail::main()
}
