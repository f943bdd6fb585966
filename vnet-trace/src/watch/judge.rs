//! Why a packet of somebody else's traffic was lost, by the same rules that judge a ping's.
//!
//! The rules know questions: who asked whom, and what came back. A lost packet is made one: it is asked where the packet was
//! made, for its destination, with its protocol and ports. If the packet answers another that was seen, it is the reply
//! to that one's question. What was seen around it is laid beside it: the address resolution of the last seconds, and the packet that
//! it answers.
//!
//! # What is not claimed
//!
//! A cause in another namespace than the one in which the kernel dropped the packet is not its cause, unless it waited for
//! address resolution there. A cause that only fits ([`Grade::Suspected`]) is a lead. A packet that was not made within
//! sight is judged from where it came in. Where no rule knows, what the kernel said is all that is said.
//!
//! The same loss again is not judged again: what tells losses apart is [`Key`]. A new snapshot makes all of that forgotten.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::diagnose::case::Case;
use crate::diagnose::diagnose;
use crate::follow::recent::Recent;
use crate::follow::way::{Ground, Outcome, Verdict, Way};
use crate::model::diagnosis::{Diagnosis, Finding, Grade, Source};
use crate::model::exchange::{Exchange, Journey, Leg, Role};
use crate::model::id::{Device, IfIndex, Nanos, NetnsId};
use crate::model::question::Question;
use crate::model::recording::{PingOutcome, Recording};
use crate::predict::as_seen::as_seen;
use crate::predict::{Prediction, passing, predict};

/// Conversations of which the last packet forward is remembered.
const CONVERSATIONS: usize = 1024;

/// Ends of conversations that are remembered: NAT gives one conversation several.
const FLOWS: usize = 4096;

/// Judgements that are remembered.
const JUDGEMENTS: usize = 4096;

/// Packets of address resolution and errors that are remembered, and how long they matter.
const RESOLUTIONS: usize = 256;
const RESOLUTION_MATTERS: Nanos = Nanos(5_000_000_000);

/// Protocol, and both ends with their ports.
type Flow = (u8, IpAddr, u16, IpAddr, u16);

/// What makes two losses the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    place: (NetnsId, Option<IfIndex>),
    came_in: Option<Device>,
    reason: Option<String>,
    function: Option<String>,
    protocol: Option<u8>,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    port: Option<u16>,
    len: u32,
    answers: bool,
    role: Role,
}

/// Judges losses.
pub struct Judge {
    flows: Recent<Flow, u64>,
    conversations: Recent<u64, Box<Way>>,
    count: u64,
    around: VecDeque<Box<Way>>,
    known: Recent<Key, Verdict>,
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            flows: Recent::new(FLOWS),
            conversations: Recent::new(CONVERSATIONS),
            count: 0,
            around: VecDeque::new(),
            known: Recent::new(JUDGEMENTS),
        }
    }
}

impl Judge {
    /// The network is not what it was: what was judged before may be wrong now.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Takes a packet that was told, for the judgement of others.
    pub fn remember(&mut self, way: Way) {
        let packet = &way.followed.packet;
        if packet.is_resolution() || packet.role == Role::IcmpError {
            if self.around.len() >= RESOLUTIONS {
                self.around.pop_front();
            }
            self.around.push_back(Box::new(way));
            return;
        }
        if self.answered(&way).is_some() || packet.role == Role::Reply {
            return;
        }
        let flows = flows(&way);
        let Some(first) = flows.first() else { return };
        let number = self.flows.get_mut(first).copied().unwrap_or_else(|| {
            self.count += 1;
            self.count
        });
        for flow in flows {
            if self.flows.get(&flow) != Some(&number) {
                self.flows.insert(flow, number);
            }
        }
        self.conversations.insert(number, Box::new(way));
    }

    /// The packet that this one answers, if it was seen.
    fn answered(&self, way: &Way) -> Option<&Way> {
        let (protocol, src, sport, dst, dport) = flows(way).into_iter().next()?;
        let number = self.flows.get(&(protocol, dst, dport, src, sport))?;
        self.conversations.get(number).map(|way| &**way)
    }

    /// Whether such a loss was judged already.
    pub fn knows(&self, way: &Way) -> bool {
        self.known.get(&self.key(way)).is_some()
    }

    /// Why it was lost.
    pub fn judge(&mut self, ground: &mut Ground, way: &mut Way) -> Verdict {
        let key = self.key(way);
        if let Some(known) = self.known.get_mut(&key) {
            return known.clone();
        }
        let verdict = self.look(ground, way);
        self.known.insert(key, verdict.clone());
        verdict
    }

    fn key(&self, way: &Way) -> Key {
        let packet = &way.followed.packet;
        let said = packet.first_said();
        let (reason, function) = match &way.outcome {
            Outcome::Dropped { reason, function, .. } => (reason.clone(), function.clone()),
            _ => (None, None),
        };
        Key {
            place: way.outcome.place(),
            came_in: packet.visits.first().and_then(crate::correlate::Visit::at),
            reason,
            function,
            protocol: way.protocol,
            src: said.src,
            dst: said.dst,
            port: said.port,
            len: said.len,
            answers: self.answered(way).is_some(),
            role: packet.role,
        }
    }

    fn look(&self, ground: &mut Ground, way: &mut Way) -> Verdict {
        let forward = self.answered(way);
        let own = way.followed.packet.role;
        let answers = match own {
            Role::Request | Role::Reply => forward.and_then(|forward| Some((forward, ground.question(forward)?))),
            _ => None,
        };
        let question = match &answers {
            Some((_, question)) => Some(question.clone()),
            None => ground.question(way),
        };
        let came_in = match question {
            Some(_) => None,
            None => ground.came_in(way),
        };
        let Some(question) = question.or_else(|| came_in.as_ref().map(|(question, _)| question.clone())) else {
            return Verdict::default();
        };
        let since = Nanos(way.first.0.saturating_sub(RESOLUTION_MATTERS.0));
        let until = Nanos(way.last.0.saturating_add(RESOLUTION_MATTERS.0));
        let around: Vec<&Way> = self
            .around
            .iter()
            .map(|other| &**other)
            .filter(|other| other.followed.packet.is_resolution() && other.last >= since && other.first <= until)
            .collect();
        let role = match (own, answers.is_some()) {
            (Role::Request | Role::Reply, true) => Role::Reply,
            (Role::Reply, false) => Role::Request,
            (other, _) => other,
        };
        let forward = answers.map(|(forward, _)| forward);
        let asked = question.clone();
        ground.with(way, Some(question), |recording, way| {
            recording.ping = PingOutcome {
                sent: 1,
                source: asked.source(),
                started: way.first,
                ended: way.last,
                ..PingOutcome::default()
            };
            let leg = if role == Role::Reply { Leg::Return } else { Leg::Forward };
            let mut journeys = vec![Journey { role, leg, ..way.journey.clone() }];
            for other in &around {
                journeys.push(lay_beside(recording, other, other.journey.role));
            }
            journeys.extend(forward.map(|forward| lay_beside(recording, forward, Role::Request)));
            journeys.sort_by_key(|journey| journey.steps.first().and_then(|step| step.time));
            let observed = Exchange { journeys, ..Exchange::default() };
            let before = as_seen(&recording.before, &observed);
            let previous = before.map(|seen| std::mem::replace(&mut recording.before, seen));
            let prediction = match came_in {
                Some((_, device)) => passing(&recording.question, &recording.before, device),
                None => predict(&recording.question, &recording.before),
            };
            let prediction = if role == Role::Reply { prediction } else { one_way(prediction) };
            let diagnosis = diagnose(&Case {
                recording,
                observed: &observed,
                predicted: &prediction.exchange,
                refusals: &prediction.refused,
            });
            if let Some(previous) = previous {
                recording.before = previous;
            }
            verdict(recording, way, role, diagnosis)
        })
    }
}

/// Only what happens until the packet arrives: nobody waits for an answer.
fn one_way(mut prediction: Prediction) -> Prediction {
    prediction.exchange.faults.retain(|fault| fault.leg == Leg::Forward);
    prediction.exchange.journeys.retain(|journey| journey.leg == Leg::Forward);
    prediction
}

/// What of a diagnosis may be said of this packet.
fn verdict(recording: &Recording, way: &Way, role: Role, diagnosis: Diagnosis) -> Verdict {
    let Diagnosis { primary, mut leads, .. } = diagnosis;
    let finding = primary.and_then(|finding| match objection(way, role, &finding) {
        None => Some(finding),
        Some(why) => {
            leads.insert(
                0,
                format!("not {} ({}): {why}", finding.code, recording.before.netns_name(finding.place.netns)),
            );
            None
        }
    });
    Verdict { finding, leads }
}

/// Why a cause cannot be this packet's, if it cannot.
fn objection(way: &Way, role: Role, finding: &Finding) -> Option<&'static str> {
    let resolution = matches!(finding.role, Role::ArpRequest | Role::ArpReply);
    if finding.grade == Grade::Suspected {
        return Some("it fits, and nothing that was seen bears it out");
    }
    let Outcome::Dropped { netns, reason, .. } = &way.outcome else {
        let own = finding.role == role || resolution;
        return (!own).then_some("it is about another packet");
    };
    let waited = reason.as_deref().is_some_and(|reason| reason.starts_with("NEIGH_"));
    match (waited, resolution) {
        (true, true) => None,
        (false, true) if finding.place.netns != *netns => Some("the kernel dropped the packet elsewhere"),
        _ if finding.place.netns != *netns => Some("the kernel dropped the packet elsewhere"),
        _ => None,
    }
}

/// Adds another packet's sightings to the recording, so that its journey can be pointed into.
fn lay_beside(recording: &mut Recording, other: &Way, role: Role) -> Journey {
    fn shift(journey: &mut Journey, events: usize, frames: usize) {
        for source in journey.steps.iter_mut().flat_map(|step| &mut step.sources) {
            match source {
                Source::Event(at) => *at += events,
                Source::Frame(at) => *at += frames,
                _ => {}
            }
        }
        for copy in &mut journey.copies {
            shift(copy, events, frames);
        }
    }
    let mut journey = Journey { role, ..other.journey.clone() };
    shift(&mut journey, recording.events.len(), recording.frames.len());
    recording.events.extend(other.followed.events.iter().cloned());
    recording.frames.extend(other.followed.frames.iter().cloned());
    journey
}

/// The ends of a conversation at each place where NAT has changed them.
fn flows(way: &Way) -> Vec<Flow> {
    let Some(protocol) = way.protocol else { return Vec::new() };
    let id = way.followed.packet.first_said().id.unwrap_or_default();
    way.ends
        .iter()
        .filter_map(|ends| {
            // An echo has one identifier for both ends.
            let (sport, dport) = ends.ports.unwrap_or((id, id));
            Some((protocol, ends.src?, sport, ends.dst?, dport))
        })
        .collect()
}

impl Ground {
    /// For a packet that was not made within sight: the question that it would be the asking of, and the device that it
    /// came in by.
    fn came_in(&self, way: &Way) -> Option<(Question, Device)> {
        let visit = way.followed.packet.visits.iter().find(|visit| visit.at().is_some())?;
        let device = visit.at()?;
        let routed = self.snapshot().link(device).is_some_and(|link| link.master.is_none());
        let own = visit.first_said().dst.is_some() && !way.followed.packet.is_resolution();
        (visit.way == crate::correlate::Way::In && routed && own)
            .then(|| Some((self.question_at(way, visit)?, device)))
            .flatten()
    }
}
