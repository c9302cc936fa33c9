//! The jail that each VMM process lives in.
//!
//! The daemon starts the program named by [`JailCommand`](crate::JailCommand) as the first process of a PID namespace
//! and hands it an `order::Order` with open files over a socket; that program calls [`main`], which locks
//! itself in and becomes QEMU:
//!
//! 1. a session and the VM's control group of its own, so that the end of the daemon does not matter to it;
//! 2. mount, network, IPC, host name and control group namespaces, with an empty network;
//! 3. a root of its own in memory, read-only, with read-only mounts of what it needs and nothing else of the host;
//! 4. a user of its own, no capability, no way to new privileges, no environment.
//!
//! Disks, sockets and the tap are handed over open, so the process may open next to nothing by itself.

mod inside;
mod launch;
mod order;

pub use inside::main;
pub(crate) use launch::{Launched, launch};
pub(crate) use order::{Bind, Order};

/// What of the host any QEMU needs: programs and libraries, and two harmless devices.
pub(crate) fn program_binds() -> Vec<Bind> {
    let mut binds = vec![Bind::read_only("/usr", "/usr"), Bind::device("/dev/null"), Bind::device("/dev/urandom")];
    // Where they are folders and not links into /usr.
    for path in ["/lib", "/lib64", "/etc/ld.so.cache"] {
        let path = std::path::Path::new(path);
        if path.exists() && !path.is_symlink() {
            binds.push(Bind::read_only(path, path));
        }
    }
    binds
}
