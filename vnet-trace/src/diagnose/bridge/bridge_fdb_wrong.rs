//! `bridge-fdb-wrong`: a forwarding-database entry sends it to the wrong port.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::BridgeFdb { to, local, mac, vlan, owner, fixed } = fault.loss.decision.as_ref()? else { return None };
    let name = case.name(*to);
    let packet = case.packet_name(fault.role);
    let where_owner =
        owner.map_or_else(String::new, |owner| format!(", while its owner is behind {}", case.name(owner)));
    let summary = if *local {
        format!(
            "the bridge has {mac} as an address of its own (permanent entry on {name}){where_owner}: it keeps {packet}"
        )
    } else {
        format!("the bridge's forwarding entry sends {packet} for {mac} out of {name}{where_owner}")
    };
    let mut finding = case.finding(fault, "bridge-fdb-wrong", summary);
    let tag = vlan.map_or_else(String::new, |vlan| format!(" vlan {vlan}"));
    let kind = if *local {
        "permanent"
    } else if *fixed {
        "static"
    } else {
        "learned"
    };
    finding.evidence.push(case.state(to.netns, &format!("fdb {mac}{tag}"), &format!("dev {name} {kind}")));
    finding.fixes.push(fix(
        "remove that entry; the bridge then learns the right port",
        Risk::Safe,
        vec![case.cmd(to.netns, &format!("bridge fdb del {mac} dev {name}{tag} master"))],
        vec![case.cmd(
            to.netns,
            &format!("bridge fdb replace {mac} dev {name}{tag} master {}", if *local { "local" } else { "static" }),
        )],
        "remove it where it is configured, or it comes back",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_an_entry_names_another_port() {
        let world = World::switch();
        let mac = world.mac("b/eth0");
        let found = world.sticky_fdb("./p3", mac).found(check);
        assert_eq!(found.commands, [format!("bridge fdb del {mac} dev p3 master")]);
    }

    #[test]
    fn silent_when_the_first_answer_moves_the_entry() {
        let world = World::switch();
        let mac = world.mac("b/eth0");
        assert!(world.fdb("./p3", mac).is_silent(check));
    }

    #[test]
    fn silent_when_the_entry_names_the_owners_port() {
        let world = World::switch();
        let mac = world.mac("b/eth0");
        assert!(world.fdb("./p2", mac).is_silent(check));
    }
}
