//! `bridge-vlan-filtered`: VLAN filtering: the frame's VLAN is not allowed on the port, or an untagged frame has no PVID.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::snapshot::LinkKind;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::BridgeVlan { port, vid, ingress } = fault.loss.decision.as_ref()? else { return None };
    let name = case.name(*port);
    let packet = case.packet_name(fault.role);
    let is_bridge = case.link(*port).is_some_and(|link| matches!(link.kind, LinkKind::Bridge(_)));
    let own = if is_bridge { " self" } else { "" };
    let summary = match vid {
        None => format!("bridge port {} has no PVID, and {packet} comes in without a tag", case.place_name(*port)),
        Some(vid) if *ingress => {
            format!("{packet} comes in on VLAN {vid}, and port {} does not carry it", case.place_name(*port))
        }
        Some(vid) => format!("{packet} is on VLAN {vid}, and port {} does not carry it", case.place_name(*port)),
    };
    let mut finding = case.finding(fault, "bridge-vlan-filtered", summary);
    let vlans: Vec<String> = case
        .netns(port.netns)
        .bridge_vlans
        .iter()
        .filter(|vlan| vlan.ifindex == port.ifindex)
        .map(|vlan| {
            format!(
                "{}{}{}",
                vlan.vid,
                if vlan.pvid { " PVID" } else { "" },
                if vlan.untagged { " untagged" } else { "" }
            )
        })
        .collect();
    let listed = if vlans.is_empty() { "none".to_owned() } else { vlans.join(", ") };
    finding.evidence.push(case.state(port.netns, &format!("bridge vlan of {name}"), &listed));
    // Without a PVID: the VLAN that the other side of the bridge uses, else the one the port carries already.
    let wanted = vid.or_else(|| pvid_beside(case, *port)).unwrap_or(1);
    let flags = " pvid untagged";
    let had =
        case.netns(port.netns).bridge_vlans.iter().find(|vlan| vlan.ifindex == port.ifindex && vlan.vid == wanted);
    let undo = match had {
        Some(vlan) => format!(
            "bridge vlan add dev {name} vid {wanted}{}{}{own}",
            if vlan.pvid { " pvid" } else { "" },
            if vlan.untagged { " untagged" } else { "" }
        ),
        None => format!("bridge vlan del dev {name} vid {wanted}{own}"),
    };
    finding.fixes.push(fix(
        &format!("put {name} on VLAN {wanted}"),
        Risk::ChangesPolicy,
        vec![case.cmd(port.netns, &format!("bridge vlan add dev {name} vid {wanted}{flags}{own}"))],
        vec![case.cmd(port.netns, &undo)],
        "set the port's VLANs where the bridge is configured",
    ));
    Some(finding)
}

/// The PVID that most other ports of the bridge have.
fn pvid_beside(case: &Case<'_>, port: crate::model::id::Device) -> Option<u16> {
    let netns = case.netns(port.netns);
    let master = netns.link(port.ifindex)?.master?;
    let carried = |vid: u16| netns.bridge_vlans.iter().any(|vlan| vlan.ifindex == port.ifindex && vlan.vid == vid);
    let mut pvids: Vec<u16> = netns
        .ports(master)
        .filter(|link| link.index != port.ifindex)
        .filter_map(|link| netns.bridge_vlans.iter().find(|vlan| vlan.ifindex == link.index && vlan.pvid))
        .map(|vlan| vlan.vid)
        .collect();
    pvids.sort_unstable();
    pvids
        .iter()
        .copied()
        .find(|vid| carried(*vid))
        .or_else(|| pvids.first().copied())
        .or_else(|| netns.bridge_vlans.iter().find(|vlan| vlan.ifindex == port.ifindex).map(|vlan| vlan.vid))
}

#[cfg(test)]
mod tests {
    use super::{LinkKind, check};
    use crate::diagnose::bench::World;
    use crate::model::snapshot::BridgeInfo;

    /// A switch whose ports to a and b have these VLANs untagged.
    fn world(vlan_filtering: bool, first: u16, second: u16) -> World {
        let info = BridgeInfo { vlan_filtering, vlan_protocol: 0x8100, ..BridgeInfo::default() };
        World::switch()
            .change("./br0", |link| link.kind = LinkKind::Bridge(info))
            .vlan("./p1", first, true)
            .vlan("./p2", second, true)
    }

    #[test]
    fn fires_when_the_ports_are_on_different_vlans() {
        assert_eq!(world(true, 10, 20).found(check).at, "./p2");
    }

    #[test]
    fn silent_when_they_are_on_one() {
        assert!(world(true, 10, 10).is_silent(check));
    }

    #[test]
    fn silent_when_the_bridge_does_not_filter() {
        assert!(world(false, 10, 20).is_silent(check));
    }
}
