//! Pods in real microVMs, through the command line, as a user sees them.
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail like the test itself")]

#[path = "pods/machine.rs"]
mod machine;

#[path = "pods/faults.rs"]
mod faults;
#[path = "pods/first_steps.rs"]
mod first_steps;
#[path = "pods/objects.rs"]
mod objects;
