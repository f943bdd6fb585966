//! Routes, rules, neighbours: what the snapshot says is what `ip` says.

use std::collections::BTreeSet;
use std::net::IpAddr;

use libtest_mimic::Failed;
use vnet_trace::model::snapshot::{LinkKind, RouteKind, RuleAction};

use super::configuration::{RICH, name_of, own, still, text};
use super::net::sh;
use super::{Case, json, same};

pub const CASES: &[Case] = &[
    ("routes_are_those_of_ip_route_in_their_order", "", routes),
    ("next_hop_objects_are_resolved", "", nexthops),
    ("rules_are_those_of_ip_rule", "", rules),
    ("neighbours_are_those_of_ip_neigh", "", neighbours),
    ("vrf_devices_and_their_rule", "link:vrf", vrf),
];

fn routes() -> Result<(), Failed> {
    sh(RICH)?;
    sh("ip route add blackhole 192.0.2.0/24
        ip route add unreachable 198.51.100.0/24 metric 7
        ip route add prohibit 198.18.0.0/15 table 77
        ip route add throw 10.77.0.0/16 table 77
        ip route add 203.0.113.0/24 nexthop via 10.9.0.2 weight 3 nexthop via 10.9.1.2 dev q1
        ip route add default via 10.9.0.2 metric 100 mtu 1300 src 10.9.0.3
        ip route add default via 10.9.0.9 dev br0 onlink metric 50
        ip route add 10.55.0.0/16 tos 0x10 dev br0 table 1000
        ip -6 route add fd10::/64 via fd09::9 dev br0
        ip -6 route add blackhole fd11::/64
        ip -6 route add default via fd09::9 metric 3")?;
    let mut netns = own()?;
    for (family, ipv4) in [("-4", true), ("-6", false)] {
        let (now, theirs) = still(&format!("ip {family} -j -d route show table all"))?;
        netns = now;
        let theirs: Vec<_> = theirs
            .iter()
            .map(|route| {
                let hops = match route["nexthops"].as_array() {
                    Some(hops) => hops.iter().map(|hop| (text(&hop["dev"]), text(&hop["gateway"]))).collect(),
                    None => vec![(text(&route["dev"]), text(&route["gateway"]))],
                };
                let metric = route["metric"].as_u64().unwrap_or(0);
                let source = text(&route["prefsrc"]);
                (prefix(&text(&route["dst"]), ipv4), text(&route["type"]), text(&route["table"]), metric, source, hops)
            })
            .collect();
        let ours: Vec<_> = netns
            .routes
            .iter()
            .filter(|route| route.dst.addr().is_ipv4() == ipv4)
            .map(|route| {
                let lost = matches!(
                    route.kind,
                    RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Throw
                );
                let mut hops: Vec<_> = route
                    .nexthops
                    .iter()
                    .map(|hop| {
                        (name_of(&netns, hop.oif), hop.gateway.map(|gateway| gateway.to_string()).unwrap_or_default())
                    })
                    .collect();
                // iproute2 shows `dev lo` for an IPv6 route that loses packets.
                if lost {
                    hops.push((if ipv4 { "" } else { "lo" }.to_owned(), String::new()));
                }
                let source = route.prefsrc.map(|source| source.to_string()).unwrap_or_default();
                (route.dst.to_string(), kind(route.kind), table(route.table), u64::from(route.metric), source, hops)
            })
            .collect();
        same(family, ours.len(), theirs.len())?;
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            same(family, ours, theirs)?;
        }
    }
    let default = netns.routes.iter().find(|route| route.metric == 100);
    same("mtu", default.and_then(|route| route.mtu), Some(1300))?;
    let onlink = netns.routes.iter().find(|route| route.metric == 50);
    same("onlink", onlink.map(|route| route.nexthops[0].is_onlink()), Some(true))?;
    let tos = netns.routes.iter().find(|route| route.table == 1000);
    same("tos", tos.map(|route| route.tos), Some(0x10))?;
    let weights = netns.routes.iter().find(|route| route.nexthops.len() == 2);
    same("weight", weights.map(|route| route.nexthops[0].weight), Some(3))
}

fn kind(kind: RouteKind) -> String {
    let number = match kind {
        RouteKind::Unicast => 1,
        RouteKind::Local => 2,
        RouteKind::Broadcast => 3,
        RouteKind::Anycast => 4,
        RouteKind::Multicast => 5,
        RouteKind::Blackhole => 6,
        RouteKind::Unreachable => 7,
        RouteKind::Prohibit => 8,
        RouteKind::Throw => 9,
        RouteKind::Other => 0,
    };
    ["", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw"]
        [number]
        .to_owned()
}

fn table(number: u32) -> String {
    match number {
        254 => "main".to_owned(),
        255 => "local".to_owned(),
        number => number.to_string(),
    }
}

fn prefix(text: &str, ipv4: bool) -> String {
    match (text, ipv4) {
        ("default", true) => "0.0.0.0/0".to_owned(),
        ("default", false) => "::/0".to_owned(),
        (text, _) if text.contains('/') => text.to_owned(),
        (text, true) => format!("{text}/32"),
        (text, false) => format!("{text}/128"),
    }
}

fn nexthops() -> Result<(), Failed> {
    sh(RICH)?;
    sh("ip nexthop add id 5 via 10.9.0.2 dev br0
        ip nexthop add id 6 via 10.9.1.2 dev q1
        ip nexthop add id 7 group 5,2/6
        ip nexthop add id 8 blackhole
        sysctl -qw net.ipv4.nexthop_compat_mode=0
        ip route add 100.64.0.0/16 nhid 5
        ip route add 100.65.0.0/16 nhid 7
        ip route add 100.66.0.0/16 nhid 8")?;
    let netns = own()?;
    let route = |third: u8| {
        let route = netns.routes.iter().find(|route| route.dst.addr() == IpAddr::from([100, third, 0, 0]));
        route.ok_or(Failed::from("a route is missing"))
    };
    let hops = |third: u8| {
        let hops = route(third)?.nexthops.iter();
        Ok::<_, Failed>(hops.map(|hop| (name_of(&netns, hop.oif), hop.gateway, hop.weight)).collect::<Vec<_>>())
    };
    let gateway = |a: u8| Some(IpAddr::from([10, 9, a, 2]));
    same("one", hops(64)?, vec![("br0".to_owned(), gateway(0), 1)])?;
    same("group", hops(65)?, vec![("br0".to_owned(), gateway(0), 2), ("q1".to_owned(), gateway(1), 1)])?;
    same("blackhole", (route(66)?.kind, hops(66)?), (RouteKind::Blackhole, vec![]))?;
    same("id", route(64)?.nexthop_id, Some(5))
}

fn rules() -> Result<(), Failed> {
    sh("ip rule add from 10.9.0.0/16 to 10.8.0.0/16 iif br0 fwmark 0x10/0xff table 100 prio 500
        ip rule add not from 10.1.0.0/16 tos 0x10 lookup 101 prio 501
        ip rule add oif lo ipproto icmp sport 5-6 dport 7 uidrange 8-9 lookup main suppress_prefixlength 0 prio 502
        ip rule add blackhole prio 503
        ip rule add prohibit to 10.7.0.1 prio 504
        ip rule add goto 32766 prio 505
        ip -6 rule add from fd01::/16 unreachable prio 506")?;
    let netns = own()?;
    let priorities = |ipv6| {
        netns.rules.iter().filter(|rule| rule.ipv6 == ipv6).map(|rule| u64::from(rule.priority)).collect::<Vec<_>>()
    };
    for (family, ipv6) in [("-4", false), ("-6", true)] {
        let theirs = json(&format!("ip {family} -j rule"))?;
        same(family, priorities(ipv6), theirs.iter().filter_map(|rule| rule["priority"].as_u64()).collect())?;
    }
    let rule = |priority: u32| {
        netns.rules.iter().find(|rule| rule.priority == priority).ok_or(Failed::from("a rule is missing"))
    };
    let first = rule(500)?;
    same("from", first.src.map(|net| net.to_string()), Some("10.9.0.0/16".to_owned()))?;
    same("to", first.dst.map(|net| net.to_string()), Some("10.8.0.0/16".to_owned()))?;
    same("iif", (first.iif.as_deref(), first.fwmark), (Some("br0"), Some((0x10, 0xff))))?;
    same("action", first.action, RuleAction::Table(100))?;
    same("not", (rule(501)?.invert, rule(501)?.tos, first.invert), (true, 0x10, false))?;
    let third = rule(502)?;
    same("ports", (third.ip_protocol, third.sport, third.dport), (Some(1), Some((5, 6)), Some((7, 7))))?;
    same("uid", (third.uid_range, third.suppress_prefix_length), (Some((8, 9)), Some(0)))?;
    same("oif", (third.oif.as_deref(), third.action), (Some("lo"), RuleAction::Table(254)))?;
    same("blackhole", rule(503)?.action, RuleAction::Blackhole)?;
    same(
        "prohibit",
        (rule(504)?.action, rule(504)?.dst.map(|net| net.prefix_len())),
        (RuleAction::Prohibit, Some(32)),
    )?;
    same("goto", rule(505)?.action, RuleAction::Goto(32766))?;
    same("unreachable", (rule(506)?.action, rule(506)?.ipv6), (RuleAction::Unreachable, true))
}

fn neighbours() -> Result<(), Failed> {
    sh(RICH)?;
    sh("ip neigh add 10.9.0.9 lladdr 02:00:00:00:00:09 dev br0 nud permanent
        ip neigh add 10.9.0.10 lladdr 02:00:00:00:00:0a dev br0 nud stale
        ip neigh add fd09::9 lladdr 02:00:00:00:00:0b dev br0 nud reachable router
        ip neigh add proxy 10.9.0.77 dev br0
        ip -6 neigh add proxy fd09::77 dev q1")?;
    let (netns, theirs) = still("ip -j neigh show nud all")?;
    let states = |state: u16| match state {
        0x01 => "INCOMPLETE",
        0x02 => "REACHABLE",
        0x04 => "STALE",
        0x08 => "DELAY",
        0x10 => "PROBE",
        0x20 => "FAILED",
        0x40 => "NOARP",
        0x80 => "PERMANENT",
        _ => "",
    };
    let ours: BTreeSet<_> = netns
        .neighbours
        .iter()
        .filter(|entry| !entry.is_proxy())
        .map(|entry| {
            let mac = entry.lladdr.map(|mac| mac.to_string()).unwrap_or_default();
            (entry.address.to_string(), name_of(&netns, Some(entry.ifindex)), mac, states(entry.state).to_owned())
        })
        .collect();
    let theirs: BTreeSet<_> = theirs
        .iter()
        .map(|entry| (text(&entry["dst"]), text(&entry["dev"]), text(&entry["lladdr"]), text(&entry["state"][0])))
        .collect();
    same("entries", ours, theirs)?;
    let proxies: Vec<_> =
        netns.neighbours.iter().filter(|entry| entry.is_proxy()).map(|entry| entry.address.to_string()).collect();
    same("proxies", proxies, vec!["10.9.0.77".to_owned(), "fd09::77".to_owned()])
}

fn vrf() -> Result<(), Failed> {
    sh(RICH)?;
    sh("ip link add blue type vrf table 10; ip link set blue up; ip link set q1 master blue")?;
    let netns = own()?;
    same("kind", netns.link_by_name("blue").map(|link| link.kind.clone()), Some(LinkKind::Vrf { table: 10 }))?;
    same("rule", netns.rules.iter().any(|rule| rule.l3mdev && rule.priority == 1000), true)?;
    same(
        "master",
        netns.link_by_name("q1").and_then(|link| link.master),
        netns.link_by_name("blue").map(|link| link.index),
    )
}
