//! How Pods resolve names where there is no cluster.

use crate::machine::{Machine, script_pod};

#[test]
fn vm_pods_ask_the_machines_name_servers_but_none_on_its_loopback() {
    let mut machine = Machine::without_daemon();
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "nameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch shop.example\noptions edns0\n";
    std::fs::write(file.path(), text).unwrap();
    machine.set("MONOPOD_RESOLV_CONF", file.path().to_path_buf());
    machine.start_daemon();
    let answer = machine.run(&script_pod("names", "cat /etc/resolv.conf", ""));
    let expected = "search shop.example\nnameserver 192.0.2.53\noptions edns0\n";
    assert_eq!((answer.stdout.as_str(), answer.code), (expected, 0), "{}", answer.stderr);
}
