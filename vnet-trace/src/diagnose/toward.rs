//! Routes that would lead to an address: the search behind every fix that adds or changes one.
//!
//! A next hop is a station on one of the namespace's links whose own routes lead on to the owner of the address, hop by hop,
//! without coming back. Limits: policy rules are followed as the plain look-up does, filters are not asked, and what is
//! outside of the snapshot leads nowhere.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::diagnose::case::{Case, NETWORK_CONFIG, fix};
use crate::model::diagnosis::{Fix, Risk};
use crate::model::id::{Device, NetnsId};
use crate::model::snapshot::{Link, LinkKind, Netns, Route, RouteKind};
use crate::predict::{fib, segment};

/// More hosts than this in a row are a circle.
const MOST_HOPS: usize = 32;

/// A next hop towards an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    /// Hosts between this one and the owner.
    pub hops: usize,
    /// It does not forward yet.
    pub mute: bool,
    /// The router; None: the owner is on the link.
    pub gateway: Option<IpAddr>,
    /// The device towards it.
    pub dev: Device,
}

/// Next hops from a namespace to an address, nearest first; through none of the namespaces in `avoid`.
pub fn toward(case: &Case<'_>, netns: NetnsId, dst: IpAddr, avoid: &[NetnsId]) -> Vec<NextHop> {
    let mut found = Vec::new();
    let Some(owner) = case.owner(dst) else { return found };
    let space = case.netns(netns);
    let tunnel_end = space.fdb.iter().any(|entry| entry.dst == Some(dst))
        || space.links.iter().any(|link| remote(link) == Some(dst));
    for link in space.links.iter().filter(|link| link.is_up() && !link.is_loopback() && link.master.is_none()) {
        // The far end of a tunnel is not reached through a tunnel.
        if tunnel_end && link.is_tunnel() {
            continue;
        }
        let dev = Device::new(netns, link.index);
        let nets: Vec<IpNet> =
            space.addresses_of(link.index).filter_map(crate::model::snapshot::Address::net).collect();
        for station in segment::stations(case.snapshot(), dev) {
            if station.netns == netns {
                continue;
            }
            if station == owner {
                found.push(NextHop { hops: 0, mute: false, gateway: None, dev });
                continue;
            }
            if avoid.contains(&station.netns) {
                continue;
            }
            let Some(hops) = leads(case, station.netns, dst, netns) else { continue };
            let gateway = case
                .netns(station.netns)
                .addresses_of(station.ifindex)
                .filter(|entry| entry.address.is_ipv4() == dst.is_ipv4() && entry.scope < 254)
                .find(|entry| {
                    nets.iter().any(|net| net.contains(&entry.address)) && space.owns(entry.address).is_none()
                });
            if let Some(entry) = gateway {
                let mute = !forwards(case, station, dst.is_ipv6()) && hops > 0;
                found.push(NextHop { hops: hops + 1, mute, gateway: Some(entry.address), dev });
            }
        }
    }
    found.sort_by_key(|hop| (hop.mute, hop.hops, hop.gateway, hop.dev));
    found.dedup();
    found
}

/// The far end that a tunnel device names.
pub fn remote(link: &Link) -> Option<IpAddr> {
    match &link.kind {
        LinkKind::Vxlan(info) => info.remote,
        LinkKind::Geneve { remote, .. } | LinkKind::Tunnel { remote, .. } => *remote,
        _ => None,
    }
}

/// Whether packets that come in by a device are forwarded.
fn forwards(case: &Case<'_>, device: Device, ipv6: bool) -> bool {
    let netns = case.netns(device.netns);
    if ipv6 {
        return netns.sysctl("net.ipv6.conf.all.forwarding") == Some(1);
    }
    netns.conf("ipv4", &case.name(device), "forwarding").or_else(|| netns.sysctl("net.ipv4.ip_forward")) == Some(1)
}

/// How many hosts further the owner is, if a namespace's own routes lead there and not back to where we are.
fn leads(case: &Case<'_>, from: NetnsId, dst: IpAddr, not: NetnsId) -> Option<usize> {
    let mut at = from;
    for hops in 0..MOST_HOPS {
        let netns = case.netns(at);
        if netns.owns(dst).is_some() {
            return Some(hops);
        }
        let found = fib::lookup(netns, &fib::Flow::to(dst)).ok()?;
        if netns.routes[found.route].kind != RouteKind::Unicast {
            return None;
        }
        let out = Device::new(at, found.nexthop.oif?);
        let next = found.nexthop.gateway.unwrap_or(dst);
        let holds = |station: &Device| {
            case.netns(station.netns).addresses_of(station.ifindex).any(|entry| entry.address == next)
        };
        let station = segment::stations(case.snapshot(), out).into_iter().find(holds)?;
        if station.netns == not {
            return None;
        }
        at = station.netns;
    }
    None
}

/// Stations on a device's link that forward and know the way to an address, nearest to it first.
pub fn routers(case: &Case<'_>, device: Device, dst: IpAddr) -> Vec<Device> {
    let mut found: Vec<(usize, Device)> = segment::stations(case.snapshot(), device)
        .into_iter()
        .filter(|station| station.netns != device.netns)
        .filter_map(|station| Some((leads(case, station.netns, dst, device.netns)?, station)))
        .filter(|(hops, station)| *hops == 0 || forwards(case, *station, dst.is_ipv6()))
        .collect();
    found.sort();
    found.into_iter().map(|(_, station)| station).collect()
}

/// Fixes that lead a namespace's packets for an address to its owner, best first; none if no way is known.
pub fn fixes(case: &Case<'_>, netns: NetnsId, dst: IpAddr, avoid: &[NetnsId]) -> Vec<Fix> {
    // A question that is bound to a device is helped by a route by that device only.
    let question = &case.recording.question;
    let bound = question.device().filter(|_| netns == question.netns && dst == question.dst);
    let asked = bound.and_then(|name| case.netns(netns).link_by_name(name)).map(|link| link.index);
    toward(case, netns, dst, avoid)
        .into_iter()
        .filter(|hop| !hop.mute && asked.is_none_or(|asked| hop.dev.ifindex == asked))
        .take(2)
        .map(|hop| by(case, netns, dst, &hop))
        .collect()
}

/// A route to an address by a next hop, as wide as the owner's network allows.
pub fn by(case: &Case<'_>, netns: NetnsId, dst: IpAddr, hop: &NextHop) -> Fix {
    let space = case.netns(netns);
    let host = IpNet::from(dst);
    let net = case
        .owner(dst)
        .and_then(|owner| case.netns(owner.netns).owns(dst))
        .and_then(crate::model::snapshot::Address::net);
    // A network that is on one of our own links, as far as we know, is left alone.
    let free = |net: &IpNet| {
        !plain(space, net).is_some_and(|route| {
            route.nexthops.iter().all(|hop| hop.gateway.is_none()) && route.kind == RouteKind::Unicast
        })
    };
    let net = net.filter(|net| hop.gateway.is_some() && free(net)).unwrap_or(host);
    let dev = case.name(hop.dev);
    let link_local = matches!(hop.gateway, Some(IpAddr::V6(gateway)) if gateway.is_unicast_link_local());
    let (way, title) = match hop.gateway {
        Some(gateway) if link_local => (format!("via {gateway} dev {dev}"), format!("reach {net} by {gateway}")),
        Some(gateway) => (format!("via {gateway}"), format!("reach {net} by {gateway}")),
        None => {
            // An address that is only a source of another link would be answered there.
            (format!("dev {dev}"), format!("reach {net} by {dev}, where its owner is"))
        }
    };
    // A host without any address has nothing to send from, and nobody could answer to what it sends.
    let homeless = !space.addresses.iter().any(|entry| entry.scope == 0 && entry.address.is_ipv4() == dst.is_ipv4());
    if hop.gateway.is_none()
        && homeless
        && let Some((free, length)) = free_address(case, dst)
    {
        let dad = if free.is_ipv6() { " nodad" } else { "" };
        return fix(
            &format!("give {dev} an address of the network of {dst}"),
            Risk::ChangesPolicy,
            vec![case.ip(netns, &format!("addr add {free}/{length} dev {dev}{dad}"))],
            vec![case.ip(netns, &format!("addr del {free}/{length} dev {dev}"))],
            NETWORK_CONFIG,
        );
    }
    let (command, undo) = change(case, netns, &net, &way);
    fix(&title, Risk::Safe, vec![command], vec![undo], NETWORK_CONFIG)
}

/// An address in the network of another that nobody in sight has, with the prefix length: the last one, where gateways are rare
/// and leases rarer.
fn free_address(case: &Case<'_>, of: IpAddr) -> Option<(IpAddr, u8)> {
    let owner = case.owner(of)?;
    let net = case.netns(owner.netns).owns(of)?.net()?;
    let last = match net {
        IpNet::V4(net) => IpAddr::from((u32::from(net.broadcast()).checked_sub(1)?).to_be_bytes()),
        IpNet::V6(net) => IpAddr::from((u128::from(net.network()) | 0xfffe).to_be_bytes()),
    };
    let free = net.contains(&last) && case.owner(last).is_none() && last != of;
    free.then(|| (last, net.prefix_len()))
}

/// The command that makes a route of the main table lead another way, and the one that undoes it: `add` if there is none to
/// this prefix, else `replace`.
pub fn change(case: &Case<'_>, netns: NetnsId, net: &IpNet, way: &str) -> (String, String) {
    let family = if net.addr().is_ipv6() { "-6 " } else { "" };
    match plain(case.netns(netns), net) {
        Some(old) => {
            let old = text(case, netns, old);
            (
                case.ip(netns, &format!("{family}route replace {net} {way}")),
                case.ip(netns, &format!("{family}route replace {old}")),
            )
        }
        None => (
            case.ip(netns, &format!("{family}route add {net} {way}")),
            case.ip(netns, &format!("{family}route del {net} {way}")),
        ),
    }
}

/// The route to exactly this prefix that `ip route replace` would replace.
fn plain<'a>(space: &'a Netns, net: &IpNet) -> Option<&'a Route> {
    let metric = if net.addr().is_ipv6() { 1024 } else { 0 };
    space.routes.iter().find(|route| {
        route.table == 254
            && route.dst.trunc() == net.trunc()
            && route.metric == metric
            && route.tos == 0
            && !route.cached
    })
}

/// A route in the words of `ip route`.
pub fn text(case: &Case<'_>, netns: NetnsId, route: &Route) -> String {
    let space = case.netns(netns);
    let mut words = Vec::new();
    if route.kind != RouteKind::Unicast {
        words.push(crate::diagnose::route::kind_word(route.kind).to_owned());
    }
    words.push(if route.dst.prefix_len() == 0 { "default".to_owned() } else { route.dst.to_string() });
    let hop = |hop: &crate::model::snapshot::Nexthop| {
        let mut words = Vec::new();
        words.extend(hop.gateway.map(|gateway| format!("via {gateway}")));
        words.extend(hop.oif.and_then(|oif| space.link(oif)).map(|link| format!("dev {}", link.name)));
        if hop.is_onlink() {
            words.push("onlink".to_owned());
        }
        words.join(" ")
    };
    match route.nexthops.as_slice() {
        [] => {}
        [one] if route.kind == RouteKind::Unicast => words.push(hop(one)),
        [_] => {}
        several => words.extend(several.iter().map(|one| format!("nexthop {} weight {}", hop(one), one.weight.max(1)))),
    }
    if let Some(source) = route.prefsrc {
        words.push(format!("src {source}"));
    }
    if route.metric != 0 && !(route.dst.addr().is_ipv6() && route.metric == 1024) {
        words.push(format!("metric {}", route.metric));
    }
    if route.table != 254 {
        words.push(format!("table {}", route.table));
    }
    words.join(" ")
}
