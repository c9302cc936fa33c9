//! What every [`Vmm`](crate::Vmm) must do, as checks that any implementation can be put through.
