//! How long the host waits for a guest.

use std::time::Duration;

/// Bounds on every wait; a slow machine without hardware virtualization needs generous ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Open the byte stream, find the guest in it and say hello.
    pub connect: Duration,
    /// An ordinary call; a stream's first answer, too.
    pub call: Duration,
    /// A call that may wait for disks or for an NFS server.
    pub long_call: Duration,
    /// A guest that is silent for so long is asked for a sign of life.
    pub silence: Duration,
    /// And must give one within this time, or the connection counts as broken.
    pub sign_of_life: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            call: Duration::from_secs(20),
            long_call: Duration::from_secs(180),
            silence: Duration::from_secs(30),
            sign_of_life: Duration::from_secs(30),
        }
    }
}
