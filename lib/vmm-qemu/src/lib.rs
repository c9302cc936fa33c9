//! QEMU behind the `Vmm` trait: arguments, QMP, jail, templates, accelerator probe.
//!
//! ```text
//! QemuVmm ──start──▶ own (lib/vmm) ──▶ driver::QemuDriver  one per VM: boots it, or restores it from a template
//!    │                                    └ seat::Seat       a process in its place
//!    │                                       │ jail::launch  puts it into its jail
//!    ├─ template::Templates                  │ qmp::Client   its control channel
//!    ├─ spares::Spares                       │
//!    └─ place::Places                        └ place::Place  its user, folder and control group
//! ```
//!
//! A VM needs nothing of the daemon to live on: its process is in a session and control group of its own, its sockets
//! are files that it listens on, and `record.json` in its folder says all that is needed to take it back.

mod arguments;
mod cgroup;
mod config;
mod console;
mod driver;
mod guest;
pub mod jail;
mod place;
pub mod probe;
mod process;
pub mod qmp;
mod record;
mod seat;
mod spares;
mod template;
mod vmm;

pub use crate::config::{Accelerator, Allowance, Config, JailCommand, Limits, Ready, Users};
pub use crate::guest::Guest;
pub use crate::vmm::QemuVmm;
