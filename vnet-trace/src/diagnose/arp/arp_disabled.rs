//! `arp-disabled`: the device has ARP off (NOARP), so the address can never be resolved.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault, Role};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::ArpDisabled { device } = fault.loss.decision.as_ref()? else { return None };
    let dev = case.name(*device);
    let name = case.place_name(*device);
    let summary = if fault.role == Role::ArpRequest {
        format!("ARP is off on {name} (NOARP): it ignores {}", case.packet_name(fault.role))
    } else {
        format!(
            "ARP is off on {name} (NOARP): it sends {} to its own link-layer address, and the receiver ignores it",
            case.packet_name(fault.role)
        )
    };
    let mut finding = case.finding(fault, "arp-disabled", summary);
    finding.evidence.push(case.state(device.netns, &format!("flags of {dev}"), "NOARP"));
    finding.fixes.push(fix(
        &format!("switch ARP on at {dev}"),
        Risk::Safe,
        vec![
            case.ip(device.netns, &format!("link set {dev} arp on")),
            case.ip(device.netns, &format!("neigh flush dev {dev} nud all")),
        ],
        vec![case.ip(device.netns, &format!("link set {dev} arp off"))],
        crate::diagnose::case::NETWORK_CONFIG,
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_owner_has_arp_off() {
        let found = World::switch().change("b/eth0", |link| link.flags |= 0x80).found(check);
        assert_eq!(found.at, "b/eth0");
        assert_eq!(found.commands[0], "ip -n b link set eth0 arp on");
    }

    #[test]
    fn fires_when_the_asker_has_arp_off() {
        assert!(World::switch().change("a/eth0", |link| link.flags |= 0x80).found(check).commands[0].contains("-n a"));
    }

    #[test]
    fn silent_when_somebody_else_has_arp_off() {
        assert!(World::switch().change("c/eth0", |link| link.flags |= 0x80).is_silent(check));
    }
}
