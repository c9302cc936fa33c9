//! The few system calls that no crate wraps.
#![expect(unsafe_code, reason = "requests to /dev/random and watching an epoll instance have no safe wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::epoll::Epoll;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes that one call of [`add_entropy`] takes at most.
const POOL: usize = 512;

/// As the kernel's `struct rand_pool_info`, with room for the bytes.
#[repr(C)]
struct RandPoolInfo {
    entropy_count: i32,
    buf_size: i32,
    buf: [u8; POOL],
}

mod ioctls {
    //! The requests, by their numbers in linux/random.h.
    use nix::{ioctl_none, ioctl_write_ptr};

    ioctl_write_ptr!(rnd_add_entropy, b'R', 0x03, [i32; 2]);
    ioctl_none!(rnd_reseed_crng, b'R', 0x07);
}

/// Adds bytes to the kernel's pool, credited in full, and makes its generator start anew from the pool.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn add_entropy(random: &File, bytes: &[u8]) -> nix::Result<()> {
    for chunk in bytes.chunks(POOL) {
        let size = i32::try_from(chunk.len()).expect("a chunk is at most 512 bytes");
        let mut info = RandPoolInfo { entropy_count: size * 8, buf_size: size, buf: [0; POOL] };
        info.buf[..chunk.len()].copy_from_slice(chunk);
        // SAFETY: the descriptor is open, and the kernel reads the two numbers and `buf_size` bytes behind them, all of
        // which lie within `info`.
        unsafe { ioctls::rnd_add_entropy(random.as_raw_fd(), (&raw const info).cast()) }?;
    }
    // SAFETY: the descriptor is open; the request has no argument.
    unsafe { ioctls::rnd_reseed_crng(random.as_raw_fd()) }?;
    Ok(())
}

/// An epoll instance, which becomes readable when something that it watches has changed.
#[derive(Debug)]
pub(crate) struct Changes(pub(crate) Epoll);

impl AsRawFd for Changes {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

/// Lets the runtime wait for changes.
///
/// # Errors
/// When the runtime cannot watch the descriptor.
pub(crate) fn watch_changes(changes: Changes) -> io::Result<AsyncFd<Changes>> {
    // SAFETY: the descriptor is owned by `changes`, which gives the same open one for as long as it lives, and lives in
    // the `AsyncFd`.
    Ok(unsafe { AsyncFd::register_with_interest(changes, Interest::READABLE) }?)
}
