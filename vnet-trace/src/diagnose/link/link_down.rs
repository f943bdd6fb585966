//! `link-down`: the device the packet must leave or enter by is administratively down.

use crate::diagnose::case::{Case, NETWORK_CONFIG, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::id::Device;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let place = &fault.loss.place;
    let (device, routed) = match fault.loss.decision.as_ref()? {
        Decision::DeviceDown => (place.device()?, false),
        Decision::NoRoute { dead: Some(dead), .. } => {
            let down = case.link(*dead).is_some_and(|link| !link.is_up());
            if !down {
                return None;
            }
            (*dead, true)
        }
        _ => return None,
    };
    let name = case.place_name(device);
    let packet = case.packet_name(fault.role);
    let summary = if routed {
        format!("{name} is down, so {} has no route for {packet}", case.netns_name(device.netns))
    } else if case.link(device).is_some_and(crate::model::snapshot::Link::is_loopback) {
        format!(
            "{name} is down, so {packet} to an address of {} itself can't be delivered",
            case.netns_name(device.netns)
        )
    } else {
        format!("{name} is down, so {packet} ends there")
    };
    let mut finding = case.finding(fault, "link-down", summary);
    finding.place.device = Some(device.ifindex);
    finding.evidence.push(case.state(
        device.netns,
        &format!("link {}", case.name(device)),
        "state DOWN (administratively)",
    ));
    finding.fixes.push(up(case, device));
    Some(finding)
}

/// Sets a device up.
pub fn up(case: &Case<'_>, device: Device) -> crate::model::diagnosis::Fix {
    let name = case.name(device);
    fix(
        &format!("set {name} up"),
        Risk::Safe,
        vec![case.ip(device.netns, &format!("link set {name} up"))],
        vec![case.ip(device.netns, &format!("link set {name} down"))],
        NETWORK_CONFIG,
    )
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_own_device_is_down() {
        let found = World::cable().down("a/veth1").found(check);
        assert_eq!(found.at, "a/veth1");
        assert_eq!(found.commands, ["ip -n a link set veth1 up"]);
    }

    #[test]
    fn fires_when_a_router_has_lost_its_route_with_its_device() {
        assert_eq!(World::router().down("r/r2").found(check).at, "r/r2");
    }

    #[test]
    fn fires_when_lo_has_never_been_up() {
        for address in ["127.0.0.1", "::1"] {
            let world = World::cable().down("a/lo").ask("a", address);
            let found = world.without_routes("a", |route| route.dst.addr().is_loopback()).found(check);
            assert_eq!((found.at.as_str(), found.commands[0].as_str()), ("a/lo", "ip -n a link set lo up"));
        }
    }

    #[test]
    fn silent_when_the_other_end_is_down() {
        assert_eq!(World::cable().down("b/veth2").first().as_deref(), Some("peer-down"));
    }

    #[test]
    fn silent_when_a_device_beside_the_way_is_down() {
        assert!(World::switch().down("c/eth0").is_silent(check));
    }
}
