//! `no-carrier`: a device other than a veth end has no carrier: a bridge without an active port, a child of a lower device that is down.

use crate::diagnose::case::{Case, NETWORK_CONFIG, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::id::Device;
use crate::model::snapshot::LinkKind;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::NoCarrier { culprit } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    if super::peer_down::check(case, fault).is_some() {
        return None;
    }
    let name = case.place_name(device);
    let packet = case.packet_name(fault.role);
    let is_bridge = matches!(case.link(device)?.kind, LinkKind::Bridge(_));
    let mut finding;
    if is_bridge {
        finding = case.finding(
            fault,
            "no-carrier",
            format!("bridge {name} has no port with carrier, so it has none itself and drops {packet}"),
        );
        let ports: Vec<Device> =
            case.netns(device.netns).ports(device.ifindex).map(|link| Device::new(device.netns, link.index)).collect();
        if ports.is_empty() {
            finding.evidence.push(case.state(device.netns, &format!("ports of {}", case.name(device)), "none"));
        }
        for port in &ports {
            finding.evidence.push(case.state(device.netns, &format!("port {}", case.name(*port)), "no carrier"));
            finding.fixes.push(super::link_down::up(case, *port));
        }
        // A veth end beside it that has no master is what most likely should have been its port.
        for other in &case.predicted.faults {
            let Some(Decision::NotAttached { bridge: Some(bridge) }) = &other.loss.decision else { continue };
            if let Some(port) = other.loss.place.device().filter(|_| *bridge == device) {
                finding.fixes.insert(0, super::not_attached::attach(case, port, *bridge));
            }
        }
    } else {
        let summary = match culprit {
            Some(culprit) => format!(
                "{name} has no carrier because {} below it has none or is down, and drops {packet}",
                case.place_name(*culprit)
            ),
            None => format!("{name} has no carrier and drops {packet}"),
        };
        finding = case.finding(fault, "no-carrier", summary);
        finding.evidence.push(case.state(device.netns, &format!("link {}", case.name(device)), "NO-CARRIER"));
        if let Some(culprit) = culprit {
            let root = root(case, *culprit);
            finding.evidence.push(case.state(
                root.netns,
                &format!("link {}", case.name(root)),
                "down or without carrier",
            ));
            finding.fixes.push(super::link_down::up(case, root));
        }
    }
    if finding.fixes.is_empty() {
        finding.fixes.push(fix(
            "give the device a lower device or port that is up",
            Risk::NeedsChoice,
            Vec::new(),
            Vec::new(),
            NETWORK_CONFIG,
        ));
    }
    Some(finding)
}

/// The device whose own state is the reason: the other end of a pair if that is down.
fn root(case: &Case<'_>, device: Device) -> Device {
    let down = |device: Device| case.link(device).is_some_and(|link| !link.is_up());
    match case.snapshot().peer(device) {
        Some(peer) if down(peer) && !down(device) => peer,
        _ => device,
    }
}

#[cfg(test)]
mod tests {
    use super::{LinkKind, check};
    use crate::diagnose::bench::World;
    use crate::model::snapshot::{BridgeInfo, OperState};

    /// A host with an address on a bridge, with or without carrier.
    fn bridge(carrier: bool) -> World {
        World::new()
            .link("./br0", LinkKind::Bridge(BridgeInfo::default()))
            .address("./br0", "10.0.0.1/24")
            .change("./br0", |link| {
                link.carrier = carrier;
                link.operstate = if carrier { OperState::Up } else { OperState::Down };
            })
            .ask(".", "10.0.0.2")
    }

    #[test]
    fn fires_when_a_bridge_has_no_active_port() {
        assert_eq!(bridge(false).found(check).at, "./br0");
    }

    #[test]
    fn silent_when_the_bridge_has_carrier() {
        assert!(bridge(true).is_silent(check));
    }

    #[test]
    fn silent_when_the_other_end_of_a_veth_is_down() {
        assert_eq!(World::cable().down("b/veth2").first().as_deref(), Some("peer-down"));
    }
}
