//! The packet filter: two tables of our own, `inet` and `arp`, that know every guest there can be.
//!
//! Built from the plan and what is said of the outside (pure), set in one transaction at start, at every repair and when the
//! outside is set otherwise, removed at the end. Nothing of it changes when a guest comes or goes. Rules begin by the name of the tap, so other traffic passes untouched.
//!
//! | from | to | verdict |
//! |---|---|---|
//! | guest with another MAC, IPv4, IPv6 or ARP sender than its own | anything | drop |
//! | guest | link-local and metadata addresses, what is configured as blocked | drop |
//! | guest | the host | drop, but for answers, a ping of the gateway, and host services |
//! | guest | another guest, through the host | accept |
//! | guest | itself, through a Service | accept, under the gateway's address |
//! | guest | outside | accept, under another address where there is NAT for the guest |
//! | outside | guest | drop, but for answers; accept where inbound is on |
//! | the host | guest | accept |

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
use nftables::batch::Batch;
use nftables::expr::{CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, Range};
use nftables::helper::apply_ruleset_async;
use nftables::schema::{Chain, NfListObject, Nftables, Rule, Set, SetFlag, SetType, SetTypeValue, Table};
use nftables::stmt::{AnonymousCounter, Counter, Match, NAT, NATFamily, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

use crate::config::Outside;
use crate::error::NetError;
use crate::plan::Plan;

/// IPv4 destinations that no guest reaches: link-local, where clouds have their metadata services.
const BLOCKED4: &str = "169.254.0.0/16";
/// The metadata service of EC2 over IPv6.
const BLOCKED6: &str = "fd00:ec2::254/128";

/// Before connection tracking and everybody's address translation.
const FIRST: i32 = -310;
/// Just before the usual filters.
const FILTER: i32 = -10;
/// Where sources are translated.
const SOURCE_NAT: i32 = 100;

const FAMILIES: [NfFamily; 2] = [NfFamily::INet, NfFamily::ARP];

type Statements = Vec<Statement<'static>>;

/// Sets the tables, in place of what they were; open connections are not disturbed.
pub(crate) async fn apply(plan: &Plan, outside: &Outside) -> Result<(), NetError> {
    run(plan, ruleset(plan, outside)).await
}

/// Removes the tables; not an error when there are none.
pub(crate) async fn remove(plan: &Plan) -> Result<(), NetError> {
    let mut batch = Batch::new();
    clear(&mut batch, &plan.config.table);
    run(plan, batch.to_nftables()).await
}

async fn run(plan: &Plan, ruleset: Nftables<'static>) -> Result<(), NetError> {
    let failed = |source| NetError::Rules { table: plan.config.table.clone(), source: Box::new(source) };
    apply_ruleset_async(&ruleset).await.map_err(failed)
}

/// Adding a table that exists changes nothing, and then it can be deleted.
fn clear(batch: &mut Batch<'static>, table: &str) {
    for family in FAMILIES {
        let table = Table { family, name: table.to_owned().into(), handle: None };
        batch.add(NfListObject::Table(table.clone()));
        batch.delete(NfListObject::Table(table));
    }
}

/// Everything, as one transaction.
pub(crate) fn ruleset(plan: &Plan, outside: &Outside) -> Nftables<'static> {
    let mut batch = Batch::new();
    clear(&mut batch, &plan.config.table);
    for family in FAMILIES {
        batch.add(NfListObject::Table(Table { family, name: plan.config.table.clone().into(), handle: None }));
    }
    let mut writer = Writer { batch, plan, outside };
    writer.sets();
    writer.prerouting();
    writer.input();
    writer.forward();
    writer.postrouting();
    writer.arp();
    writer.batch.to_nftables()
}

/// Writes the parts of the tables.
struct Writer<'p> {
    batch: Batch<'static>,
    plan: &'p Plan,
    outside: &'p Outside,
}

impl Writer<'_> {
    fn sets(&mut self) {
        let plan = self.plan;
        let config = &plan.config;
        let guest = |slot, address: String| {
            concat([text(plan.tap_name(slot)), text(plan.mac(slot).to_string()), text(address)])
        };
        let guests4: Vec<_> = plan.slots().map(|slot| guest(slot, plan.address(slot).to_string())).collect();
        let guests6 = plan.slots().filter_map(|slot| Some((slot, plan.address6(slot)?)));
        let guests6: Vec<_> = guests6
            .flat_map(|(slot, address)| [(slot, address), (slot, plan.link_local(slot))])
            .map(|(slot, address)| guest(slot, address.to_string()))
            .collect();
        let guest4 = [SetType::Ifname, SetType::EtherAddr, SetType::Ipv4Addr];
        let guest6 = [SetType::Ifname, SetType::EtherAddr, SetType::Ipv6Addr];
        self.set(NfFamily::INet, "guests4", &guest4, guests4.clone());
        self.set(NfFamily::ARP, "guests4", &guest4, guests4);
        self.set(NfFamily::INet, "guests6", &guest6, guests6);
        let twice = |address: String| concat([text(address.clone()), text(address)]);
        let selves4 = plan.slots().map(|slot| twice(plan.address(slot).to_string())).collect();
        let selves6 = plan.slots().filter_map(|slot| Some(twice(plan.address6(slot)?.to_string()))).collect();
        self.set(NfFamily::INet, "selves4", &[SetType::Ipv4Addr, SetType::Ipv4Addr], selves4);
        self.set(NfFamily::INet, "selves6", &[SetType::Ipv6Addr, SetType::Ipv6Addr], selves6);

        let fixed = [BLOCKED4, BLOCKED6].map(|net| net.parse().expect("the constant is a network"));
        let blocked: Vec<IpNet> = config.blocked.iter().copied().chain(fixed).collect();
        self.nets("blocked", &blocked);
        self.nets("direct", &self.outside.direct);
        let mut blocks: Vec<IpNet> = config.blocks.iter().copied().map(IpNet::from).collect();
        blocks.extend(config.block6.map(IpNet::from));
        self.nets("pods", &blocks);

        for (name, address, is_ours) in [
            ("services4", SetType::Ipv4Addr, IpAddr::is_ipv4 as fn(&IpAddr) -> bool),
            ("services6", SetType::Ipv6Addr, IpAddr::is_ipv6),
        ] {
            let services = config.host_services.iter().filter(|service| is_ours(&service.address));
            let elements = services.map(|service| {
                let (address, protocol) = (text(service.address.to_string()), text(service.protocol.name()));
                concat([address, protocol, Expression::Number(service.port.into())])
            });
            let elements = elements.collect();
            self.set(NfFamily::INet, name, &[address, SetType::InetProto, SetType::InetService], elements);
        }
    }

    /// Who guests say they are, and where nobody may go.
    fn prerouting(&mut self) {
        let chain = "prerouting";
        self.base(NfFamily::INet, chain, NfChainType::Filter, NfHook::Prerouting, FIRST);
        self.pass_others(NfFamily::INet, chain, MetaKey::Iifname);
        self.drop_blocked(chain, Vec::new());
        for (protocol, set) in [("ip", "@guests4"), ("ip6", "@guests6")] {
            let who = concat([meta(MetaKey::Iifname), field("ether", "saddr"), field(protocol, "saddr")]);
            self.rule(NfFamily::INet, chain, vec![is(who, text(set)), Statement::Accept(None)]);
        }
        if self.plan.config.block6.is_some() {
            // A guest's kernel asks whether its address is taken before it has one.
            let nobody = is(field("ip6", "saddr"), text("::"));
            let asks = is(field("icmpv6", "type"), text("nd-neighbor-solicit"));
            self.rule(NfFamily::INet, chain, vec![nobody, asks, Statement::Accept(None)]);
        }
        self.rule(NfFamily::INet, chain, dropped());
    }

    /// What guests may have of the host.
    fn input(&mut self) {
        let chain = "input";
        self.base(NfFamily::INet, chain, NfChainType::Filter, NfHook::Input, FILTER);
        self.pass_others(NfFamily::INet, chain, MetaKey::Iifname);
        self.rule(NfFamily::INet, chain, vec![answers(), Statement::Accept(None)]);
        let gateway = self.plan.config.gateway.to_string();
        let ping = vec![
            is(field("ip", "daddr"), text(gateway)),
            is(field("icmp", "type"), text("echo-request")),
            Statement::Accept(None),
        ];
        self.rule(NfFamily::INet, chain, ping);
        if self.plan.config.block6.is_some() {
            let kinds = ["echo-request", "nd-neighbor-solicit", "nd-neighbor-advert", "nd-router-solicit"];
            for kind in kinds {
                let rule = vec![is(field("icmpv6", "type"), text(kind)), Statement::Accept(None)];
                self.rule(NfFamily::INet, chain, rule);
            }
        }
        if let Some((first, last)) = self.plan.config.host_ports {
            let range = Range { range: [Expression::Number(first.into()), Expression::Number(last.into())] };
            let port = is(field("tcp", "dport"), Expression::Range(Box::new(range)));
            self.rule(NfFamily::INet, chain, vec![port, Statement::Accept(None)]);
        }
        for (protocol, set) in [("ip", "@services4"), ("ip6", "@services6")] {
            let what = concat([field(protocol, "daddr"), meta(MetaKey::L4proto), field("th", "dport")]);
            self.rule(NfFamily::INet, chain, vec![is(what, text(set)), Statement::Accept(None)]);
        }
        self.rule(NfFamily::INet, chain, dropped());
    }

    /// What goes through the host, after somebody's address translation.
    fn forward(&mut self) {
        let chain = "forward";
        self.base(NfFamily::INet, chain, NfChainType::Filter, NfHook::Forward, FILTER);
        self.drop_blocked(chain, vec![is(meta(MetaKey::Iifname), self.taps())]);
        self.rule(NfFamily::INet, chain, vec![is(meta(MetaKey::Iifname), self.taps()), Statement::Accept(None)]);
        if self.plan.config.inbound {
            return;
        }
        self.pass_others(NfFamily::INet, chain, MetaKey::Oifname);
        self.rule(NfFamily::INet, chain, vec![answers(), Statement::Accept(None)]);
        self.rule(NfFamily::INet, chain, dropped());
    }

    /// Under which address guests reach the outside, and themselves: one that asks a Service which leads back to it would not
    /// take its own address for somebody else's.
    fn postrouting(&mut self) {
        let chain = "postrouting";
        self.base(NfFamily::INet, chain, NfChainType::NAT, NfHook::Postrouting, SOURCE_NAT);
        let config = &self.plan.config;
        let gateways: [(_, _, _, IpAddr); 2] = [
            ("ip", NATFamily::IP, "@selves4", config.gateway.into()),
            ("ip6", NATFamily::IP6, "@selves6", config.gateway6.into()),
        ];
        for (protocol, family, selves, gateway) in gateways {
            let itself = is(concat([field(protocol, "saddr"), field(protocol, "daddr")]), text(selves));
            self.rule(NfFamily::INet, chain, vec![itself, source_nat(family, gateway)]);
        }
        for nat in &self.outside.nat {
            let (protocol, family, pods, direct) = match nat.guests {
                IpNet::V4(_) => ("ip", NATFamily::IP, "@pods4", "@direct4"),
                IpNet::V6(_) => ("ip6", NATFamily::IP6, "@pods6", "@direct6"),
            };
            let mut rule = vec![
                is(field(protocol, "saddr"), text(pods)),
                is_not(meta(MetaKey::Oifname), self.taps()),
                is_not(field(protocol, "daddr"), text(direct)),
            ];
            if nat.guests.prefix_len() > 0 {
                rule.push(is(field(protocol, "saddr"), prefix(nat.guests)));
            }
            rule.push(match nat.address {
                None => Statement::Masquerade(None),
                Some(address) => source_nat(family, address),
            });
            self.rule(NfFamily::INet, chain, rule);
        }
    }

    /// Guests speak for their own address only.
    fn arp(&mut self) {
        let chain = "input";
        self.base(NfFamily::ARP, chain, NfChainType::Filter, NfHook::Input, 0);
        self.pass_others(NfFamily::ARP, chain, MetaKey::Iifname);
        let who = concat([meta(MetaKey::Iifname), field("arp", "saddr ether"), field("arp", "saddr ip")]);
        self.rule(NfFamily::ARP, chain, vec![is(who, text("@guests4")), Statement::Accept(None)]);
        self.rule(NfFamily::ARP, chain, dropped());
    }

    fn drop_blocked(&mut self, chain: &'static str, conditions: Statements) {
        // The gateway is link-local, too.
        let gateway = is_not(field("ip", "daddr"), text(self.plan.config.gateway.to_string()));
        let blocked4 = [gateway, is(field("ip", "daddr"), text("@blocked4"))];
        self.rule(NfFamily::INet, chain, conditions.iter().cloned().chain(blocked4).chain(dropped()).collect());
        let blocked6 = is(field("ip6", "daddr"), text("@blocked6"));
        self.rule(NfFamily::INet, chain, conditions.into_iter().chain([blocked6]).chain(dropped()).collect());
    }

    /// What does not come from (or go to) a guest is none of our business.
    fn pass_others(&mut self, family: NfFamily, chain: &'static str, key: MetaKey) {
        let others = is_not(meta(key), self.taps());
        self.rule(family, chain, vec![others, Statement::Accept(None)]);
    }

    fn taps(&self) -> Expression<'static> {
        text(format!("{}*", self.plan.config.prefix))
    }

    fn base(&mut self, family: NfFamily, name: &'static str, kind: NfChainType, hook: NfHook, priority: i32) {
        self.batch.add(NfListObject::Chain(Chain {
            family,
            table: self.table(),
            name: name.into(),
            _type: Some(kind),
            hook: Some(hook),
            prio: Some(priority),
            policy: Some(NfChainPolicy::Accept),
            ..Chain::default()
        }));
    }

    fn rule(&mut self, family: NfFamily, chain: &'static str, statements: Statements) {
        let table = self.table();
        let rule = Rule { family, table, chain: chain.into(), expr: statements.into(), ..Rule::default() };
        self.batch.add(NfListObject::Rule(rule));
    }

    fn nets(&mut self, name: &str, nets: &[IpNet]) {
        let (nets4, nets6): (Vec<IpNet>, Vec<IpNet>) =
            IpNet::aggregate(&nets.to_vec()).into_iter().partition(|net| matches!(net, IpNet::V4(_)));
        for (suffix, kind, nets) in [("4", SetType::Ipv4Addr, nets4), ("6", SetType::Ipv6Addr, nets6)] {
            let elements = nets.into_iter().map(prefix).collect();
            let set = self.new_set(NfFamily::INet, format!("{name}{suffix}"), SetTypeValue::Single(kind), elements);
            self.batch.add(NfListObject::Set(Box::new(Set { flags: Some([SetFlag::Interval].into()), ..set })));
        }
    }

    fn set(&mut self, family: NfFamily, name: &str, kind: &[SetType], elements: Vec<Expression<'static>>) {
        let kind = SetTypeValue::Concatenated(kind.to_vec().into());
        let set = self.new_set(family, name.to_owned(), kind, elements);
        self.batch.add(NfListObject::Set(Box::new(set)));
    }

    fn new_set(
        &self,
        family: NfFamily,
        name: String,
        set_type: SetTypeValue<'static>,
        elements: Vec<Expression<'static>>,
    ) -> Set<'static> {
        let elem = (!elements.is_empty()).then(|| Cow::Owned(elements));
        Set { family, table: self.table(), name: name.into(), set_type, elem, ..Set::default() }
    }

    fn table(&self) -> Cow<'static, str> {
        self.plan.config.table.clone().into()
    }
}

fn source_nat(family: NATFamily, address: IpAddr) -> Statement<'static> {
    let addr = Some(text(address.to_string()));
    Statement::SNAT(Some(NAT { addr, family: Some(family), port: None, flags: None }))
}

fn text(text: impl Into<Cow<'static, str>>) -> Expression<'static> {
    Expression::String(text.into())
}

fn concat<const N: usize>(parts: [Expression<'static>; N]) -> Expression<'static> {
    Expression::Named(NamedExpression::Concat(parts.into()))
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn prefix(net: IpNet) -> Expression<'static> {
    let address = Box::new(text(net.network().to_string()));
    Expression::Named(NamedExpression::Prefix(Prefix { addr: address, len: net.prefix_len().into() }))
}

fn compare(left: Expression<'static>, right: Expression<'static>, op: Operator) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

fn is(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    compare(left, right, Operator::EQ)
}

fn is_not(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    compare(left, right, Operator::NEQ)
}

/// Packets of connections that somebody else began.
fn answers() -> Statement<'static> {
    let state = Expression::Named(NamedExpression::CT(CT { key: "state".into(), family: None, dir: None }));
    compare(state, Expression::List(vec![text("established"), text("related")]), Operator::IN)
}

fn dropped() -> Statements {
    let counter = AnonymousCounter { packets: None, bytes: None };
    vec![Statement::Counter(Counter::Anonymous(Some(counter))), Statement::Drop(None)]
}
