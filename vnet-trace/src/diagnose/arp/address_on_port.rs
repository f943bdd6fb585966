//! `address-on-port`: the address sits on a device that is a port of a bridge, which takes the frames for it.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::AddressOnPort { port, bridge } = fault.loss.decision.as_ref()? else { return None };
    let (dev, master) = (case.name(*port), case.name(*bridge));
    let summary = format!(
        "the address is on {}, a port of bridge {master}: the bridge takes {}, and the port's own stack never sees it",
        case.place_name(*port),
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "address-on-port", summary);
    finding.evidence.push(case.state(port.netns, &format!("master of {dev}"), &master));
    let mut commands = Vec::new();
    let mut undo = Vec::new();
    for entry in case.netns(port.netns).addresses_of(port.ifindex).filter(|entry| entry.scope == 0) {
        let address = format!("{}/{}", entry.address, entry.prefix_len);
        finding.evidence.push(case.state(port.netns, &format!("address {address}"), &format!("dev {dev}")));
        commands.push(case.ip(port.netns, &format!("addr del {address} dev {dev}")));
        commands.push(case.ip(port.netns, &format!("addr add {address} dev {master}")));
        undo.push(case.ip(port.netns, &format!("addr del {address} dev {master}")));
        undo.push(case.ip(port.netns, &format!("addr add {address} dev {dev}")));
    }
    for route in case.netns(port.netns).routes.iter().filter(|route| route.table == 254 && route.protocol != 2) {
        let Some(hop) = route.nexthops.first().filter(|hop| hop.oif == Some(port.ifindex)) else { continue };
        let via = hop.gateway.map_or_else(String::new, |gateway| format!("via {gateway} "));
        commands.push(case.ip(port.netns, &format!("route replace {} {via}dev {master}", route.dst)));
    }
    commands.push(case.ip(port.netns, &format!("link set {master} up")));
    finding.fixes.push(fix(
        &format!("move the address to {master}"),
        Risk::Safe,
        commands,
        undo,
        crate::diagnose::case::NETWORK_CONFIG,
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_address_is_on_a_bridge_port() {
        let found = World::switch().address("./p1", "10.0.0.9/24").ask("a", "10.0.0.9").found(check);
        assert_eq!(found.commands[..2], ["ip addr del 10.0.0.9/24 dev p1", "ip addr add 10.0.0.9/24 dev br0"]);
    }

    #[test]
    fn silent_when_the_address_is_on_the_bridge() {
        assert!(World::switch().address("./br0", "10.0.0.9/24").ask("a", "10.0.0.9").is_silent(check));
    }
}
