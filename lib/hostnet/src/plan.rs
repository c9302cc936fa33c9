//! Which slot has which tap, card and addresses, and which slots are free. Pure.
//!
//! A slot is a place for one guest: its number decides everything else. So the packet filter knows all guests that there
//! can ever be, and nothing of it changes when one comes or goes.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::NetConfig;
use crate::error::NetError;
use crate::types::{Lease, Mac};

/// Most guests of a host.
pub(crate) const MAX_SLOTS: usize = 4096;

/// Longest name of a network interface.
const MAX_NAME: usize = 15;

/// Smallest largest packet, which IPv6 asks for.
const MIN_MTU: u32 = 1280;

/// Number of a place for one guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) usize);

/// A configuration that has been checked, and the addresses of all slots.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) config: NetConfig,
    addresses: Vec<Ipv4Addr>,
    by_name: BTreeMap<String, Slot>,
}

/// Slots that nobody uses, the longest free one first.
#[derive(Clone, Debug)]
pub(crate) struct FreeSlots(VecDeque<Slot>);

impl Plan {
    /// Checks a configuration.
    pub(crate) fn new(config: NetConfig) -> Result<Self, NetError> {
        let invalid = |field, problem: String| Err(NetError::Config { field, problem });
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !plain(&config.prefix) || config.prefix.len() > MAX_NAME - 4 {
            return invalid("prefix", format!("{:?} is not 1 to {} letters and digits", config.prefix, MAX_NAME - 4));
        }
        if !plain(&config.table) || config.table.len() > 31 {
            return invalid("table", format!("{:?} is not 1 to 31 letters and digits", config.table));
        }
        if config.mtu < MIN_MTU || config.mtu > 65_535 {
            return invalid("mtu", format!("{} is not from {MIN_MTU} to 65535", config.mtu));
        }
        for (at, block) in config.blocks.iter().enumerate() {
            if config.blocks[..at].iter().any(|other| other.contains(block) || block.contains(other)) {
                return invalid("blocks", format!("has {block} overlapping with another"));
            }
            if block.contains(&config.gateway) {
                return invalid("gateway", format!("{} is an address for Pods", config.gateway));
            }
        }
        let addresses: Vec<Ipv4Addr> = config.blocks.iter().flat_map(Ipv4Net::hosts).take(MAX_SLOTS).collect();
        if addresses.is_empty() {
            return invalid("blocks", "has no address for a Pod".to_owned());
        }
        if let Some(block6) = config.block6 {
            let needed = u32::try_from(addresses.len()).expect("there are few slots").ilog2() + 2;
            if u32::from(block6.max_prefix_len() - block6.prefix_len()) < needed {
                return invalid("block6", format!("{block6} has fewer addresses than blocks"));
            }
        }
        let slots = (0..addresses.len()).map(Slot);
        let by_name = slots.map(|slot| (tap_name(&config.prefix, slot), slot)).collect();
        Ok(Self { config, addresses, by_name })
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.addresses.len()).map(Slot)
    }

    pub(crate) fn tap_name(&self, slot: Slot) -> String {
        tap_name(&self.config.prefix, slot)
    }

    /// The slot whose tap has a name.
    pub(crate) fn slot_of(&self, name: &str) -> Option<Slot> {
        self.by_name.get(name).copied()
    }

    /// The slot that has an address.
    pub(crate) fn slot_at(&self, address: Ipv4Addr) -> Option<Slot> {
        self.addresses.iter().position(|one| *one == address).map(Slot)
    }

    pub(crate) fn address(&self, slot: Slot) -> Ipv4Addr {
        self.addresses[slot.0]
    }

    pub(crate) fn address6(&self, slot: Slot) -> Option<Ipv6Addr> {
        // 0 is the subnet's router anycast address.
        let offset = u128::try_from(slot.0).expect("there are few slots") + 1;
        self.config.block6.map(|block| Ipv6Addr::from_bits(block.network().to_bits() + offset))
    }

    /// The guest's card: locally administered, and as unique as its address.
    pub(crate) fn mac(&self, slot: Slot) -> Mac {
        let [a, b, c, d] = self.address(slot).octets();
        Mac([0x02, 0x6d, a, b, c, d])
    }

    /// The link-local IPv6 address that a guest's kernel makes of its card's.
    pub(crate) fn link_local(&self, slot: Slot) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac(slot).0;
        let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
    }

    pub(crate) fn lease(&self, slot: Slot) -> Lease {
        let mut addresses: Vec<IpNet> = vec![Ipv4Net::from(self.address(slot)).into()];
        let mut gateways: Vec<IpAddr> = vec![self.config.gateway.into()];
        if let Some(address6) = self.address6(slot) {
            addresses.push(Ipv6Net::from(address6).into());
            gateways.push(self.config.gateway6.into());
        }
        Lease { tap_name: self.tap_name(slot), mac: self.mac(slot), addresses, gateways, mtu: self.config.mtu }
    }
}

fn tap_name(prefix: &str, slot: Slot) -> String {
    format!("{prefix}{}", slot.0)
}

impl FreeSlots {
    pub(crate) fn new(slots: impl Iterator<Item = Slot>) -> Self {
        Self(slots.collect())
    }

    /// The slot that has been free for longest.
    pub(crate) fn take(&mut self) -> Option<Slot> {
        self.0.pop_front()
    }

    /// Takes a certain slot; false when somebody has it.
    pub(crate) fn take_this(&mut self, slot: Slot) -> bool {
        let place = self.0.iter().position(|free| *free == slot);
        place.and_then(|place| self.0.remove(place)).is_some()
    }

    pub(crate) fn give_back(&mut self, slot: Slot) {
        debug_assert!(!self.0.contains(&slot), "a slot is given back once");
        self.0.push_back(slot);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{FreeSlots, MAX_SLOTS, NetConfig, Plan, Slot};

    fn config(blocks: &[&str], block6: Option<&str>) -> NetConfig {
        NetConfig {
            blocks: blocks.iter().map(|block| block.parse().unwrap()).collect(),
            block6: block6.map(|block| block.parse().unwrap()),
            ..NetConfig::default()
        }
    }

    #[test]
    fn a_slot_decides_name_card_and_addresses() {
        let plan = Plan::new(config(&["10.1.2.0/30", "10.9.0.0/31"], Some("fd00:1::/64"))).unwrap();
        assert_eq!(plan.slots().count(), 4);
        let lease = plan.lease(Slot(2));
        assert_eq!(lease.tap_name, "mpod2");
        assert_eq!(lease.mac.to_string(), "02:6d:0a:09:00:00");
        assert_eq!(lease.addresses, ["10.9.0.0/32".parse().unwrap(), "fd00:1::3/128".parse().unwrap()]);
        assert_eq!(lease.gateways, ["169.254.1.1".parse::<std::net::IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
        assert_eq!(plan.link_local(Slot(2)).to_string(), "fe80::6d:aff:fe09:0");
        assert_eq!(plan.slot_of("mpod2"), Some(Slot(2)));
        for name in ["mpod4", "mpod02", "mpod", "eth0", "mpod2x"] {
            assert_eq!(plan.slot_of(name), None, "{name}");
        }
    }

    #[test]
    fn no_two_slots_share_anything() {
        let plan = Plan::new(config(&["10.0.0.0/8"], Some("fd00::/112"))).unwrap();
        assert_eq!(plan.slots().count(), MAX_SLOTS);
        let mut seen = BTreeSet::new();
        for slot in plan.slots() {
            let lease = plan.lease(slot);
            assert!(lease.tap_name.len() <= 15);
            let news = [lease.tap_name, lease.mac.to_string(), plan.link_local(slot).to_string()];
            let addresses = lease.addresses.iter().map(ToString::to_string);
            assert!(news.into_iter().chain(addresses).all(|text| seen.insert(text)), "{slot:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_field() {
        let rows = [
            ("blocks", config(&[], None)),
            ("blocks", config(&["10.0.0.0/8", "10.1.0.0/16"], None)),
            ("block6", config(&["10.0.0.0/24"], Some("fd00::/120"))),
            ("gateway", config(&["169.254.0.0/16"], None)),
            ("prefix", NetConfig { prefix: "mpod*".to_owned(), ..NetConfig::default() }),
            ("prefix", NetConfig { prefix: "a-long-prefix".to_owned(), ..NetConfig::default() }),
            ("table", NetConfig { table: String::new(), ..NetConfig::default() }),
            ("mtu", NetConfig { mtu: 576, ..NetConfig::default() }),
        ];
        for (field, config) in rows {
            let error = Plan::new(config).unwrap_err();
            assert!(error.to_string().starts_with(&format!("network configuration: {field} ")), "{error}");
        }
    }

    #[test]
    fn what_was_given_back_comes_last() {
        let mut free = FreeSlots::new((0..3).map(Slot));
        let first = free.take().unwrap();
        free.give_back(first);
        assert_eq!(
            [free.take(), free.take(), free.take(), free.take()],
            [Some(Slot(1)), Some(Slot(2)), Some(Slot(0)), None]
        );
    }
}
