//! What is read from the host's request. What is done with it is tested in a real guest.

use std::fs;
use std::path::Path;

use monopod_agent_proto::v1;

use super::identity::{is_hostname, is_machine_id, is_uuid};
use super::network::{Card, Network, NetworkError, card, mac};
use super::{PersonalizeError, seed, sysctls};

#[test]
fn too_little_entropy_is_refused() {
    let error = seed(&[1; 31]).unwrap_err();
    assert!(matches!(error, PersonalizeError::TooLittleEntropy { given: 31 }));
    assert_eq!(error.reason(), "TooLittleEntropy");
}

#[test]
fn identities_are_checked() {
    assert!(is_hostname("fargate-10-0-1-2.ec2.internal") && is_hostname(&"a".repeat(64)));
    assert!(!is_hostname("") && !is_hostname(&"a".repeat(65)) && !is_hostname("a b") && !is_hostname("a\n"));
    assert!(is_machine_id("0123456789abcdef0123456789abcdef"));
    assert!(!is_machine_id(&"0".repeat(32)) && !is_machine_id("ABC") && !is_machine_id(&"g".repeat(32)));
    assert!(is_uuid("5a3c3f5e-8f0b-4f0e-9d0a-0123456789ab"));
    assert!(!is_uuid("5a3c3f5e8f0b4f0e9d0a0123456789ab") && !is_uuid(""));
}

#[test]
fn a_mac_address_is_six_bytes_and_no_group() {
    assert_eq!(mac("02:00:0a:00:01:02").unwrap(), [2, 0, 10, 0, 1, 2]);
    for text in [
        "",
        "02:00:0a:00:01",
        "02:00:0a:00:01:02:03",
        "2:0:0a:00:01:02",
        "03:00:0a:00:01:02",
        "0g:00:0a:00:01:02",
        "+2:00:0a:00:01:02",
    ] {
        assert!(mac(text).is_err(), "{text:?}");
    }
}

fn network(addresses: &[&str], gateways: &[&str]) -> Result<Network, NetworkError> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let mac = "02:00:00:00:00:01".to_owned();
    Network::try_from(&v1::Network { mac, mtu: 1500, addresses: texts(addresses), gateways: texts(gateways) })
}

#[test]
fn a_network_has_one_gateway_of_each_family_at_most() {
    let both = network(&["10.0.1.2/32", "fd00::2/128"], &["169.254.1.1", "fe80::1"]).unwrap();
    assert_eq!((both.addresses.len(), both.gateways.len()), (2, 2));
    assert!(network(&["10.0.1.2/32"], &["10.0.1.1", "10.0.1.3"]).is_err());
    assert!(network(&["10.0.1.2/33"], &[]).is_err() && network(&["10.0.1.2"], &[]).is_err());
    assert!(network(&[], &["router"]).is_err());
}

#[test]
fn the_card_is_the_interface_that_is_a_device() {
    let interfaces = tempfile::tempdir().unwrap();
    fs::create_dir_all(interfaces.path().join("lo")).unwrap();
    assert!(matches!(card(interfaces.path()), Err(NetworkError::NoCard)));
    fs::create_dir_all(interfaces.path().join("eth0/device")).unwrap();
    fs::write(interfaces.path().join("eth0/ifindex"), "3\n").unwrap();
    assert_eq!(card(interfaces.path()).unwrap(), Card { name: "eth0".to_owned(), index: 3 });
}

#[test]
fn a_kernel_parameter_stays_below_its_folder() {
    let path = |name| sysctls::path(name).unwrap();
    assert_eq!(path("net.core.somaxconn"), Path::new("/proc/sys/net/core/somaxconn"));
    assert_eq!(path("net/ipv4/conf/eth0.1/forwarding"), Path::new("/proc/sys/net/ipv4/conf/eth0.1/forwarding"));
    assert_eq!(path("net.ipv4.conf.eth0/1.forwarding"), Path::new("/proc/sys/net/ipv4/conf/eth0.1/forwarding"));
    for name in ["", "/etc/passwd", "net/../../etc/passwd", ".net"] {
        assert!(sysctls::path(name).is_err(), "{name:?}");
    }
}
