//! A packet's tree, told as a journey with its copies.
//!
//! The branch that matters is the journey itself. Every other branch is a copy, and so is what the kernel dropped where the
//! packet itself went on: the clone that it kept for another taker.

use super::end::{Drop, End, Ends, Success};
use super::steps::{Writer, source};
use super::topology::Topology;
use super::tree::Tree;
use crate::correlate::{Packet, Said};
use crate::model::exchange::{Action, Fate, Headers, Journey, Leg, Loss, Place, Step};
use crate::model::id::Nanos;
use crate::model::recording::Recording;

/// One packet's journey, and the time that gives it its place: when it was last at a device, so that what it had to wait
/// for comes before it.
pub fn tell(
    recording: &Recording,
    topology: &Topology,
    packet: &Packet,
    leg: Leg,
    success: Success,
) -> (Nanos, Journey) {
    let tree = Tree::grow(packet, topology);
    let ends = Ends::judge(recording, topology, packet, &tree, success);
    let writer = Writer { recording, topology, packet, tree: &tree, success };
    let teller = Teller { recording, topology, packet, leg, tree: &tree, ends, writer };
    let Some(&root) = tree.order.first() else {
        let fate = Fate::Cut { netns: recording.question.netns, device: None };
        return (Nanos(0), teller.journey(Headers::default(), Vec::new(), fate));
    };
    let mut aside = Vec::new();
    let mut journey = teller.branch(root, &mut aside);
    let mut next = 0;
    while let Some(&start) = aside.get(next) {
        let mut copy = teller.branch(start, &mut aside);
        journey.copies.append(&mut copy.copies);
        journey.copies.push(copy);
        next += 1;
    }
    let at_device = |step: &&Step| matches!(step.action, Action::Received | Action::Transmitted | Action::Queued);
    let last = journey.steps.iter().rev().find(at_device).or(journey.steps.last());
    (last.and_then(|step| step.time).unwrap_or(packet.begun()), journey)
}

struct Teller<'a> {
    recording: &'a Recording,
    topology: &'a Topology,
    packet: &'a Packet,
    leg: Leg,
    tree: &'a Tree,
    ends: Ends,
    writer: Writer<'a>,
}

impl Teller<'_> {
    /// The branch that starts with this visit, along what matters most; the branches beside it are noted.
    fn branch(&self, start: usize, aside: &mut Vec<usize>) -> Journey {
        let mut steps = Vec::with_capacity(2 * self.packet.visits.len() + 4);
        let mut dropped = Vec::new();
        let mut at = start;
        loop {
            let begin = steps.len();
            self.writer.write(&mut steps, at);
            let main = self.ends.main[at];
            aside.extend(self.tree.children[at].iter().copied().filter(|child| Some(*child) != main));
            let Some(next) = main else { break };
            dropped.extend(steps.extract_if(begin.., |step| matches!(step.action, Action::Dropped { .. })));
            at = next;
        }
        let fate = self.fate(at, &mut steps);
        let headers = headers(self.packet, start);
        let copies = dropped.into_iter().map(|step| self.clone_dropped(headers.clone(), step)).collect();
        Journey { copies, ..self.journey(headers, steps, fate) }
    }

    fn clone_dropped(&self, headers: Headers, step: Step) -> Journey {
        let function = match &step.action {
            Action::Dropped { location, .. } => location.clone(),
            _ => None,
        };
        let place = Place { netns: step.netns, device: step.device, function };
        self.journey(headers, vec![step], Fate::Lost(Loss { place, decision: None, certain: true }))
    }

    fn journey(&self, headers: Headers, steps: Vec<Step>, fate: Fate) -> Journey {
        let (role, seq) = (self.packet.role, self.packet.seq);
        Journey { role, leg: self.leg, seq, headers, steps, copies: Vec::new(), fate, beyond: Vec::new() }
    }

    /// How the branch ended whose last visit this is. Its steps are told accordingly.
    fn fate(&self, at: usize, steps: &mut Vec<Step>) -> Fate {
        let visit = &self.packet.visits[at];
        let netns = visit.netns.or(steps.last().map(|step| step.netns)).unwrap_or(self.recording.question.netns);
        match self.ends.end(self.recording, self.topology, self.packet, at) {
            End::Delivered => {
                let mut sources: Vec<_> = self.ends.signs[at].taken.map(source).into_iter().collect();
                // That it is used up, and how sockets came by it, is what delivery looks like.
                let begin = steps.iter().rposition(|step| matches!(step.action, Action::Received)).unwrap_or(0);
                for step in steps.extract_if(begin.., |step| is_delivery(&step.action)) {
                    sources.extend(step.sources);
                }
                let first = sources.first().cloned();
                sources.sort_by_key(|source| Some(source) != first.as_ref());
                sources.dedup();
                let time = visit.sightings.last().map(|sighting| sighting.time);
                steps.push(Step { time, netns, device: visit.device, action: Action::Delivered, sources });
                Fate::Delivered { netns, device: visit.device }
            }
            End::Dropped(Drop { place, waited }) => {
                // Certain, unless another copy may live, or it died of another packet's loss.
                let ended = |leaf: &usize| {
                    let signs = &self.ends.signs[*leaf];
                    *leaf == at || !self.tree.children[*leaf].is_empty() || signs.dropped.is_some() || signs.consumed
                };
                let certain = !waited && self.tree.order.iter().all(ended);
                Fate::Lost(Loss { place, decision: None, certain })
            }
            End::OutOfSight(last) => Fate::OutOfSight { last },
            End::LastSeen => Fate::Cut { netns, device: visit.device },
        }
    }
}

/// Where a packet ends that has arrived: protocols, sockets, and what is left for nobody.
fn is_delivery(action: &Action) -> bool {
    match action {
        Action::Consumed { .. } => true,
        Action::Seen { site, .. } => matches!(
            site.as_str(),
            "icmp_rcv" | "icmpv6_rcv" | "ping_rcv" | "skb_copy_datagram_iovec" | "inet_sock_destruct"
        ),
        _ => false,
    }
}

/// The headers as the packet set out on this branch: what the first sightings know, filled up by later ones of the same visit.
fn headers(packet: &Packet, start: usize) -> Headers {
    let Some(visit) = packet.visits.get(start) else { return Headers::default() };
    let Said { src, dst, ttl, len, id, port, .. } = visit.first_said();
    let mac = visit.said.iter().find_map(|said| said.mac);
    Headers { src, dst, mac_src: mac.map(|mac| mac.src), mac_dst: mac.map(|mac| mac.dst), len, ttl, id, port }
}
