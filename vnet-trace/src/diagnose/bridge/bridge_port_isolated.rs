//! `bridge-port-isolated`: both ports are isolated from each other.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::BridgeIsolated { from, to } = fault.loss.decision.as_ref()? else { return None };
    let (first, second) = (case.name(*from), case.name(*to));
    let summary = format!(
        "bridge ports {first} and {second} are both isolated, so {} does not pass between them",
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "bridge-port-isolated", summary);
    for port in [from, to] {
        finding.evidence.push(case.state(port.netns, &format!("bridge link {} isolated", case.name(*port)), "on"));
    }
    finding.fixes.push(fix(
        &format!("take {second} out of isolation"),
        Risk::ChangesPolicy,
        vec![case.cmd(to.netns, &format!("bridge link set dev {second} isolated off"))],
        vec![case.cmd(to.netns, &format!("bridge link set dev {second} isolated on"))],
        "isolation is set on purpose: change it where the port is configured",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_both_ports_are_isolated() {
        let found = World::switch()
            .port("./p1", |port| port.isolated = true)
            .port("./p2", |port| port.isolated = true)
            .found(check);
        assert_eq!(found.commands, ["bridge link set dev p2 isolated off"]);
    }

    #[test]
    fn silent_when_one_is_isolated() {
        assert!(World::switch().port("./p2", |port| port.isolated = true).is_silent(check));
    }
}
