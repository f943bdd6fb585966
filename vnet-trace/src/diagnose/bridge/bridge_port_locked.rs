//! `bridge-port-locked`: the port is locked, and the sender's address has no entry on it.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::BridgeLocked { port, source, vlan } = fault.loss.decision.as_ref()? else { return None };
    let name = case.name(*port);
    let tag = vlan.map_or_else(String::new, |vlan| format!(" vlan {vlan}"));
    let summary = format!(
        "bridge port {name} is locked and has no entry for {source}, so {} does not get in by it",
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "bridge-port-locked", summary);
    finding.evidence.push(case.state(port.netns, &format!("bridge link {name} locked"), "on"));
    finding.evidence.push(case.state(port.netns, &format!("fdb {source}{tag} dev {name}"), "none"));
    finding.fixes.push(fix(
        &format!("let {source} in by {name}"),
        Risk::ChangesPolicy,
        vec![case.cmd(port.netns, &format!("bridge fdb add {source} dev {name}{tag} master static"))],
        vec![case.cmd(port.netns, &format!("bridge fdb del {source} dev {name}{tag} master"))],
        "usually hostapd adds the entry when the station has authenticated: find out why it did not",
    ));
    finding.fixes.push(fix(
        &format!("unlock {name}"),
        Risk::ChangesPolicy,
        vec![case.cmd(port.netns, &format!("bridge link set dev {name} locked off"))],
        vec![case.cmd(port.netns, &format!("bridge link set dev {name} locked on"))],
        "the lock is set on purpose: change it where the port is configured",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_sender_has_no_entry() {
        let world = World::switch();
        let mac = world.mac("a/eth0");
        let found = world.port("./p1", |port| port.locked = true).found(check);
        assert_eq!(found.commands, [format!("bridge fdb add {mac} dev p1 master static")]);
    }

    #[test]
    fn fires_when_the_entry_is_on_another_port() {
        let world = World::switch();
        let mac = world.mac("a/eth0");
        let world = world.sticky_fdb("./p3", mac).port("./p1", |port| port.locked = true);
        assert!(!world.is_silent(check));
    }

    #[test]
    fn silent_when_the_entry_is_there() {
        let world = World::switch();
        let mac = world.mac("a/eth0");
        assert!(world.sticky_fdb("./p1", mac).port("./p1", |port| port.locked = true).is_silent(check));
    }

    #[test]
    fn silent_when_the_port_behind_which_nobody_asks_is_locked() {
        assert!(World::switch().port("./p3", |port| port.locked = true).is_silent(check));
    }
}
