//! Kernel settings of the network namespace that this process is in.

use std::fs;

use crate::error::NetError;

/// Settings of every tap: strict about sources, and no answers for addresses that are not the tap's own.
const TAP4: [(&str, &str); 5] =
    [("rp_filter", "1"), ("arp_ignore", "1"), ("accept_redirects", "0"), ("send_redirects", "0"), ("forwarding", "1")];

/// And for IPv6, where guests have it: nothing of it is configured by itself.
const TAP6: [(&str, &str); 4] =
    [("accept_ra", "0"), ("accept_redirects", "0"), ("addr_gen_mode", "1"), ("forwarding", "1")];

/// Makes the machine route. That stays so after us: others may have come to rely on it.
pub(crate) fn enable_routing(with_ipv6: bool) -> Result<(), NetError> {
    set("net/ipv4/ip_forward", "1")?;
    if with_ipv6 {
        keep_router_advertisements()?;
        set("net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// A router takes no router advertisements unless told to; the host may live by them.
fn keep_router_advertisements() -> Result<(), NetError> {
    let Ok(interfaces) = fs::read_dir("/proc/sys/net/ipv6/conf") else { return Ok(()) };
    for interface in interfaces.flatten() {
        let path = format!("net/ipv6/conf/{}/accept_ra", interface.file_name().to_string_lossy());
        if fs::read_to_string(format!("/proc/sys/{path}")).is_ok_and(|value| value.trim() == "1") {
            set(&path, "2")?;
        }
    }
    Ok(())
}

/// Prepares a tap, before it is up.
pub(crate) fn prepare_tap(name: &str, with_ipv6: bool) -> Result<(), NetError> {
    for (setting, value) in TAP4 {
        set(&format!("net/ipv4/conf/{name}/{setting}"), value)?;
    }
    if !with_ipv6 {
        return disable_ipv6(name);
    }
    TAP6.iter().try_for_each(|(setting, value)| set(&format!("net/ipv6/conf/{name}/{setting}"), value))
}

fn disable_ipv6(name: &str) -> Result<(), NetError> {
    match set(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1") {
        // A kernel without IPv6 has nothing to disable.
        Err(NetError::Setting { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn set(path: &str, value: &str) -> Result<(), NetError> {
    let file = format!("/proc/sys/{path}");
    if fs::read_to_string(&file).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(file, value).map_err(|source| NetError::Setting { path: path.to_owned(), source })
}
