//! How each branch of a packet's tree ended, and which branch is the one that matters.
//!
//! # Ends that are none
//!
//! The kernel reports as dropped what nobody misses. These do not end a packet:
//!
//! | reason | where | what it is |
//! | --- | --- | --- |
//! | NO_SOCKET | icmp_rcv, ping_rcv | an echo reply that a raw socket got as a clone; the look-up for a ping socket then finds nobody. Only if the asker got the reply: otherwise it says that no socket wanted it |
//! | QUEUE_PURGE | inet_sock_destruct and the like | what was left in a socket's queues when it was closed |
//!
//! OTHERHOST and consumption are ends, and normal ones for the copies of a flood; that is settled by which branch
//! matters, not by the reason.

use crate::correlate::{Packet, Pointer, Sighting, Visit, Way};
use crate::model::event::{Event, EventKind, is_capture};
use crate::model::exchange::{Place, Role};
use crate::model::id::{Device, NetnsId};
use crate::model::recording::Recording;

use super::topology::{Nature, Topology};
use super::tree::{How, Tree};

/// What a visit's sightings say about the packet's end.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signs {
    /// Dropped, in a way that counts.
    pub dropped: Option<Drop>,
    /// Used up.
    pub consumed: bool,
    /// The sightings by which its protocol took it: icmp_rcv for an echo request.
    pub taken: Option<Pointer>,
}

/// A drop that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Drop {
    /// Where.
    pub place: Place,
    /// It waited for address resolution, and that is what failed.
    pub waited: bool,
}

/// What became of the packets that this one asks for, as far as it is known before looking at its branches.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Success {
    /// Where it must have arrived, because it was answered from there.
    pub answered_in: Option<NetnsId>,
    /// By which device the answer left.
    pub answered_by: Option<Device>,
    /// The asker got it.
    pub received: bool,
}

/// Reads the signs of one visit.
pub fn signs(recording: &Recording, packet: &Packet, visit: &Visit, success: Success) -> Signs {
    let mut signs = Signs::default();
    for Sighting { pointer, .. } in &visit.sightings {
        let Pointer::Event(at) = pointer else { continue };
        let Some(event) = recording.events.get(*at as usize) else { continue };
        match &event.kind {
            EventKind::Drop { reason, location }
                if counts(packet.role, reason.as_deref(), location.as_deref(), success) =>
            {
                signs.dropped = Some(Drop {
                    place: place(recording, visit, event, location.clone()),
                    waited: reason.as_deref() == Some("NEIGH_FAILED")
                        || location.as_deref() == Some("neigh_invalidate"),
                });
            }
            EventKind::Consume { location: Some(function) } if is_capture(function) => {}
            EventKind::Consume { location } => {
                signs.consumed = true;
                if location.as_deref().is_some_and(|function| takes(packet.role, function)) {
                    signs.taken = Some(*pointer);
                }
            }
            EventKind::Enter { function } if takes(packet.role, function) => signs.taken = Some(*pointer),
            _ => {}
        }
    }
    signs
}

/// Whether a drop ends the packet.
pub fn counts(role: Role, reason: Option<&str>, location: Option<&str>, success: Success) -> bool {
    let at = |functions: &[&str]| location.is_some_and(|location| functions.contains(&location));
    if reason == Some("QUEUE_PURGE")
        || location.is_some_and(is_capture)
        || at(&["inet_sock_destruct", "skb_queue_purge", "skb_queue_purge_reason"])
    {
        return false;
    }
    !(role == Role::Reply && success.received && is_unwanted(reason, location))
}

/// The way an echo reply goes when ICMP itself has no use for it: raw sockets have had their clones by then.
pub fn is_unwanted(reason: Option<&str>, location: Option<&str>) -> bool {
    let by_icmp = |function: &str| matches!(function, "ping_rcv" | "icmp_rcv" | "icmpv6_rcv" | "raw_local_deliver");
    reason == Some("NO_SOCKET") || location.is_some_and(by_icmp)
}

/// Whether a function is where a protocol takes a packet of this role.
fn takes(role: Role, function: &str) -> bool {
    match role {
        Role::Request => matches!(function, "icmp_echo" | "icmp_rcv" | "icmpv6_rcv"),
        _ => false,
    }
}

fn place(recording: &Recording, visit: &Visit, event: &Event, function: Option<String>) -> Place {
    let device = event.device.or_else(|| visit.at());
    let netns = device.map(|device| device.netns).or(event.netns).or(visit.netns);
    Place { netns: netns.unwrap_or(recording.question.netns), device: device.map(|device| device.ifindex), function }
}

/// How one branch ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// It arrived.
    Delivered,
    /// The kernel dropped it.
    Dropped(Drop),
    /// It left by a device whose other end is not in sight.
    OutOfSight(Device),
    /// It was last seen here; used up, if that was seen.
    LastSeen,
}

/// How well a branch does: the greater one is the one that matters. Delivered branches first, then those that came to
/// the host they were meant for, then those that did not end at somebody else's, then those that the kernel dropped, then the
/// longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "an order of yes and no, most important first")]
struct Merit {
    delivered: bool,
    at_device: bool,
    at_owner: bool,
    /// It ended at a host that is not the one it was meant for, which is known.
    bystander: std::cmp::Reverse<bool>,
    dropped: bool,
    depth: u32,
}

/// Whether this is where a flood branches: what was flooded may come to bystanders, and that is never more than a copy. The
/// way of the packet then ends where it was flooded.
fn is_flooded(packet: &Packet, tree: &Tree, at: usize) -> bool {
    let from_port = tree.parent[at].is_some_and(|parent| packet.visits[parent].way == Way::In);
    match tree.how[at] {
        How::Bridged(_) | How::Switched(_) | How::BridgeLocal(_) | How::Up => {}
        How::Unseen if from_port => {}
        _ => return false,
    }
    let mac = packet.visits[at].first_said().mac;
    let group = mac.map_or(packet.role == Role::ArpRequest, |mac| mac.dst.is_group());
    let siblings = tree.parent[at].map_or(0, |parent| tree.children[parent].len());
    group || siblings > 1
}

/// The ends of all branches of a packet.
pub struct Ends {
    /// By visit.
    pub signs: Vec<Signs>,
    /// For each visit, the child whose branch matters most.
    pub main: Vec<Option<usize>>,
    success: Success,
}

impl Ends {
    /// Judges the branches of a tree.
    pub fn judge(recording: &Recording, topology: &Topology, packet: &Packet, tree: &Tree, success: Success) -> Self {
        let visits = &packet.visits;
        let signs: Vec<Signs> = visits.iter().map(|visit| signs(recording, packet, visit, success)).collect();
        let mut ends = Self { signs, main: vec![None; visits.len()], success };
        let mut depth = vec![0u32; visits.len()];
        for &at in &tree.order {
            depth[at] = tree.parent[at].map_or(0, |parent| depth[parent] + 1);
        }
        let mut best: Vec<Option<Merit>> = vec![None; visits.len()];
        for &at in tree.order.iter().rev() {
            let merit = best[at].unwrap_or_else(|| ends.merit(recording, topology, packet, at, depth[at]));
            best[at] = Some(merit);
            if let Some(parent) = tree.parent[at]
                && !(merit.bystander.0 && is_flooded(packet, tree, at))
                && best[parent].is_none_or(|other| merit >= other)
            {
                best[parent] = Some(merit);
                ends.main[parent] = Some(at);
            }
        }
        ends
    }

    /// How the branch that ends with this visit ended.
    pub fn end(&self, recording: &Recording, topology: &Topology, packet: &Packet, at: usize) -> End {
        let visit = &packet.visits[at];
        let signs = &self.signs[at];
        if self.arrived(recording, packet, at) {
            return End::Delivered;
        }
        if let Some(drop) = &signs.dropped {
            return End::Dropped(drop.clone());
        }
        match (visit.way, visit.at()) {
            (Way::Out, Some(device)) if topology.node(Some(device)).is_some_and(|node| node.nature == Nature::Door) => {
                End::OutOfSight(device)
            }
            _ => End::LastSeen,
        }
    }

    fn merit(&self, recording: &Recording, topology: &Topology, packet: &Packet, at: usize, depth: u32) -> Merit {
        let visit = &packet.visits[at];
        let said = visit.last_said();
        let mine = match (said.mac, topology.node(visit.at()).and_then(|node| node.mac)) {
            (Some(header), Some(own)) => header.dst.is_group() || header.dst == own,
            _ => true,
        };
        let owned = topology.owns(visit.netns, said.dst);
        let at_owner = visit.way == Way::In && owned && mine;
        let at_host = visit.way == Way::In && topology.node(visit.at()).is_some_and(|node| node.master.is_none());
        let bystander = at_host && !owned && topology.is_owned(said.dst) && said.outer.is_none();
        Merit {
            delivered: self.arrived(recording, packet, at),
            at_device: visit.at().is_some() && visit.at() == self.success.answered_by,
            at_owner,
            bystander: std::cmp::Reverse(bystander),
            dropped: self.signs[at].dropped.is_some(),
            depth,
        }
    }

    /// Whether the packet arrived where it was meant to by this visit.
    fn arrived(&self, recording: &Recording, packet: &Packet, at: usize) -> bool {
        let visit = &packet.visits[at];
        let answered = visit.way != Way::Out && visit.netns.is_some() && visit.netns == self.success.answered_in;
        match packet.role {
            Role::Request => answered || self.signs[at].taken.is_some() && self.signs[at].dropped.is_none(),
            Role::ArpRequest => answered,
            Role::Reply | Role::ArpReply | Role::IcmpError | Role::Reset => {
                visit.way != Way::Out
                    && self.signs[at].dropped.is_none()
                    && (answered || self.success.received && visit.netns == Some(recording.question.netns))
            }
        }
    }
}
