//! `vxlan-no-remote`: the tunnel has no default remote and no forwarding entry for the destination.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::snapshot::LinkKind;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::VxlanNoRemote { mac } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let dev = case.name(device);
    let summary = format!(
        "VXLAN device {} has no remote for {mac} and no default remote, so it drops {}",
        case.place_name(device),
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "vxlan-no-remote", summary);
    finding.evidence.push(case.state(
        device.netns,
        &format!("fdb of {dev}"),
        "no entry with a destination for this address, no all-zero entry",
    ));
    let LinkKind::Vxlan(own) = &case.link(device)?.kind else { return Some(finding) };
    let far = case.snapshot().devices().find_map(|(other, link)| match &link.kind {
        LinkKind::Vxlan(info) if other != device && info.vni == own.vni => info.local.or_else(|| {
            case.netns(other.netns)
                .addresses
                .iter()
                .find(|entry| entry.scope == 0 && entry.ifindex != other.ifindex)
                .map(|entry| entry.address)
        }),
        _ => None,
    });
    if let Some(far) = far {
        finding.fixes.push(fix(
            &format!("send what is unknown to the other end, {far}"),
            Risk::Safe,
            vec![case.cmd(device.netns, &format!("bridge fdb append 00:00:00:00:00:00 dev {dev} dst {far}"))],
            vec![case.cmd(device.netns, &format!("bridge fdb del 00:00:00:00:00:00 dev {dev} dst {far}"))],
            "give the device a remote where it is made, or let its controller (flannel, EVPN) write the entry",
        ));
    } else {
        finding.fixes.push(fix(
            "name the other end of the tunnel",
            Risk::NeedsChoice,
            vec![case.cmd(device.netns, &format!("bridge fdb append 00:00:00:00:00:00 dev {dev} dst REMOTE"))],
            Vec::new(),
            "",
        ));
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_nobody_said_where_the_other_end_is() {
        let found = World::tunnel((42, None, 4789), (42, Some("192.0.2.1"), 4789)).found(check);
        assert_eq!(found.at, "a/vx0");
        assert_eq!(found.commands, ["ip netns exec a bridge fdb append 00:00:00:00:00:00 dev vx0 dst 192.0.2.2"]);
    }

    #[test]
    fn silent_when_both_ends_know_each_other() {
        assert!(World::tunnel((42, Some("192.0.2.2"), 4789), (42, Some("192.0.2.1"), 4789)).is_silent(check));
    }
}
