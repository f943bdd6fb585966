//! `bridge-no-flood`: flooding of unknown unicast, multicast or broadcast is off on the port that it needed.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault, FloodKind};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::BridgeNoFlood { port, kind } = fault.loss.decision.as_ref()? else { return None };
    let name = case.name(*port);
    let (flag, word) = match kind {
        FloodKind::Broadcast => ("bcast_flood", "broadcasts"),
        FloodKind::Multicast => ("mcast_flood", "multicasts"),
        FloodKind::UnknownUnicast => ("flood", "unicasts to addresses that the bridge does not know"),
    };
    let summary = format!(
        "bridge port {} does not send {word} out ({flag} off), and {} is one",
        case.place_name(*port),
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "bridge-no-flood", summary);
    finding.evidence.push(case.state(port.netns, &format!("bridge link {name} {flag}"), "off"));
    finding.fixes.push(fix(
        &format!("let {name} flood {word}"),
        Risk::ChangesPolicy,
        vec![case.cmd(port.netns, &format!("bridge link set dev {name} {flag} on"))],
        vec![case.cmd(port.netns, &format!("bridge link set dev {name} {flag} off"))],
        "set the flag where the port is configured",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_owners_port_floods_no_broadcast() {
        let found = World::switch().port("./p2", |port| port.bcast_flood = false).found(check);
        assert_eq!(found.at, "./p2");
        assert_eq!(found.commands, ["bridge link set dev p2 bcast_flood on"]);
    }

    #[test]
    fn fires_when_an_unknown_unicast_is_needed() {
        let world = World::switch();
        let mac = world.mac("b/eth0");
        let found = world.neighbour("a/eth0", "10.0.0.2", mac).port("./p2", |port| port.flood = false).found(check);
        assert_eq!(found.commands, ["bridge link set dev p2 flood on"]);
    }

    #[test]
    fn silent_when_the_bridge_learns_the_address_in_time() {
        assert!(World::switch().port("./p2", |port| port.flood = false).is_silent(check));
    }

    #[test]
    fn silent_when_the_askers_port_floods_nothing() {
        assert!(World::switch().port("./p1", |port| port.bcast_flood = false).is_silent(check));
    }
}
