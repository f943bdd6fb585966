//! `port-closed`: no socket listens on the destination port.

use std::net::IpAddr;

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Evidence, Finding, Risk, Source};
use crate::model::exchange::{Decision, Fault};
use crate::model::id::{Device, IfIndex};
use crate::model::question::Protocol;
use crate::model::snapshot::{Netns, Socket};

/// Ports of other sockets that are named.
const MOST_NAMED: usize = 8;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::PortClosed { port, elsewhere } = fault.loss.decision.as_ref()? else { return None };
    let netns = fault.loss.place.netns;
    if fault.loss.place.function.as_deref() == Some("net_dev_start_xmit") {
        return Some(beyond(case, fault, *port));
    }
    let space = case.netns(netns);
    let there: Vec<&Socket> = space.sockets.iter().filter(|socket| socket.port == *port).collect();
    let bound = there.iter().find_map(|socket| socket.device).map(|ifindex| case.name(device_of(space, ifindex)));
    let but = match (elsewhere, &bound) {
        (Some(address), _) => format!("; a socket listens there, but on {address} only"),
        (None, Some(device)) => format!("; a socket listens there, but it is bound to {device}"),
        (None, None) if !there.is_empty() && there.iter().all(|socket| socket.local.is_ipv6()) => {
            "; the socket there takes IPv6 only".to_owned()
        }
        (None, None) if !there.is_empty() => "; a socket was there when the question was asked".to_owned(),
        (None, None) => String::new(),
    };
    let protocol = protocol_name(case);
    let summary = format!("nothing listens on {protocol} port {port} in {}{but}", case.netns_name(netns));
    let mut finding = case.finding(fault, "port-closed", summary);
    let listening: Vec<String> = there.iter().map(|socket| words(case, space, socket)).collect();
    let listening = if listening.is_empty() { "none".to_owned() } else { listening.join(", ") };
    finding.evidence.push(case.state(netns, &format!("sockets on {protocol} port {port}"), &listening));
    let others = others(space, *port);
    if there.is_empty() && !others.is_empty() {
        finding.evidence.push(case.state(netns, &format!("other {protocol} ports that are open"), &others.join(", ")));
    }
    let title = match elsewhere {
        Some(address) if address.is_loopback() => {
            format!(
                "let the service listen on 0.0.0.0 (or ::) instead of {address}: it is told so in its own configuration"
            )
        }
        Some(address) => format!("let the service listen on the address that is asked for, or ask for {address}"),
        None if bound.is_some() => "unbind the service from that device".to_owned(),
        None => format!("start the service that should listen on port {port}, or ask for the port it listens on"),
    };
    finding.fixes.push(fix(&title, Risk::NeedsChoice, Vec::new(), Vec::new(), ""));
    Some(finding)
}

fn device_of(space: &Netns, ifindex: IfIndex) -> Device {
    Device::new(space.id, ifindex)
}

/// It was refused by somebody outside of what can be seen.
fn beyond(case: &Case<'_>, fault: &Fault, port: u16) -> Finding {
    let question = &case.recording.question;
    let said = case.recording.ping.errors.iter().position(|error| error.is_refusal() || error.icmp.is_some());
    let summary = format!(
        "{} refuses {} port {port}: the refusal came back from beyond our sight, by {}",
        question.dst,
        protocol_name(case),
        case.at(&fault.loss.place)
    );
    let mut finding = case.finding(fault, "port-closed", summary);
    if let Some(index) = said {
        let text = format!("the asker was told: {}", case.recording.ping.errors[index].text);
        finding.evidence.push(Evidence { source: Source::PingError(index), text });
    }
    let title = format!("see on {} whether a service listens on port {port}, or a rule rejects it", question.dst);
    finding.fixes.push(fix(&title, Risk::NeedsChoice, Vec::new(), Vec::new(), ""));
    finding
}

fn protocol_name(case: &Case<'_>) -> &'static str {
    match case.recording.question.protocol {
        Protocol::Udp { .. } => "UDP",
        _ => "TCP",
    }
}

/// `127.0.0.1:80`, with the device it is bound to.
fn words(case: &Case<'_>, space: &Netns, socket: &Socket) -> String {
    let address = match socket.local {
        IpAddr::V4(address) => format!("{address}:{}", socket.port),
        IpAddr::V6(address) => format!("[{address}]:{}", socket.port),
    };
    match socket.device {
        Some(ifindex) => format!("{address} on {}", case.name(device_of(space, ifindex))),
        None => address,
    }
}

/// The ports that other sockets of the protocol listen on.
fn others(space: &Netns, port: u16) -> Vec<String> {
    let mut ports: Vec<u16> = space
        .sockets
        .iter()
        .filter(|socket| Some(socket.protocol) == space.sockets_of && socket.port != port)
        .map(|socket| socket.port)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports.iter().take(MOST_NAMED).map(u16::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::exchange::Role;

    #[test]
    fn fires_when_nothing_listens() {
        let found = World::cable().connect(80).listen("b", "0.0.0.0", 8080).found(check);
        assert_eq!((found.at.as_str(), found.role), ("b/veth2", Role::Request));
        assert!(found.finding.summary.contains("TCP port 80 in b"), "{}", found.finding.summary);
        assert!(found.finding.evidence.iter().any(|evidence| evidence.text.contains("8080")));
    }

    #[test]
    fn fires_when_the_socket_listens_on_another_address() {
        let found = World::cable().connect(80).listen("b", "127.0.0.1", 80).found(check);
        assert!(found.finding.summary.contains("on 127.0.0.1 only"), "{}", found.finding.summary);
    }

    #[test]
    fn silent_when_a_socket_listens() {
        assert!(World::cable().connect(80).listen("b", "0.0.0.0", 80).is_silent(check));
        assert!(World::cable().connect(80).listen("b", "10.0.0.2", 80).is_silent(check));
    }

    #[test]
    fn silent_when_nobody_looked_who_listens() {
        assert!(World::cable().connect(80).is_silent(check));
    }

    #[test]
    fn silent_when_the_question_is_a_ping() {
        assert!(World::cable().is_silent(check));
    }
}
