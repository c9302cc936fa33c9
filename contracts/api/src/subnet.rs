//! `Subnet`: a range of addresses that Pods get theirs from, and how they reach the outside.
//!
//! Always private, as in the reference (AWS EKS user guide, Fargate: Pods run in private subnets only). Read by the
//! subnet controller, which hands blocks of it to hosts, and by the hosts.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema, ResourceExt};
use monopod_types::SubnetName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::{FieldProblem, Problems, check_metadata, is_label_value};

const NOT_A_CIDR: &str = "Not a range of addresses; write one such as 10.0.0.0/16 or fd00:1::/64.";
const HOST_BITS: &str = "The address has bits set beyond the prefix; write the first address of the range.";
const BAD_PREFIX: &str = "The prefix length must be 8 to 28 for IPv4 and 32 to 112 for IPv6.";
const BAD_ZONE: &str = "The zone becomes the value of a Node label: 1 to 63 letters, digits, '-', '_' and '.', a letter or digit at both ends.";
const BAD_ADDRESS: &str = "Not an IP address.";
const NAT_ADDRESS_WITHOUT_NAT: &str = "An address for NAT needs natGateway: true.";
const NAT_ADDRESS_OF_OTHER_FAMILY: &str = "The address must be of the same family as the Subnet's range.";
const BAD_NAMESERVER: &str = "Each entry must be an IP address.";

/// A private range of addresses in one zone.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(group = "monopod.dev", version = "v1", kind = "Subnet", status = "SubnetStatus")]
#[kube(derive = "PartialEq", derive = "Default", shortname = "msn", category = "monopod")]
#[kube(doc = "A private range of addresses in one zone, from which Pods get theirs.")]
#[kube(printcolumn(name = "CIDR", type_ = "string", json_path = ".spec.cidr"))]
#[kube(printcolumn(name = "Zone", type_ = "string", json_path = ".spec.zone"))]
#[kube(printcolumn(name = "NAT", type_ = "boolean", json_path = ".spec.natGateway"))]
#[kube(printcolumn(name = "Free", type_ = "integer", json_path = ".status.addressesFree"))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[kube(
    validation = Rule::new("self.spec.private")
        .message(Message::Expression(
            "'Subnet ' + self.metadata.name + ' provided in Fargate Profile is not a private subnet'".to_owned(),
        ))
        .field_path(".spec.private"),
    validation = Rule::new("!has(self.spec.natAddress) || self.spec.natGateway")
        .message(NAT_ADDRESS_WITHOUT_NAT)
        .field_path(".spec.natAddress"),
    validation = Rule::new(
        "!has(self.spec.natAddress) || !isIP(self.spec.natAddress) || !isCIDR(self.spec.cidr) \
         || ip(self.spec.natAddress).family() == cidr(self.spec.cidr).ip().family()",
    )
        .message(NAT_ADDRESS_OF_OTHER_FAMILY)
        .field_path(".spec.natAddress"),
)]
#[serde(rename_all = "camelCase")]
pub struct SubnetSpec {
    /// The range, such as `10.0.0.0/16`; ranges of two Subnets must not overlap.
    #[schemars(length(max = 43))]
    #[x_kube(
        validation = Rule::new("isCIDR(self)").message(NOT_A_CIDR),
        validation = Rule::new("!isCIDR(self) || cidr(self) == cidr(self).masked()").message(HOST_BITS),
        validation = Rule::new(
            "!isCIDR(self) || (cidr(self).ip().family() == 4 \
             ? cidr(self).prefixLength() >= 8 && cidr(self).prefixLength() <= 28 \
             : cidr(self).prefixLength() >= 32 && cidr(self).prefixLength() <= 112)",
        )
        .message(BAD_PREFIX),
    )]
    pub cidr: String,
    /// The failure domain that the Subnet lies in, the value of `topology.kubernetes.io/zone`.
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$')").message(BAD_ZONE))]
    pub zone: String,
    /// States that nothing outside reaches the Subnet directly; must be true.
    #[serde(default)]
    pub private: bool,
    /// Whether Pods reach the outside by network address translation. Without it they have their own addresses there, and get
    /// answers only where routes lead back.
    #[serde(default)]
    pub nat_gateway: bool,
    /// The address that Pods have towards the outside; the network must lead it to their host. Without it the host's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    #[x_kube(validation = Rule::new("isIP(self)").message(BAD_ADDRESS))]
    pub nat_address: Option<String>,
    /// How names are resolved and given.
    #[serde(default)]
    pub dns: SubnetDns,
}

/// Settings of a Subnet that concern names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubnetDns {
    /// Name servers of Pods whose `dnsPolicy` is `Default`; empty means those of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), inner(length(max = 45)))]
    #[x_kube(validation = Rule::new("self.all(address, isIP(address))").message(BAD_NAMESERVER))]
    pub nameservers: Vec<String>,
    /// Search domains of Pods in place of those of the host; with `ClusterFirst` they come after the cluster's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 253)))]
    pub search: Vec<String>,
    /// Domain that the names of nodes in this Subnet end in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub domain: Option<String>,
}

/// What the subnet controller has handed out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubnetStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Blocks of addresses that hosts hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<HandedOutBlock>,
    /// Addresses that no Pod has, in blocks handed out and not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses_free: Option<i64>,
    /// Conditions in the form of Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A block of a Subnet and the host that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandedOutBlock {
    /// The block, a part of the Subnet's range.
    pub cidr: String,
    /// Name of the Host.
    pub host: String,
}

/// Two Subnets whose ranges share addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetOverlap {
    /// The Subnet that starts first, by address and then by prefix length.
    pub first: SubnetName,
    /// Range of `first`.
    pub first_cidr: IpNet,
    /// The Subnet that starts within it.
    pub second: SubnetName,
    /// Range of `second`.
    pub second_cidr: IpNet,
}

impl Subnet {
    /// The range as the addresses that it stands for; `None` unless it is a range that [`Self::validate`] accepts.
    pub fn network(&self) -> Option<IpNet> {
        parse_cidr(&self.spec.cidr).filter(|range| is_first_address(range) && has_sane_prefix(range))
    }

    /// Everything that is wrong with metadata and spec taken alone; see [`overlaps`] for Subnets together.
    pub fn validate(&self) -> Vec<FieldProblem> {
        let mut problems = Problems::default();
        check_metadata(&self.metadata, &mut problems);
        let spec = &self.spec;
        let not_private = format!("Subnet {} provided in Fargate Profile is not a private subnet", self.name_any());
        let nat_address = spec.nat_address.as_deref();
        problems.require(spec.private, "spec.private", &not_private);
        problems.require(nat_address.is_none() || spec.nat_gateway, "spec.natAddress", NAT_ADDRESS_WITHOUT_NAT);
        check_cidr(&spec.cidr, &mut problems);
        problems.require(is_label_value(&spec.zone), "spec.zone", BAD_ZONE);
        problems.require(nat_address.is_none_or(is_ip), "spec.natAddress", BAD_ADDRESS);
        let address = nat_address.and_then(|address| address.parse::<IpAddr>().ok());
        let is_other = address
            .zip(parse_cidr(&spec.cidr))
            .is_some_and(|(address, range)| address.is_ipv4() != range.addr().is_ipv4());
        problems.require(!is_other, "spec.natAddress", NAT_ADDRESS_OF_OTHER_FAMILY);
        let servers_are_addresses = spec.dns.nameservers.iter().all(|address| is_ip(address));
        problems.require(servers_are_addresses, "spec.dns.nameservers", BAD_NAMESERVER);
        problems.into_vec()
    }
}

/// Each Subnet whose range lies within one that starts before it, in the order of addresses. Subnets without a valid
/// range are passed over.
pub fn overlaps<'a>(subnets: impl IntoIterator<Item = &'a Subnet>) -> Vec<SubnetOverlap> {
    let ranged = subnets.into_iter().filter_map(|subnet| Some((subnet.network()?, subnet.name_any())));
    let mut ranged: Vec<(IpNet, String)> = ranged.collect();
    ranged.sort();
    let mut found = Vec::new();
    let mut widest: Option<(IpNet, String)> = None;
    for (cidr, name) in ranged {
        match &widest {
            // Two ranges either nest or share nothing, so the one that reaches furthest decides.
            Some((outer, outer_name)) if outer.contains(&cidr) => found.push(SubnetOverlap {
                first: SubnetName::new(outer_name.as_str()),
                first_cidr: *outer,
                second: SubnetName::new(name),
                second_cidr: cidr,
            }),
            Some(_) | None => widest = Some((cidr, name)),
        }
    }
    found
}

fn check_cidr(text: &str, problems: &mut Problems) {
    let range = parse_cidr(text);
    problems.require(range.is_some(), "spec.cidr", NOT_A_CIDR);
    problems.require(range.as_ref().is_none_or(is_first_address), "spec.cidr", HOST_BITS);
    problems.require(range.as_ref().is_none_or(has_sane_prefix), "spec.cidr", BAD_PREFIX);
}

/// A range as Kubernetes reads it: no leading zeros in the prefix length, no IPv4 address dressed as IPv6.
fn parse_cidr(text: &str) -> Option<IpNet> {
    let range: IpNet = text.parse().ok()?;
    let (_, prefix) = text.split_once('/')?;
    (prefix == range.prefix_len().to_string() && !is_mapped(range.addr())).then_some(range)
}

fn is_ip(text: &str) -> bool {
    text.parse().is_ok_and(|address| !is_mapped(address))
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

fn is_first_address(range: &IpNet) -> bool {
    range.addr() == range.network()
}

fn has_sane_prefix(range: &IpNet) -> bool {
    match range {
        IpNet::V4(range) => (8..=28).contains(&range.prefix_len()),
        IpNet::V6(range) => (32..=112).contains(&range.prefix_len()),
    }
}
