//! How the visits of one packet hang together.
//!
//! Every visit but the first has one that it came from, so the visits are a tree: a flood branches, a loop is a long
//! chain. The one that a visit came from is the latest before it that can have handed the packet over:
//!
//! | to | from | by |
//! | --- | --- | --- |
//! | received by D | transmitted by D's peer; by D itself (lo, VRF); by a sibling on the same lower device | [`How::Wire`] |
//! | received by D | transmitted by a macvlan on D, for a sibling | [`How::Down`] |
//! | received by D | received by D's lower device, or by a port of D (bond, VRF) | [`How::Up`] |
//! | received by D | received by a port of the bridge D | [`How::BridgeLocal`] |
//! | received by D | received inside a tunnel's outer packet, D being a tunnel | [`How::Decapsulated`] |
//! | transmitted by D | transmitted by a device stacked on D, or by D's master | [`How::Down`], [`How::Bridged`] |
//! | transmitted by D | received by a port of D's master | [`How::Bridged`] |
//! | transmitted or received by D | received by, or transmitted into, another port of Open vSwitch, D being one | [`How::Switched`] |
//! | transmitted by D | received in the same namespace with a greater TTL, D being no port, and the packet an IP packet | [`How::Forwarded`] |
//! | transmitted by D | made in the same namespace | [`How::Sent`] |
//! | transmitted by D in a tunnel's outer packet | transmitted by a tunnel | [`How::Encapsulated`] |
//!
//! Where nothing of the sort was seen, there is a hole in our sight. The packet's name says that it is the same all
//! the same, so it is linked to the latest transmission that nobody received: [`How::Unseen`].
//!
//! Captures stamp a frame that a stack of devices hands up without copying once for all of them; then the lower device
//! comes first on the way in, and last on the way out.

use std::collections::HashMap;

use super::topology::{Nature, Node, Topology};
use crate::correlate::{Packet, Pointer, Visit, Way};
use crate::model::id::{Device, Nanos};

/// How many earlier visits are considered: a bridge with that many ports floods, or a packet circles that often.
const LATEST: usize = 1024;

/// How a packet came from one visit to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The packet's first visit.
    First,
    /// Over a link.
    Wire,
    /// From a lower device to one above it.
    Up,
    /// From a device to one below it.
    Down,
    /// Through this bridge.
    Bridged(Device),
    /// From a port to this bridge's own device.
    BridgeLocal(Device),
    /// Through this Open vSwitch bridge, or on to others by its patch ports.
    Switched(usize),
    /// Routed from one device to another.
    Forwarded,
    /// From inside the host to a device.
    Sent,
    /// Into a tunnel; the device is the tunnel's.
    Encapsulated(Device),
    /// Out of a tunnel.
    Decapsulated,
    /// We did not see how.
    Unseen,
}

/// The visits of a packet as a tree. All lists are by position in [`Packet::visits`].
pub struct Tree {
    /// Visits in causal order: each comes after the one it came from.
    pub order: Vec<usize>,
    /// Where each came from.
    pub parent: Vec<Option<usize>>,
    /// And how.
    pub how: Vec<How>,
    /// Where each went to.
    pub children: Vec<Vec<usize>>,
}

impl Tree {
    /// Of a packet.
    pub fn grow(packet: &Packet, topology: &Topology) -> Self {
        let visits = &packet.visits;
        let mut order: Vec<usize> = (0..visits.len()).collect();
        let times = times(visits);
        order.sort_by_key(|&at| {
            let visit = &visits[at];
            let level = topology.level(visit.at());
            (times[at], visit.way, if visit.way == Way::Out { u8::MAX - level } else { level }, at)
        });
        let mut tree = Self {
            parent: vec![None; visits.len()],
            how: vec![How::First; visits.len()],
            children: vec![Vec::new(); visits.len()],
            order: Vec::new(),
        };
        let stations: Vec<Station<'_>> = visits.iter().map(|visit| Station::of(topology, visit)).collect();
        for (place, &at) in order.iter().enumerate() {
            let earlier = &order[..place];
            let step = |from: usize| leads(packet, &stations[from], &stations[at]);
            let found = earlier.iter().rev().take(LATEST).find_map(|&from| Some((from, step(from)?)));
            let found = found.or_else(|| Some((tree.loose_end(visits, earlier)?, How::Unseen)));
            if let Some((from, how)) = found {
                tree.parent[at] = Some(from);
                tree.how[at] = how;
                tree.children[from].push(at);
            }
        }
        tree.order = order;
        tree
    }

    /// The latest transmission that nothing is known to have come of; else simply the latest visit.
    fn loose_end(&self, visits: &[Visit], earlier: &[usize]) -> Option<usize> {
        let is_loose = |at: usize| {
            visits[at].way == Way::Out && self.children[at].iter().all(|&child| self.how[child] == How::Unseen)
        };
        earlier.iter().rev().take(LATEST).copied().find(|&at| is_loose(at)).or(earlier.last().copied())
    }
}

/// When each visit was. A stamp of the capture that several visits have in common is the time of the first of them; if a
/// probe has told when that was, its clock counts for all.
fn times(visits: &[Visit]) -> Vec<Nanos> {
    let stamp = |visit: &Visit| {
        visit
            .sightings
            .iter()
            .find(|sighting| matches!(sighting.pointer, Pointer::Frame(_)))
            .map(|sighting| sighting.time)
    };
    let is_probed =
        |visit: &Visit| visit.sightings.iter().any(|sighting| matches!(sighting.pointer, Pointer::Event(_)));
    let mut probed: HashMap<Nanos, Nanos> = HashMap::new();
    for visit in visits.iter().filter(|visit| is_probed(visit)) {
        if let Some(stamp) = stamp(visit) {
            let first = probed.entry(stamp).or_insert(visit.time);
            *first = visit.time.min(*first);
        }
    }
    let time = |visit: &Visit| match stamp(visit) {
        Some(stamp) if !is_probed(visit) => probed.get(&stamp).copied().unwrap_or(visit.time),
        _ => visit.time,
    };
    visits.iter().map(time).collect()
}

/// A visit with what is known about its device.
struct Station<'a> {
    visit: &'a Visit,
    device: Option<Device>,
    node: Option<Node>,
    /// What collects the device, if it is a port.
    master: Option<Nature>,
    /// It is inside a tunnel's outer packet.
    wrapped: bool,
}

impl<'a> Station<'a> {
    fn of(topology: &Topology, visit: &'a Visit) -> Self {
        let device = visit.at();
        let node = topology.node(device);
        let master = node.and_then(|node| topology.node(node.master)).map(|master| master.nature);
        Self { visit, device, node, master, wrapped: visit.last_said().outer.is_some() }
    }
}

/// How a packet can come from one visit to a later one, if it can.
fn leads(packet: &Packet, from: &Station<'_>, to: &Station<'_>) -> Option<How> {
    let (Some(sender), Some(receiver)) = (from.device, to.device) else { return inside(from.visit, to.visit) };
    if from.visit.way == Way::Local || to.visit.way == Way::Local {
        return inside(from.visit, to.visit);
    }
    let (before, after) = (from.node?, to.node?);
    let common = before.master.filter(|master| after.master == Some(*master));
    let switch = match (before.switch, after.switch) {
        (Some(at), Some(_)) if sender != receiver => Some(How::Switched(at)),
        _ => common.filter(|_| from.master == Some(Nature::Switch)).map(How::Bridged),
    };
    let tunnel = |node: &Node| node.nature == Nature::Tunnel;
    match (from.visit.way, to.visit.way) {
        (Way::Out, Way::In) => {
            let mirrored = sender == receiver && before.nature == Nature::Mirror;
            let child = |node: &Node| node.nature == Nature::Child;
            let siblings = sender != receiver && child(&before) && child(&after) && before.lower == after.lower;
            if mirrored || siblings || before.peer == Some(receiver) {
                Some(How::Wire)
            } else if before.lower == Some(receiver) {
                // macvlan_queue_xmit: what goes to a sibling is shown to the lower device's taps first.
                Some(How::Down)
            } else {
                switch
            }
        }
        (Way::In, Way::In) if after.lower == Some(sender) => Some(How::Up),
        (Way::In, Way::In) if before.master == Some(receiver) => {
            Some(if after.nature == Nature::Bridge { How::BridgeLocal(receiver) } else { How::Up })
        }
        (Way::In, Way::In) if tunnel(&after) && from.wrapped && !to.wrapped => Some(How::Decapsulated),
        (Way::Out, Way::Out) if before.lower == Some(receiver) => Some(How::Down),
        (Way::Out, Way::Out) if after.master == Some(sender) => {
            Some(if before.nature == Nature::Bridge { How::Bridged(sender) } else { How::Down })
        }
        (Way::Out, Way::Out) if tunnel(&before) && to.wrapped && !from.wrapped => Some(How::Encapsulated(sender)),
        (Way::In, Way::In) | (Way::Out, Way::Out) => switch,
        (Way::In, Way::Out) if switch.is_some() => switch,
        (Way::In, Way::Out) if common.is_some() && from.master != Some(Nature::Mirror) => common.map(How::Bridged),
        (Way::In, Way::Out) => {
            let is_port = to.master.is_some_and(|master| master != Nature::Mirror);
            let routable = !packet.is_resolution() || from.wrapped;
            let routed = sender.netns == receiver.netns && !is_port && routable;
            let ttl = |station: &Station<'_>| station.visit.first_said().ttl.filter(|_| !station.wrapped);
            let aged = ttl(from).zip(ttl(to)).is_none_or(|(before, after)| after < before);
            (routed && aged && from.wrapped == to.wrapped).then_some(How::Forwarded)
        }
        _ => None,
    }
}

/// From inside a host to a device of the same host.
fn inside(from: &Visit, to: &Visit) -> Option<How> {
    let same = from.netns.is_some() && from.netns == to.netns;
    match (from.way, to.way) {
        (Way::Local, Way::Out | Way::In) if same => Some(How::Sent),
        (Way::In, Way::Local) if same => Some(How::Up),
        _ => None,
    }
}
