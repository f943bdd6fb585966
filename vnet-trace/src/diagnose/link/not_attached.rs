//! `not-attached`: a device that should be a port of a bridge has no master, so frames stop there.

use crate::diagnose::case::{Case, NETWORK_CONFIG, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::id::Device;
use crate::model::snapshot::LinkKind;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::NotAttached { bridge } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let name = case.place_name(device);
    let packet = case.packet_name(fault.role);
    let to = bridge.map_or_else(|| "a bridge".to_owned(), |bridge| case.name(bridge));
    let arrives = fault.loss.place.function.as_deref() == Some("__netif_receive_skb_core")
        || fault.loss.place.function.as_deref() == Some("netif_receive_skb");
    let summary = if arrives {
        format!("{name} is not a port of {to}: {packet} arrives there and nobody takes it on")
    } else {
        format!("{name} is not a port of {to}, so {packet} never gets there")
    };
    let mut finding = case.finding(fault, "not-attached", summary);
    finding.evidence.push(case.state(device.netns, &format!("master of {}", case.name(device)), "none"));
    if let Some(bridge) = bridge {
        finding.fixes.push(attach(case, device, *bridge));
    }
    Some(finding)
}

/// Makes a device a port.
pub fn attach(case: &Case<'_>, device: Device, bridge: Device) -> crate::model::diagnosis::Fix {
    let (name, master) = (case.name(device), case.name(bridge));
    let is_bridge = case.link(bridge).is_some_and(|link| matches!(link.kind, LinkKind::Bridge(_)));
    if is_bridge {
        fix(
            &format!("make {name} a port of {master}"),
            Risk::Safe,
            vec![case.ip(device.netns, &format!("link set {name} master {master}"))],
            vec![case.ip(device.netns, &format!("link set {name} nomaster"))],
            NETWORK_CONFIG,
        )
    } else {
        fix(
            &format!("add {name} to the Open vSwitch bridge {master}"),
            Risk::Safe,
            vec![case.cmd(device.netns, &format!("ovs-vsctl add-port {master} {name}"))],
            vec![case.cmd(device.netns, &format!("ovs-vsctl del-port {master} {name}"))],
            "kept in the Open vSwitch database",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    /// A switch of which a port was forgotten.
    fn without(port: &str) -> World {
        World::switch().change(port, |link| {
            link.master = None;
            link.bridge_port = None;
        })
    }

    #[test]
    fn fires_when_the_owners_port_has_no_master() {
        let found = without("./p2").found(check);
        assert_eq!(found.at, "./p2");
        assert_eq!(found.commands, ["ip link set p2 master br0"]);
    }

    #[test]
    fn fires_when_the_askers_port_has_no_master() {
        assert_eq!(without("./p1").found(check).at, "./p1");
    }

    #[test]
    fn silent_when_another_port_has_no_master() {
        assert!(without("./p3").is_silent(check));
    }
}
