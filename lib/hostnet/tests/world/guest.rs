//! A guest that is a file: it writes any frame to its tap, and reads what comes.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use monopod_hostnet::{Attachment, Lease, Mac};
use nix::errno::Errno;

/// Bytes of the virtio-net header before each frame.
const VNET_HEADER: usize = 10;

/// What host ends of cables have.
pub(crate) const HOST_MAC: Mac = Mac([0x02, 0x6d, 0, 0, 0, 1]);

const ARP: [u8; 2] = [8, 6];
const IPV4: [u8; 2] = [8, 0];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// A guest that is a file.
#[derive(Debug)]
pub(crate) struct Guest {
    tap: OwnedFd,
    pub(crate) lease: Lease,
}

/// Who a frame says it is from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) mac: Mac,
    pub(crate) address: Ipv4Addr,
}

impl Guest {
    pub(crate) fn new(attachment: Attachment) -> Self {
        let Attachment { tap, lease } = attachment;
        Self { tap, lease }
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.lease.addresses[0].addr().to_string().parse().expect("the first is IPv4")
    }

    pub(crate) fn address6(&self) -> Ipv6Addr {
        self.lease.addresses[1].addr().to_string().parse().expect("the second is IPv6")
    }

    pub(crate) fn honest(&self) -> Sender {
        Sender { mac: self.lease.mac, address: self.address() }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        let bytes = [&[0; VNET_HEADER], frame].concat();
        let written = nix::unistd::write(&self.tap, &bytes).expect("the tap takes a frame");
        assert_eq!(written, bytes.len());
    }

    /// The next ARP frame.
    pub(crate) async fn next_arp(&self) -> Vec<u8> {
        self.next(ARP).await
    }

    /// The next IPv4 packet, from its header on.
    pub(crate) async fn next_ipv4(&self) -> Vec<u8> {
        self.next(IPV4).await.split_off(14)
    }

    async fn next(&self, kind: [u8; 2]) -> Vec<u8> {
        let reading = async {
            loop {
                let mut buffer = [0; 2048];
                let read = nix::unistd::read(&self.tap, &mut buffer);
                if read == Err(Errno::EAGAIN) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                let frame = &buffer[VNET_HEADER..read.expect("the tap can be read")];
                if frame[12..14] == kind {
                    return frame.to_vec();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reading).await.expect("a frame comes")
    }
}

/// Who has an address?
pub(crate) fn arp_request(sender: Sender, target: Ipv4Addr) -> Vec<u8> {
    let Sender { mac, address } = sender;
    [&[0xff; 6][..], &mac.0, &ARP, &[0, 1, 8, 0, 6, 4, 0, 1], &mac.0, &address.octets(), &[0; 6], &target.octets()]
        .concat()
}

/// A UDP packet.
pub(crate) fn udp(sender: Sender, to: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("it is short");
    let datagram = [&4444_u16.to_be_bytes()[..], &port.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat();
    ipv4(sender, to, 17, &datagram)
}

/// A ping.
pub(crate) fn ping(sender: Sender, to: Ipv4Addr) -> Vec<u8> {
    let mut message = [8, 0, 0, 0, 0, 1, 0, 1];
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(sender, to, 1, &message)
}

fn ipv4(sender: Sender, to: Ipv4Addr, protocol: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + content.len()).expect("it is short").to_be_bytes();
    let mut header = [0x45, 0, length[0], length[1], 0, 1, 0, 0, 64, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&sender.address.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&HOST_MAC.0[..], &sender.mac.0, &IPV4, &header, content].concat()
}

/// A UDP packet by IPv6.
pub(crate) fn udp6(mac: Mac, from: Ipv6Addr, to: Ipv6Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("it is short").to_be_bytes();
    let mut datagram = [&4444_u16.to_be_bytes()[..], &port.to_be_bytes(), &length, &[0, 0], payload].concat();
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 0], &length, &[0, 0, 0, 17], &datagram].concat();
    let sum = checksum(&pseudo);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    let header = [&[0x60, 0, 0, 0][..], &length, &[17, 64], &from.octets(), &to.octets()].concat();
    [&HOST_MAC.0[..], &mac.0, &IPV6, &header, &datagram].concat()
}

/// Of the Internet protocols.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("it has been folded")
}
