//! The real network, in network namespaces of its own: contract, life of taps, leaks. Needs root, `nft` and /dev/net/tun.

mod world;

use std::time::{Duration, Instant};

use monopod_hostnet::{HostNet, NetConfig, PeerBlock, RoutedNet, contract};
use monopod_types::PodUid;
use world::{in_new_namespace, run, settled};

fn small() -> NetConfig {
    NetConfig { blocks: vec!["10.77.0.0/29".parse().expect("it is a block")], ready: 2, ..NetConfig::default() }
}

fn pod(name: &str) -> PodUid {
    PodUid::new(name)
}

/// Links, addresses, routes, neighbours and packet filter of the namespace.
fn everything() -> String {
    [
        run("ip", &["-br", "link"]),
        run("ip", &["-4", "route"]),
        run("ip", &["-6", "route"]),
        run("ip", &["neigh"]),
        run("nft", &["list", "ruleset"]),
    ]
    .concat()
}

#[test]
fn vm_the_routed_network_keeps_the_contract() {
    in_new_namespace(async {
        let net = RoutedNet::open(small()).await.unwrap();
        contract::addresses_are_given_once_and_reused_last(&net, 6).await;
        contract::detaching_is_idempotent(&net).await;
        contract::a_wanted_address_is_given(&net).await;
        contract::adopting_keeps_live_pods(&net).await;
        net.close().await.unwrap();
    });
}

#[test]
fn vm_routes_to_other_hosts_follow_what_is_said() {
    in_new_namespace(async {
        run("ip", &["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]);
        run("ip", &["link", "set", "eth1", "up"]);
        run("ip", &["addr", "add", "10.90.0.2/24", "dev", "eth0"]);
        run("ip", &["link", "set", "eth0", "up"]);
        run("ip", &["route", "add", "10.99.0.0/24", "via", "10.90.0.9"]);
        let net = RoutedNet::open(small()).await.unwrap();
        let peer = |block: &str, host: &str| PeerBlock { block: block.parse().unwrap(), host: host.parse().unwrap() };
        net.route_peers(&[peer("10.77.1.0/24", "10.90.0.3"), peer("10.77.2.0/24", "10.90.0.4")]).await.unwrap();
        net.route_peers(&[peer("10.77.2.0/24", "10.90.0.5")]).await.unwrap();
        let routes = run("ip", &["-4", "route"]);
        assert!(routes.contains("10.77.2.0/24 via 10.90.0.5 dev eth0"), "{routes}");
        assert!(!routes.contains("10.77.1.0/24") && !routes.contains("10.90.0.4"), "{routes}");
        net.close().await.unwrap();
        let routes = run("ip", &["-4", "route"]);
        assert!(!routes.contains("10.77.") && routes.contains("10.99.0.0/24 via 10.90.0.9"), "{routes}");
    });
}

#[test]
fn vm_nothing_is_left_after_hundreds_of_pods_and_a_close() {
    in_new_namespace(async {
        let before = everything();
        let open_files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let net = RoutedNet::open(small()).await.unwrap();
        let held = net.attach(&pod("first"), None).await.unwrap();
        let files = open_files();
        for round in 0..300 {
            let uid = pod(&format!("pod-{round}"));
            drop(net.attach(&uid, None).await.unwrap());
            net.detach(&uid).await.unwrap();
        }
        settled("the store of taps is full again, and no file more is open", || {
            (open_files() <= files + 2).then_some(()).ok_or_else(|| format!("{} files, {files} before", open_files()))
        })
        .await;
        drop(held);
        net.detach(&pod("first")).await.unwrap();
        net.close().await.unwrap();
        drop(net);
        settled("everything is as before", || (everything() == before).then_some(()).ok_or_else(everything)).await;
    });
}

#[test]
fn vm_a_restart_adopts_live_pods_repairs_them_and_removes_the_rest() {
    in_new_namespace(async {
        let config = NetConfig { block6: Some("fd77::/64".parse().unwrap()), ..small() };
        let net = RoutedNet::open(config.clone()).await.unwrap();
        let live = net.attach(&pod("live"), None).await.unwrap();
        let dead = net.attach(&pod("dead"), None).await.unwrap();
        // As after kill -9: the taps that VMs hold stay, those made ahead go with the daemon.
        drop(net);
        run("nft", &["delete", "table", "inet", "monopod"]);
        run("ip", &["route", "del", "10.77.0.1/32"]);
        run("ip", &["addr", "flush", "dev", &live.lease.tap_name]);

        let net = RoutedNet::open(config).await.unwrap();
        let adopted = net.adopt(&[pod("live"), pod("vanished")]).await.unwrap();
        assert_eq!(adopted, [(pod("live"), live.lease.clone())]);
        let now = everything();
        assert!(
            now.contains("10.77.0.1 dev mpod0 proto static scope link") && now.contains("table inet monopod"),
            "{now}"
        );
        assert!(now.contains("fd77::1 dev mpod0"), "{now}");
        let links = run("ip", &["-br", "link"]);
        assert!(!links.contains(&dead.lease.tap_name), "{links}");
        assert!(run("ip", &["addr", "show", "dev", "mpod0"]).contains("169.254.1.1/32"));
        assert_eq!(net.attach(&pod("live"), None).await.unwrap_err().reason(), "NetworkAlreadyAttached");

        // With a Pod, closing leaves it what it needs.
        net.close().await.unwrap();
        assert!(everything().contains("table inet monopod"));
        net.detach(&pod("live")).await.unwrap();
        net.close().await.unwrap();
        drop((live, dead));
        let left = everything();
        assert!(!left.contains("mpod"), "{left}");
    });
}

#[test]
fn vm_a_pod_starts_without_waiting_for_the_packet_filter() {
    in_new_namespace(async {
        let config = NetConfig { blocks: vec!["10.80.0.0/16".parse().unwrap()], ready: 8, ..NetConfig::default() };
        let begin = Instant::now();
        let net = RoutedNet::open(config).await.unwrap();
        let opened = begin.elapsed();
        let mut took = Vec::new();
        for round in 0..40 {
            let begin = Instant::now();
            let attachment = net.attach(&pod(&format!("pod-{round}")), None).await.unwrap();
            took.push(begin.elapsed());
            drop(attachment);
            net.detach(&pod(&format!("pod-{round}"))).await.unwrap();
        }
        took.sort();
        println!("opened with 4096 slots in {opened:?}; attach p50 {:?}, max {:?}", took[20], took[39]);
        assert!(took[20] < Duration::from_millis(50), "{took:?}");
        net.close().await.unwrap();
    });
}
