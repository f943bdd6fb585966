//! Ports of bridges, bonds and VRFs: their masters, what differs from a new port, and the VLANs.

use crate::model::id::Device;
use crate::model::snapshot::{BridgePort, Link, LinkKind, Netns};

use super::{Work, ovs};

/// Gives devices their masters.
pub fn enslave(work: &mut Work<'_>) {
    let mut wanted: Vec<(Device, String, String)> = Vec::new();
    for netns in work.namespaces() {
        for (device, link) in work.links(netns) {
            let Some(master) = master(work, netns, device, link) else { continue };
            wanted.push((device, link.name.clone(), master.name.clone()));
        }
    }
    for (device, name, master) in wanted {
        work.script.ip(device.netns, format!("link set {name} master {master}"));
    }
    flags(work);
    vlans(work);
}

fn master<'a>(work: &Work<'_>, netns: &'a Netns, device: Device, link: &Link) -> Option<&'a Link> {
    let index = link.master?;
    let master = netns.link(index)?;
    let ours = work.made.contains(&device) && work.made.contains(&Device::new(netns.id, index));
    let switch = matches!(master.kind, LinkKind::Bridge(_) | LinkKind::Vrf { .. } | LinkKind::Bond { .. });
    (ours && switch && !ovs::owns(work.snapshot, device)).then_some(master)
}

/// VLANs of ports and bridges, where they are not what the bridge gives to a new one.
fn vlans(work: &mut Work<'_>) {
    let all: Vec<&Netns> = work.namespaces().collect();
    for netns in all {
        for (device, link) in work.links(netns) {
            let (bridge, own) = match &link.kind {
                LinkKind::Bridge(info) => (info, " self"),
                _ => match master(work, netns, device, link).map(|master| &master.kind) {
                    Some(LinkKind::Bridge(info)) => (info, ""),
                    _ => continue,
                },
            };
            let recorded: Vec<_> = netns.bridge_vlans.iter().filter(|vlan| vlan.ifindex == link.index).collect();
            if recorded.is_empty() && !bridge.vlan_filtering {
                continue;
            }
            let usual = bridge.vlan_default_pvid;
            let is_usual = |vid: u16, pvid: bool, untagged: bool| vid == usual && pvid && untagged;
            if usual != 0 && !recorded.iter().any(|vlan| is_usual(vlan.vid, vlan.pvid, vlan.untagged)) {
                work.script.bridge(netns.id, format!("vlan del dev {} vid {usual}{own}", link.name));
            }
            for vlan in recorded {
                if is_usual(vlan.vid, vlan.pvid, vlan.untagged) {
                    continue;
                }
                let pvid = if vlan.pvid { " pvid" } else { "" };
                let untagged = if vlan.untagged { " untagged" } else { "" };
                work.script
                    .bridge(netns.id, format!("vlan add dev {} vid {}{pvid}{untagged}{own}", link.name, vlan.vid));
            }
        }
    }
}

/// Flags of ports, before a port can have learned anything.
fn flags(work: &mut Work<'_>) {
    let all: Vec<&Netns> = work.namespaces().collect();
    for netns in all {
        for (device, link) in work.links(netns) {
            let (Some(port), Some(_)) = (&link.bridge_port, master(work, netns, device, link)) else { continue };
            let words = differing(port);
            if !words.is_empty() {
                work.script.bridge(netns.id, format!("link set dev {}{words}", link.name));
            }
        }
    }
}

/// States of ports, once they are up, and spanning tree.
pub fn settings(work: &mut Work<'_>) {
    let all: Vec<&Netns> = work.namespaces().collect();
    for netns in all {
        for (device, link) in work.links(netns) {
            let (Some(port), Some(bridge)) = (&link.bridge_port, master(work, netns, device, link)) else { continue };
            let LinkKind::Bridge(info) = &bridge.kind else { continue };
            let running = link.is_up() && link.carrier && bridge.is_up();
            if running && info.stp_state == 0 && port.state != 3 {
                work.script.bridge(netns.id, format!("link set dev {} state {}", link.name, port.state));
            }
            if let Some(backup) = port.backup_port.and_then(|backup| netns.link(backup)) {
                work.script.bridge(netns.id, format!("link set dev {} backup_port {}", link.name, backup.name));
            }
        }
        forsaken(work, netns);
        spanning_tree(work, netns);
    }
}

fn differing(port: &BridgePort) -> String {
    let usual = BridgePort::default();
    let mut words = String::new();
    for (name, value, usual) in [
        ("hairpin", port.hairpin, usual.hairpin),
        ("learning", port.learning, usual.learning),
        ("flood", port.flood, usual.flood),
        ("mcast_flood", port.mcast_flood, usual.mcast_flood),
        ("bcast_flood", port.bcast_flood, usual.bcast_flood),
        ("isolated", port.isolated, usual.isolated),
        ("neigh_suppress", port.neigh_suppress, usual.neigh_suppress),
        ("locked", port.locked, usual.locked),
        ("vlan_tunnel", port.vlan_tunnel, usual.vlan_tunnel),
    ] {
        if value != usual {
            words.push_str(&format!(" {name} {}", if value { "on" } else { "off" }));
        }
    }
    if port.multicast_router != usual.multicast_router {
        words.push_str(&format!(" mcast_router {}", port.multicast_router));
    }
    words
}

/// A bridge that never had a port has a carrier all the same; one that lost its last port has none.
fn forsaken(work: &mut Work<'_>, netns: &Netns) {
    for link in netns.links.iter().filter(|link| work.made.contains(&Device::new(netns.id, link.index))) {
        let alone = matches!(link.kind, LinkKind::Bridge(_)) && netns.ports(link.index).next().is_none();
        if alone && link.is_up() && !link.carrier {
            work.script.comment(&format!("{} has lost its last port", link.name));
            work.script.ip(netns.id, "link add gone0 type veth peer name gone1");
            work.script.ip(netns.id, format!("link set gone0 master {}", link.name));
            work.script.ip(netns.id, "link set gone0 up");
            work.script.ip(netns.id, "link del gone0");
        }
    }
}

/// Spanning tree is switched on last: ports that forward go on forwarding, and those that were still listening start
/// anew when their bridge does.
fn spanning_tree(work: &mut Work<'_>, netns: &Netns) {
    for link in netns.links.iter().filter(|link| work.made.contains(&Device::new(netns.id, link.index))) {
        let LinkKind::Bridge(info) = &link.kind else { continue };
        if info.stp_state == 0 {
            continue;
        }
        let listening = netns
            .ports(link.index)
            .any(|port| port.bridge_port.as_ref().is_some_and(|port| matches!(port.state, 1 | 2)));
        if listening {
            work.script.ip(netns.id, format!("link set {} down", link.name));
        }
        work.script.ip(netns.id, format!("link set {} type bridge stp_state 1", link.name));
        if listening {
            work.script.ip(netns.id, format!("link set {} up", link.name));
        }
    }
}
