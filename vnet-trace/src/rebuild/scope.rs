//! What belongs to an exchange: the namespaces and devices that are rebuilt.
//!
//! Everything in sight of a small network; of a large one what lies on the predicted way, in both directions and behind
//! its faults, with what that depends on: masters, lower devices, tunnels' underlays, the other ends of pairs. Whether a
//! cut changed the answer is not argued but tried: [`Scope::cut`] gives the snapshot that is left, and whoever uses a
//! scope predicts in it once more.

use std::collections::BTreeSet;

use crate::model::exchange::{Decision, Exchange, Journey};
use crate::model::id::{Device, NetnsId};
use crate::model::question::Question;
use crate::model::snapshot::{LinkKind, Snapshot};

/// Up to so many devices, nothing is left out.
const SMALL: usize = 80;

/// What is rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// Namespaces; the first is always among them.
    pub namespaces: BTreeSet<NetnsId>,
    /// Devices.
    pub devices: BTreeSet<Device>,
}

impl Scope {
    /// Everything.
    pub fn everything(snapshot: &Snapshot) -> Self {
        Self {
            namespaces: snapshot.namespaces.iter().map(|netns| netns.id).collect(),
            devices: snapshot.devices().map(|(device, _)| device).collect(),
        }
    }

    /// What the exchange touches.
    pub fn of(snapshot: &Snapshot, question: &Question, predicted: &Exchange) -> Self {
        if snapshot.devices().count() <= SMALL {
            return Self::everything(snapshot);
        }
        let mut scope = Self::default();
        scope.namespaces.extend([NetnsId(0), question.netns]);
        for journey in &predicted.journeys {
            scope.journey(journey);
        }
        for fault in &predicted.faults {
            scope.namespaces.insert(fault.loss.place.netns);
            scope.devices.extend(fault.loss.place.device());
            scope.devices.extend(fault.loss.decision.as_ref().map(mentioned).unwrap_or_default());
        }
        scope.devices.extend(predicted.owner);
        scope.close(snapshot);
        scope
    }

    fn journey(&mut self, journey: &Journey) {
        for step in journey.steps.iter().chain(&journey.beyond) {
            self.namespaces.insert(step.netns);
            self.devices.extend(step.device.map(|ifindex| Device::new(step.netns, ifindex)));
        }
        for copy in &journey.copies {
            self.journey(copy);
        }
    }

    /// Adds what the devices depend on.
    fn close(&mut self, snapshot: &Snapshot) {
        // Of a namespace on the way, all devices that are no mere port to somewhere else.
        for netns in snapshot.namespaces.iter().filter(|netns| self.namespaces.contains(&netns.id)) {
            for link in &netns.links {
                let mere_port = link.master.is_some()
                    || matches!(link.kind, LinkKind::Veth | LinkKind::Tun { .. } | LinkKind::Netkit { .. })
                        && netns.addresses_of(link.index).all(|entry| entry.prefix_len >= 64)
                        && !netns.routes.iter().any(|route| {
                            route.table != 255
                                && !route.dst.addr().is_ipv6()
                                && route.nexthops.iter().any(|hop| hop.oif == Some(link.index))
                        });
                if !mere_port {
                    self.devices.insert(Device::new(netns.id, link.index));
                }
            }
        }
        let mut left: Vec<Device> = self.devices.iter().copied().collect();
        while let Some(device) = left.pop() {
            let Some(link) = snapshot.link(device) else { continue };
            let master = link.master.map(|master| Device::new(device.netns, master));
            let underlay = match &link.kind {
                LinkKind::Vxlan(vxlan) => {
                    vxlan.link.map(|lower| Device::new(link.link_netns.unwrap_or(device.netns), lower))
                }
                _ => None,
            };
            for other in [master, snapshot.lower(device), underlay].into_iter().flatten() {
                if snapshot.link(other).is_some() && self.devices.insert(other) {
                    left.push(other);
                }
            }
            self.namespaces.insert(device.netns);
        }
        let loopbacks: Vec<Device> = snapshot
            .devices()
            .filter(|(device, link)| link.is_loopback() && self.namespaces.contains(&device.netns))
            .map(|(device, _)| device)
            .collect();
        self.devices.extend(loopbacks);
    }

    /// The snapshot without what does not belong.
    pub fn cut(&self, snapshot: &Snapshot) -> Snapshot {
        let mut cut = snapshot.clone();
        for netns in &mut cut.namespaces {
            let id = netns.id;
            if !self.namespaces.contains(&id) {
                let kept = crate::model::snapshot::Netns {
                    id,
                    inode: netns.inode,
                    name: std::mem::take(&mut netns.name),
                    ..Default::default()
                };
                *netns = kept;
                continue;
            }
            netns.links.retain(|link| self.devices.contains(&Device::new(id, link.index)));
            let known: BTreeSet<_> = netns.links.iter().map(|link| link.index).collect();
            netns.addresses.retain(|entry| known.contains(&entry.ifindex));
            netns.neighbours.retain(|entry| known.contains(&entry.ifindex));
            netns.fdb.retain(|entry| known.contains(&entry.ifindex));
            netns.bridge_vlans.retain(|vlan| known.contains(&vlan.ifindex));
            netns
                .routes
                .retain(|route| route.nexthops.iter().all(|hop| hop.oif.is_none_or(|oif| known.contains(&oif))));
        }
        cut
    }
}

/// Devices that a decision names.
fn mentioned(decision: &Decision) -> Vec<Device> {
    match decision {
        Decision::NoCarrier { culprit } => culprit.iter().copied().collect(),
        Decision::NotAttached { bridge } => bridge.iter().copied().collect(),
        Decision::DuplicateAddress { owners, .. } | Decision::DuplicateMac { owners, .. } => owners.clone(),
        Decision::BridgeIsolated { from, to } => vec![*from, *to],
        Decision::BridgeFdb { to, owner, .. } => std::iter::once(*to).chain(*owner).collect(),
        Decision::AddressOnPort { port, bridge } => vec![*port, *bridge],
        Decision::MacvlanVepa { child, lower, reflector } => [*child, *lower].into_iter().chain(*reflector).collect(),
        Decision::ParentIsolation { lower, child } => vec![*lower, *child],
        Decision::SocketBound { bound, came } => std::iter::once(*bound).chain(*came).collect(),
        Decision::NoRoute { dead, .. } => dead.iter().copied().collect(),
        _ => Vec::new(),
    }
}
