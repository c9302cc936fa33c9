//! Monopod on a real control plane, with real microVMs, as a user of kubectl sees it.

mod stage;

mod crashes;
mod faults;
mod first_steps;
mod life;
mod network;
mod outages;
mod replicas;
mod storage;
mod workloads;
