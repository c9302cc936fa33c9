//! Arbitrary worlds and Pods, made from a row of drawn numbers so that failures shrink.

use k8s_openapi::api::core::v1::Pod;
use monopod_types::{GiB, HostName, MiB, MilliCpu, ProfileName};
use serde_json::{Value, json};

use super::fixtures::{block, host, subnet};
use super::model::{Case, subnet_names};
use crate::placement::{AddressBlock, Booking, Host, ProfileRules, Resources, Subnet};

const ZONES: [&str; 3] = ["a", "b", "c"];
const SUBNETS: [(&str, &str, &str); 4] =
    [("s0", "a", "10.0.0.0/24"), ("s1", "b", "10.0.1.0/24"), ("s2", "a", "10.0.2.0/24"), ("s3", "c", "10.0.3.0/24")];
const HOSTS: [&str; 8] = ["1", "2", "3", "10", "h4", "h5", "h6", "h7"];
const NAMESPACES: [&str; 2] = ["shop", "bank"];

/// Numbers drawn one after the other; zeros when they are used up.
#[derive(Debug)]
pub(super) struct Dice {
    drawn: std::vec::IntoIter<u16>,
}

impl Dice {
    pub(super) fn new(drawn: Vec<u16>) -> Self {
        Self { drawn: drawn.into_iter() }
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.drawn.len() == 0
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.drawn.next().unwrap_or(0)) % bound
    }

    /// True once in `rarity` draws, and not for a zero.
    fn rarely(&mut self, rarity: usize) -> bool {
        self.below(rarity) == rarity - 1
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn some<T: Copy>(&mut self, choices: &[T]) -> Vec<T> {
        let bits = self.below(1 << choices.len());
        choices.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0).map(|(_, choice)| *choice).collect()
    }
}

/// One change of the cluster.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Host(Host),
    NoHost(String),
    Subnet(Subnet),
    NoSubnet(String),
    Block(AddressBlock),
    NoBlock(AddressBlock),
    Namespace(String, String),
    NoNamespace(String),
    /// Booked where placement says, if it says anything.
    Place(Case),
    /// Booked wherever, as a booking read back from a cluster may be.
    Book(Case, Booking),
    Release(String),
}

/// A cluster in which most Pods find a place: every subnet, some of the hosts, two blocks for each.
pub(super) fn opening(dice: &mut Dice) -> Vec<Change> {
    let subnets = SUBNETS.map(|(name, zone, cidr)| Change::Subnet(subnet(name, zone, cidr)));
    let mut changes = Vec::from(subnets);
    let number = 1 + dice.below(HOSTS.len());
    for name in &HOSTS[..number] {
        changes.push(Change::Host(any_host(dice, name)));
        changes.push(Change::Block(any_block(dice, name)));
        changes.push(Change::Block(any_block(dice, name)));
    }
    changes
}

pub(super) fn change(dice: &mut Dice) -> Change {
    match dice.below(20) {
        0 | 1 => Change::NoHost(dice.pick(&HOSTS).to_owned()),
        2 | 3 => {
            let name = dice.pick(&HOSTS);
            Change::Host(any_host(dice, name))
        }
        4 | 5 => {
            let name = dice.pick(&HOSTS);
            Change::Block(any_block(dice, name))
        }
        6 => Change::NoBlock(any_block(dice, "1")),
        7 => Change::NoSubnet(dice.pick(&SUBNETS).0.to_owned()),
        8 => {
            let ((name, zone, cidr), moved) = (dice.pick(&SUBNETS), dice.pick(&ZONES));
            Change::Subnet(subnet(name, if dice.rarely(3) { moved } else { zone }, cidr))
        }
        9 => Change::Namespace(dice.pick(&NAMESPACES).to_owned(), dice.pick(&["red", "blue"]).to_owned()),
        10 => Change::NoNamespace(dice.pick(&NAMESPACES).to_owned()),
        11 | 12 => Change::Release(format!("pod-{}", dice.below(12))),
        13 => {
            let (name, network) = (dice.pick(&HOSTS), any_block(dice, "1").network);
            Change::Book(any_case(dice), Booking { host: HostName::from(name), block: network })
        }
        _ => Change::Place(any_case(dice)),
    }
}

fn any_host(dice: &mut Dice, name: &str) -> Host {
    let zone = dice.pick(&ZONES);
    let own: Vec<&str> = SUBNETS.iter().filter(|(_, there, _)| *there == zone).map(|(name, _, _)| *name).collect();
    let all = SUBNETS.map(|(name, _, _)| name);
    let subnets = if dice.rarely(4) { dice.some(&all) } else { own };
    Host {
        unschedulable: dice.rarely(10),
        ready: !dice.rarely(10),
        total: Resources {
            cpu: MilliCpu(dice.pick(&[4, 2, 8])),
            memory: MiB(dice.pick(&[4, 2, 8])),
            disk: GiB(dice.pick(&[8, 4, 6])),
        },
        ..host(name, zone, &subnets)
    }
}

fn any_block(dice: &mut Dice, host: &str) -> AddressBlock {
    let (name, _, _) = dice.pick(&SUBNETS);
    let network = format!("10.0.{}.{}/28", name.trim_start_matches('s'), 16 * dice.below(4));
    block(&network, if dice.rarely(8) { "s0" } else { name }, host, dice.pick(&[2, 1, 4, 0]))
}

pub(super) fn any_case(dice: &mut Dice) -> Case {
    let subnets = if dice.rarely(3) { dice.some(&["s0", "s1", "s2", "s3"]) } else { Vec::new() };
    Case {
        pod: any_pod(dice),
        profile: ProfileRules {
            name: ProfileName::from(dice.pick(&["web", "batch"])),
            subnets: subnet_names(&subnets),
        },
        size: Resources {
            cpu: MilliCpu(dice.pick(&[1, 1, 2, 0])),
            memory: MiB(dice.pick(&[1, 1, 2, 0])),
            disk: GiB(dice.pick(&[1, 1, 3])),
        },
    }
}

fn any_pod(dice: &mut Dice) -> Pod {
    let name = format!("pod-{}", dice.below(12));
    let mut labels = json!({"app": dice.pick(&["x", "y"])});
    if dice.rarely(2) {
        labels["version"] = json!(dice.pick(&["1", "2"]));
    }
    let mut spec = json!({"containers": []});
    // Rules of every kind at once leave few Pods a place: half of the Pods have at most spread constraints.
    if dice.rarely(2) {
        spec["affinity"] = any_affinity(dice);
    }
    if dice.rarely(6) {
        spec["nodeSelector"] = match dice.below(4) {
            0 => json!({"topology.kubernetes.io/zone": dice.pick(&ZONES)}),
            1 => json!({"monopod.dev/host": dice.pick(&HOSTS)}),
            2 => json!({"eks.amazonaws.com/compute-type": "fargate", "kubernetes.io/arch": "amd64"}),
            _ => json!({"disk": "ssd"}),
        };
    }
    if dice.rarely(2) {
        spec["topologySpreadConstraints"] = (0..=dice.below(2)).map(|_| any_spread(dice)).collect();
    }
    let metadata = json!({"name": name, "uid": name, "namespace": dice.pick(&NAMESPACES), "labels": labels});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn any_affinity(dice: &mut Dice) -> Value {
    let mut affinity = json!({});
    if dice.rarely(6) {
        let terms: Vec<Value> = (0..=dice.below(2)).map(|_| any_node_term(dice)).collect();
        let required = json!({"nodeSelectorTerms": terms});
        affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = required;
    }
    if dice.rarely(4) {
        let terms: Vec<Value> =
            (0..=dice.below(2)).map(|_| json!({"weight": dice.below(4), "preference": any_node_term(dice)})).collect();
        affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = json!(terms);
    }
    for (kind, rarity) in [("podAffinity", 6), ("podAntiAffinity", 3)] {
        if dice.rarely(rarity) {
            let terms: Vec<Value> = (0..=dice.below(2)).map(|_| any_pod_term(dice)).collect();
            affinity[kind]["requiredDuringSchedulingIgnoredDuringExecution"] = json!(terms);
        }
        if dice.rarely(4) {
            let terms: Vec<Value> = (0..=dice.below(2))
                .map(|_| json!({"weight": dice.below(4), "podAffinityTerm": any_pod_term(dice)}))
                .collect();
            affinity[kind]["preferredDuringSchedulingIgnoredDuringExecution"] = json!(terms);
        }
    }
    affinity
}

fn any_node_term(dice: &mut Dice) -> Value {
    let expressions: Vec<Value> = (0..dice.below(3))
        .map(|_| match dice.below(6) {
            0 => json!({"key": "topology.kubernetes.io/zone", "operator": "In", "values": dice.some(&ZONES)}),
            1 => json!({"key": "topology.kubernetes.io/zone", "operator": "NotIn", "values": dice.some(&ZONES)}),
            2 => {
                json!({"key": "monopod.dev/host", "operator": dice.pick(&["In", "NotIn"]), "values": dice.some(&HOSTS)})
            }
            3 => json!({"key": "monopod.dev/host", "operator": dice.pick(&["Gt", "Lt"]), "values": ["2"]}),
            4 => json!({"key": dice.pick(&["kubernetes.io/hostname", "disk"]), "operator": "Exists"}),
            _ => json!({"key": dice.pick(&["monopod.dev/host", "disk"]), "operator": "DoesNotExist"}),
        })
        .collect();
    json!({"matchExpressions": expressions})
}

fn any_selector(dice: &mut Dice) -> Value {
    match dice.below(6) {
        0 | 1 => json!({"matchLabels": {"app": dice.pick(&["x", "y"])}}),
        2 => json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]}),
        3 => json!({"matchExpressions": [{"key": "version", "operator": dice.pick(&["Exists", "DoesNotExist"])}]}),
        4 => json!({}),
        _ => Value::Null,
    }
}

fn any_topology_key(dice: &mut Dice) -> &'static str {
    match dice.below(8) {
        0..=3 => "topology.kubernetes.io/zone",
        4..=6 => "monopod.dev/host",
        _ => "kubernetes.io/hostname",
    }
}

fn any_pod_term(dice: &mut Dice) -> Value {
    let mut term = json!({"topologyKey": any_topology_key(dice), "labelSelector": any_selector(dice)});
    match dice.below(8) {
        0 => term["namespaces"] = json!(dice.some(&NAMESPACES)),
        1 => term["namespaceSelector"] = json!({}),
        2 => term["namespaceSelector"] = json!({"matchLabels": {"team": dice.pick(&["red", "blue"])}}),
        3 if !term["labelSelector"].is_null() => term["matchLabelKeys"] = json!(["version"]),
        4 if !term["labelSelector"].is_null() => term["mismatchLabelKeys"] = json!(["version"]),
        _ => {}
    }
    term
}

fn any_spread(dice: &mut Dice) -> Value {
    let mut constraint = json!({
        "topologyKey": any_topology_key(dice),
        "labelSelector": any_selector(dice),
        "maxSkew": 1 + dice.below(2),
        "whenUnsatisfiable": dice.pick(&["DoNotSchedule", "DoNotSchedule", "ScheduleAnyway"]),
    });
    if dice.rarely(4) {
        constraint["minDomains"] = json!(1 + dice.below(4));
    }
    if dice.rarely(4) {
        constraint["matchLabelKeys"] = json!(["version"]);
    }
    if dice.rarely(4) {
        constraint["nodeAffinityPolicy"] = json!(dice.pick(&["Honor", "Ignore"]));
    }
    if dice.rarely(4) {
        constraint["nodeTaintsPolicy"] = json!(dice.pick(&["Honor", "Ignore"]));
    }
    constraint
}
