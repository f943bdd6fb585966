//! What happened at each visit, in the words of the exchange.
//!
//! A passage of a device is one step, however many witnesses it has; every other sighting is a step of its own, or, where
//! it says nothing that the step before it does not say, one more witness of that.

use std::net::IpAddr;

use super::end::{self, Success};
use super::topology::Topology;
use super::tree::{How, Tree};
use crate::correlate::{Packet, Pointer, Said, Sighting, Visit, Way};
use crate::model::diagnosis::Source;
use crate::model::event::{Event, EventKind, is_capture};
use crate::model::exchange::{Action, Opaque, Role, Step};
use crate::model::frame::Direction;
use crate::model::id::{IfIndex, NetnsId};
use crate::model::netfilter::Hook;
use crate::model::recording::Recording;

/// NFPROTO_ARP, whose hooks are numbered in their own way.
const NFPROTO_ARP: u8 = 3;
/// NFPROTO_NETDEV: one hook each way, at a device.
const NFPROTO_NETDEV: u8 = 5;

/// A pointer as evidence.
pub fn source(pointer: Pointer) -> Source {
    match pointer {
        Pointer::Event(at) => Source::Event(at as usize),
        Pointer::Frame(at) => Source::Frame(at as usize),
    }
}

/// Writes the steps of one packet.
pub struct Writer<'a> {
    /// The recording.
    pub recording: &'a Recording,
    /// The devices.
    pub topology: &'a Topology,
    /// The packet.
    pub packet: &'a Packet,
    /// Its visits as a tree.
    pub tree: &'a Tree,
    /// What became of it, as others tell.
    pub success: Success,
}

impl Writer<'_> {
    /// Adds the steps of a visit, and how the packet came to it.
    pub fn write(&self, steps: &mut Vec<Step>, at: usize) {
        let Some(visit) = self.packet.visits.get(at) else { return };
        let before = self.tree.parent[at].and_then(|parent| self.packet.visits.get(parent));
        let netns = visit.netns.or(before.and_then(|before| before.netns)).unwrap_or(self.recording.question.netns);
        if let Some(before) = before {
            if let Some(action) = rewritten(&before.last_said(), &visit.first_said()) {
                let sources = before.sightings.last().into_iter().chain(visit.sightings.first());
                let sources = sources.map(|sighting| source(sighting.pointer)).collect();
                steps.push(Step { time: Some(visit.time), netns, device: visit.device, action, sources });
            }
            let mut push = |netns: NetnsId, device: Option<IfIndex>, action: Action| {
                steps.push(Step { time: Some(visit.time), netns, device, action, sources: Vec::new() });
            };
            match self.tree.how[at] {
                How::Bridged(bridge) => {
                    let flooded = self.is_flooded(at, visit);
                    push(netns, visit.device, Action::BridgeForwarded { bridge: bridge.ifindex, flooded });
                }
                How::BridgeLocal(bridge) => push(netns, visit.device, Action::BridgeLocal { bridge: bridge.ifindex }),
                How::Switched(bridge) => {
                    if let Some(bridge) = self.recording.before.ovs.get(bridge) {
                        let action = Action::Opaque(Opaque::Switch { bridge: bridge.name.clone() });
                        push(before.netns.unwrap_or(netns), before.device, action);
                    }
                }
                How::Forwarded => push(netns, visit.device, Action::Forwarded),
                How::Encapsulated(tunnel) => {
                    if let Some(outer) = visit.last_said().outer {
                        let action = Action::Encapsulated { src: Some(outer.src), dst: outer.dst, vni: outer.vni };
                        push(tunnel.netns, Some(tunnel.ifindex), action);
                    }
                }
                How::Decapsulated => push(netns, visit.device, Action::Decapsulated),
                How::First | How::Wire | How::Up | How::Down | How::Sent | How::Unseen => {}
            }
        } else if self.is_made_here(visit) {
            let time = Some(visit.time);
            steps.push(Step { time, netns, device: None, action: Action::Sent, sources: Vec::new() });
        }
        self.sightings(steps, at, visit, netns);
    }

    /// Whether a socket, or the kernel in its stead, made the packet where it was first seen.
    fn is_made_here(&self, visit: &Visit) -> bool {
        visit.way != Way::In
            && match self.packet.role {
                Role::Request => visit.netns == Some(self.recording.question.netns),
                Role::Reply | Role::IcmpError | Role::Reset => self.topology.owns(visit.netns, visit.first_said().src),
                Role::ArpRequest | Role::ArpReply => false,
            }
    }

    fn is_flooded(&self, at: usize, visit: &Visit) -> bool {
        let siblings = self.tree.parent[at].map_or(&[][..], |parent| &self.tree.children[parent]);
        let bridged = siblings.iter().filter(|&&sibling| matches!(self.tree.how[sibling], How::Bridged(_))).count();
        bridged > 1 || visit.first_said().mac.is_some_and(|mac| mac.dst.is_group())
    }

    fn sightings(&self, steps: &mut Vec<Step>, at: usize, visit: &Visit, netns: NetnsId) {
        let begin = steps.len();
        let mut said = 0;
        for sighting in &visit.sightings {
            let said_now = usize::from(sighting.said);
            if said_now != said
                && let (Some(before), Some(now)) = (visit.said.get(said), visit.said.get(said_now))
                && let Some(action) = rewritten(before, now)
            {
                let sources = vec![source(sighting.pointer)];
                steps.push(Step { time: Some(sighting.time), netns, device: visit.device, action, sources });
            }
            said = said_now;
            self.sighting(steps, begin, at, netns, sighting);
        }
    }

    fn sighting(&self, steps: &mut Vec<Step>, begin: usize, at: usize, netns: NetnsId, sighting: &Sighting) {
        let Some(visit) = self.packet.visits.get(at) else { return };
        let source = source(sighting.pointer);
        let event = match sighting.pointer {
            Pointer::Event(at) => self.recording.events.get(at as usize),
            Pointer::Frame(_) => None,
        };
        let Some(action) = (match sighting.pointer {
            Pointer::Event(_) => event.and_then(|event| self.action(event, at, visit)),
            Pointer::Frame(at) => self.recording.frames.get(at as usize).map(|frame| match frame.direction {
                Direction::Out => Action::Transmitted,
                Direction::In | Direction::Unknown => Action::Received,
            }),
        }) else {
            // It says nothing of its own.
            if let Some(step) = steps.get_mut(begin..).and_then(<[Step]>::last_mut) {
                step.sources.push(source);
            } else {
                let action = Action::Seen { site: event.map(site).unwrap_or_default(), note: String::new() };
                let time = Some(sighting.time);
                steps.push(Step { time, netns, device: visit.device, action, sources: vec![source] });
            }
            return;
        };
        let passage = matches!(action, Action::Received | Action::Transmitted | Action::Queued);
        if passage && let Some(step) = steps.iter_mut().skip(begin).find(|step| step.action == action) {
            // The clock of the probes counts.
            if event.is_some() && step.event().is_none() {
                step.time = Some(sighting.time);
            }
            return step.sources.push(source);
        }
        let own = event.and_then(|event| event.device).filter(|_| !passage);
        let (netns, device) = match own {
            Some(device) => (device.netns, Some(device.ifindex)),
            None => (event.and_then(|event| event.netns).unwrap_or(netns), visit.device),
        };
        steps.push(Step { time: Some(sighting.time), netns, device, action, sources: vec![source] });
    }

    /// Whether these are the addresses of the packet, as they are here or as NAT makes them before the next device.
    fn looks_for(&self, at: usize, src: IpAddr, dst: IpAddr) -> bool {
        let is_it = |said: &Said| (said.src, said.dst) == (Some(src), Some(dst));
        let says = |at: &usize| self.packet.visits.get(*at).is_some_and(|visit| visit.said.iter().any(is_it));
        says(&at) || self.tree.children.get(at).is_some_and(|children| children.iter().any(says))
    }

    /// What an event says; None if it is only one more witness.
    fn action(&self, event: &Event, at: usize, visit: &Visit) -> Option<Action> {
        let seen = |site: &str, note: String| Some(Action::Seen { site: site.to_owned(), note });
        match &event.kind {
            EventKind::Queue => Some(Action::Queued),
            EventKind::Xmit => Some(Action::Transmitted),
            EventKind::NetifRx | EventKind::Receive => Some(Action::Received),
            EventKind::Drop { reason, location } => {
                if end::counts(self.packet.role, reason.as_deref(), location.as_deref(), self.success) {
                    return Some(Action::Dropped { reason: reason.clone(), location: location.clone() });
                }
                seen(location.as_deref().unwrap_or("kfree_skb"), reason.clone().unwrap_or_default())
            }
            EventKind::Consume { location: Some(function) } if is_capture(function) => None,
            EventKind::Consume { location } => Some(Action::Consumed { location: location.clone() }),
            EventKind::FibLookup { table, src, dst, error: 0, nexthop, gateway, .. }
                if self.looks_for(at, *src, *dst) =>
            {
                let local = gateway.is_none() && self.topology.owns(event.netns.or(visit.netns), Some(*dst));
                let oif = nexthop.map(|device| device.ifindex).filter(|_| !local);
                Some(Action::Routed { table: *table, oif, gateway: *gateway, local })
            }
            EventKind::FibLookup { table, src, dst, error, nexthop, .. } => {
                let result = match (error, nexthop) {
                    (0, Some(device)) => format!("dev {}", self.recording.before.device_name(*device)),
                    (0, None) => "found".to_owned(),
                    (error, _) => format!("error {error}"),
                };
                seen("fib_table_lookup", format!("{dst} from {src} table {table}: {result}"))
            }
            EventKind::Return { function, value, .. } if function == "fib_validate_source" && *value >= 0 => {
                Some(Action::SourceChecked)
            }
            EventKind::Return { function, value, meaning } => seen(
                function,
                meaning.as_ref().map_or_else(|| value.to_string(), |meaning| format!("{value} {meaning}")),
            ),
            EventKind::Enter { function } if is_passage(function) => None,
            EventKind::Enter { function } => seen(function, String::new()),
            EventKind::Netfilter { pf, hook, verdict } => {
                let hook = hook_of(*pf, *hook);
                match (hook, verdict) {
                    (Some(hook), 1) => Some(Action::Hook { hook, rules: Vec::new() }),
                    (hook, verdict) => {
                        let word = hook.map_or("?", Hook::word);
                        let what = match verdict {
                            1 => "accepted",
                            0 => "stolen or queued",
                            _ => "dropped",
                        };
                        seen("nf_hook_slow", format!("{word}: {what} ({verdict})"))
                    }
                }
            }
            EventKind::IcmpSend { kind, code } => seen("icmp_send", format!("type {kind} code {code}")),
            EventKind::Clone { .. } | EventKind::Neigh { .. } => None,
        }
    }
}

/// Functions that only say what the passage of the device says.
fn is_passage(function: &str) -> bool {
    matches!(function, "veth_xmit" | "macvlan_start_xmit" | "ipvlan_start_xmit" | "vxlan_xmit" | "br_handle_frame")
}

fn site(event: &Event) -> String {
    match &event.kind {
        EventKind::Enter { function } => function.clone(),
        EventKind::Clone { .. } => "skb_clone".to_owned(),
        _ => String::new(),
    }
}

/// The hook, as `include/uapi/linux/netfilter.h`, `netfilter_arp.h` and `netfilter_bridge.h` number them.
fn hook_of(pf: u8, hook: u8) -> Option<Hook> {
    Some(match (pf, hook) {
        (NFPROTO_NETDEV, 1) => Hook::Egress,
        (NFPROTO_NETDEV, 0) | (_, 5) => Hook::Ingress,
        (NFPROTO_ARP, 1) | (_, 3) => Hook::Output,
        (NFPROTO_ARP, 0) | (_, 1) => Hook::Input,
        (_, 0) => Hook::Prerouting,
        (_, 2) => Hook::Forward,
        (_, 4) => Hook::Postrouting,
        _ => return None,
    })
}

/// What was done, if an IP packet's addresses or ports changed.
fn rewritten(before: &Said, now: &Said) -> Option<Action> {
    let (from, to) = ((before.src?, before.dst?), (now.src?, now.dst?));
    let ports = |said: &Said| Some((said.id?, said.port?));
    let ports = ports(before).zip(ports(now));
    let changed = from != to || ports.is_some_and(|(before, now)| before != now);
    (changed && now.ttl.is_some()).then_some(Action::Rewritten { from, to, ports, rule: None })
}
