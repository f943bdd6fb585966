//! Who is on one link: the devices that a frame sent by a device could come to if nothing filtered it.
//!
//! Follows veth pairs, bridges, and what is stacked on a device. Whether a frame does get
//! there is another matter: this says who could be meant, for guesses behind a loss and for the search of fixes.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::id::Device;
use crate::model::snapshot::{Link, LinkKind, Snapshot};

/// The stations on the link of a device, without the device itself and without plain bridge ports.
pub fn stations(snapshot: &Snapshot, device: Device) -> Vec<Device> {
    let mut seen = BTreeSet::from([device]);
    spread(snapshot, &Uppers::of(snapshot), &mut seen, device);
    seen.remove(&device);
    seen.into_iter().filter(|at| snapshot.link(*at).is_some_and(|link| link.master.is_none())).collect()
}

/// The devices behind a bridge's port, without the bridge itself and what is behind its other ports.
pub fn behind(snapshot: &Snapshot, bridge: Device, port: Device) -> BTreeSet<Device> {
    let mut seen = BTreeSet::from([bridge, port]);
    let uppers = Uppers::of(snapshot);
    for next in neighbours(snapshot, &uppers, port) {
        if seen.insert(next) {
            spread(snapshot, &uppers, &mut seen, next);
        }
    }
    seen.remove(&bridge);
    seen.remove(&port);
    seen
}

/// Stacked devices that carry frames, by their lower device: looked for once, as a link may have thousands of stations.
struct Uppers(BTreeMap<Device, Vec<Device>>);

impl Uppers {
    fn of(snapshot: &Snapshot) -> Self {
        let mut uppers: BTreeMap<Device, Vec<Device>> = BTreeMap::new();
        for (device, _) in snapshot.devices().filter(|(_, link)| carries_frames(link)) {
            if let Some(lower) = snapshot.lower(device) {
                uppers.entry(lower).or_default().push(device);
            }
        }
        Self(uppers)
    }
}

/// Adds everything that is joined to a device.
fn spread(snapshot: &Snapshot, uppers: &Uppers, seen: &mut BTreeSet<Device>, from: Device) {
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        for next in neighbours(snapshot, uppers, at) {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
}

/// Devices that a device hands frames to directly.
fn neighbours(snapshot: &Snapshot, uppers: &Uppers, at: Device) -> Vec<Device> {
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
    next.extend(uppers.0.get(&at).into_iter().flatten());
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
