//! Hands out blocks of the Subnets' addresses to hosts: each host gets one of every Subnet that it serves, and keeps it.
//!
//! How large a block is follows from how many of the smallest microVMs the host has CPU for. Where the Subnet has no such
//! block left, a smaller one is given; where it has none at all, the Subnet says so.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::{Lookup, Store, store};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client, ResourceExt as _};
use monopod_api::{AddressBlock, HandedOutBlock, Host, Subnet, SubnetStatus, Verdict, overlaps};
use monopod_types::Quantity;
use monopod_watching::Retry;
use serde_json::json;

/// The smallest microVM, in thousandths of a vCPU.
const SMALLEST_CPU: u64 = 250;
/// Prefix lengths of the largest and the smallest block.
const LARGEST: u8 = 24;
const SMALLEST: u8 = 28;
/// Between attempts at what failed.
const PAUSE: Duration = Duration::from_secs(2);
/// The condition of a Subnet that could not serve a host.
const EXHAUSTED: &str = "AddressesExhausted";
/// The condition of a Subnet whose range is another's, too.
const OVERLAPS: &str = "Overlaps";

/// Hands out blocks until it is dropped.
pub(crate) async fn run(client: Client) {
    let (hosts, host_writer) = store::<Host>();
    let (subnets, subnet_writer) = store::<Subnet>();
    let all = watcher::Config::default;
    let hosts_seen = reflector(host_writer, watcher(Api::<Host>::all(client.clone()), all()).backoff(Retry::default()));
    let subnets_seen =
        reflector(subnet_writer, watcher(Api::<Subnet>::all(client.clone()), all()).backoff(Retry::default()));
    let (hosts_seen, subnets_seen) = (hosts_seen.map(|seen| seen.map(drop)), subnets_seen.map(|seen| seen.map(drop)));
    let mut seen = futures_util::stream::select(hosts_seen.boxed(), subnets_seen.boxed());
    let mut ready = (false, false);
    let mut again = None;
    loop {
        tokio::select! {
            Some(event) = seen.next() => if let Err(error) = event {
                tracing::warn!(error = &error as &dyn std::error::Error, "Hosts or Subnets cannot be watched");
                continue;
            },
            () = tokio::time::sleep(PAUSE), if again.is_some() => {}
        }
        // Before both are listed, a block that is handed out may not be known.
        ready = (ready.0 || is_listed(&hosts).await, ready.1 || is_listed(&subnets).await);
        if ready == (true, true) {
            again = hand_out(&client, &hosts, &subnets).await.err();
            if let Some(error) = &again {
                tracing::warn!(error = error as &dyn std::error::Error, "address blocks are not written yet");
            }
        }
    }
}

/// Whether a store has been filled once.
pub(crate) async fn is_listed<T: Lookup<DynamicType = ()> + Clone + 'static>(objects: &Store<T>) -> bool {
    tokio::time::timeout(Duration::ZERO, objects.wait_until_ready()).await.is_ok()
}

async fn hand_out(client: &Client, hosts: &Store<Host>, subnets: &Store<Subnet>) -> Result<(), kube::Error> {
    let (hosts, subnets) = (hosts.state(), subnets.state());
    let hosts: Vec<&Host> = hosts.iter().map(AsRef::as_ref).collect();
    let subnets: Vec<&Subnet> = subnets.iter().map(AsRef::as_ref).collect();
    let plan = plan(&hosts, &subnets);
    // First the Subnets, which are the record: with the version that was read, so that no two plans give one block.
    let subnet_objects = Api::<Subnet>::all(client.clone());
    for (subnet, status) in &plan.statuses {
        let version =
            subnets.iter().find(|one| one.name_any() == *subnet).and_then(|one| one.metadata.resource_version.clone());
        let status = json!({"metadata": {"resourceVersion": version}, "status": status});
        subnet_objects.patch_status(subnet, &PatchParams::default(), &Patch::Merge(status)).await?;
    }
    let host_objects = Api::<Host>::all(client.clone());
    for (host, blocks) in &plan.blocks {
        let blocks = json!({"status": {"addressBlocks": blocks}});
        host_objects.patch_status(host, &PatchParams::default(), &Patch::Merge(blocks)).await?;
        tracing::info!(host, "address blocks are handed out");
    }
    Ok(())
}

/// What is to be written.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Blocks of hosts that get more, or fewer, than they have.
    pub(crate) blocks: BTreeMap<String, Vec<AddressBlock>>,
    /// Statuses of Subnets that change.
    pub(crate) statuses: BTreeMap<String, SubnetStatus>,
}

/// Gives every host the blocks that it lacks. Blocks stay as they are while their Subnet has them in its range.
pub(crate) fn plan(hosts: &[&Host], subnets: &[&Subnet]) -> Plan {
    let mut hosts: Vec<&Host> = hosts.to_vec();
    hosts.sort_by_key(|host| host.name_any());
    let overlapping: BTreeMap<String, String> = overlaps(subnets.iter().copied())
        .into_iter()
        .map(|overlap| {
            (
                overlap.second.as_str().to_owned(),
                format!("the range {} lies in {} of Subnet {}", overlap.second_cidr, overlap.first_cidr, overlap.first),
            )
        })
        .collect();
    let mut given: BTreeMap<String, Vec<AddressBlock>> = BTreeMap::new();
    let mut statuses = BTreeMap::new();
    for subnet in subnets {
        let name = subnet.name_any();
        let range = match subnet.network() {
            Some(IpNet::V4(range)) => range,
            Some(IpNet::V6(_)) => {
                let status = unserved(subnet);
                if subnet.status.as_ref() != Some(&status) {
                    statuses.insert(name, status);
                }
                continue;
            }
            None => continue,
        };
        let mut taken: Vec<(Ipv4Net, String)> = held(&hosts, subnet, range);
        let mut lacking = Vec::new();
        let is_usable = !overlapping.contains_key(&name);
        for host in hosts.iter().filter(|host| is_usable && serves(host, subnet)) {
            if taken.iter().any(|(_, holder)| *holder == host.name_any()) {
                continue;
            }
            match free_block(range, &taken, wanted_prefix(host)) {
                Some(block) => taken.push((block, host.name_any())),
                None => lacking.push(host.name_any()),
            }
        }
        taken.sort();
        for (block, host) in &taken {
            let free = i32::try_from(block.hosts().count()).unwrap_or(i32::MAX);
            let block = AddressBlock { subnet: name.clone(), cidr: block.to_string(), free };
            given.entry(host.clone()).or_default().push(block);
        }
        let status = status(subnet, range, &taken, &lacking, overlapping.get(&name));
        if subnet.status.as_ref() != Some(&status) {
            statuses.insert(name, status);
        }
    }
    let now = |host: &Host| host.status.as_ref().map(|status| status.address_blocks.clone()).unwrap_or_default();
    let blocks = hosts.iter().filter_map(|host| {
        let blocks = given.remove(&host.name_any()).unwrap_or_default();
        let places = |blocks: &[AddressBlock]| {
            blocks.iter().map(|block| (block.subnet.clone(), block.cidr.clone())).collect::<Vec<_>>()
        };
        (places(&blocks) != places(&now(host))).then(|| (host.name_any(), blocks))
    });
    Plan { blocks: blocks.collect(), statuses }
}

/// Whether a host gives addresses of a Subnet.
fn serves(host: &Host, subnet: &Subnet) -> bool {
    host.spec.zone == subnet.spec.zone
        && (host.spec.subnets.is_empty() || host.spec.subnets.contains(&subnet.name_any()))
        && host.metadata.deletion_timestamp.is_none()
        && host.status.as_ref().is_some_and(|status| status.capacity.is_some())
}

/// The blocks of a Subnet that hosts hold, by the Subnet's own status, which hosts cannot write. Of two that overlap, which
/// nobody may write, the first counts.
fn held(hosts: &[&Host], subnet: &Subnet, range: Ipv4Net) -> Vec<(Ipv4Net, String)> {
    let mut held: Vec<(Ipv4Net, String)> = Vec::new();
    for block in subnet.status.iter().flat_map(|status| &status.blocks) {
        let is_known = hosts.iter().any(|host| host.name_any() == block.host);
        if let Ok(network) = block.cidr.parse::<Ipv4Net>()
            && is_known
            && range.contains(&network)
            && !held.iter().any(|(other, _)| overlap(*other, network))
        {
            held.push((network, block.host.clone()));
        }
    }
    held
}

fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// How long the prefix of a host's block should be.
fn wanted_prefix(host: &Host) -> u8 {
    let cpu = host.status.as_ref().and_then(|status| status.capacity.as_ref()).map(|capacity| capacity.cpu.0.clone());
    let cpu = cpu.and_then(|cpu| cpu.parse::<Quantity>().ok()).map_or(0, |cpu| cpu.to_milli_cpu().0);
    // Two are not given: the first and the last. A Pod that has ended keeps its address for a while, so there are twice
    // as many as can run.
    let wanted = cpu.div_ceil(SMALLEST_CPU).saturating_mul(2).saturating_add(2);
    let bits = u8::try_from(u64::BITS - wanted.saturating_sub(1).leading_zeros()).unwrap_or(u8::MAX);
    32_u8.saturating_sub(bits).clamp(LARGEST, SMALLEST)
}

/// The first free block of this size, or of a smaller one.
fn free_block(range: Ipv4Net, taken: &[(Ipv4Net, String)], wanted: u8) -> Option<Ipv4Net> {
    (wanted.max(range.prefix_len())..=SMALLEST).find_map(|prefix| {
        range.subnets(prefix).ok()?.find(|block| !taken.iter().any(|(other, _)| overlap(*other, *block)))
    })
}

fn status(
    subnet: &Subnet,
    range: Ipv4Net,
    taken: &[(Ipv4Net, String)],
    lacking: &[String],
    overlapping: Option<&String>,
) -> SubnetStatus {
    let handed_out: u64 = taken.iter().map(|(block, _)| 1 << (32 - block.prefix_len())).sum();
    let all: u64 = 1 << (32 - range.prefix_len());
    let exhausted = if lacking.is_empty() {
        condition(subnet, EXHAUSTED, false, "BlocksAvailable", "every host of the zone has a block")
    } else {
        let message = format!("there is no block left for {}; give the zone another Subnet", lacking.join(", "));
        condition(subnet, EXHAUSTED, true, "NoBlockLeft", &message)
    };
    let overlaps = match overlapping {
        None => condition(subnet, OVERLAPS, false, "RangeIsOwn", "no other Subnet has addresses of its range"),
        Some(message) => {
            condition(subnet, OVERLAPS, true, "RangeOverlaps", &format!("{message}; it hands out nothing"))
        }
    };
    SubnetStatus {
        observed_generation: subnet.metadata.generation,
        blocks: taken
            .iter()
            .map(|(block, host)| HandedOutBlock { cidr: block.to_string(), host: host.clone() })
            .collect(),
        addresses_free: i64::try_from(all.saturating_sub(handed_out)).ok(),
        conditions: vec![exhausted, overlaps],
    }
}

/// The status of a Subnet whose addresses Pods cannot have.
fn unserved(subnet: &Subnet) -> SubnetStatus {
    let message =
        "Pods get IPv4 addresses only, so this range hands out nothing; give the zone a Subnet with an IPv4 range";
    SubnetStatus {
        observed_generation: subnet.metadata.generation,
        conditions: vec![condition(subnet, EXHAUSTED, true, "IPv6NotServed", message)],
        ..SubnetStatus::default()
    }
}

/// A condition after those that a Subnet had before.
fn condition(subnet: &Subnet, kind: &str, is_true: bool, reason: &str, message: &str) -> Condition {
    let before = subnet.status.as_ref().map(|status| &*status.conditions).unwrap_or_default();
    let verdict = Verdict { kind, is_true: Some(is_true), reason, message };
    verdict.after(before, subnet.metadata.generation, Time(Timestamp::now()))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use kube::ResourceExt as _;
    use monopod_api::{HandedOutBlock, Host, HostResources, HostSpec, HostStatus, Subnet, SubnetSpec, SubnetStatus};

    use super::plan;

    fn host(name: &str, cpu: &str) -> Host {
        let mut host = Host::new(name, HostSpec { zone: "a".to_owned(), ..HostSpec::default() });
        let amount = |text: &str| Quantity(text.to_owned());
        let capacity = HostResources { cpu: amount(cpu), memory: amount("1Gi"), ephemeral_storage: amount("1Gi") };
        host.status = Some(HostStatus { capacity: Some(capacity), ..HostStatus::default() });
        host
    }

    fn subnet(cidr: &str) -> Subnet {
        Subnet::new(
            "a",
            SubnetSpec { cidr: cidr.to_owned(), zone: "a".to_owned(), private: true, ..SubnetSpec::default() },
        )
    }

    fn given(hosts: &[&Host], subnet: &Subnet) -> Vec<(String, String)> {
        let plan = plan(hosts, &[subnet]);
        let blocks = plan.blocks.into_iter();
        blocks.flat_map(|(host, blocks)| blocks.into_iter().map(move |block| (host.clone(), block.cidr))).collect()
    }

    #[test]
    fn each_host_gets_a_block_of_its_size_and_none_twice() {
        let (small, large) = (host("s", "1"), host("l", "64"));
        let blocks = given(&[&small, &large], &subnet("10.0.0.0/16"));
        assert_eq!(blocks, [("l".to_owned(), "10.0.0.0/24".to_owned()), ("s".to_owned(), "10.0.1.0/28".to_owned())]);
    }

    #[test]
    fn what_a_host_has_stays_its_own() {
        let (old, new) = (host("z", "1"), host("a", "1"));
        let mut subnet = subnet("10.0.0.0/24");
        let block = |host: &str, cidr: &str| HandedOutBlock { cidr: cidr.to_owned(), host: host.to_owned() };
        let blocks = vec![block("z", "10.0.0.0/28"), block("gone", "10.0.0.16/28")];
        subnet.status = Some(SubnetStatus { blocks, ..SubnetStatus::default() });
        let given = given(&[&old, &new], &subnet);
        let expected = [("a", "10.0.0.16/28"), ("z", "10.0.0.0/28")];
        assert_eq!(given, expected.map(|(host, block)| (host.to_owned(), block.to_owned())));
    }

    #[test]
    fn a_subnet_that_is_used_up_gives_smaller_blocks_then_says_so() {
        let hosts: Vec<Host> = ["a", "b", "c"].map(|name| host(name, "2")).into();
        let hosts: Vec<&Host> = hosts.iter().collect();
        let subnet = subnet("10.0.0.0/27");
        assert_eq!(given(&hosts, &subnet), [("a".to_owned(), "10.0.0.0/27".to_owned())]);
        let plan = plan(&hosts, &[&subnet]);
        let status = &plan.statuses[&subnet.name_any()];
        let exhausted = status.conditions.iter().find(|one| one.type_ == "AddressesExhausted").unwrap();
        assert_eq!(
            (&*exhausted.status, &*exhausted.message),
            ("True", "there is no block left for b, c; give the zone another Subnet")
        );
        assert_eq!(status.addresses_free, Some(0));
    }

    #[test]
    fn a_range_of_ipv6_says_that_it_hands_out_nothing() {
        let plan = plan(&[&host("h", "1")], &[&subnet("fd00:1::/64")]);
        assert!(plan.blocks.is_empty());
        let exhausted = &plan.statuses["a"].conditions[0];
        assert_eq!((&*exhausted.type_, &*exhausted.reason), ("AddressesExhausted", "IPv6NotServed"));
    }

    #[test]
    fn a_subnet_of_anothers_range_hands_out_nothing() {
        let mut inner = subnet("10.0.0.0/24");
        inner.metadata.name = Some("b".to_owned());
        let host = host("h", "1");
        let plan = plan(&[&host], &[&subnet("10.0.0.0/16"), &inner]);
        assert_eq!(plan.blocks["h"].iter().map(|block| &*block.subnet).collect::<Vec<_>>(), ["a"]);
        assert!(plan.statuses["b"].conditions.iter().any(|one| one.type_ == "Overlaps" && one.status == "True"));
    }
}
