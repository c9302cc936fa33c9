//! A tap that leads nowhere.
#![expect(unsafe_code, reason = "an ioctl makes a tap, and there is no safe wrapper")]

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc::{IFF_NO_PI, IFF_TAP, c_int, ifreq};
use nix::sched::{CloneFlags, unshare};

nix::ioctl_write_ptr!(set_interface, b'T', 202, c_int);

/// A tap in a network namespace that goes with it.
pub(crate) fn in_a_network_of_its_own(name: &str) -> OwnedFd {
    let name = name.to_owned();
    let make = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        open(&name)
    };
    std::thread::spawn(make).join().unwrap()
}

fn open(name: &str) -> OwnedFd {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: all zeros is a valid value of this plain C structure.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(15).zip(name.bytes()) {
        *to = i8::try_from(from).unwrap();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(IFF_TAP | IFF_NO_PI).unwrap();
    // SAFETY: the descriptor is open, and the kernel reads one `ifreq` from the pointer, which outlives the call.
    unsafe { set_interface(file.as_raw_fd(), std::ptr::from_ref(&request).cast()) }.unwrap();
    file.into()
}
