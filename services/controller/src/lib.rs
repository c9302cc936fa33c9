//! The control plane of Monopod. What it decides about a Pod is in `monopod_policy`; here are its answers to the API
//! server. The server that carries them, the caches and the scheduler come next.

pub mod webhook;
