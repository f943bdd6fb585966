//! Route look-ups as the kernel makes them, from the rules and routes of a snapshot.
//!
//! IPv4 follows net/core/fib_rules.c `fib_rules_lookup`, net/ipv4/fib_trie.c `fib_table_lookup` and
//! net/ipv4/route.c `ip_route_output_key_hash_rcu`; IPv6 net/ipv6/ip6_fib.c and net/ipv6/route.c `ip6_pol_route`.
//! Limits: hashing over several next hops is not imitated (the first usable one is taken, and the look-up says so);
//! routes through lightweight tunnels are found but not entered; user ids of sockets are taken to be root's.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::id::{Device, IfIndex};
use crate::model::snapshot::{LinkKind, Netns, Nexthop, OperState, Route, RouteKind, Rule, RuleAction, Snapshot};

/// What is looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// Destination.
    pub dst: IpAddr,
    /// Source; None: not chosen yet.
    pub src: Option<IpAddr>,
    /// Input device; None for the output path (the kernel says `lo` there).
    pub iif: Option<IfIndex>,
    /// Output device demanded.
    pub oif: Option<IfIndex>,
    /// fwmark.
    pub mark: u32,
    /// Type of service.
    pub tos: u8,
    /// Protocol above IP.
    pub protocol: u8,
    /// Use next hops without carrier although `ignore_routes_with_linkdown` says no (FIB_LOOKUP_IGNORE_LINKSTATE).
    pub ignore_linkstate: bool,
    /// IPv6: the output device is demanded (bound socket, link-local destination) rather than preferred.
    pub strict: bool,
}

impl Flow {
    /// A flow from anywhere to `dst`, with nothing else demanded.
    pub fn to(dst: IpAddr) -> Self {
        Self {
            dst,
            src: None,
            iif: None,
            oif: None,
            mark: 0,
            tos: 0,
            protocol: 1,
            ignore_linkstate: false,
            strict: true,
        }
    }
}

/// A route that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Position in [`Netns::routes`].
    pub route: usize,
    /// Position in [`Netns::rules`] of the rule that led to its table.
    pub rule: Option<usize>,
    /// The next hop chosen.
    pub nexthop: Nexthop,
    /// Other next hops or equal routes could have been chosen as well.
    pub ambiguous: bool,
}

/// A look-up that failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Nothing matched.
    NoRoute,
    /// A route of a refusing type matched.
    Route {
        /// Position in [`Netns::routes`].
        route: usize,
        /// The rule that led to its table.
        rule: Option<usize>,
    },
    /// A rule refuses by itself.
    Rule {
        /// Position in [`Netns::rules`].
        rule: usize,
    },
}

/// The result of one table.
enum InTable {
    Found(usize, Nexthop, bool),
    Refused(usize),
    Nothing,
}

/// Looks a flow up in a namespace.
pub fn lookup(netns: &Netns, flow: &Flow) -> Result<Found, Refusal> {
    let ipv6 = flow.dst.is_ipv6();
    let mut rules: Vec<(usize, &Rule)> = netns.rules.iter().enumerate().filter(|(_, rule)| rule.ipv6 == ipv6).collect();
    rules.sort_by_key(|(_, rule)| rule.priority);
    if rules.is_empty() {
        // No rule was read: the kernel's own three.
        for table in [255, 254, 253] {
            match in_table(netns, table, flow) {
                InTable::Found(route, nexthop, ambiguous) => {
                    return Ok(Found { route, rule: None, nexthop, ambiguous });
                }
                InTable::Refused(route) => return Err(Refusal::Route { route, rule: None }),
                InTable::Nothing => {}
            }
        }
        return Err(Refusal::NoRoute);
    }
    let mut at = 0;
    while at < rules.len() {
        let (index, rule) = rules[at];
        at += 1;
        if !rule_matches(netns, rule, flow) {
            continue;
        }
        let table = match rule.action {
            RuleAction::Goto(priority) => {
                // Only forward jumps are allowed (fib_nl_newrule).
                match rules.iter().position(|(_, rule)| rule.priority >= priority) {
                    Some(target) if target >= at => at = target,
                    _ => {}
                }
                continue;
            }
            RuleAction::Nop => continue,
            RuleAction::Blackhole | RuleAction::Unreachable | RuleAction::Prohibit => {
                return Err(Refusal::Rule { rule: index });
            }
            RuleAction::Table(table) if rule.l3mdev => match l3mdev_table(netns, flow) {
                Some(vrf) => vrf,
                None if table != 0 => table,
                None => continue,
            },
            RuleAction::Table(table) => table,
        };
        match in_table(netns, table, flow) {
            InTable::Found(route, nexthop, ambiguous) => {
                if suppressed(netns, rule, route, &nexthop) {
                    continue;
                }
                return Ok(Found { route, rule: Some(index), nexthop, ambiguous });
            }
            InTable::Refused(route) => return Err(Refusal::Route { route, rule: Some(index) }),
            InTable::Nothing => {}
        }
    }
    Err(Refusal::NoRoute)
}

/// Whether this is one of the three rules that every namespace starts with.
pub fn is_default_rule(rule: &Rule) -> bool {
    rule.src.is_none()
        && rule.dst.is_none()
        && rule.iif.is_none()
        && rule.oif.is_none()
        && rule.fwmark.is_none()
        && rule.tos == 0
        && rule.ip_protocol.is_none()
        && rule.uid_range.is_none()
        && !rule.invert
        && !rule.l3mdev
        && matches!(
            (rule.priority, rule.action),
            (0, RuleAction::Table(255)) | (32766, RuleAction::Table(254)) | (32767, RuleAction::Table(253))
        )
}

/// Whether any rule of the family is not one of the three default ones (`fib4_has_custom_rules`).
pub fn has_custom_rules(netns: &Netns, ipv6: bool) -> bool {
    netns.rules.iter().any(|rule| rule.ipv6 == ipv6 && !is_default_rule(rule))
}

/// fib_rule_match and the family's own match.
fn rule_matches(netns: &Netns, rule: &Rule, flow: &Flow) -> bool {
    let name = |index: Option<IfIndex>| index.and_then(|index| netns.link(index)).map(|link| link.name.as_str());
    let matches = || {
        if let Some(iif) = &rule.iif {
            // On the output path the input interface is the loopback device.
            let actual = flow.iif.map_or(Some("lo"), |_| name(flow.iif));
            if actual != Some(iif) && vrf_name(netns, flow.iif).as_deref() != Some(iif) {
                return false;
            }
        }
        if let Some(oif) = &rule.oif
            && name(flow.oif) != Some(oif)
            && vrf_name(netns, flow.oif).as_deref() != Some(oif)
        {
            return false;
        }
        if let Some((value, mask)) = rule.fwmark
            && (flow.mark ^ value) & mask != 0
        {
            return false;
        }
        if rule.l3mdev && l3mdev_table(netns, flow).is_none() {
            return false;
        }
        if let Some(dst) = rule.dst
            && !dst.contains(&flow.dst)
        {
            return false;
        }
        if let Some(src) = rule.src {
            match flow.src {
                Some(address) if src.contains(&address) => {}
                Some(_) => return false,
                // The kernel compares with 0.0.0.0 or :: while no source is chosen.
                None if src.prefix_len() == 0 => {}
                None => return false,
            }
        }
        if rule.tos != 0 && rule.tos != flow.tos {
            return false;
        }
        if let Some(protocol) = rule.ip_protocol
            && protocol != flow.protocol
        {
            return false;
        }
        if rule.sport.is_some() || rule.dport.is_some() {
            // Echo has no ports.
            return false;
        }
        if let Some((from, _)) = rule.uid_range
            && (flow.iif.is_some() || from > 0)
        {
            return false;
        }
        true
    };
    matches() != rule.invert
}

/// The VRF that a device is or is enslaved to.
pub fn vrf_of(netns: &Netns, index: Option<IfIndex>) -> Option<(IfIndex, u32)> {
    let link = netns.link(index?)?;
    if let LinkKind::Vrf { table } = link.kind {
        return Some((link.index, table));
    }
    let master = netns.link(link.master?)?;
    match master.kind {
        LinkKind::Vrf { table } => Some((master.index, table)),
        // A bridge or bond in a VRF: its ports are not, the device itself is.
        _ => None,
    }
}

fn vrf_name(netns: &Netns, index: Option<IfIndex>) -> Option<String> {
    vrf_of(netns, index).and_then(|(vrf, _)| netns.link(vrf)).map(|link| link.name.clone())
}

fn l3mdev_table(netns: &Netns, flow: &Flow) -> Option<u32> {
    vrf_of(netns, flow.oif).or_else(|| vrf_of(netns, flow.iif)).map(|(_, table)| table)
}

/// suppress_prefixlength and suppress_ifgroup.
fn suppressed(netns: &Netns, rule: &Rule, route: usize, nexthop: &Nexthop) -> bool {
    let route = &netns.routes[route];
    if let Some(length) = rule.suppress_prefix_length
        && u32::from(route.dst.prefix_len()) <= length
    {
        return true;
    }
    if let Some(group) = rule.suppress_group
        && nexthop.oif.and_then(|oif| netns.link(oif)).is_some_and(|link| link.group == group)
    {
        return true;
    }
    false
}

/// One table: longest prefix, then type of service, then metric, then the order in which routes were added.
fn in_table(netns: &Netns, table: u32, flow: &Flow) -> InTable {
    let mut candidates: Vec<(usize, &Route)> = netns
        .routes
        .iter()
        .enumerate()
        .filter(|(_, route)| route.table == table && !route.cached && route.dst.contains(&flow.dst))
        .filter(|(_, route)| route.tos == 0 || route.tos == flow.tos)
        .filter(|(_, route)| source_matches(route, flow))
        .collect();
    candidates.sort_by(|(_, a), (_, b)| {
        b.dst.prefix_len().cmp(&a.dst.prefix_len()).then(b.tos.cmp(&a.tos)).then(a.metric.cmp(&b.metric))
    });
    let oif = table_oif(netns, flow);
    // IPv6: among equal routes the one on the wished device wins, others remain usable (rt6_score_route).
    if flow.dst.is_ipv6() && oif.is_some() {
        candidates.sort_by_key(|(_, route)| {
            (
                std::cmp::Reverse(route.dst.prefix_len()),
                route.metric,
                !route.nexthops.iter().any(|nexthop| nexthop.oif == oif),
            )
        });
    }
    for (position, &(index, route)) in candidates.iter().enumerate() {
        match route.kind {
            RouteKind::Throw => return InTable::Nothing,
            RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => return InTable::Refused(index),
            _ => {}
        }
        let usable: Vec<&Nexthop> = route
            .nexthops
            .iter()
            .filter(|nexthop| nexthop_usable(netns, nexthop, flow, route))
            .filter(|nexthop| oif.is_none() || nexthop.oif == oif || (flow.dst.is_ipv6() && !flow.strict))
            .collect();
        if let Some(nexthop) = usable.first() {
            // `via` an own address is an old way to say "on the link" (fib_check_nh: the next hop then has scope nowhere).
            let mut nexthop = (*nexthop).clone();
            if nexthop.gateway.is_some_and(|gateway| gateway.is_ipv4() && netns.owns(gateway).is_some()) {
                nexthop.gateway = None;
            }
            let twin = candidates.get(position + 1).is_some_and(|(_, next)| {
                next.dst == route.dst && next.metric == route.metric && next.tos == route.tos && flow.dst.is_ipv6()
            });
            return InTable::Found(index, nexthop, usable.len() > 1 || twin);
        }
    }
    InTable::Nothing
}

/// A VRF as output device selects its table, and its ports are then free to be chosen.
fn table_oif(netns: &Netns, flow: &Flow) -> Option<IfIndex> {
    let link = netns.link(flow.oif?)?;
    if matches!(link.kind, LinkKind::Vrf { .. }) { None } else { flow.oif }
}

fn source_matches(route: &Route, flow: &Flow) -> bool {
    match (route.src, flow.src) {
        (Some(net), Some(src)) => net.contains(&src),
        (Some(net), None) => net.prefix_len() == 0,
        (None, _) => true,
    }
}

fn nexthop_usable(netns: &Netns, nexthop: &Nexthop, flow: &Flow, route: &Route) -> bool {
    if nexthop.is_dead() {
        return false;
    }
    let Some(link) = nexthop.oif.and_then(|oif| netns.link(oif)) else {
        return nexthop.oif.is_none() || !route.nexthops.is_empty();
    };
    if flow.ignore_linkstate || flow.dst.is_ipv6() && !nexthop.is_linkdown() {
        return true;
    }
    let family = if flow.dst.is_ipv6() { "ipv6" } else { "ipv4" };
    let ignore = |device: &str| netns.conf(family, device, "ignore_routes_with_linkdown").unwrap_or(0) != 0;
    !(nexthop.is_linkdown() && (ignore("all") || ignore(&link.name)))
}

/// The position of the local route for an address, in the local table or the table of a VRF.
pub fn local_route(netns: &Netns, address: IpAddr) -> Option<usize> {
    netns
        .routes
        .iter()
        .position(|route| route.kind == RouteKind::Local && !route.cached && route.dst.contains(&address))
}

/// Whether packets to this address are delivered here: what `inet_addr_type` calls RTN_LOCAL.
pub fn is_local(netns: &Netns, address: IpAddr) -> bool {
    netns
        .routes
        .iter()
        .filter(|route| route.table == 255 || vrf_table(netns, route.table))
        .filter(|route| route.dst.contains(&address))
        .max_by_key(|route| route.dst.prefix_len())
        .is_some_and(|route| matches!(route.kind, RouteKind::Local | RouteKind::Anycast))
}

fn vrf_table(netns: &Netns, table: u32) -> bool {
    netns.links.iter().any(|link| matches!(link.kind, LinkKind::Vrf { table: vrf } if vrf == table))
}

/// Routes that would match if their device were up and had carrier: what a missing route may hide behind.
pub fn dead_route(netns: &Netns, flow: &Flow) -> Option<IfIndex> {
    let best = netns
        .routes
        .iter()
        .filter(|route| route.dst.contains(&flow.dst) && !route.cached && route.kind == RouteKind::Unicast)
        .filter(|route| route.nexthops.iter().all(|nexthop| nexthop.is_dead() || nexthop.is_linkdown()))
        .max_by_key(|route| route.dst.prefix_len());
    if let Some(oif) = best.and_then(|route| route.nexthops.first()).and_then(|nexthop| nexthop.oif) {
        return Some(oif);
    }
    // lo gets 127.0.0.1 and ::1 when it is set up (inetdev_event, init_loopback): in a fresh namespace it has never been. What
    // answers somebody else's loopback address has another source, and would only come to itself then.
    if flow.dst.is_loopback() && flow.src.is_none_or(|src| src.is_loopback()) {
        return netns.links.iter().find(|link| link.is_loopback() && !link.is_up()).map(|link| link.index);
    }
    // The connected route of an address goes away when its device goes down, and comes back with it.
    netns.addresses.iter().find_map(|address| {
        let link = netns.link(address.ifindex)?;
        let covers = address.net().is_some_and(|net| net.contains(&flow.dst) && net.prefix_len() < host_prefix(&net));
        (covers && !link.is_up()).then_some(link.index)
    })
}

fn host_prefix(net: &IpNet) -> u8 {
    match net {
        IpNet::V4(_) => 32,
        IpNet::V6(_) => 128,
    }
}

/// The source address that the kernel would choose for a flow on this route (IPv4: `fib_result_prefsrc` and
/// `inet_select_addr`; IPv6: RFC 6724 as far as it decides between the addresses of one host).
pub fn select_source(
    netns: &Netns,
    oif: Option<IfIndex>,
    route: Option<&Route>,
    gateway: Option<IpAddr>,
    dst: IpAddr,
) -> Option<IpAddr> {
    if let Some(source) = route.and_then(|route| route.prefsrc) {
        return Some(source);
    }
    if route.is_some_and(|route| route.kind == RouteKind::Local) {
        return Some(dst);
    }
    if dst.is_ipv4() {
        let scope = route.map_or(253, |route| route.scope);
        select_v4(netns, oif?, gateway.or(Some(dst)).filter(IpAddr::is_ipv4), scope)
    } else {
        select_v6(netns, oif, dst)
    }
}

/// inet_select_addr: the first primary address of the device that covers the next hop, else its first, else any device's.
fn select_v4(netns: &Netns, oif: IfIndex, toward: Option<IpAddr>, scope: u8) -> Option<IpAddr> {
    // Scopes count downwards: an address fits if it is at least as wide as the route.
    let usable = |ifindex: IfIndex| {
        netns
            .addresses_of(ifindex)
            .filter(move |entry| entry.address.is_ipv4() && !entry.is_secondary() && entry.scope <= scope)
    };
    if let Some(toward) = toward
        && let Some(entry) = usable(oif).find(|entry| entry.net().is_some_and(|net| net.contains(&toward)))
    {
        return Some(entry.address);
    }
    if let Some(entry) = usable(oif).next() {
        return Some(entry.address);
    }
    // The kernel stays within a VRF; without one, any other device's address will do.
    let vrf = vrf_of(netns, Some(oif)).map(|(vrf, _)| vrf);
    netns
        .links
        .iter()
        .filter(|link| vrf_of(netns, Some(link.index)).map(|(vrf, _)| vrf) == vrf)
        .flat_map(|link| usable(link.index))
        .find(|entry| entry.scope != 253)
        .map(|entry| entry.address)
}

/// RFC 6724 section 5, the rules that can differ between one host's addresses: 1, 2, 3, 5, 8.
fn select_v6(netns: &Netns, oif: Option<IfIndex>, dst: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(dst6) = dst else { return None };
    let scope = v6_scope(&dst6);
    let best = netns
        .addresses
        .iter()
        .filter(|entry| !entry.is_tentative() && !entry.is_dad_failed())
        .filter_map(|entry| match entry.address {
            IpAddr::V6(address) if !address.is_loopback() || dst6.is_loopback() => Some((entry, address)),
            _ => None,
        })
        .filter(|(entry, address)| v6_scope(address) != 2 || Some(entry.ifindex) == oif || oif.is_none())
        .max_by(|(a, a6), (b, b6)| {
            let key = |entry: &crate::model::snapshot::Address, address: &std::net::Ipv6Addr| {
                let own = v6_scope(address);
                let fits = if own == scope { 2 } else { i32::from(own > scope) };
                (
                    *address == dst6,
                    fits,
                    if own < scope { own } else { 0 },
                    !entry.is_deprecated(),
                    Some(entry.ifindex) == oif,
                    common_prefix(address, &dst6).min(64),
                )
            };
            key(a, a6).cmp(&key(b, b6)).then(std::cmp::Ordering::Greater)
        });
    best.map(|(_, address)| IpAddr::V6(address))
}

/// Scope of an IPv6 address, RFC 4007: 1 node, 2 link, 5 site, 14 global.
pub fn v6_scope(address: &std::net::Ipv6Addr) -> u8 {
    if address.is_loopback() {
        1
    } else if address.is_unicast_link_local() {
        2
    } else if address.is_multicast() {
        address.octets()[1] & 0xf
    } else {
        14
    }
}

fn common_prefix(a: &std::net::Ipv6Addr, b: &std::net::Ipv6Addr) -> u32 {
    (u128::from(*a) ^ u128::from(*b)).leading_zeros()
}

/// Whether a device can carry packets: up, and with carrier as far as its driver says.
pub fn has_carrier(snapshot: &Snapshot, device: Device) -> bool {
    snapshot.link(device).is_some_and(|link| {
        link.carrier && !matches!(link.operstate, OperState::Down | OperState::LowerLayerDown | OperState::NotPresent)
            || link.is_loopback()
    })
}
