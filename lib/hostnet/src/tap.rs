//! Opens a tap: the one system call here that no safe crate offers.
#![expect(unsafe_code, reason = "TUNSETIFF is an ioctl on a structure")]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;

nix::ioctl_write_ptr_bad!(
    /// `TUNSETIFF`: makes the interface, or takes hold of it, for as long as the file is open.
    tun_set_interface,
    libc::TUNSETIFF,
    libc::ifreq
);

/// Makes a tap with virtio-net headers and one queue. It exists for as long as somebody holds the file open.
///
/// # Errors
/// When the name is in use (`ResourceBusy`), or taps cannot be made here.
pub(crate) fn open(name: &str) -> io::Result<OwnedFd> {
    let mut request =
        libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 } };
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // IFF_TUN_EXCL: never take hold of somebody else's interface.
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
    // The flags are a bit set of 16 bits in a signed field.
    request.ifr_ifru.ifru_flags = u16::try_from(flags).expect("the flags are 16 bits").cast_signed();
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    // SAFETY: the request is a complete `ifreq` that lives across the call, and the file is open.
    unsafe { tun_set_interface(file.as_raw_fd(), &raw const request) }?;
    Ok(file.into())
}
