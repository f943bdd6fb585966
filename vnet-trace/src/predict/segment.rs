//! Who is on one link: the devices that a frame sent by a device could come to if nothing filtered it.
//!
//! Follows veth pairs, bridges, and what is stacked on a device. Whether a frame does get
//! there is another matter: this says who could be meant, for guesses behind a loss and for the search of fixes.

use std::collections::BTreeSet;

use crate::model::id::Device;
use crate::model::snapshot::{Link, LinkKind, Snapshot};

/// The stations on the link of a device, without the device itself and without plain bridge ports.
pub fn stations(snapshot: &Snapshot, device: Device) -> Vec<Device> {
    let mut seen = BTreeSet::from([device]);
    spread(snapshot, &mut seen, device);
    seen.remove(&device);
    seen.into_iter().filter(|at| snapshot.link(*at).is_some_and(|link| link.master.is_none())).collect()
}

/// The devices behind a bridge's port, without the bridge itself and what is behind its other ports.
pub fn behind(snapshot: &Snapshot, bridge: Device, port: Device) -> BTreeSet<Device> {
    let mut seen = BTreeSet::from([bridge, port]);
    for next in neighbours(snapshot, port) {
        if seen.insert(next) {
            spread(snapshot, &mut seen, next);
        }
    }
    seen.remove(&bridge);
    seen.remove(&port);
    seen
}

/// Adds everything that is joined to a device.
fn spread(snapshot: &Snapshot, seen: &mut BTreeSet<Device>, from: Device) {
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        for next in neighbours(snapshot, at) {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
}

/// Devices that a device hands frames to directly.
fn neighbours(snapshot: &Snapshot, at: Device) -> Vec<Device> {
    let Some(link) = snapshot.link(at) else { return Vec::new() };
    let mut next: Vec<Device> = snapshot.peer(at).into_iter().collect();
    next.extend(link.master.map(|master| Device::new(at.netns, master)).filter(|master| switches(snapshot, *master)));
    if switches(snapshot, at) {
        next.extend(
            snapshot
                .netns(at.netns)
                .into_iter()
                .flat_map(|netns| netns.ports(at.ifindex))
                .map(|port| Device::new(at.netns, port.index)),
        );
    }
    if carries_frames(link) {
        next.extend(snapshot.lower(at));
    }
    next.extend(snapshot.uppers(at).into_iter().filter(|upper| snapshot.link(*upper).is_some_and(carries_frames)));
    if let LinkKind::Vxlan(own) = &link.kind {
        next.extend(
            snapshot
                .devices()
                .filter(|(_, link)| matches!(&link.kind, LinkKind::Vxlan(other) if other.vni == own.vni))
                .map(|(device, _)| device),
        );
    }
    next
}

/// Bridges and bonds join their ports to one link.
fn switches(snapshot: &Snapshot, device: Device) -> bool {
    snapshot
        .link(device)
        .is_some_and(|link| matches!(link.kind, LinkKind::Bridge(_) | LinkKind::Bond { .. } | LinkKind::Team))
}

/// Stacked devices that put their frames on the lower device's link as they are. A VLAN is a link of its own.
fn carries_frames(link: &Link) -> bool {
    matches!(link.kind, LinkKind::Macvlan(_) | LinkKind::Macvtap(_) | LinkKind::Ipvlan { .. })
}
