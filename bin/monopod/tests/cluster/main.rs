//! Monopod on a real control plane, with real microVMs, as a user of kubectl sees it.

mod stage;

mod first_steps;
mod network;
