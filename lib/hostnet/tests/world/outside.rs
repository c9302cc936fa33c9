//! Another machine: a network namespace behind a cable, with sockets in it.

use std::net::UdpSocket;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use super::run;

/// The host's end of the cable.
pub(crate) const HOST: &str = "10.99.0.1";
/// The other machine.
pub(crate) const OUTSIDE: &str = "10.99.0.2";
/// Where clouds have their metadata service; the other machine poses as one.
pub(crate) const METADATA: &str = "169.254.169.254";
pub(crate) const METADATA6: &str = "fd00:ec2::254";

/// Sockets on the other machine. It ends when they are closed.
#[derive(Debug)]
pub(crate) struct Outside {
    /// Takes what comes to port 7000, by IPv4 and to whatever address.
    pub(crate) socket: UdpSocket,
    /// The same by IPv6.
    pub(crate) socket6: UdpSocket,
}

/// Puts another machine beside the namespace of this thread, and routes to it.
pub(crate) fn outside() -> Outside {
    let (tell, told) = mpsc::channel();
    let (plugged, wait_for_plug) = mpsc::channel();
    let machine: JoinHandle<Outside> = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("needs root: a network namespace for the other machine");
        tell.send(nix::unistd::gettid().to_string()).expect("the test waits");
        wait_for_plug.recv().expect("the test plugs the cable in");
        for command in [
            "link set lo up",
            "addr add 10.99.0.2/24 dev uplink",
            "addr add fd99::2/64 dev uplink nodad",
            "link set uplink up",
            "addr add 169.254.169.254/32 dev lo",
            "addr add fd00:ec2::254/128 dev lo nodad",
            // It may know the way to guests, and must not get there.
            "route add 10.77.0.0/24 via 10.99.0.1",
            "route add fd77::/64 via fd99::1",
        ] {
            run("ip", &command.split(' ').collect::<Vec<_>>());
        }
        std::fs::write("/proc/sys/net/ipv6/bindv6only", "1").expect("root may set it");
        let bind = |address: &str| {
            let socket = UdpSocket::bind(address).expect("the port is free");
            socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
            socket
        };
        Outside { socket: bind("0.0.0.0:7000"), socket6: bind("[::]:7000") }
    });
    let thread: String = told.recv().expect("the other machine is there");
    let cable = format!("link add uplink0 type veth peer name uplink netns {thread}");
    run("ip", &cable.split(' ').collect::<Vec<_>>());
    plugged.send(()).expect("the other machine waits");
    let outside = machine.join().expect("the other machine comes up");
    for command in [
        "addr add 10.99.0.1/24 dev uplink0",
        "addr add fd99::1/64 dev uplink0 nodad",
        "link set uplink0 up",
        "route add 169.254.169.254 via 10.99.0.2",
        "route add fd00:ec2::254 via fd99::2",
    ] {
        run("ip", &command.split(' ').collect::<Vec<_>>());
    }
    outside
}
