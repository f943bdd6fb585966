//! `ipv6-disabled`: IPv6 is disabled on the device or in the namespace.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::Ipv6Disabled { sysctl } = fault.loss.decision.as_ref()? else { return None };
    let place = &fault.loss.place;
    let summary = format!(
        "IPv6 is disabled on {} ({sysctl} = 1), so {} ends there",
        case.at(place),
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "ipv6-disabled", summary);
    finding.evidence.push(case.sysctl_state(place.netns, sysctl));
    let mut repair = case.sysctl_fix(place.netns, "enable IPv6 there", Risk::ChangesPolicy, &[(sysctl.clone(), 0)]);
    // Enabling does not bring back addresses that disabling took.
    if let Some(device) = place.device()
        && case.netns(device.netns).owns(case.recording.question.dst).is_none()
        && case.owner(case.recording.question.dst).is_none()
    {
        let dev = case.name(device);
        repair.risk = Risk::NeedsChoice;
        repair
            .commands
            .push(case.ip(device.netns, &format!("addr add {}/64 dev {dev} nodad", case.recording.question.dst)));
    }
    finding.fixes.push(repair);
    let _ = fix;
    Some(finding)
}
