//! Pods in real microVMs, through the command line, as a user sees them.
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail like the test itself")]

mod machine;

mod changes;
mod cycles;
mod disks;
mod doctor;
mod faults;
mod first_steps;
mod names;
mod objects;
mod panics;
mod unique;
