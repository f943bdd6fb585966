//! What happens to packets, in a few words each: one phrase for a table, one sentence for a learner.

use std::net::{IpAddr, SocketAddr};

use super::names::Names;
use crate::model::diagnosis::{Grade, Risk};
use crate::model::exchange::{Action, Fate, Headers, Journey, Leg, Opaque, Role, Step};
use crate::model::netfilter::{Backend, Family, RuleRef};
use crate::model::provenance::Origin;
use crate::model::question::{Protocol, Question};
use crate::model::recording::Recording;

/// Who the packet is: `echo request 10.0.0.1 → 10.0.0.2`.
///
/// A request whose source is not known (a prediction begins before the kernel has chosen it) has that of the asker.
pub fn packet(recording: &Recording, journey: &Journey) -> String {
    let Headers { src, dst, mac_src, .. } = &journey.headers;
    let asker = recording.ping.source.filter(|_| journey.role == Role::Request && journey.leg == Leg::Forward);
    let src = &src.or(asker);
    let ip = |address: &Option<IpAddr>| address.map_or_else(|| "?".to_owned(), |address| address.to_string());
    let v6 = dst.or(*src).is_some_and(|address| address.is_ipv6());
    match journey.role {
        Role::ArpRequest if v6 => format!("neighbour solicitation: who has {}?", ip(dst)),
        Role::ArpRequest => match src {
            Some(src) => format!("ARP request: who has {}? tell {src}", ip(dst)),
            None => format!("ARP request: who has {}?", ip(dst)),
        },
        Role::ArpReply => {
            let name = if v6 { "neighbour advertisement" } else { "ARP reply" };
            match mac_src {
                Some(mac) => format!("{name}: {} is at {mac}", ip(src)),
                None => format!("{name}: {} answers", ip(src)),
            }
        }
        Role::Request | Role::Reply | Role::Reset => {
            let name = exchanged(recording.question.protocol, journey.role);
            let Headers { id, port, .. } = journey.headers;
            let end = |address: &Option<IpAddr>, port: u16| match address {
                // A port that is not chosen yet is 0.
                Some(address) if port != 0 => SocketAddr::new(*address, port).to_string(),
                address => ip(address),
            };
            match port {
                Some(port) => format!("{name} {} → {}", end(src, id.unwrap_or(0)), end(dst, port)),
                None => format!("{name} {} → {}", ip(src), ip(dst)),
            }
        }
        Role::IcmpError => format!("ICMP error {} → {}", ip(src), ip(dst)),
    }
}

/// What the packets of an exchange are called.
fn exchanged(protocol: Protocol, role: Role) -> &'static str {
    match (protocol, role) {
        (_, Role::Reset) => "RST",
        (Protocol::Echo, Role::Request) => "echo request",
        (Protocol::Echo, _) => "echo reply",
        (Protocol::Tcp { .. }, Role::Request) => "TCP SYN",
        (Protocol::Tcp { .. }, _) => "TCP SYN-ACK",
        (Protocol::Udp { .. }, Role::Request) => "UDP datagram",
        (Protocol::Udp { .. }, _) => "UDP answer",
    }
}

/// The name of a role within a sentence: `the ARP request`.
pub fn role(recording: &Recording, role: Role) -> String {
    let Question { dst, protocol, .. } = &recording.question;
    let name = match (role, dst.is_ipv6()) {
        (Role::ArpRequest, false) => "ARP request",
        (Role::ArpRequest, true) => "neighbour solicitation",
        (Role::ArpReply, false) => "ARP reply",
        (Role::ArpReply, true) => "neighbour advertisement",
        (Role::IcmpError, _) => "ICMP error",
        (Role::Request | Role::Reply | Role::Reset, _) => exchanged(*protocol, role),
    };
    format!("the {name}")
}

/// A grade with what it means.
pub fn grade(grade: Grade) -> &'static str {
    match grade {
        Grade::Witnessed => "witnessed: the kernel reported it there",
        Grade::Deduced => "deduced: what was seen and the configuration leave no other explanation",
        Grade::Suspected => "suspected: it fits, and so might something else",
    }
}

/// A risk with what it means.
pub fn risk(risk: Risk) -> &'static str {
    match risk {
        Risk::Safe => "safe: changes nothing but what is broken",
        Risk::ChangesPolicy => "changes policy: allows what somebody may have forbidden on purpose",
        Risk::NeedsChoice => "needs your choice: read it before you run it",
    }
}

/// Where a setting comes from and whether it will come back.
pub fn origin(origin: &Origin) -> String {
    let file = origin.at.as_ref().map_or_else(String::new, |at| match at.line {
        0 => format!(" ({})", at.file),
        line => format!(" ({} line {line})", at.file),
    });
    let by = match &origin.set_by {
        Some(by) => format!("set by {by}{file}"),
        None => format!("who set it is unknown{file}"),
    };
    let back = match &origin.returns {
        Some(returns) => format!("; what will set it again: {returns}"),
        None => String::new(),
    };
    format!("{}: {by}{back}", origin.setting)
}

/// A rule as people find it again: `nft inet filter forward handle 7: ip daddr 10.0.0.2 drop`.
pub fn rule(rule: &RuleRef) -> String {
    let mut text = match rule.backend {
        Backend::Nft => format!("nft {} {} {}", rule.family.word(), rule.table, rule.chain),
        _ => format!("{} -t {} {}", program(rule.backend, rule.family), rule.table, rule.chain),
    };
    match (rule.policy, rule.backend, rule.handle, rule.position) {
        (true, ..) => text.push_str(" policy"),
        (_, Backend::Nft, Some(handle), _) => text.push_str(&format!(" handle {handle}")),
        (_, _, _, Some(position)) => text.push_str(&format!(" rule {position}")),
        _ => {}
    }
    if !rule.text.is_empty() {
        text.push_str(&format!(": {}", rule.text));
    }
    text
}

/// The program that lists the rules of this back end.
fn program(backend: Backend, family: Family) -> &'static str {
    match (backend, family) {
        (Backend::Nft, _) => "nft",
        (Backend::IptablesNft, Family::Ip6) => "ip6tables",
        (Backend::IptablesNft, _) => "iptables",
        (Backend::IptablesLegacy, Family::Ip6) => "ip6tables-legacy",
        (Backend::IptablesLegacy, _) => "iptables-legacy",
        (Backend::EbtablesNft, _) => "ebtables",
        (Backend::EbtablesLegacy, _) => "ebtables-legacy",
        (Backend::ArptablesNft, _) => "arptables",
        (Backend::ArptablesLegacy, _) => "arptables-legacy",
    }
}

/// A routing table by its usual name.
pub fn table(table: u32) -> String {
    match table {
        0 => "unknown table".to_owned(),
        255 => "table local".to_owned(),
        254 => "table main".to_owned(),
        253 => "table default".to_owned(),
        other => format!("table {other}"),
    }
}

/// A step as a short phrase. None for steps that the table shows by its columns (received, transmitted, queued).
pub fn phrase(names: Names<'_>, recording: &Recording, step: &Step) -> Option<String> {
    let device = |index| names.device(step.netns, index);
    Some(match &step.action {
        Action::Queued
        | Action::Transmitted
        | Action::Received
        | Action::SourceChecked
        | Action::NeighbourKnown { lladdr: None, .. } => return None,
        Action::Sent => "sent by the socket".to_owned(),
        Action::Routed { local: true, .. } => "routed: local".to_owned(),
        Action::Routed { table: number, oif, gateway, .. } => {
            let mut text = "routed".to_owned();
            match gateway {
                Some(gateway) => text.push_str(&format!(" via {gateway}")),
                None => text.push_str(" on-link"),
            }
            if let Some(oif) = oif {
                text.push_str(&format!(" dev {}", device(*oif)));
            }
            if !matches!(number, 0 | 254) {
                text.push_str(&format!(" ({})", table(*number)));
            }
            text
        }
        Action::Hook { rules, .. } if rules.is_empty() => return None,
        Action::Hook { hook, rules } => {
            let rules: Vec<String> = rules.iter().map(rule).collect();
            format!("{} passed by {}", hook.word(), rules.join(", "))
        }
        Action::Rewritten { from, to, ports, rule: by } => {
            let (before, after) = ports.unwrap_or_default();
            let sides =
                [("source", (from.0, before.0), (to.0, after.0)), ("destination", (from.1, before.1), (to.1, after.1))];
            let changed = sides.into_iter().filter(|(_, from, to)| from != to);
            let parts: Vec<String> = changed
                .map(|(side, from, to)| match (from.1, to.1) {
                    // A port that nobody knew or that stayed as it was says nothing.
                    (before, after) if before == after => format!("{side} {} → {}", from.0, to.0),
                    (before, after) => {
                        let (from, to) = (SocketAddr::new(from.0, before), SocketAddr::new(to.0, after));
                        format!("{side} {from} → {to}")
                    }
                })
                .collect();
            let mut text = format!("NAT: {}", parts.join(", "));
            if let Some(by) = by {
                text.push_str(&format!(" by {}", rule(by)));
            }
            text
        }
        Action::NeighbourKnown { address, lladdr: Some(mac) } => format!("{address} is at {mac}"),
        Action::NeighbourAsked { address } if address.is_ipv6() => format!("asks who has {address}"),
        Action::NeighbourAsked { address } => format!("asks by ARP who has {address}"),
        Action::BridgeForwarded { bridge, flooded } => {
            let verb = if *flooded { "floods" } else { "forwards" };
            match step.device {
                Some(port) => format!("{} {verb} it to {}", device(*bridge), device(port)),
                None => format!("{} {verb} it", device(*bridge)),
            }
        }
        Action::BridgeLocal { bridge } => format!("{} takes it for itself", device(*bridge)),
        Action::Encapsulated { src, dst, vni } => match src {
            Some(src) => format!("into VXLAN {vni}: outer packet {src} → {dst}"),
            None => format!("into VXLAN {vni}: outer packet to {dst}"),
        },
        Action::Decapsulated => match step.device {
            Some(tunnel) => format!("out of the tunnel at {}", device(tunnel)),
            None => "out of the tunnel".to_owned(),
        },
        Action::Forwarded => "forwarded".to_owned(),
        Action::Delivered => "delivered".to_owned(),
        Action::Opaque(opaque) => self::opaque(recording, step, opaque),
        Action::Seen { site, note } if note.is_empty() => format!("in {site}"),
        Action::Seen { site, note } => format!("{site}: {note}"),
        Action::Dropped { reason, location } => match (reason, location) {
            (Some(reason), Some(location)) => format!("dropped: {reason} in {location}"),
            (Some(reason), None) => format!("dropped: {reason}"),
            (None, Some(location)) => format!("dropped in {location}"),
            (None, None) => "dropped".to_owned(),
        },
        // It frees what an upcall has taken, and nothing else (net/openvswitch/datapath.c).
        Action::Consumed { location: Some(location) } if location == "ovs_dp_process_packet" => {
            "up to ovs-vswitchd for want of a flow".to_owned()
        }
        Action::Consumed { location: Some(location) } => format!("used up in {location}"),
        Action::Consumed { location: None } => "used up".to_owned(),
    })
}

/// Whether a step is for those who want to see everything: look-ups and sightings that decide nothing by themselves.
pub fn is_detail(step: &Step) -> bool {
    match &step.action {
        Action::Seen { site, note } => note.is_empty() || site == "fib_table_lookup",
        _ => false,
    }
}

/// Something that judges packets in its own way, as its owner knows it.
fn opaque(recording: &Recording, step: &Step, opaque: &Opaque) -> String {
    let netns = recording.before.netns(step.netns);
    let named = |id: u32, name: &Option<String>| match name {
        Some(name) => format!("{id} ({name})"),
        None => id.to_string(),
    };
    match opaque {
        Opaque::Xdp { id, name } => format!("judged by XDP program {}", named(*id, name)),
        Opaque::Tc { filter, ingress } => {
            let side = if *ingress { "ingress" } else { "egress" };
            match netns.and_then(|netns| netns.filters.get(*filter)) {
                Some(filter) => format!("judged by the tc {side} filter {} pref {}", filter.kind, filter.priority),
                None => format!("judged by a tc {side} filter"),
            }
        }
        Opaque::Cgroup { program } => match recording.before.cgroup_programs.get(*program) {
            Some(program) => format!("judged by cgroup program {}", named(program.id, &program.name)),
            None => "judged by a cgroup program".to_owned(),
        },
        Opaque::Qdisc { qdisc } => match netns.and_then(|netns| netns.qdiscs.get(*qdisc)) {
            Some(qdisc) => format!("passes the qdisc {}", qdisc.kind),
            None => "passes a qdisc".to_owned(),
        },
        Opaque::Rule { hook, rules } => {
            let rules: Vec<String> = rules.iter().map(rule).collect();
            format!("{}: not understood: {}", hook.word(), rules.join(", "))
        }
        Opaque::Switch { bridge } => format!("inside the switch {bridge}"),
        Opaque::Outside => "beyond our sight".to_owned(),
    }
}

/// How a packet ended, as the last phrase of its row.
pub fn fate(fate: &Fate) -> &'static str {
    match fate {
        Fate::Delivered { .. } => "delivered",
        Fate::Lost(_) => "lost here",
        Fate::OutOfSight { .. } => "leaves our sight",
        Fate::Cut { .. } => "last seen here",
    }
}
