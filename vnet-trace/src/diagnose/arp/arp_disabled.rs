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
