//! What the snapshot says about neighbourhood: which devices hand packets to which.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::id::{Device, MacAddr, NetnsId};
use crate::model::recording::Recording;
use crate::model::snapshot::{Link, LinkKind, Snapshot};

/// Deepest stack of devices that is followed.
const DEEPEST: u8 = 8;

/// Devices and their relations, as they were before the question; those that appeared meanwhile, as they were afterwards.
pub struct Topology {
    nodes: BTreeMap<Device, Node>,
    owners: BTreeMap<IpAddr, BTreeSet<NetnsId>>,
}

/// What matters about one device.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// What it does with packets.
    pub nature: Nature,
    /// The other end of its pair.
    pub peer: Option<Device>,
    /// The device that it is stacked on.
    pub lower: Option<Device>,
    /// The device that it is a port of.
    pub master: Option<Device>,
    /// Its link-layer address.
    pub mac: Option<MacAddr>,
    /// The Open vSwitch bridge that it is a port of, by its position in [`Snapshot::ovs`].
    pub switch: Option<usize>,
    /// How many devices are below it.
    height: u8,
}

/// What a device does with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// What it transmits, it receives.
    Mirror,
    /// A bridge of the kernel.
    Bridge,
    /// It collects ports and does not forward between them: bond, team.
    Bond,
    /// A device of Open vSwitch.
    Switch,
    /// It wraps packets.
    Tunnel,
    /// A child that talks to its siblings without the lower device: macvlan, ipvlan.
    Child,
    /// What it transmits leaves the machine or goes to a process.
    Door,
    /// Anything else.
    Plain,
}

impl Topology {
    /// Of a recording.
    pub fn of(recording: &Recording) -> Self {
        let mut topology = Self { nodes: BTreeMap::new(), owners: BTreeMap::new() };
        for snapshot in std::iter::once(&recording.before).chain(&recording.after) {
            for (device, link) in snapshot.devices() {
                topology.nodes.entry(device).or_insert_with(|| node(snapshot, device, link));
            }
            for netns in &snapshot.namespaces {
                for entry in &netns.addresses {
                    topology.owners.entry(entry.address).or_default().insert(netns.id);
                }
            }
        }
        for (at, bridge) in recording.before.ovs.iter().enumerate() {
            for device in bridge.ports.iter().flat_map(|port| &port.interfaces).filter_map(|interface| interface.device)
            {
                if let Some(node) = topology.nodes.get_mut(&device) {
                    node.switch = Some(at);
                }
            }
        }
        let heights: Vec<(Device, u8)> =
            topology.nodes.keys().map(|device| (*device, topology.height(*device))).collect();
        for (device, height) in heights {
            if let Some(node) = topology.nodes.get_mut(&device) {
                node.height = height;
            }
        }
        topology
    }

    /// A device.
    pub fn node(&self, device: Option<Device>) -> Option<Node> {
        self.nodes.get(&device?).copied()
    }

    /// Whether an address is configured in a namespace.
    pub fn owns(&self, netns: Option<NetnsId>, address: Option<IpAddr>) -> bool {
        let (Some(netns), Some(address)) = (netns, address) else { return false };
        self.owners.get(&address).is_some_and(|owners| owners.contains(&netns))
    }

    /// Whether it is known who has an address.
    pub fn is_owned(&self, address: Option<IpAddr>) -> bool {
        address.is_some_and(|address| self.owners.contains_key(&address))
    }

    /// How many devices are below a device: what is received passes them from below, what is transmitted from above.
    pub fn level(&self, device: Option<Device>) -> u8 {
        self.node(device).map_or(0, |node| node.height)
    }

    fn height(&self, device: Device) -> u8 {
        let (mut at, mut height) = (device, 0);
        while let Some(lower) = self.nodes.get(&at).and_then(|node| node.lower)
            && height < DEEPEST
        {
            (at, height) = (lower, height + 1);
        }
        // Ports are below their master, whatever they are stacked on.
        let collects = self
            .nodes
            .get(&at)
            .is_some_and(|node| matches!(node.nature, Nature::Bridge | Nature::Bond | Nature::Mirror));
        if collects { height + DEEPEST + 1 } else { height }
    }
}

fn node(snapshot: &Snapshot, device: Device, link: &Link) -> Node {
    let peer = snapshot.peer(device);
    let paired = matches!(link.kind, LinkKind::Veth | LinkKind::Netkit { .. });
    let stacked = matches!(
        link.kind,
        LinkKind::Vlan { .. } | LinkKind::Macvlan(_) | LinkKind::Macvtap(_) | LinkKind::Ipvlan { .. }
    );
    let nature = match &link.kind {
        LinkKind::Loopback | LinkKind::Vrf { .. } => Nature::Mirror,
        LinkKind::Bridge(_) => Nature::Bridge,
        LinkKind::Bond { .. } | LinkKind::Team => Nature::Bond,
        LinkKind::Openvswitch => Nature::Switch,
        LinkKind::Vxlan(_) | LinkKind::Geneve { .. } | LinkKind::Tunnel { .. } => Nature::Tunnel,
        LinkKind::Macvlan(_) | LinkKind::Macvtap(_) | LinkKind::Ipvlan { .. } => Nature::Child,
        LinkKind::Physical | LinkKind::Tun { .. } | LinkKind::Dummy | LinkKind::Wireguard => Nature::Door,
        LinkKind::Veth | LinkKind::Netkit { .. } if peer.is_none() => Nature::Door,
        _ => Nature::Plain,
    };
    Node {
        nature,
        peer,
        lower: snapshot.lower(device).filter(|_| stacked && !paired),
        master: link.master.map(|master| Device::new(device.netns, master)),
        mac: link.mac,
        switch: None,
        height: 0,
    }
}
