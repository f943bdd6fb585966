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
//! 4. [`leg`]: each packet is given its leg, and the journeys their order.
//!
//! # Fates
//!
//! *Delivered* needs a sign of it: the packet was answered from where it came to, its protocol took it (icmp_rcv), or the
//! asker's socket got it. *Lost* needs a drop that counts (see [`end`]). *Out of sight* is a last transmission by a device
//! whose other end is not in the snapshot. All else was last seen somewhere: *cut*. An ARP request that is consumed without
//! an answer is such a case: the kernel gives no sign of whether it was refused or simply not for anybody here.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::correlate::{Packet, Packets, Said, Visit};
use crate::model::exchange::{Action, Exchange, Fate, Headers, Journey, Leg, Loss, Role, Step};
use crate::model::id::{Device, Nanos, NetnsId};
use crate::model::recording::Recording;

mod end;
mod leg;
mod steps;
#[cfg(test)]
pub(crate) mod tests;
mod topology;
mod tree;
mod waiting;

use end::{End, Ends, Success};
use leg::Legs;
use steps::{Writer, source};
use topology::Topology;
use tree::Tree;

/// Puts the packets' way together.
pub fn reconstruct(packets: &Packets, recording: &Recording) -> Exchange {
    let topology = Topology::of(recording);
    let legs = Legs::of(recording, packets, &topology);
    let answers = Answers::of(recording, packets);
    let mut journeys: Vec<(Nanos, Journey)> = Vec::with_capacity(packets.packets.len());
    let mut whole: HashMap<(Role, Option<u16>, Option<Role>), usize> = HashMap::new();
    for packet in &packets.packets {
        let leg = legs.leg(recording, packet);
        let (time, journey) = journey(recording, &topology, packet, leg, answers.success(recording, packet));
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

/// One packet's journey, and the time that gives it its place: when it was last at a device, so that what it had to wait
/// for comes before it.
fn journey(
    recording: &Recording,
    topology: &Topology,
    packet: &Packet,
    leg: Leg,
    success: Success,
) -> (Nanos, Journey) {
    let tree = Tree::grow(packet, topology);
    let ends = Ends::judge(recording, topology, packet, &tree, success);
    let writer = Writer { recording, topology, packet, tree: &tree, success };
    let branch = |start: usize| -> (Journey, Vec<usize>) {
        let mut steps = Vec::new();
        let mut aside = Vec::new();
        let mut at = start;
        loop {
            writer.write(&mut steps, at);
            let main = ends.main[at];
            aside.extend(tree.children[at].iter().copied().filter(|child| Some(*child) != main));
            match main {
                Some(next) => at = next,
                None => break,
            }
        }
        let fate = fate(recording, topology, packet, &tree, &ends, at, &mut steps);
        let headers = headers(packet, start);
        (
            Journey {
                role: packet.role,
                leg,
                seq: packet.seq,
                headers,
                steps,
                copies: Vec::new(),
                fate,
                beyond: Vec::new(),
            },
            aside,
        )
    };
    let Some(&root) = tree.order.first() else {
        let fate = Fate::Cut { netns: recording.question.netns, device: None };
        let headers = Headers::default();
        let journey = Journey {
            role: packet.role,
            leg,
            seq: packet.seq,
            headers,
            steps: Vec::new(),
            copies: Vec::new(),
            fate,
            beyond: Vec::new(),
        };
        return (Nanos(0), journey);
    };
    let (mut journey, mut aside) = branch(root);
    let mut next = 0;
    while let Some(&start) = aside.get(next) {
        let (copy, more) = branch(start);
        journey.copies.push(copy);
        aside.extend(more);
        next += 1;
    }
    let at_device = |step: &&Step| matches!(step.action, Action::Received | Action::Transmitted | Action::Queued);
    let last = journey.steps.iter().rev().find(at_device).or(journey.steps.last());
    (last.and_then(|step| step.time).unwrap_or(packet.begun()), journey)
}

fn fate(
    recording: &Recording,
    topology: &Topology,
    packet: &Packet,
    tree: &Tree,
    ends: &Ends,
    at: usize,
    steps: &mut Vec<Step>,
) -> Fate {
    let visit = &packet.visits[at];
    let netns = visit.netns.or(steps.last().map(|step| step.netns)).unwrap_or(recording.question.netns);
    match ends.end(recording, topology, packet, at) {
        End::Delivered => {
            let mut sources: Vec<_> = ends.signs[at].taken.map(source).into_iter().collect();
            // That it is used up, and how sockets came by it, is what delivery looks like.
            let begin = steps.iter().rposition(|step| matches!(step.action, Action::Received)).unwrap_or(0);
            let mut place = 0;
            steps.retain_mut(|step| {
                place += 1;
                let belongs = place > begin
                    && match &step.action {
                        Action::Consumed { .. } => true,
                        Action::Seen { site, .. } => is_delivery(site),
                        _ => false,
                    };
                if belongs {
                    let new: Vec<_> = step.sources.drain(..).filter(|source| !sources.contains(source)).collect();
                    sources.extend(new);
                }
                !belongs
            });
            let time = visit.sightings.last().map(|sighting| sighting.time);
            steps.push(Step { time, netns, device: visit.device, action: Action::Delivered, sources });
            Fate::Delivered { netns, device: visit.device }
        }
        End::Dropped(drop) => {
            // Certain, unless another copy may live, or it died of another packet's loss.
            let all_ended = tree.order.iter().all(|&leaf| {
                leaf == at
                    || !tree.children[leaf].is_empty()
                    || ends.signs[leaf].dropped.is_some()
                    || ends.signs[leaf].consumed
            });
            Fate::Lost(Loss { place: drop.place, decision: None, certain: all_ended && !drop.waited })
        }
        End::OutOfSight(last) => Fate::OutOfSight { last },
        End::LastSeen => Fate::Cut { netns, device: visit.device },
    }
}

/// Where a packet ends that has arrived: protocols, sockets, and what is left for nobody.
fn is_delivery(site: &str) -> bool {
    matches!(site, "icmp_rcv" | "icmpv6_rcv" | "ping_rcv" | "skb_copy_datagram_iovec" | "inet_sock_destruct")
}

/// The headers as the packet set out on this branch: what the first sightings know, filled up by later ones of the same visit.
fn headers(packet: &Packet, start: usize) -> Headers {
    let Some(visit) = packet.visits.get(start) else { return Headers::default() };
    let Said { src, dst, ttl, len, id, .. } = visit.first_said();
    let mac = visit.said.iter().find_map(|said| said.mac);
    Headers { src, dst, mac_src: mac.map(|mac| mac.src), mac_dst: mac.map(|mac| mac.dst), len, ttl, id }
}
