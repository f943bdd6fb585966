//! `bridge-hairpin-off`: it would have to leave by the port that it came in by, and that port has hairpin off.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::BridgeHairpin { port } = fault.loss.decision.as_ref()? else { return None };
    let name = case.name(*port);
    let summary = format!(
        "{} would have to leave bridge port {} again, by which it came in, and hairpin is off there",
        case.packet_name(fault.role),
        case.place_name(*port)
    );
    let mut finding = case.finding(fault, "bridge-hairpin-off", summary);
    finding.evidence.push(case.state(port.netns, &format!("bridge link {name} hairpin"), "off"));
    finding.fixes.push(fix(
        &format!("switch hairpin on at {name}"),
        Risk::Safe,
        vec![case.cmd(port.netns, &format!("bridge link set dev {name} hairpin on"))],
        vec![case.cmd(port.netns, &format!("bridge link set dev {name} hairpin off"))],
        "the CNI bridge plugin has hairpinMode, kubelet --hairpin-mode, Docker userland-proxy=false",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::{Decision, check};
    use crate::diagnose::bench::World;
    use crate::model::exchange::{FloodKind, Role};

    #[test]
    fn fires_when_it_would_leave_by_the_port_it_came_in_by() {
        let world = World::switch();
        let port = world.device("./p1");
        let found = world.fault(Role::Request, "./p1", Decision::BridgeHairpin { port }).found(check);
        assert_eq!(found.at, "./p1");
        assert_eq!(found.commands, ["bridge link set dev p1 hairpin on"]);
    }

    #[test]
    fn silent_when_the_port_floods_nothing() {
        let world = World::switch();
        let decision = Decision::BridgeNoFlood { port: world.device("./p1"), kind: FloodKind::UnknownUnicast };
        assert!(world.fault(Role::Request, "./p1", decision).is_silent(check));
    }

    #[test]
    fn silent_when_two_ports_talk() {
        assert!(World::switch().is_silent(check));
    }
}
