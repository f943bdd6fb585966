//! `bridge-port-blocking`: the bridge port is not in the forwarding state.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::id::Device;
use crate::model::snapshot::{BridgeInfo, LinkKind};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::BridgeState { port, state, ingress } = fault.loss.decision.as_ref()? else { return None };
    let name = case.place_name(*port);
    let word = match state {
        0 => "disabled",
        1 => "listening",
        2 => "learning",
        4 => "blocking",
        _ => "not forwarding",
    };
    let bridge = case.link(*port)?.master.map(|index| Device::new(port.netns, index))?;
    let info = info(case, bridge);
    let way = if *ingress { "comes in by it" } else { "would leave by it" };
    let why = if info.stp_state != 0 { ", as STP on the bridge has it" } else { "" };
    let summary =
        format!("bridge port {name} is {word}{why}: {}, which {way}, is not forwarded", case.packet_name(fault.role));
    let mut finding = case.finding(fault, "bridge-port-blocking", summary);
    finding.evidence.push(case.state(port.netns, &format!("bridge link {} state", case.name(*port)), word));
    finding.evidence.push(case.state(
        port.netns,
        &format!("stp_state of {}", case.name(bridge)),
        &info.stp_state.to_string(),
    ));
    let (dev, master) = (case.name(*port), case.name(bridge));
    if info.stp_state == 0 {
        finding.fixes.push(fix(
            &format!("set {dev} to forwarding"),
            Risk::Safe,
            vec![case.cmd(port.netns, &format!("bridge link set dev {dev} state 3"))],
            vec![case.cmd(port.netns, &format!("bridge link set dev {dev} state {state}"))],
            "a port is forwarding by itself when it is added: find out who changed it",
        ));
    } else {
        let mut commands = vec![case.ip(bridge.netns, &format!("link set {master} type bridge stp_state 0"))];
        for link in case.netns(bridge.netns).ports(bridge.ifindex) {
            if link.bridge_port.as_ref().is_some_and(|port| port.state != 3) {
                commands.push(case.ip(bridge.netns, &format!("link set {} down", link.name)));
                commands.push(case.ip(bridge.netns, &format!("link set {} up", link.name)));
            }
        }
        finding.fixes.push(fix(
            &format!("switch STP off on {master}, which has no second way to any of its ports here"),
            Risk::ChangesPolicy,
            commands,
            vec![case.ip(bridge.netns, &format!("link set {master} type bridge stp_state {}", info.stp_state))],
            "set stp in the bridge's own configuration; or wait: after twice the forward delay the port forwards by itself",
        ));
        finding.fixes.push(fix(
            &format!("or wait {} s until the port forwards by itself", u64::from(info.forward_delay) * 2 / 100),
            Risk::NeedsChoice,
            Vec::new(),
            Vec::new(),
            "",
        ));
    }
    Some(finding)
}

fn info(case: &Case<'_>, bridge: Device) -> BridgeInfo {
    match case.link(bridge).map(|link| &link.kind) {
        Some(LinkKind::Bridge(info)) => info.clone(),
        _ => BridgeInfo::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::{BridgeInfo, LinkKind, check};
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_port_was_disabled() {
        let found = World::switch().port("./p2", |port| port.state = 0).found(check);
        assert_eq!(found.at, "./p2");
        assert_eq!(found.commands, ["bridge link set dev p2 state 3"]);
    }

    #[test]
    fn fires_when_stp_still_listens() {
        let found = World::switch()
            .change("./br0", |link| {
                link.kind = LinkKind::Bridge(BridgeInfo { stp_state: 1, ..BridgeInfo::default() });
            })
            .port("./p1", |port| port.state = 1)
            .found(check);
        assert_eq!(found.at, "./p1");
        assert!(found.finding.summary.contains("listening, as STP"), "{}", found.finding.summary);
    }

    #[test]
    fn silent_when_a_port_beside_the_way_is_disabled() {
        assert!(World::switch().port("./p3", |port| port.state = 0).is_silent(check));
    }
}
