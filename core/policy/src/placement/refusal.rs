//! Why a Pod has no place, in one line, and which event could change that.

use std::collections::{BTreeMap, BTreeSet};

use monopod_types::{GiB, MiB, MilliCpu, SubnetName, Zone};

use super::request::{PodRequest, Topology};
use super::resources::Resources;
use super::rules::Rules;

/// What keeps a Pod off a host, in the order in which the rules are asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The profile has no subnet in the host's zone.
    OutsideZones,
    /// The profile has subnets in the host's zone, the host serves none of them.
    ServesNoSubnet,
    /// Node selector or required node affinity.
    Requirements,
    /// `spec.unschedulable` of the host.
    Unschedulable,
    /// The host is not alive, cannot start microVMs, or its machine is short of memory or disk.
    NotReady,
    /// Less than this is free.
    Cpu(MilliCpu),
    /// Less than this is free.
    Memory(MiB),
    /// Less than this is free.
    Disk(GiB),
    /// No free address in any of these subnets, which both profile and host have.
    NoAddress(BTreeSet<SubnetName>),
    /// Required Pod affinity: no matching Pod in the domain.
    Affinity(Topology),
    /// The Pod's required anti-affinity: a matching Pod is in the domain.
    AntiAffinity(Topology),
    /// Required anti-affinity of a Pod that is in the domain.
    Repelled(Topology),
    /// A `DoNotSchedule` spread constraint.
    Spread {
        /// Kind of domain.
        topology: Topology,
        /// The constraint's `maxSkew`.
        max_skew: u64,
    },
}

/// An event after which a refused Pod is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// A host or subnet came or changed, or a host became ready or schedulable.
    HostChange,
    /// A block of addresses came, or a Pod gave its address back.
    AddressFreed,
    /// A Pod gave up its place.
    PodGone,
    /// A Pod got a place: it may be the company asked for, or fill the emptiest domain of a spread.
    PodPlaced,
    /// The profile's subnets changed.
    ProfileChange,
    /// A namespace got other labels, which the `namespaceSelector` of a Pod affinity term may ask for.
    NamespaceChange,
}

impl Cause {
    /// The first resource of which there is too little.
    pub(super) fn of_shortage(free: &Resources, need: &Resources) -> Option<Self> {
        if free.cpu < need.cpu {
            Some(Self::Cpu(need.cpu))
        } else if free.memory < need.memory {
            Some(Self::Memory(need.memory))
        } else if free.disk < need.disk {
            Some(Self::Disk(need.disk))
        } else {
            None
        }
    }

    /// What a number of hosts have in common: `4 have less than 2 vCPU free`.
    fn describe(&self, hosts: usize) -> String {
        let (is, has, serves, does) = match hosts {
            1 => ("is", "has", "serves", "does"),
            _ => ("are", "have", "serve", "do"),
        };
        match self {
            Self::OutsideZones => format!("{hosts} {is} in zones outside the profile's subnets"),
            Self::ServesNoSubnet => format!("{hosts} {serves} none of the profile's subnets"),
            Self::Requirements => format!("{hosts} {does} not match the pod's node selector/affinity"),
            Self::Unschedulable => format!("{hosts} {is} unschedulable"),
            Self::NotReady => format!("{hosts} {is} not ready, or short of memory or disk"),
            Self::Cpu(need) => format!("{hosts} {has} less than {need} free"),
            Self::Memory(need) => format!("{hosts} {has} less than {need} of memory free"),
            Self::Disk(need) => format!("{hosts} {has} less than {need} of disk free"),
            Self::NoAddress(subnets) => format!("{hosts} {has} no free address in {}", name_subnets(subnets)),
            Self::Affinity(topology) => {
                format!(
                    "{hosts} {has} no pod in the same {} that the pod's affinity asks for",
                    name_topology(*topology)
                )
            }
            Self::AntiAffinity(topology) => {
                format!(
                    "{hosts} {has} pods in the same {} that the pod's anti-affinity avoids",
                    name_topology(*topology)
                )
            }
            Self::Repelled(topology) => {
                format!(
                    "{hosts} {has} pods in the same {} whose anti-affinity avoids the pod",
                    name_topology(*topology)
                )
            }
            Self::Spread { topology, max_skew } => {
                let topology = name_topology(*topology);
                format!("{hosts} would break the pod's spread over {topology}s (maxSkew {max_skew})")
            }
        }
    }

    /// Events that can remove the cause from a host.
    fn triggers(&self) -> &'static [Trigger] {
        match self {
            Self::OutsideZones | Self::ServesNoSubnet => &[Trigger::HostChange, Trigger::ProfileChange],
            Self::Requirements | Self::Unschedulable | Self::NotReady => &[Trigger::HostChange],
            Self::Cpu(_) | Self::Memory(_) | Self::Disk(_) => &[Trigger::HostChange, Trigger::PodGone],
            Self::NoAddress(_) => &[Trigger::HostChange, Trigger::AddressFreed, Trigger::ProfileChange],
            Self::Affinity(_) => &[Trigger::HostChange, Trigger::PodPlaced, Trigger::NamespaceChange],
            Self::AntiAffinity(_) | Self::Repelled(_) => {
                &[Trigger::HostChange, Trigger::PodGone, Trigger::NamespaceChange]
            }
            Self::Spread { .. } => &[Trigger::HostChange, Trigger::PodGone, Trigger::PodPlaced],
        }
    }
}

/// `subnet a` or `subnets a, b`.
fn name_subnets(subnets: &BTreeSet<SubnetName>) -> String {
    let names = subnets.iter().map(SubnetName::as_str).collect::<Vec<_>>().join(", ");
    if subnets.len() == 1 { format!("subnet {names}") } else { format!("subnets {names}") }
}

fn name_topology(topology: Topology) -> &'static str {
    match topology {
        Topology::Zone => "zone",
        Topology::Host => "host",
    }
}

/// How many hosts failed for which cause: `0/12 hosts fit: 5 are unschedulable, 7 have less than 2 vCPU free`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Causes(BTreeMap<Cause, usize>);

impl Causes {
    /// Hosts by cause.
    pub fn iter(&self) -> impl Iterator<Item = (&Cause, usize)> {
        self.0.iter().map(|(cause, hosts)| (cause, *hosts))
    }

    /// The cause of the hosts that came nearest to taking the Pod.
    fn nearest(&self) -> Option<&Cause> {
        self.0.keys().next_back()
    }
}

impl std::fmt::Display for Causes {
    /// The most frequent cause first, among equals in the order of the rules.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut causes: Vec<_> = self.iter().collect();
        causes.sort_by_key(|(_, hosts)| std::cmp::Reverse(*hosts));
        let parts: Vec<String> = causes.iter().map(|(cause, hosts)| cause.describe(*hosts)).collect();
        write!(f, "0/{} hosts fit: {}", self.0.values().sum::<usize>(), parts.join(", "))
    }
}

/// Why a Pod has no place. Named after what the hosts lack that came nearest to taking it; the text is the event's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The cluster has no host at all.
    #[error("no host has joined the cluster, start `monopod host` on a machine")]
    NoHosts,
    /// The Pod confines itself to zones in which there is neither a host nor a subnet. The text is the reference's.
    #[error("Fargate is not supported in the requested availability zone: {}", name_zones(zones))]
    UnsupportedZone {
        /// The zones asked for.
        zones: BTreeSet<Zone>,
    },
    /// No host serves a subnet of the profile.
    #[error("no host serves a subnet of the Fargate profile ({causes})")]
    NoSubnet {
        /// Hosts by cause.
        causes: Causes,
    },
    /// Every host of the profile's subnets fails the Pod's node requirements. Begins with the reference's text.
    #[error(
        "MatchNodeSelector failed: Fargate profile {profile} cannot satisfy pod's node selector/affinity requirements \
         ({causes})"
    )]
    NodeSelector {
        /// Name of the profile.
        profile: String,
        /// Hosts by cause.
        causes: Causes,
    },
    /// Hosts are full, unschedulable or not ready. Begins with the reference's text.
    #[error(
        "Fargate capacity is unavailable at this time. Please try again later or in a different availability zone \
         ({causes})"
    )]
    NoCapacity {
        /// Hosts by cause.
        causes: Causes,
    },
    /// Hosts have room, and no free address.
    #[error("{causes}")]
    NoAddress {
        /// Hosts by cause.
        causes: Causes,
    },
    /// Hosts have room and addresses; the Pod's topology rules, or those of Pods already there, rule them out.
    #[error("{causes}")]
    Constraints {
        /// Hosts by cause.
        causes: Causes,
    },
}

fn name_zones(zones: &BTreeSet<Zone>) -> String {
    zones.iter().map(Zone::as_str).collect::<Vec<_>>().join(", ")
}

impl Refusal {
    /// Goes through all hosts: asked only when none fits.
    pub(super) fn explain(rules: &Rules<'_>) -> Self {
        let mut causes = Causes::default();
        for (record, host) in rules.cluster.known_hosts() {
            if let Some(cause) = rules.cause(record, host) {
                *causes.0.entry(cause).or_default() += 1;
            }
        }
        if let Some(zones) = unsupported_zones(rules) {
            return Self::UnsupportedZone { zones };
        }
        Self::by_nearest(causes, rules.request)
    }

    fn by_nearest(causes: Causes, request: &PodRequest) -> Self {
        let Some(nearest) = causes.nearest() else { return Self::NoHosts };
        match nearest {
            Cause::OutsideZones | Cause::ServesNoSubnet => Self::NoSubnet { causes },
            Cause::Requirements => Self::NodeSelector { profile: request.profile.name.to_string(), causes },
            Cause::Unschedulable | Cause::NotReady | Cause::Cpu(_) | Cause::Memory(_) | Cause::Disk(_) => {
                Self::NoCapacity { causes }
            }
            Cause::NoAddress(_) => Self::NoAddress { causes },
            Cause::Affinity(_) | Cause::AntiAffinity(_) | Cause::Repelled(_) | Cause::Spread { .. } => {
                Self::Constraints { causes }
            }
        }
    }

    /// Event reason of the detail, condition reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoHosts => "NoHosts",
            Self::UnsupportedZone { .. } => "UnsupportedAvailabilityZone",
            Self::NoSubnet { .. } => "NoSubnet",
            Self::NodeSelector { .. } => "MatchNodeSelector",
            Self::NoCapacity { .. } => "NoCapacity",
            Self::NoAddress { .. } => "NoAddress",
            Self::Constraints { .. } => "TopologyConstraints",
        }
    }

    /// Events after which another try can have another outcome. Node requirements and labels of a Pod do not change.
    pub fn retry_after(&self) -> BTreeSet<Trigger> {
        match self {
            Self::NoHosts | Self::UnsupportedZone { .. } => BTreeSet::from([Trigger::HostChange]),
            Self::NoSubnet { causes }
            | Self::NodeSelector { causes, .. }
            | Self::NoCapacity { causes }
            | Self::NoAddress { causes }
            | Self::Constraints { causes } => causes.iter().flat_map(|(cause, _)| cause.triggers()).copied().collect(),
        }
    }
}

/// The zones that the Pod confines itself to, where the cluster has none of them.
fn unsupported_zones(rules: &Rules<'_>) -> Option<BTreeSet<Zone>> {
    let zones = rules.request.only_zones()?;
    let mut hosts = rules.cluster.sites.keys().map(|site| &site.zone).peekable();
    hosts.peek()?;
    let subnets = rules.cluster.subnets.values().map(|subnet| &subnet.zone);
    let supported = hosts.chain(subnets).any(|zone| zones.contains(zone));
    (!supported && !zones.is_empty()).then_some(zones)
}
