//! The packets' way as it was seen.
//!
//! Takes [`Packets`] (which sightings are of one packet) and the [`Recording`] that they are of, and gives an [`Exchange`]:
//! a journey for each packet, in causal order, in the same types as a prediction, so that the two can be compared step by
//! step. Every step points to the sightings that it rests on. It cannot fail, and it names no causes: a loss says where the
//! kernel dropped the packet, never why the network is such that it had to.
//!
//! 1. [`tree`]: the visits of a packet are linked to a tree, with what the snapshot says about neighbourhood.
//! 2. [`end`]: each branch is judged by how it ended; the one that did best is the journey, the others are its copies.
//! 3. [`steps`]: each visit becomes steps.
//! 4. [`journey`]: a branch becomes a journey, with its copies.
//! 5. [`leg`]: each packet is given its leg, and the journeys their order.
//!
//! # Fates
//!
//! *Delivered* needs a sign of it: the packet was answered from where it came to, its protocol took it (icmp_rcv), or the
//! asker's socket got it. *Lost* needs a drop that counts (see [`end`]). *Out of sight* is a last transmission by a device
//! whose other end is not in the snapshot. All else was last seen somewhere: *cut*. An ARP request that is consumed without
//! an answer is such a case: the kernel gives no sign of whether it was refused or simply not for anybody here.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::correlate::{Packet, Packets, Visit};
use crate::model::exchange::{Exchange, Journey, Leg, Role};
use crate::model::id::{Device, Nanos, NetnsId};
use crate::model::recording::{PingError, Recording};

mod end;
mod journey;
mod leg;
mod steps;
#[cfg(test)]
pub(crate) mod tests;
mod topology;
mod tree;
mod waiting;

pub use end::{Success, is_unwanted};
pub use topology::{Nature, Node, Topology};

use leg::Legs;

/// Puts the way of one packet together, of which nothing is known but its sightings.
pub fn tell(packet: &Packet, recording: &Recording, topology: &Topology, success: Success) -> Journey {
    journey::tell(recording, topology, packet, Leg::Forward, success).1
}

/// Puts the packets' way together.
pub fn reconstruct(packets: &Packets, recording: &Recording) -> Exchange {
    let topology = Topology::of(recording);
    let legs = Legs::of(recording, packets, &topology);
    let answers = Answers::of(recording, packets);
    let mut journeys: Vec<(Nanos, Journey)> = Vec::with_capacity(packets.packets.len());
    let mut whole: HashMap<(Role, Option<u16>, Option<Role>), usize> = HashMap::new();
    for packet in &packets.packets {
        let leg = legs.leg(recording, packet);
        let (time, journey) = journey::tell(recording, &topology, packet, leg, answers.success(recording, packet));
        let name = (packet.role, packet.seq, packet.about);
        // A later fragment travels with its first one.
        let first = whole.get(&name).filter(|_| packet.offset > 0).and_then(|&first| journeys.get_mut(first));
        if let Some((_, first)) = first {
            first.copies.push(journey);
        } else {
            whole.insert(name, journeys.len());
            journeys.push((time, journey));
        }
    }
    journeys.sort_by_key(|(time, _)| *time);
    let mut journeys: Vec<Journey> = journeys.into_iter().map(|(_, journey)| journey).collect();
    waiting::tell(recording, packets, &mut journeys);
    Exchange { journeys, ..Exchange::default() }
}

/// Where a packet was made: the host, and the first device that it was seen at.
type Made = (Option<NetnsId>, Option<Device>);

/// Who answered what.
struct Answers {
    /// Per sequence number: where the reply was made.
    replies: HashMap<Option<u16>, Made>,
    /// Per sequence number: where the request was made.
    requests: HashMap<Option<u16>, Option<NetnsId>>,
    /// Answers of address resolution by (answerer, asker): when, and where they were made.
    told: HashMap<(IpAddr, IpAddr), BTreeMap<Nanos, Made>>,
    /// Questions of address resolution by (asker, asked for): when, and where they were made.
    asked: HashMap<(IpAddr, IpAddr), BTreeMap<Nanos, Made>>,
}

impl Answers {
    fn of(recording: &Recording, packets: &Packets) -> Self {
        let mut answers =
            Self { replies: HashMap::new(), requests: HashMap::new(), told: HashMap::new(), asked: HashMap::new() };
        for packet in packets.packets.iter().filter(|packet| packet.offset == 0) {
            let Some(first) = packet.visits.first() else { continue };
            let made = (first.netns, packet.visits.iter().find_map(Visit::at));
            let said = packet.first_said();
            match (packet.role, said.src, said.dst) {
                (Role::Reply, ..) => {
                    answers.replies.entry(packet.seq).or_insert(made);
                }
                (Role::Request, ..) => {
                    answers.requests.entry(packet.seq).or_insert(first.netns.or(Some(recording.question.netns)));
                }
                (Role::ArpReply, Some(src), Some(dst)) => {
                    answers.told.entry((src, dst)).or_default().insert(packet.begun(), made);
                }
                (Role::ArpRequest, Some(src), Some(dst)) => {
                    answers.asked.entry((src, dst)).or_default().insert(packet.begun(), made);
                }
                _ => {}
            }
        }
        answers
    }

    fn success(&self, recording: &Recording, packet: &Packet) -> Success {
        let ping = &recording.ping;
        let mut success = Success::default();
        let said = packet.first_said();
        let ends = said.src.zip(said.dst);
        match packet.role {
            Role::Request => {
                if let Some((netns, device)) = self.replies.get(&packet.seq) {
                    (success.answered_in, success.answered_by) = (*netns, *device);
                }
            }
            Role::Reply => {
                success.received = ping.rtt_us.iter().any(|(seq, _)| Some(*seq) == packet.seq)
                    || packet.seq.is_none() && ping.received > 0;
            }
            Role::Reset => success.received = ping.errors.iter().any(PingError::is_refusal),
            Role::IcmpError => {
                success.answered_in = match packet.about {
                    Some(Role::Reply) => self.replies.get(&packet.seq).and_then(|(netns, _)| *netns),
                    _ => self.requests.get(&packet.seq).copied().flatten().or(Some(recording.question.netns)),
                };
            }
            Role::ArpRequest => {
                // The first answer from its time on, unless it was asked again before that.
                let answer = ends
                    .and_then(|(src, dst)| self.told.get(&(dst, src)))
                    .and_then(|told| told.range(packet.begun()..).next());
                let again = ends
                    .and_then(|ends| self.asked.get(&ends))
                    .and_then(|asked| asked.range(Nanos(packet.begun().0 + 1)..).next());
                if let Some((time, (netns, device))) = answer
                    && again.is_none_or(|(again, _)| again > time)
                {
                    (success.answered_in, success.answered_by) = (*netns, *device);
                }
            }
            Role::ArpReply => {
                let question = ends
                    .and_then(|(src, dst)| self.asked.get(&(dst, src)))
                    .and_then(|asked| asked.range(..=packet.begun()).next_back());
                if let Some((_, (netns, device))) = question {
                    (success.answered_in, success.answered_by) = (*netns, *device);
                }
            }
        }
        success
    }
}
