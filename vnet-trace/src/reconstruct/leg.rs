//! Which leg of the exchange a packet helps along.
//!
//! A request is on the forward leg, a reply or refusal on the way back; an error belongs to the leg of the packet that
//! it is about. Address resolution serves a packet that waits, and does not say which:
//!
//! 1. The asker asks for the request's sake, the owner of the destination for the reply's.
//! 2. Whoever else asks for the destination of the request does it for its sake; whoever asks for the address that the
//!    reply goes to, for the reply's. NAT may have given either of them other addresses on the way.
//! 3. Otherwise, between routers, the packet that came to the asking host last is the one that waits there. A request
//!    that came to its own destination waits no more: its reply does.
//! 4. The answer belongs to its question.
//!
//! Limit: with several requests on their way at once, rule 3 may name the wrong one where two routers ask for each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::topology::Topology;
use crate::correlate::{Packet, Packets, Way};
use crate::model::exchange::{Leg, Role};
use crate::model::id::{Nanos, NetnsId};
use crate::model::recording::Recording;

/// What is known about who waits for whom.
pub struct Legs {
    /// The address that the request set out with.
    asker: Option<IpAddr>,
    /// Addresses that the request goes to: as asked, and what NAT makes of it.
    ends: BTreeSet<IpAddr>,
    /// Addresses that the reply goes to.
    starts: BTreeSet<IpAddr>,
    /// Per host: which packet came to it or was made there, by time.
    passed: BTreeMap<NetnsId, Vec<(Nanos, Leg)>>,
    /// Questions with their legs: (who asks, who is asked for).
    asked: HashMap<(Option<IpAddr>, Option<IpAddr>), Leg>,
}

impl Legs {
    /// Of all packets.
    pub fn of(recording: &Recording, packets: &Packets, topology: &Topology) -> Self {
        let question = &recording.question;
        let first = packets.packets.iter().find(|packet| packet.role == Role::Request);
        let mut legs = Self {
            asker: question.source().or(recording.ping.source).or(first.and_then(|packet| packet.first_said().src)),
            ends: BTreeSet::from([question.dst]),
            starts: recording.ping.source.into_iter().chain(question.source()).collect(),
            passed: BTreeMap::new(),
            asked: HashMap::new(),
        };
        for packet in &packets.packets {
            let leg = match packet.role {
                Role::Request => Leg::Forward,
                Role::Reply => Leg::Return,
                _ => continue,
            };
            for visit in &packet.visits {
                for said in &visit.said {
                    let (far, near) = if leg == Leg::Forward { (said.dst, said.src) } else { (said.src, said.dst) };
                    legs.ends.extend(far);
                    legs.starts.extend(near);
                }
                let Some(netns) = visit.netns.filter(|_| visit.way != Way::Out) else { continue };
                let arrived =
                    leg == Leg::Forward && visit.way == Way::In && topology.owns(Some(netns), visit.last_said().dst);
                let waits = if arrived { Leg::Return } else { leg };
                legs.passed.entry(netns).or_default().push((visit.time, waits));
            }
        }
        for passed in legs.passed.values_mut() {
            passed.sort_unstable_by_key(|(time, _)| *time);
        }
        for packet in packets.packets.iter().filter(|packet| packet.role == Role::ArpRequest) {
            let leg = legs.of_question(recording, packet);
            let said = packet.first_said();
            legs.asked.insert((said.src, said.dst), leg);
        }
        legs
    }

    /// Of one packet.
    pub fn leg(&self, recording: &Recording, packet: &Packet) -> Leg {
        match (packet.role, packet.about) {
            (Role::Request, _) | (Role::IcmpError, Some(Role::Request) | None) => Leg::Forward,
            (Role::Reply | Role::IcmpError | Role::Reset, _) => Leg::Return,
            (Role::ArpRequest, _) => self.of_question(recording, packet),
            (Role::ArpReply, _) => {
                let said = packet.first_said();
                self.asked
                    .get(&(said.dst, said.src))
                    .copied()
                    .unwrap_or_else(|| self.by_address(said.src).unwrap_or(Leg::Forward))
            }
        }
    }

    fn of_question(&self, recording: &Recording, packet: &Packet) -> Leg {
        let said = packet.first_said();
        // Whoever is an end of the exchange asks for the sake of what it sends itself.
        if said.src.is_some() && said.src == self.asker {
            return Leg::Forward;
        }
        if said.src == Some(recording.question.dst) {
            return Leg::Return;
        }
        if let Some(leg) = self.by_address(said.dst) {
            return leg;
        }
        if let Some(leg) = self.by_address(said.src) {
            return if leg == Leg::Forward { Leg::Return } else { Leg::Forward };
        }
        let netns = packet.visits.first().and_then(|visit| visit.netns);
        let waiting = netns.and_then(|netns| self.passed.get(&netns)).and_then(|passed| {
            let before = passed.partition_point(|(time, _)| *time <= packet.begun());
            passed.get(before.checked_sub(1)?).map(|(_, leg)| *leg)
        });
        let asks_itself = netns == Some(recording.question.netns);
        waiting.unwrap_or(if asks_itself || netns.is_none() { Leg::Forward } else { Leg::Return })
    }

    /// The leg that needs the link-layer address of this address, if it is an end of the exchange.
    fn by_address(&self, address: Option<IpAddr>) -> Option<Leg> {
        let address = address?;
        match (self.ends.contains(&address), self.starts.contains(&address)) {
            (true, false) => Some(Leg::Forward),
            (false, true) => Some(Leg::Return),
            _ => None,
        }
    }
}
