//! What guests can and cannot reach, by packets. Order proves absence: a forbidden packet is sent before an allowed one,
//! and the allowed one is the first to arrive. Needs root, `nft` and /dev/net/tun.

mod world;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use monopod_hostnet::{HostNet, HostService, Mac, Nat, NetConfig, Outside as Rules, Protocol, RoutedNet};
use monopod_types::PodUid;
use world::guest::{Guest, HOST_MAC, Sender, arp_request, ping, udp, udp6};
use world::in_new_namespace;
use world::outside::{HOST, METADATA, METADATA6, OUTSIDE, Outside, outside};

fn config() -> NetConfig {
    NetConfig {
        blocks: vec!["10.77.0.0/29".parse().expect("it is a block")],
        host_services: vec![HostService { address: ip(HOST).into(), protocol: Protocol::Udp, port: 5001 }],
        ready: 1,
        ..NetConfig::default()
    }
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().expect("it is an address")
}

/// Guests that have another address towards the outside; an empty one is the host's.
fn rules(nat: &[(&str, &str)]) -> Rules {
    let range = |text: &str| text.parse().expect("it is a range");
    let nat = nat.iter().map(|(guests, address)| Nat { guests: range(guests), address: address.parse().ok() });
    Rules { nat: nat.collect(), direct: Vec::new() }
}

async fn guest(net: &RoutedNet, name: &str) -> Guest {
    Guest::new(net.attach(&PodUid::new(name), None).await.expect("there are addresses left"))
}

/// What comes first to a socket, and from where.
fn first(socket: &UdpSocket) -> (String, IpAddr) {
    let mut buffer = [0; 100];
    let (length, from) = socket.recv_from(&mut buffer).expect("a packet comes");
    (String::from_utf8_lossy(&buffer[..length]).into_owned(), from.ip())
}

#[test]
fn vm_a_guest_reaches_the_outside_under_the_hosts_address_and_gets_answers() {
    in_new_namespace(async {
        let Outside { socket, .. } = outside();
        let net = RoutedNet::open(config()).await.unwrap();
        let web = guest(&net, "web").await;
        web.send(&udp(web.honest(), ip(OUTSIDE), 7000, b"hello"));
        assert_eq!(first(&socket), ("hello".to_owned(), ip(HOST).into()));

        // The answer finds its way back; what nobody asked for does not, but from the host itself.
        socket.send_to(b"uninvited", (web.address(), 4444)).unwrap();
        let host = UdpSocket::bind("0.0.0.0:0").unwrap();
        host.send_to(b"from the host", (web.address(), 4444)).unwrap();
        let packet = web.next_ipv4().await;
        assert!(packet.ends_with(b"from the host"), "{packet:?}");
        assert_eq!(packet[12..16], [169, 254, 1, 1]);

        let traffic = net.stats(&PodUid::new("web")).await.unwrap();
        assert_eq!((traffic.sent_packets, traffic.received_packets), (1, 1), "{traffic:?}");
    });
}

#[test]
fn vm_guests_have_the_address_towards_the_outside_that_is_set_for_them() {
    in_new_namespace(async {
        let Outside { socket, .. } = outside();
        let net = RoutedNet::open(config()).await.unwrap();
        let seen_as = async |address: &str| {
            let lease = net.attach(&PodUid::new(address), Some(ip(address))).await.expect("the address is free");
            let guest = Guest::new(lease);
            guest.send(&udp(guest.honest(), ip(OUTSIDE), 7000, address.as_bytes()));
            let (text, from) = first(&socket);
            assert_eq!(text, address);
            from.to_string()
        };
        net.set_outside(rules(&[("10.77.0.0/30", ""), ("10.77.0.4/31", "10.99.0.77")])).await.unwrap();
        assert_eq!(seen_as("10.77.0.1").await, HOST);
        assert_eq!(seen_as("10.77.0.4").await, "10.99.0.77");
        assert_eq!(seen_as("10.77.0.6").await, "10.77.0.6", "nothing is said of it");
        net.adopt(&[]).await.unwrap();
        assert_eq!(seen_as("10.77.0.5").await, "10.99.0.77", "a repair changes nothing");
        let direct = vec![format!("{OUTSIDE}/32").parse().unwrap()];
        net.set_outside(Rules { direct, ..Rules::default() }).await.unwrap();
        assert_eq!(seen_as("10.77.0.2").await, "10.77.0.2");
    });
}

#[test]
fn vm_a_guest_cannot_speak_for_others() {
    in_new_namespace(async {
        let Outside { socket, .. } = outside();
        let net = RoutedNet::open(config()).await.unwrap();
        let web = guest(&net, "web").await;
        let honest = web.honest();
        let other = guest(&net, "other").await.honest();
        let lies = [
            Sender { address: other.address, ..honest },
            Sender { mac: other.mac, ..honest },
            other,
            Sender { address: ip("10.77.0.6"), ..honest },
            Sender { address: ip("8.8.8.8"), ..honest },
            Sender { mac: Mac([0x02; 6]), ..honest },
            Sender { address: ip("127.0.0.1"), ..honest },
            Sender { address: ip("169.254.1.1"), ..honest },
        ];
        for lie in lies {
            web.send(&udp(lie, ip(OUTSIDE), 7000, b"lie"));
            web.send(&arp_request(lie, ip("169.254.1.1")));
        }
        web.send(&udp(honest, ip(OUTSIDE), 7000, b"truth"));
        assert_eq!(first(&socket).0, "truth");

        // Of the host's addresses, a guest learns its gateway's alone.
        web.send(&arp_request(honest, ip(HOST)));
        web.send(&arp_request(honest, ip("169.254.1.1")));
        let answer = web.next_arp().await;
        assert_eq!((&answer[..6], &answer[6..12]), (&honest.mac.0[..], &HOST_MAC.0[..]));
        assert_eq!(answer[20..22], [0, 2], "an answer");
        assert_eq!(answer[28..32], [169, 254, 1, 1]);
        let neighbours = world::run("ip", &["neigh"]);
        assert!(!neighbours.contains("8.8.8.8"), "{neighbours}");
    });
}

#[test]
fn vm_metadata_addresses_are_out_of_reach_in_both_families() {
    in_new_namespace(async {
        let Outside { socket, socket6 } = outside();
        // Addresses of their own, so that nothing but the filter is in the way.
        let with_ipv6 = NetConfig { block6: Some("fd77::/64".parse().unwrap()), outside: rules(&[]), ..config() };
        let net = RoutedNet::open(with_ipv6).await.unwrap();
        let web = guest(&net, "web").await;
        web.send(&udp(web.honest(), ip(METADATA), 7000, b"metadata"));
        web.send(&udp(web.honest(), ip("169.254.170.2"), 7000, b"credentials"));
        web.send(&udp(web.honest(), ip(OUTSIDE), 7000, b"allowed"));
        assert_eq!(first(&socket), ("allowed".to_owned(), web.address().into()));

        let (mac, address) = (web.lease.mac, web.address6());
        // A new interface loses what comes before its neighbours are known.
        let patience = socket6.read_timeout().unwrap();
        socket6.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let heard = (0..200).any(|_| {
            web.send(&udp6(mac, address, "fd99::2".parse().unwrap(), 7000, b"hello"));
            socket6.recv_from(&mut [0; 100]).is_ok()
        });
        assert!(heard, "a packet comes");
        while socket6.recv_from(&mut [0; 100]).is_ok() {}
        socket6.set_read_timeout(patience).unwrap();
        web.send(&udp6(mac, address, METADATA6.parse().unwrap(), 7000, b"metadata"));
        web.send(&udp6(mac, "fd77::5".parse().unwrap(), "fd99::2".parse().unwrap(), 7000, b"lie"));
        web.send(&udp6(mac, address, "fd99::2".parse().unwrap(), 7000, b"allowed"));
        assert_eq!(first(&socket6), ("allowed".to_owned(), address.into()));
    });
}

#[test]
fn vm_of_the_host_a_guest_reaches_its_gateway_and_what_is_meant_for_it() {
    in_new_namespace(async {
        let _outside = outside();
        let net = RoutedNet::open(config()).await.unwrap();
        let web = guest(&net, "web").await;
        let closed = UdpSocket::bind((HOST, 5000)).unwrap();
        let open = UdpSocket::bind((HOST, 5001)).unwrap();
        web.send(&udp(web.honest(), ip(HOST), 5000, b"closed"));
        web.send(&ping(web.honest(), ip(HOST)));
        web.send(&udp(web.honest(), ip(HOST), 5001, b"open"));
        assert_eq!(first(&open).0, "open");
        closed.set_nonblocking(true).unwrap();
        assert_eq!(closed.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);

        web.send(&ping(web.honest(), ip("169.254.1.1")));
        let answer = web.next_ipv4().await;
        assert_eq!((&answer[12..16], answer[20]), (&[169, 254, 1, 1][..], 0), "the gateway's echo comes first");
    });
}

#[test]
fn vm_guests_reach_each_other_through_the_host() {
    in_new_namespace(async {
        let net = RoutedNet::open(config()).await.unwrap();
        let (web, shop) = (guest(&net, "web").await, guest(&net, "shop").await);
        web.send(&udp(web.honest(), shop.address(), 9000, b"hello shop"));
        let packet = shop.next_ipv4().await;
        assert!(packet.ends_with(b"hello shop") && packet[12..16] == web.address().octets(), "{packet:?}");
        assert_eq!(packet[8], 63, "it was routed");
    });
}

#[test]
fn vm_a_guest_reaches_itself_through_a_service() {
    in_new_namespace(async {
        let net = RoutedNet::open(config()).await.unwrap();
        let web = guest(&net, "web").await;
        for command in [
            "add table ip services",
            "add chain ip services lead { type nat hook prerouting priority -100; }",
            &format!("add rule ip services lead ip daddr 10.96.0.1 dnat to {}", web.address()),
        ] {
            world::run("nft", &[command]);
        }
        web.send(&udp(web.honest(), ip("10.96.0.1"), 9000, b"who is there"));
        let packet = web.next_ipv4().await;
        assert!(packet.ends_with(b"who is there"), "{packet:?}");
        assert_eq!((&packet[12..16], &packet[16..20]), (&[169, 254, 1, 1][..], &web.address().octets()[..]));
    });
}

#[test]
fn vm_without_ipv6_a_guest_has_none() {
    in_new_namespace(async {
        let Outside { socket, socket6 } = outside();
        let net = RoutedNet::open(config()).await.unwrap();
        let web = guest(&net, "web").await;
        let link_local = "fe80::6d:aff:fe4d:1".parse().unwrap();
        for from in [link_local, "fd77::1".parse().unwrap()] {
            web.send(&udp6(web.lease.mac, from, "fd99::2".parse().unwrap(), 7000, b"six"));
        }
        web.send(&udp(web.honest(), ip(OUTSIDE), 7000, b"four"));
        assert_eq!(first(&socket).0, "four");
        socket6.set_nonblocking(true).unwrap();
        assert_eq!(socket6.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}
