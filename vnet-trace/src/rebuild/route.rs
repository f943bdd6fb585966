//! Routes and policy rules.
//!
//! The kernel makes some routes by itself, for each address on a device that is up (fib_add_ifaddr, addrconf). Where these
//! are the recorded ones, only the others are added. Where they are not (somebody deleted one, or two of the same prefix
//! compete and their order decides), IPv4 starts from nothing: all tables are flushed, and the recorded routes are
//! appended in their recorded order, addresses first, then what is on the link, then what needs a gateway.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::model::id::{Device, IfIndex};
use crate::model::snapshot::{Address, LinkKind, Netns, Route, RouteKind, Rule, RuleAction};

use super::Work;

const LOCAL: u32 = 255;
const MAIN: u32 = 254;
/// RTPROT_KERNEL.
const KERNEL: u8 = 2;
const NOPREFIXROUTE: u32 = 0x200;

/// What identifies a route to the one who looks it up.
type Key = (u32, u8, IpNet, Option<IfIndex>);

/// Whether recorded routes need the device to be up for a while.
pub fn uses(netns: &Netns, device: Device) -> bool {
    netns.routes.iter().any(|route| {
        !route.dst.addr().is_ipv6()
            && !is_dead(route)
            && !route.cached
            && route.nexthops.iter().any(|hop| hop.oif == Some(device.ifindex))
    })
}

/// An IPv6 address whose prefix route somebody deleted: then it is better not made.
pub fn lacks_prefix_route(netns: &Netns, entry: &Address) -> bool {
    let IpAddr::V6(_) = entry.address else { return false };
    let Some(net) = entry.net().filter(|net| net.prefix_len() < 128) else { return false };
    let up = netns.link(entry.ifindex).is_some_and(|link| link.is_up() && !link.is_loopback());
    up && !netns
        .routes
        .iter()
        .any(|route| route.dst == net && route.nexthops.iter().any(|hop| hop.oif == Some(entry.ifindex)))
}

/// Makes routes and rules.
pub fn make(work: &mut Work<'_>) {
    let all: Vec<&Netns> = work.namespaces().collect();
    for netns in all {
        v4(work, netns);
        v6(work, netns);
        rules(work, netns, false);
        rules(work, netns, true);
    }
}

fn v4(work: &mut Work<'_>, netns: &Netns) {
    let mut routes: Vec<&Route> = recorded(work, netns, false);
    // Stable: among equals the recorded order stays.
    routes.sort_by_key(|route| {
        // A source is checked against the local entries, which have to be there first.
        let rank = match route.kind {
            RouteKind::Local if route.dst.prefix_len() == 32 => 0,
            RouteKind::Local | RouteKind::Broadcast => 1,
            _ => 2,
        };
        (rank, route.nexthops.iter().any(|hop| hop.gateway.is_some()))
    });
    let fresh = automatic(work, netns) != keys(routes.iter().copied().filter(|route| route.protocol == KERNEL))
        || competes(&routes);
    if fresh {
        work.script.comment(&format!("the routes of {} in their recorded order", called(work, netns)));
        let mut tables: Vec<u32> = automatic(work, netns).keys().map(|(table, ..)| *table).collect();
        tables.sort_unstable();
        tables.dedup();
        for table in tables {
            work.script.ip(netns.id, format!("route flush table {table}"));
        }
    }
    let wanted: Vec<&Route> = routes.into_iter().filter(|route| fresh || route.protocol != KERNEL).collect();
    let missing = if fresh { missing_sources(netns, &wanted) } else { Vec::new() };
    for (address, device) in &missing {
        work.script.ip(netns.id, format!("route append local {address}/32 dev {device} table 255"));
    }
    for route in wanted {
        if let Some(words) = words(work, netns, route) {
            work.script.ip(netns.id, format!("route append {words}"));
        }
    }
    for (address, device) in &missing {
        work.script.ip(netns.id, format!("route del local {address}/32 dev {device} table 255"));
    }
}

/// Sources of routes whose local entry somebody has deleted: they have it while the routes are made.
fn missing_sources(netns: &Netns, routes: &[&Route]) -> Vec<(IpAddr, String)> {
    let mut missing: Vec<(IpAddr, String)> = Vec::new();
    for source in routes.iter().filter_map(|route| route.prefsrc) {
        let is_local = routes.iter().any(|route| route.kind == RouteKind::Local && route.dst.contains(&source));
        let device = netns.owns(source).and_then(|entry| netns.link(entry.ifindex)).map(|link| link.name.clone());
        if let Some(device) = device.filter(|_| !is_local && !missing.iter().any(|(known, _)| *known == source)) {
            missing.push((source, device));
        }
    }
    missing
}

fn called(work: &Work<'_>, netns: &Netns) -> String {
    match work.script.name(netns.id) {
        "." => "the first namespace".to_owned(),
        name => name.to_owned(),
    }
}

/// Routes of one family that can be made again.
fn recorded<'a>(work: &Work<'_>, netns: &'a Netns, ipv6: bool) -> Vec<&'a Route> {
    netns
        .routes
        .iter()
        .filter(|route| route.dst.addr().is_ipv6() == ipv6 && !route.cached && !is_dead(route))
        .filter(|route| {
            route.nexthops.iter().all(|hop| hop.oif.is_none_or(|oif| work.made.contains(&Device::new(netns.id, oif))))
        })
        .collect()
}

fn is_dead(route: &Route) -> bool {
    !route.nexthops.is_empty() && route.nexthops.iter().all(crate::model::snapshot::Nexthop::is_dead)
}

/// Two routes that only their order tells apart.
fn competes(routes: &[&Route]) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    routes.iter().any(|route| !seen.insert((route.table, route.dst, route.tos, route.metric)))
}

fn keys<'a>(routes: impl Iterator<Item = &'a Route>) -> BTreeMap<Key, usize> {
    let mut keys = BTreeMap::new();
    for route in routes {
        let oif = route.nexthops.first().and_then(|hop| hop.oif);
        *keys.entry((route.table, kind_number(route.kind), route.dst, oif)).or_default() += 1;
    }
    keys
}

fn kind_number(kind: RouteKind) -> u8 {
    match kind {
        RouteKind::Unicast => 1,
        RouteKind::Local => 2,
        RouteKind::Broadcast => 3,
        _ => 0,
    }
}

/// The IPv4 routes that the kernel will have made for the addresses (fib_add_ifaddr in net/ipv4/fib_frontend.c).
fn automatic(work: &Work<'_>, netns: &Netns) -> BTreeMap<Key, usize> {
    let mut keys = BTreeMap::new();
    for entry in &netns.addresses {
        let IpAddr::V4(address) = entry.address else { continue };
        let device = Device::new(netns.id, entry.ifindex);
        let Some(link) = netns.link(entry.ifindex).filter(|_| work.made.contains(&device)) else { continue };
        if !link.is_up() && !uses(netns, device) {
            continue;
        }
        let vrf = link.master.and_then(|master| netns.link(master)).and_then(|master| match master.kind {
            LinkKind::Vrf { table } => Some(table),
            _ => None,
        });
        let (local, main) = (vrf.unwrap_or(LOCAL), vrf.unwrap_or(MAIN));
        let mut add = |table: u32, kind: RouteKind, dst: Option<IpNet>| {
            if let Some(dst) = dst {
                keys.insert((table, kind_number(kind), dst, Some(entry.ifindex)), 1);
            }
        };
        let host = |address: Ipv4Addr| IpNet::new(IpAddr::V4(address), 32).ok();
        add(local, RouteKind::Local, host(address));
        let base = match entry.peer {
            Some(IpAddr::V4(peer)) => peer,
            _ => address,
        };
        let net = ipnet::Ipv4Net::new(base, entry.prefix_len).map(|net| net.trunc());
        let Ok(net) = net else { continue };
        if entry.is_secondary() || (net.prefix_len() == 32 && base == address) {
            continue;
        }
        if entry.flags & NOPREFIXROUTE == 0 {
            let kind = if link.is_loopback() { RouteKind::Local } else { RouteKind::Unicast };
            add(if link.is_loopback() { local } else { main }, kind, Some(IpNet::V4(net)));
        }
        if net.prefix_len() < 31 {
            add(local, RouteKind::Broadcast, host(net.broadcast()));
        }
    }
    keys
}

fn v6(work: &mut Work<'_>, netns: &Netns) {
    for entry in netns.addresses.iter().filter(|entry| entry.address.is_ipv6()) {
        let device = Device::new(netns.id, entry.ifindex);
        let Some(link) = netns.link(entry.ifindex).filter(|link| link.is_up() && work.made.contains(&device)) else {
            continue;
        };
        let own = |route: &Route| {
            route.kind == RouteKind::Local && route.dst.addr() == entry.address && route.dst.prefix_len() == 128
        };
        if !entry.is_tentative() && !entry.is_dad_failed() && !netns.routes.iter().any(own) {
            work.script.ip6(netns.id, format!("route del local {} dev {} table local", entry.address, link.name));
        }
    }
    let mut routes = recorded(work, netns, true);
    routes.sort_by_key(|route| route.nexthops.iter().any(|hop| hop.gateway.is_some()));
    for route in routes.into_iter().filter(|route| route.protocol != KERNEL) {
        if let Some(words) = words(work, netns, route) {
            work.script.ip6(netns.id, format!("route append {words}"));
        }
    }
}

/// A route as `ip route` takes it.
fn words(work: &mut Work<'_>, netns: &Netns, route: &Route) -> Option<String> {
    let kind = match route.kind {
        RouteKind::Unicast => "",
        RouteKind::Local => "local ",
        RouteKind::Broadcast => "broadcast ",
        RouteKind::Anycast => "anycast ",
        RouteKind::Multicast => "multicast ",
        RouteKind::Blackhole => "blackhole ",
        RouteKind::Unreachable => "unreachable ",
        RouteKind::Prohibit => "prohibit ",
        RouteKind::Throw => "throw ",
        RouteKind::Other => return None,
    };
    if route.nexthops.iter().any(|hop| hop.encap.is_some()) {
        let what = format!("the route to {} in {}", route.dst, called(work, netns));
        work.miss(None, what, "its encapsulation was not recorded");
        return None;
    }
    let ipv6 = route.dst.addr().is_ipv6();
    let mut words = format!("{kind}{}", route.dst);
    if let Some(src) = route.src.filter(|src| src.prefix_len() > 0) {
        words.push_str(&format!(" from {src}"));
    }
    let hop = |hop: &crate::model::snapshot::Nexthop| {
        let mut words = String::new();
        if let Some(gateway) = hop.gateway {
            let word = if gateway.is_ipv6() && !ipv6 { "via inet6" } else { "via" };
            words.push_str(&format!(" {word} {gateway}"));
        }
        if let Some(link) = hop.oif.and_then(|oif| netns.link(oif)) {
            words.push_str(&format!(" dev {}", link.name));
        }
        let reached = hop.gateway.is_none_or(|gateway| is_on_link(netns, gateway, hop.oif));
        if hop.is_onlink() || !reached {
            words.push_str(" onlink");
        }
        words
    };
    let mut several = String::new();
    match route.nexthops.as_slice() {
        [] => {}
        // The kernel keeps lo as the device of such routes, and does not take it from outside.
        [_] if matches!(
            route.kind,
            RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Throw
        ) => {}
        [one] => words.push_str(&hop(one)),
        more => {
            for one in more {
                several.push_str(&format!(" nexthop{} weight {}", hop(one), one.weight.max(1)));
            }
        }
    }
    words.push_str(&format!(" table {}", route.table));
    if route.protocol != 3 {
        words.push_str(&format!(" proto {}", route.protocol));
    }
    if !ipv6 && route.nexthops.iter().all(|hop| hop.gateway.is_none()) && !route.nexthops.is_empty() {
        words.push_str(&format!(" scope {}", route.scope));
    }
    if route.tos != 0 {
        words.push_str(&format!(" tos {}", route.tos));
    }
    if route.metric != 0 {
        words.push_str(&format!(" metric {}", route.metric));
    }
    if let Some(src) = route.prefsrc {
        words.push_str(&format!(" src {src}"));
    }
    if let Some(mtu) = route.mtu {
        words.push_str(&format!(" mtu {mtu}"));
    }
    Some(words + &several)
}

/// Whether the kernel will find the gateway on the link, so that it takes the route.
fn is_on_link(netns: &Netns, gateway: IpAddr, oif: Option<IfIndex>) -> bool {
    if let IpAddr::V6(address) = gateway
        && address.is_unicast_link_local()
    {
        return true;
    }
    // One's own address is taken as it is, and not as `onlink`.
    if netns.owns(gateway).is_some() {
        return true;
    }
    netns.routes.iter().any(|route| {
        route.kind == RouteKind::Unicast
            && route.dst.contains(&gateway)
            && route.nexthops.iter().any(|hop| hop.gateway.is_none() && (oif.is_none() || hop.oif == oif))
    })
}

fn rules(work: &mut Work<'_>, netns: &Netns, ipv6: bool) {
    let own: Vec<&Rule> = netns.rules.iter().filter(|rule| rule.ipv6 == ipv6).collect();
    let usual: &[(u32, u32)] =
        if ipv6 { &[(0, LOCAL), (32_766, MAIN)] } else { &[(0, LOCAL), (32_766, MAIN), (32_767, 253)] };
    let is_usual = |rule: &Rule, priority: u32, table: u32| {
        *rule == Rule { ipv6, priority, action: RuleAction::Table(table), ..Rule::default() }
    };
    for (priority, table) in usual {
        if !own.iter().any(|rule| is_usual(rule, *priority, *table)) {
            work.script.ip_of(ipv6, netns.id, format!("rule del priority {priority} table {table}"));
        }
    }
    for rule in own {
        // A VRF brings its own.
        let vrf = rule.l3mdev && rule.priority == 1000;
        if !vrf && !usual.iter().any(|(priority, table)| is_usual(rule, *priority, *table)) {
            let words = rule_words(rule);
            work.script.ip_of(ipv6, netns.id, format!("rule add {words}"));
        }
    }
}

fn rule_words(rule: &Rule) -> String {
    let mut words = format!("priority {}", rule.priority);
    let mut add = |text: String| {
        words.push(' ');
        words.push_str(&text);
    };
    if rule.invert {
        add("not".to_owned());
    }
    add(format!("from {}", rule.src.map_or_else(|| "all".to_owned(), |net| net.to_string())));
    for (name, value) in
        [("to", rule.dst.map(|net| net.to_string())), ("iif", rule.iif.clone()), ("oif", rule.oif.clone())]
    {
        if let Some(value) = value {
            add(format!("{name} {value}"));
        }
    }
    if let Some((mark, mask)) = rule.fwmark {
        add(format!("fwmark {mark:#x}/{mask:#x}"));
    }
    if rule.tos != 0 {
        add(format!("tos {}", rule.tos));
    }
    if let Some(protocol) = rule.ip_protocol {
        add(format!("ipproto {protocol}"));
    }
    for (name, range) in [("sport", rule.sport), ("dport", rule.dport)] {
        if let Some((from, to)) = range {
            add(format!("{name} {from}-{to}"));
        }
    }
    if let Some((from, to)) = rule.uid_range {
        add(format!("uidrange {from}-{to}"));
    }
    if rule.l3mdev {
        add("l3mdev".to_owned());
        return words;
    }
    match rule.action {
        RuleAction::Table(table) => add(format!("lookup {table}")),
        RuleAction::Goto(priority) => add(format!("goto {priority}")),
        RuleAction::Nop => add("nop".to_owned()),
        RuleAction::Blackhole => add("blackhole".to_owned()),
        RuleAction::Unreachable => add("unreachable".to_owned()),
        RuleAction::Prohibit => add("prohibit".to_owned()),
    }
    if let Some(length) = rule.suppress_prefix_length {
        add(format!("suppress_prefixlength {length}"));
    }
    if let Some(group) = rule.suppress_group {
        add(format!("suppress_ifgroup {group}"));
    }
    words
}
