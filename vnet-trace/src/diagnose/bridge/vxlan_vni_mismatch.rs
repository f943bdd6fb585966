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
