//! `vxlan-vni-mismatch`: the outer packet arrives, but no tunnel there has this VNI.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Finding;
use crate::model::exchange::{Decision, Fault};
use crate::model::snapshot::LinkKind;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::VxlanVni { vni, known } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let listed = known.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let summary = format!(
        "the outer packet with VNI {vni} arrives in {}, whose tunnels have VNI {listed}",
        case.netns_name(device.netns)
    );
    let mut finding = case.finding(fault, "vxlan-vni-mismatch", summary);
    finding.evidence.push(case.state(device.netns, "VNIs at this UDP port", &listed));
    let far = case
        .netns(device.netns)
        .links
        .iter()
        .find(|link| matches!(&link.kind, LinkKind::Vxlan(info) if known.contains(&info.vni)));
    if let Some(link) = far {
        finding.fixes.push(super::vxlan_port_mismatch::remake(case, device.netns, link, Some(*vni), None));
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_vnis_differ() {
        let found = World::tunnel((42, Some("192.0.2.2"), 4789), (43, Some("192.0.2.1"), 4789)).found(check);
        assert_eq!(found.at, "b/eth0");
        assert_eq!(found.commands[1], "ip -n b link add vx0 type vxlan id 42 dstport 4789 remote 192.0.2.1");
    }

    #[test]
    fn silent_when_the_ports_differ() {
        let world = World::tunnel((42, Some("192.0.2.2"), 8472), (42, Some("192.0.2.1"), 4789));
        assert!(world.is_silent(check));
    }
}
