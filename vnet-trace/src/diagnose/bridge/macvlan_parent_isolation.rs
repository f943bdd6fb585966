//! `macvlan-parent-isolation`: macvlan or ipvlan: the lower device's own namespace and its children cannot talk to each other.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::snapshot::LinkKind;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::ParentIsolation { lower, child } = fault.loss.decision.as_ref()? else { return None };
    let (low, up) = (case.name(*lower), case.name(*child));
    let is_ipvlan = matches!(case.link(*child)?.kind, LinkKind::Ipvlan { .. });
    let kind = if is_ipvlan { "ipvlan" } else { "macvlan" };
    let summary = format!(
        "{low} and its {kind} child {up} never hear each other: {} goes out to the wire instead",
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "macvlan-parent-isolation", summary);
    finding.evidence.push(case.state(child.netns, &format!("link {up}"), &format!("{kind} on {low}")));
    let helper = format!("{}-host", if low.len() > 10 { &low[..10] } else { &low });
    let mode = if is_ipvlan { "type ipvlan mode l2" } else { "type macvlan mode bridge" };
    let mut commands = vec![case.ip(lower.netns, &format!("link add link {low} name {helper} {mode}"))];
    let mut undo = vec![case.ip(lower.netns, &format!("link del {helper}"))];
    for entry in case.netns(lower.netns).addresses_of(lower.ifindex).filter(|entry| entry.scope == 0) {
        let address = format!("{}/{}", entry.address, entry.prefix_len);
        commands.push(case.ip(lower.netns, &format!("addr del {address} dev {low}")));
        commands.push(case.ip(lower.netns, &format!("addr add {address} dev {helper}")));
        undo.push(case.ip(lower.netns, &format!("addr add {address} dev {low}")));
    }
    commands.push(case.ip(lower.netns, &format!("link set {helper} up")));
    // Routes by the lower device go away with its address: those with a gateway are put back by the new one.
    for route in case.netns(lower.netns).routes.iter().filter(|route| route.table == 254 && route.protocol != 2) {
        let Some(hop) = route.nexthops.first().filter(|hop| hop.oif == Some(lower.ifindex)) else { continue };
        let via = hop.gateway.map_or_else(String::new, |gateway| format!("via {gateway} "));
        commands.push(case.ip(lower.netns, &format!("route replace {} {via}dev {helper}", route.dst)));
        undo.push(case.ip(lower.netns, &format!("route replace {} {via}dev {low}", route.dst)));
    }
    finding.fixes.push(fix(
        &format!("give the host a {kind} of its own on {low} and move its address there"),
        Risk::ChangesPolicy,
        commands,
        undo,
        "make the host's own child device where the network is configured",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::{LinkKind, check};
    use crate::diagnose::bench::World;
    use crate::model::snapshot::MacvlanMode;

    /// A host on `./up0`, and two children of it in namespaces.
    fn world() -> World {
        World::new()
            .veth("./up0", "s/port0")
            .upper("a/mv1", "./up0", LinkKind::Macvlan(MacvlanMode::Bridge))
            .upper("b/mv2", "./up0", LinkKind::Macvlan(MacvlanMode::Bridge))
            .address("./up0", "10.0.0.9/24")
            .address("a/mv1", "10.0.0.1/24")
            .address("b/mv2", "10.0.0.2/24")
    }

    #[test]
    fn fires_when_the_host_asks_a_child() {
        let found = world().ask(".", "10.0.0.1").found(check);
        assert_eq!(found.commands[0], "ip link add link up0 name up0-host type macvlan mode bridge");
    }

    #[test]
    fn fires_when_a_child_asks_the_host() {
        assert!(world().ask("a", "10.0.0.9").find(check).is_some());
    }

    #[test]
    fn silent_when_a_child_asks_another() {
        assert!(world().ask("a", "10.0.0.2").is_silent(check));
    }
}
