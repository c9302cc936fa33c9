//! Host name, /etc/hosts and /etc/resolv.conf, and what else is the Pod's as a whole.

use serde_json::{Value, json};

use super::super::{ClusterDns, Note, ResolvConf, hostname, personalize, pod_files};
use super::support::{World, read, world};

fn in_cluster(spec: &Value) -> World {
    let mut world = world(spec);
    let servers = vec!["10.1.0.10".parse().unwrap()];
    world.settings.dns.cluster = Some(ClusterDns { servers, domain: "cluster.local".to_owned() });
    world.settings.dns.host = Some(ResolvConf::parse("nameserver 192.0.2.1\nsearch corp.example.\noptions rotate\n"));
    world
}

fn resolv_conf(world: &World) -> (String, Vec<Note>) {
    let plan = world.ask(pod_files).unwrap();
    (plan.files.resolv_conf, plan.notes)
}

#[test]
fn the_dns_policy_picks_the_base_and_dns_config_is_added() {
    let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.1.0.10\n\
                   options ndots:5\n";
    let host = "search corp.example\nnameserver 192.0.2.1\noptions rotate\n";
    let own = json!({"nameservers": ["192.0.2.9", "192.0.2.1"], "searches": ["own.example", "corp.example"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}, {"name": "rotate", "value": ""}]});
    for (policy, config, expected) in [
        (json!(null), json!(null), cluster),
        (json!("ClusterFirst"), json!(null), cluster),
        (json!("ClusterFirstWithHostNet"), json!(null), cluster),
        (json!("Default"), json!(null), host),
        (json!("None"), json!(null), ""),
        (
            json!("None"),
            own.clone(),
            "search own.example corp.example\nnameserver 192.0.2.9\nnameserver 192.0.2.1\noptions ndots:2 edns0 rotate\n",
        ),
        (
            json!("Default"),
            own.clone(),
            "search corp.example own.example\nnameserver 192.0.2.1\nnameserver 192.0.2.9\noptions rotate ndots:2 edns0\n",
        ),
        (
            json!("ClusterFirst"),
            own,
            "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example own.example\n\
             nameserver 10.1.0.10\nnameserver 192.0.2.9\nnameserver 192.0.2.1\noptions ndots:2 edns0 rotate\n",
        ),
    ] {
        let world = in_cluster(&json!({"dnsPolicy": policy, "dnsConfig": config, "containers": []}));
        assert_eq!(resolv_conf(&world), (expected.to_owned(), vec![]), "{policy} {config}");
    }
}

#[test]
fn without_a_cluster_a_pod_uses_what_the_host_uses() {
    let mut world = in_cluster(&json!({"containers": []}));
    world.settings.dns.cluster = None;
    assert_eq!(resolv_conf(&world).0, "search corp.example\nnameserver 192.0.2.1\noptions rotate\n");
    world.settings.dns.host = None;
    assert_eq!(resolv_conf(&world), ("search .\nnameserver 127.0.0.1\n".to_owned(), vec![]));
}

#[test]
fn a_cluster_without_dns_servers_is_told_in_an_event() {
    let mut world = in_cluster(&json!({"containers": []}));
    world.settings.dns.cluster = Some(ClusterDns { servers: vec![], domain: "cluster.local".to_owned() });
    let (text, notes) = resolv_conf(&world);
    assert_eq!(text, "search corp.example\nnameserver 192.0.2.1\noptions rotate\n");
    let message = "pod: \"web_shop(0001)\". kubelet does not have ClusterDNS IP configured and cannot create Pod using \
                   \"ClusterFirst\" policy. Falling back to \"Default\" policy.";
    assert_eq!(notes, [Note { reason: "MissingClusterDNS", message: message.to_owned() }]);
}

#[test]
fn what_is_beyond_the_limits_is_left_out_and_told() {
    let servers = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
    let config = json!({"nameservers": servers, "searches": ["a.example", "b".repeat(254)]});
    let (text, notes) = resolv_conf(&in_cluster(&json!({"dnsPolicy": "None", "dnsConfig": config, "containers": []})));
    assert_eq!(text, "search a.example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n");
    let messages = [
        "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 192.0.2.1 \
         192.0.2.2 192.0.2.3",
        "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: a.example",
    ];
    assert_eq!(notes, messages.map(|text| Note { reason: "DNSConfigForming", message: text.to_owned() }));

    let many: Vec<String> = (0..33).map(|number| format!("s{number}")).collect();
    let config = json!({"searches": many});
    let (text, _) = resolv_conf(&in_cluster(&json!({"dnsPolicy": "None", "dnsConfig": config, "containers": []})));
    assert_eq!(text, format!("search {}\n", many[..32].join(" ")));
    let long: Vec<String> = (0..10).map(|number| format!("{number}{}", "x".repeat(249))).collect();
    let config = json!({"searches": long});
    let (text, _) = resolv_conf(&in_cluster(&json!({"dnsPolicy": "None", "dnsConfig": config, "containers": []})));
    assert_eq!(text, format!("search {}\n", long[..8].join(" ")));
}

#[test]
fn a_resolv_conf_is_read_as_the_kubelet_reads_it() {
    let text = "# nameserver 192.0.2.7\n nameserver 192.0.2.1 more\nnameserver\nsearch old\nsearch a.example. . b\n\
                domain x\noptions ndots:3 rotate\noptions ndots:1\nnameserver 127.0.0.53\n";
    let read = ResolvConf::parse(text);
    assert_eq!(read.nameservers, ["192.0.2.1", "127.0.0.53"]);
    assert_eq!(read.searches, ["a.example", "b"]);
    assert_eq!(read.options, ["ndots:1", "rotate"]);
    assert_eq!(read.without_loopback().nameservers, ["192.0.2.1"]);
}

#[test]
fn names_of_a_pod_are_those_of_the_kubelet() {
    let long = "a".repeat(62);
    let domain = "sub.shop.svc.cluster.local";
    for (spec, short, with_domain, kernel) in [
        (json!({}), "web".to_owned(), false, "web".to_owned()),
        (json!({"hostname": "own"}), "own".to_owned(), false, "own".to_owned()),
        (json!({"subdomain": "sub"}), "web".to_owned(), true, "web".to_owned()),
        (json!({"subdomain": "sub", "setHostnameAsFQDN": true}), "web".to_owned(), true, format!("web.{domain}")),
        (json!({"setHostnameAsFQDN": true}), "web".to_owned(), false, "web".to_owned()),
        (json!({"hostnameOverride": "a.b", "subdomain": "sub"}), "a.b".to_owned(), false, "a.b".to_owned()),
        (json!({"hostnameOverride": format!("{long}.b")}), long.clone(), false, long.clone()),
    ] {
        let found = hostname(
            &read(&json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": with(&spec)})),
            "cluster.local",
        );
        let found = found.unwrap();
        let expected_domain = with_domain.then(|| domain.to_owned());
        assert_eq!((found.short, found.domain, found.kernel), (short, expected_domain, kernel), "{spec}");
    }
}

fn with(spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["containers"] = json!([]);
    spec
}

#[test]
fn a_long_pod_name_is_cut_and_does_not_end_in_a_hyphen() {
    let name = format!("{}--tail", "a".repeat(61));
    let found = hostname(&read(&json!({"metadata": {"name": name}, "spec": {"containers": []}})), "cluster.local");
    assert_eq!(found.unwrap().short, "a".repeat(61));
}

#[test]
fn names_that_are_no_dns_names_keep_the_pod_from_starting() {
    let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
                 end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let long = format!("{}.sub.shop.svc.cluster.local", "a".repeat(40));
    for (spec, expected) in [
        (json!({"hostname": "A"}), format!("pod Hostname \"A\" is not a valid DNS label: {label}")),
        (json!({"subdomain": "-a"}), format!("pod Subdomain \"-a\" is not a valid DNS label: {label}")),
        (
            json!({"hostname": "a".repeat(40), "subdomain": "sub", "setHostnameAsFQDN": true}),
            format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {long} is too long (64 characters is \
                 the max, 67 characters requested)"
            ),
        ),
    ] {
        let pod = read(&json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": with(&spec)}));
        let error = hostname(&pod, "cluster.local").unwrap_err();
        assert_eq!((error.to_string(), error.reason()), (expected, "FailedCreatePodSandBox"), "{spec}");
    }
}

#[test]
fn the_hosts_file_is_the_kubelets() {
    let aliases =
        json!([{"ip": "192.0.2.5", "hostnames": ["a.example", "b"]}, {"ip": "192.0.2.6", "hostnames": ["c"]}]);
    let world = in_cluster(&json!({"subdomain": "sub", "hostAliases": aliases, "containers": []}));
    let hosts = world.ask(pod_files).unwrap().files.hosts;
    assert_eq!(hosts, include_str!("golden/hosts.txt"));
}

#[test]
fn a_pods_sysctls_override_those_of_the_host() {
    let sysctls = json!([
        {"name": "net.ipv4.ping_group_range", "value": "1 0"},
        {"name": "net/ipv4/conf/eth0.1/forwarding", "value": "1"},
        {"name": "kernel.shm_rmid_forced", "value": "1"},
    ]);
    let spec = json!({"securityContext": {"sysctls": sysctls}, "shareProcessNamespace": true, "containers": []});
    let request = in_cluster(&spec).ask(personalize).unwrap();
    let mut sysctls: Vec<(&str, &str)> = request.sysctls.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    sysctls.sort_unstable();
    assert_eq!(
        sysctls,
        [
            ("kernel.shm_rmid_forced", "1"),
            ("net.ipv4.conf.eth0/1.forwarding", "1"),
            ("net.ipv4.ip_unprivileged_port_start", "0"),
            ("net.ipv4.ping_group_range", "1 0"),
        ]
    );
    assert!(request.share_process_namespace);
    assert_eq!((request.hostname.as_str(), request.pod_uid.as_str()), ("web", "0001"));
    assert!(request.entropy.is_empty() && request.network.is_none(), "the host fills these in");
}
