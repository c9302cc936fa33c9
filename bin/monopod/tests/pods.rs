//! Pods in real microVMs, through the command line, as a user sees them.

#[path = "pods/machine.rs"]
mod machine;

#[path = "pods/first_steps.rs"]
mod first_steps;
