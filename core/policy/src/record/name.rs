//! The name of a microVM's Node, made from its address and read back to it.
//!
//! The scheduler makes names; the approver of certificates reads the address from one, to tell whose block it is in. In
//! the reference a name is `fargate-ip-10-0-1-2.REGION.compute.internal`. An IPv6 address is written in full, for a part
//! of a name must not end with a `-`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use monopod_api::{is_dns_subdomain, names};

/// Characters of a label's value in Kubernetes.
const MAX_LABEL_VALUE: usize = 63;
/// What the name of a machine starts with.
const HOSTNAME_PREFIX: &str = "ip-";

/// Name of the Node of one microVM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

/// Why there is no name for a Node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The domain is not one, or too long.
    #[error("{name} cannot be the name of a node: correct the domain {domain} of the subnet")]
    BadDomain {
        /// What the name would be.
        name: String,
        /// The domain.
        domain: String,
    },
}

impl NameError {
    /// Event reason, condition reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadDomain { .. } => "NodeDomainInvalid",
        }
    }
}

/// Domain of nodes in a region, where the Subnet names none; as in the reference.
pub fn default_domain(region: &str) -> String {
    if region == "us-east-1" { "ec2.internal".to_owned() } else { format!("{region}.compute.internal") }
}

/// The address that a Node of this name has, `None` for a name that [`NodeName::new`] never makes.
pub fn address_of(node: &str) -> Option<IpAddr> {
    let (machine, domain) =
        node.strip_prefix(names::NODE_NAME_PREFIX)?.strip_prefix(HOSTNAME_PREFIX)?.split_once('.')?;
    let address = match machine.split('-').count() {
        4 => machine.replace('-', ".").parse::<Ipv4Addr>().ok()?.into(),
        8 => machine.replace('-', ":").parse::<Ipv6Addr>().ok()?.into(),
        _ => return None,
    };
    // One address has one name in a domain: no zeros in front, no capitals.
    NodeName::new(address, domain).ok().filter(|name| name.as_str() == node).map(|_| address)
}

impl NodeName {
    /// The name of the Node with this address.
    ///
    /// # Errors
    /// The domain makes no name of an object.
    pub fn new(address: IpAddr, domain: &str) -> Result<Self, NameError> {
        let parts = match address {
            IpAddr::V4(address) => address.octets().map(|part| part.to_string()).join("-"),
            IpAddr::V6(address) => address.segments().map(|part| format!("{part:x}")).join("-"),
        };
        let name = format!("{}{HOSTNAME_PREFIX}{parts}.{domain}", names::NODE_NAME_PREFIX);
        if is_dns_subdomain(&name) {
            Ok(Self(name))
        } else {
            Err(NameError::BadDomain { name, domain: domain.to_owned() })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the machine, without `fargate-` as in the reference.
    pub fn hostname(&self) -> &str {
        self.0.strip_prefix(names::NODE_NAME_PREFIX).unwrap_or(&self.0)
    }

    /// The name of the machine as a label holds it: without the domain where that makes it too long.
    pub fn hostname_label(&self) -> &str {
        let hostname = self.hostname();
        if hostname.len() <= MAX_LABEL_VALUE { hostname } else { hostname.split('.').next().unwrap_or(hostname) }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
