//! Where captures listen, and what they let through.
//!
//! A packet is followed only where it is captured. Where it stays what it is on its way, the expression itself is the
//! kernel's filter. Where it may become another (NAT, a tunnel, a switch that we do not see into), or where the expression asks for
//! something that is different from hop to hop, everything is captured and matched here, so that a packet that matched once
//! is not lost sight of. Address resolution and errors are captured in any case: they tell why other packets are lost.

use std::collections::BTreeSet;

use crate::collect::pcap::Target;
use crate::collect::snapshot::Taken;
use crate::model::id::Device;
use crate::model::netfilter::statement::Statement;
use crate::model::snapshot::{LinkKind, Snapshot};

/// Devices that are listened on at the most.
pub const MOST_CAPTURED: usize = 512;

/// What helps to understand losses: ARP, and ICMP and ICMPv6 but echoes.
const HELPERS: &str =
    "arp or (icmp and icmp[0] != 8 and icmp[0] != 0) or (icmp6 and ip6[40] != 128 and ip6[40] != 129)";

/// The filter for captures: an empty one lets everything through.
pub fn filter(expression: Option<&str>, snapshot: &Snapshot) -> String {
    let Some(expression) = expression.map(str::trim).filter(|expression| !expression.is_empty()) else {
        return String::new();
    };
    if !is_constant(expression) || rewrites(snapshot) {
        return String::new();
    }
    let plain = format!("{HELPERS} or ({expression})");
    // `vlan` moves all offsets behind it, so the tagged alternatives come last.
    format!("({plain}) or (vlan and (({plain}) or (vlan and ({plain}))))")
}

/// Words of the language that ask for what stays the same on a packet's way.
const CONSTANT: &[&str] = &[
    "host",
    "src",
    "dst",
    "port",
    "portrange",
    "net",
    "mask",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "sctp",
    "arp",
    "ip",
    "ip6",
    "proto",
    "and",
    "or",
    "not",
];

/// Whether an expression asks only for what no device changes, NAT and tunnels apart.
fn is_constant(expression: &str) -> bool {
    let mut value = false;
    let word = |c: char| !(c.is_ascii_alphanumeric() || ".:/-_".contains(c));
    expression.split(word).filter(|word| !word.is_empty()).all(|word| {
        let expected =
            std::mem::replace(&mut value, matches!(word, "host" | "net" | "port" | "portrange" | "mask" | "proto"));
        expected || CONSTANT.contains(&word) || word.contains(['.', ':']) || word.parse::<u32>().is_ok()
    }) && !expression.contains(['[', '<', '>', '='])
}

/// Whether packets may get other addresses on their way.
fn rewrites(snapshot: &Snapshot) -> bool {
    let nat = |statement: &Statement| {
        matches!(statement, Statement::Nat(_) | Statement::Mangle { .. } | Statement::Unknown { .. })
    };
    let ruled =
        snapshot.namespaces.iter().flat_map(|netns| &netns.netfilter.tables).any(|table| {
            table.chains.iter().flat_map(|chain| &chain.rules).any(|rule| rule.statements.iter().any(nat))
        });
    let wrapped = |kind: &LinkKind| {
        matches!(kind, LinkKind::Vxlan(_) | LinkKind::Geneve { .. } | LinkKind::Tunnel { .. } | LinkKind::Wireguard)
    };
    ruled
        || !snapshot.ovs.is_empty()
        || snapshot.devices().any(|(_, link)| wrapped(&link.kind))
        || snapshot.namespaces.iter().any(|netns| !netns.filters.is_empty() || !netns.xfrm_policies.is_empty())
}

/// The devices to listen on: those that are asked for, then all others that are up; and how many there is no room for.
pub fn targets(taken: &Taken, first: &[Device]) -> (Vec<Target>, usize) {
    let snapshot = &taken.snapshot;
    let mut wanted: Vec<Device> = Vec::new();
    let mut known = BTreeSet::new();
    for device in first.iter().copied().chain(snapshot.devices().map(|(device, _)| device)) {
        if snapshot.link(device).is_some_and(crate::model::snapshot::Link::is_up) && known.insert(device) {
            wanted.push(device);
        }
    }
    let left_out = wanted.len().saturating_sub(MOST_CAPTURED);
    wanted.truncate(MOST_CAPTURED);
    let target = |device: Device| {
        let link = snapshot.link(device)?;
        Some(Target {
            device,
            name: link.name.clone(),
            netns: taken.handle(device.netns)?.clone(),
            netns_name: snapshot.netns_name(device.netns).to_owned(),
            loopback: link.is_loopback(),
            up: link.is_up(),
        })
    };
    (wanted.into_iter().filter_map(target).collect(), left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Expression;

    #[test]
    fn what_changes_on_the_way_is_not_left_to_the_kernel() {
        for constant in [
            "udp port 53",
            "host 10.0.0.1 and not port 22",
            "tcp and (src net 10.0.0.0/8 or dst host fd00::1)",
            "ip proto 47",
            "icmp or icmp6",
            "portrange 1000-2000",
            "host router",
        ] {
            assert!(is_constant(constant), "{constant}");
            let filter = filter(Some(constant), &Snapshot::default());
            if constant != "host router" {
                assert!(Expression::compile(&filter).is_ok(), "{filter}");
            }
        }
        for changing in
            ["vlan 5", "ip[8] < 5", "ether host 2:0:0:0:0:1", "greater 100", "vxlan", "tcp[13] & 2 != 0", "len > 4"]
        {
            assert!(!is_constant(changing), "{changing}");
            assert_eq!(filter(Some(changing), &Snapshot::default()), "");
        }
    }
}
