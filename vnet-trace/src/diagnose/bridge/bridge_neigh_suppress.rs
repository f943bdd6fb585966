//! `bridge-neigh-suppress`: the bridge answers address resolution in the owner's stead from a stale entry of its own.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::id::Device;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::BridgeSuppressed { port, lladdr, address } = fault.loss.decision.as_ref()? else { return None };
    let bridge = case.link(*port)?.master.map(|index| Device::new(port.netns, index))?;
    let (dev, master) = (case.name(*port), case.name(bridge));
    let summary = format!(
        "bridge {master} answers for {address} with {lladdr} from its own neighbour table (neigh_suppress on {dev}), and nobody there has that address"
    );
    let mut finding = case.finding(fault, "bridge-neigh-suppress", summary);
    finding.evidence.push(case.state(port.netns, &format!("bridge link {dev} neigh_suppress"), "on"));
    finding.evidence.push(case.state(
        port.netns,
        &format!("neigh {address} dev {master}"),
        &format!("lladdr {lladdr}"),
    ));
    let mut commands = vec![case.ip(bridge.netns, &format!("neigh del {address} dev {master}"))];
    let asker = case.recording.question.netns;
    let from = case.forward_path().into_iter().find(|device| device.netns == asker);
    if let Some(from) = from {
        commands.push(case.ip(asker, &format!("neigh flush to {address} dev {}", case.name(from))));
    }
    finding.fixes.push(fix(
        "remove the bridge's stale entry, so that the owner is asked",
        Risk::Safe,
        commands,
        vec![case.ip(bridge.netns, &format!("neigh replace {address} lladdr {lladdr} dev {master} nud permanent"))],
        "entries like this come from an EVPN or CNI controller: it must withdraw them when an owner moves",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::{STRANGER, World};
    use crate::model::id::MacAddr;

    /// A switch that answers for b with this address from its own neighbour table.
    fn world(lladdr: MacAddr) -> World {
        World::switch()
            .port("./p2", |port| port.neigh_suppress = true)
            .neighbour("./br0", "10.0.0.2", lladdr)
            .fdb("./p2", lladdr)
    }

    #[test]
    fn fires_when_the_bridges_entry_is_stale() {
        assert_eq!(world(STRANGER).found(check).commands[0], "ip neigh del 10.0.0.2 dev br0");
    }

    #[test]
    fn silent_when_the_bridges_entry_is_right() {
        assert!(world(World::switch().mac("b/eth0")).is_silent(check));
    }

    #[test]
    fn silent_when_the_port_does_not_suppress() {
        assert!(world(STRANGER).port("./p2", |port| port.neigh_suppress = false).is_silent(check));
    }
}
