//! The way of one packet that was followed: where it went, how it ended, how long it took at each hop.
//!
//! Takes a [`Followed`] packet and the [`Ground`] that it went over, gives a [`Way`]. The journey is put together by
//! `reconstruct`, as that of a ping's packet is; what is added is the [`Outcome`], which needs no answer to tell that a packet
//! arrived, because in other people's traffic there may be none.

use std::net::IpAddr;

use super::Followed;
use super::totals::LossKey;
use crate::correlate::{Packet, Pointer, Said, Visit, Way as Direction};
use crate::model::diagnosis::Finding;
use crate::model::event::{Event, EventKind, is_capture};
use crate::model::exchange::{Action, Fate, Journey, Role, Step};
use crate::model::frame::Frame;
use crate::model::id::{Device, IfIndex, Nanos, NetnsId};
use crate::model::question::{Iface, PmtuDiscovery, Protocol, Question};
use crate::model::recording::Recording;
use crate::model::sight::{Sight, Tier};
use crate::model::snapshot::Snapshot;
use crate::reconstruct::{Success, Topology, is_unwanted, tell};

/// The network that packets go over, laid out once for many packets.
pub struct Ground {
    /// A recording without packets; those of one packet are put in while it is told.
    recording: Recording,
    topology: Topology,
    /// When it was last found that sightings were lost.
    blind_at: Option<Nanos>,
}

/// The way of one packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// What happened to it.
    pub journey: Journey,
    /// How it ended.
    pub outcome: Outcome,
    /// When it was seen first, and last.
    pub first: Nanos,
    /// When it was seen last.
    pub last: Nanos,
    /// How long it was in each namespace.
    pub hops: Vec<HopTime>,
    /// Ends and ports at each place where they were others than before, in the order of its way.
    pub ends: Vec<Ends>,
    /// Transport protocol number; None for what is not IP.
    pub protocol: Option<u8>,
    /// What was seen of it. The journey's sources count in these.
    pub followed: Followed,
}

/// How a packet ended, as far as it was seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The kernel said that a protocol or a program took it.
    Delivered {
        /// Where.
        netns: NetnsId,
        /// The device it came in by.
        device: Option<IfIndex>,
    },
    /// It came to the host that it was for. What became of it there was not seen.
    Arrived {
        /// Where.
        netns: NetnsId,
        /// The device it came in by.
        device: Option<IfIndex>,
    },
    /// It left by a device whose other end is out of sight.
    Left {
        /// The device.
        by: Device,
    },
    /// The kernel dropped it.
    Dropped {
        /// Where.
        netns: NetnsId,
        /// The device, if the kernel said one.
        device: Option<IfIndex>,
        /// Reason by name, if the kernel has reasons.
        reason: Option<String>,
        /// The function that dropped it.
        function: Option<String>,
    },
    /// It was last seen here, and should have gone on.
    Vanished {
        /// Where.
        netns: NetnsId,
        /// The device.
        device: Option<IfIndex>,
    },
    /// The same, but not all was seen at that time: it may have gone on.
    Unclear {
        /// Where.
        netns: NetnsId,
        /// The device.
        device: Option<IfIndex>,
    },
}

impl Outcome {
    /// Whether it did not get where it should.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Dropped { .. } | Self::Vanished { .. })
    }

    /// Where.
    pub fn place(&self) -> (NetnsId, Option<IfIndex>) {
        match self {
            Self::Delivered { netns, device }
            | Self::Arrived { netns, device }
            | Self::Dropped { netns, device, .. }
            | Self::Vanished { netns, device }
            | Self::Unclear { netns, device } => (*netns, *device),
            Self::Left { by } => (by.netns, Some(by.ifindex)),
        }
    }
}

/// How long a packet was in one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopTime {
    /// Namespace.
    pub netns: NetnsId,
    /// Device it came in by; None where it was made.
    pub ingress: Option<IfIndex>,
    /// Device it left by; None where it ended.
    pub egress: Option<IfIndex>,
    /// From its first sighting there to its last.
    pub time: Nanos,
}

/// Addresses and ports of a packet at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Where: None before it came to a device.
    pub device: Option<Device>,
    /// Source; of address resolution, who asks or answers.
    pub src: Option<IpAddr>,
    /// Destination; of address resolution, who is asked for or told.
    pub dst: Option<IpAddr>,
    /// Source and destination port.
    pub ports: Option<(u16, u16)>,
}

impl Ground {
    /// Of a snapshot, with what can be seen there.
    pub fn new(snapshot: Snapshot, sight: Sight) -> Self {
        let question = Question { size: 0, ..Question::echo(NetnsId(0), IpAddr::from([0, 0, 0, 0])) };
        let recording = Recording { sight, ..Recording::of(question, snapshot) };
        let topology = Topology::of(&recording);
        Self { recording, topology, blind_at: None }
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.recording.before
    }

    /// What can be seen.
    pub fn sight(&self) -> &Sight {
        &self.recording.sight
    }

    /// Sightings were lost: found now, and how many it were until now.
    pub fn lose(&mut self, now: Nanos, frames: u64, events: u64) {
        let sight = &mut self.recording.sight;
        if frames > sight.frames_lost || events > sight.events_lost {
            self.blind_at = Some(now);
        }
        (sight.frames_lost, sight.events_lost) = (frames, events);
    }

    /// The same ground, seen anew.
    #[must_use]
    pub fn again(&self, snapshot: Snapshot, sight: Sight) -> Self {
        Self { blind_at: self.blind_at, ..Self::new(snapshot, sight) }
    }

    /// Whether an address is configured in a namespace.
    pub fn owns(&self, netns: NetnsId, address: IpAddr) -> bool {
        self.topology.owns(Some(netns), Some(address))
    }

    /// Lends the recording with the packet's own sightings in it, as it stands for a packet that was told.
    pub fn with<T>(
        &mut self,
        way: &mut Way,
        question: Option<Question>,
        look: impl FnOnce(&mut Recording, &Way) -> T,
    ) -> T {
        let followed = &mut way.followed;
        self.recording.events = std::mem::take(&mut followed.events);
        self.recording.frames = std::mem::take(&mut followed.frames);
        let own = (self.recording.events.len(), self.recording.frames.len());
        let before = question.map(|question| std::mem::replace(&mut self.recording.question, question));
        let given = look(&mut self.recording, way);
        // What was laid beside is not this packet's.
        self.recording.events.truncate(own.0);
        self.recording.frames.truncate(own.1);
        if let Some(before) = before {
            self.recording.question = before;
        }
        way.followed.events = std::mem::take(&mut self.recording.events);
        way.followed.frames = std::mem::take(&mut self.recording.frames);
        given
    }

    /// Lends the recording with these sightings in it.
    pub fn lend<T>(
        &mut self,
        events: &mut Vec<Event>,
        frames: &mut Vec<Frame>,
        look: impl FnOnce(&Recording) -> T,
    ) -> T {
        std::mem::swap(&mut self.recording.events, events);
        std::mem::swap(&mut self.recording.frames, frames);
        let given = look(&self.recording);
        std::mem::swap(&mut self.recording.events, events);
        std::mem::swap(&mut self.recording.frames, frames);
        given
    }

    /// Tells the way of a packet.
    pub fn tell(&mut self, mut followed: Followed) -> Way {
        self.recording.events = std::mem::take(&mut followed.events);
        self.recording.frames = std::mem::take(&mut followed.frames);
        let first = followed.packet.visits.first();
        self.recording.question.netns = first.and_then(|visit| visit.netns).unwrap_or_default();
        let answered_in = followed.answered_in.or_else(|| self.taken(&followed.packet));
        let received = followed.packet.role == Role::Reply && self.is_done_with(&followed.packet);
        let success = Success { answered_in, received, ..Success::default() };
        let journey = tell(&followed.packet, &self.recording, &self.topology, success);
        let mut outcome = self.outcome(&followed.packet, &journey);
        followed.events = std::mem::take(&mut self.recording.events);
        followed.frames = std::mem::take(&mut self.recording.frames);
        let (first, last) = followed.span();
        let watched = self.recording.sight.tier != Tier::Capture || !self.recording.sight.captured.is_empty();
        let blind = followed.cut_short || !watched || self.blind_at.is_some_and(|at| at >= first);
        if let Outcome::Vanished { netns, device } = outcome
            && blind
        {
            outcome = Outcome::Unclear { netns, device };
        }
        let ends = ends(&followed.packet);
        let protocol = protocol(&followed);
        Way { hops: hops(&journey), journey, outcome, first, last, ends, protocol, followed }
    }

    /// The namespace in which the kernel said that the packet was taken: by its protocol or by a program.
    fn taken(&self, packet: &Packet) -> Option<NetnsId> {
        packet.visits.iter().find_map(|visit| {
            let netns = visit.netns.filter(|_| visit.way != Direction::Out)?;
            let said = visit.last_said();
            let mine = said.dst.is_some_and(|dst| self.owns(netns, dst)) || is_group(&said);
            let event = |pointer: Pointer| match pointer {
                Pointer::Event(at) => self.recording.events.get(at as usize),
                Pointer::Frame(_) => None,
            };
            let takes =
                |sighting: &crate::correlate::Sighting| event(sighting.pointer).is_some_and(|event| takes(&event.kind));
            (mine && visit.sightings.iter().any(takes)).then_some(netns)
        })
    }

    /// Whether an echo reply came to ICMP at its owner, and nobody but raw sockets, which take clones, wanted it. Where the
    /// kernel gives no reasons (before 5.17) that is what a drop by ICMP is taken for.
    fn is_done_with(&self, packet: &Packet) -> bool {
        packet.visits.iter().any(|visit| {
            let own = |netns| visit.last_said().dst.is_some_and(|dst| self.owns(netns, dst));
            let unwanted = |sighting: &crate::correlate::Sighting| {
                let Pointer::Event(at) = sighting.pointer else { return false };
                let event = self.recording.events.get(at as usize);
                matches!(event.map(|event| &event.kind), Some(EventKind::Drop { reason, location })
                    if is_unwanted(reason.as_deref(), location.as_deref())
                        && matches!(reason.as_deref(), None | Some("NO_SOCKET" | "NOT_SPECIFIED")))
            };
            visit.netns.is_some_and(own) && visit.sightings.iter().any(unwanted)
        })
    }

    fn outcome(&self, packet: &Packet, journey: &Journey) -> Outcome {
        match &journey.fate {
            Fate::Delivered { netns, device } => Outcome::Delivered { netns: *netns, device: *device },
            Fate::OutOfSight { last } => Outcome::Left { by: *last },
            Fate::Lost(loss) => {
                let reason = journey.steps.iter().rev().find_map(|step| match &step.action {
                    Action::Dropped { reason, .. } => Some(reason.clone()),
                    _ => None,
                });
                Outcome::Dropped {
                    netns: loss.place.netns,
                    device: loss.place.device,
                    reason: reason.flatten(),
                    function: loss.place.function.clone(),
                }
            }
            Fate::Cut { netns, device } => {
                let at = |visit: &&Visit| visit.netns == Some(*netns) && visit.device == *device;
                let last = packet.visits.iter().rev().find(at);
                let said = last.map(Visit::last_said).unwrap_or_default();
                let owned = said.dst.is_some_and(|dst| self.owns(*netns, dst));
                let received = last.is_some_and(|visit| visit.way == Direction::In);
                let whole = self.sees_drops();
                let asks = packet.role == Role::ArpRequest && !is_announcement(&said);
                let group = is_group(&said) && (!packet.is_resolution() || is_announcement(&said));
                if received && (owned && !asks || group) {
                    // Where every drop is told and none was, it was taken.
                    if whole && packet.role != Role::ArpReply {
                        Outcome::Delivered { netns: *netns, device: *device }
                    } else {
                        Outcome::Arrived { netns: *netns, device: *device }
                    }
                } else {
                    Outcome::Vanished { netns: *netns, device: *device }
                }
            }
        }
    }

    /// Whether the kernel tells of every packet that it drops.
    fn sees_drops(&self) -> bool {
        let sight = &self.recording.sight;
        sight.tier != Tier::Capture && sight.events_lost == 0 && sight.has("kfree_skb")
    }

    /// The question that this packet is the asking of, so that the rules for a ping's packets can judge it: asked where it was
    /// made. None if it was not made within sight, or is of a kind that no question has.
    pub fn question(&self, way: &Way) -> Option<Question> {
        let visit = way.followed.packet.visits.first()?;
        let made = self.owns(visit.netns?, visit.first_said().src?);
        (made && visit.way != Direction::In).then(|| self.question_at(way, visit)).flatten()
    }

    /// The same, asked at this place whoever has made it.
    pub fn question_at(&self, way: &Way, visit: &Visit) -> Option<Question> {
        let packet = &way.followed.packet;
        let said = visit.first_said();
        let (netns, src, dst) = (visit.netns?, said.src?, said.dst?);
        let protocol = match (way.protocol, said.id, said.port) {
            (None, ..) if packet.is_resolution() => Protocol::Echo,
            (Some(1 | 58), ..) => Protocol::Echo,
            (Some(6), Some(sport), Some(port)) => Protocol::Tcp { port, sport },
            (Some(17), Some(sport), Some(port)) => Protocol::Udp { port, sport },
            _ => return None,
        };
        let header = if dst.is_ipv6() { 48 } else { 28 };
        Some(Question {
            netns,
            dst,
            iface: Some(Iface::Address(src)),
            zone: None,
            count: 1,
            interval_ms: 1000,
            timeout_ms: 1000,
            size: u16::try_from(said.len.saturating_sub(header)).unwrap_or(u16::MAX),
            ttl: said.ttl,
            tos: 0,
            mark: way.followed.events.iter().map(|event| event.mark).find(|mark| *mark != 0).unwrap_or(0),
            pmtu: PmtuDiscovery::Default,
            icmp_id: said.id.unwrap_or(0),
            protocol,
        })
    }
}

/// Whether a packet is for more than one host.
fn is_group(said: &Said) -> bool {
    said.mac.is_some_and(|mac| mac.dst.is_group())
        || said.dst.is_some_and(|dst| dst.is_multicast() || dst == IpAddr::from([255; 4]))
}

/// Whether a packet of address resolution expects no answer: duplicate address detection, gratuitous ARP, unsolicited
/// advertisements.
fn is_announcement(said: &Said) -> bool {
    said.src.is_none_or(|src| src.is_unspecified())
        || said.src == said.dst
        || said.dst.is_some_and(|dst| dst.is_multicast())
}

/// Whether an event says that a packet has found its taker.
fn takes(kind: &EventKind) -> bool {
    match kind {
        EventKind::Enter { function } => function == "skb_copy_datagram_iovec",
        EventKind::Consume { location } => !location.as_deref().is_some_and(is_capture),
        _ => false,
    }
}

fn hops(journey: &Journey) -> Vec<HopTime> {
    let hops = journey.hops();
    let times = |steps: &[Step]| {
        let times = || steps.iter().filter_map(|step| step.time);
        Some(Nanos(times().max()?.0 - times().min()?.0))
    };
    hops.iter()
        .filter_map(|hop| {
            let time = times(hop.steps)?;
            Some(HopTime { netns: hop.netns, ingress: hop.ingress, egress: hop.egress, time })
        })
        .collect()
}

fn ends(packet: &Packet) -> Vec<Ends> {
    let mut all: Vec<Ends> = Vec::new();
    for visit in &packet.visits {
        for said in &visit.said {
            let now = Ends { device: visit.at(), src: said.src, dst: said.dst, ports: said.id.zip(said.port) };
            let same = |before: &Ends| (before.src, before.dst, before.ports) == (now.src, now.dst, now.ports);
            if now.src.is_some() && !all.last().is_some_and(same) {
                all.push(now);
            }
        }
    }
    all
}

/// The transport protocol, by the packet's first bytes.
fn protocol(followed: &Followed) -> Option<u8> {
    use crate::packet::skim;
    let (link, bytes) = followed.first_bytes()?;
    let skim = link.map_or_else(|| skim::network(bytes), |link| skim::frame(link, bytes));
    skim.ip().map(|ip| ip.protocol)
}

/// What is known of why a packet was lost.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// The cause; None if none can be named honestly.
    pub finding: Option<Finding>,
    /// What was excluded, and where to look next.
    pub leads: Vec<String>,
}

/// A packet's way, as it is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Numbered from 1 in the order in which the packets ended.
    pub number: u64,
    /// Its way.
    pub way: Way,
    /// Why it was lost, if it was.
    pub verdict: Option<Verdict>,
}

impl Told {
    /// What the loss is counted by.
    pub fn loss(&self) -> Option<LossKey> {
        let (netns, device) = self.way.outcome.place();
        let reason = match &self.way.outcome {
            Outcome::Dropped { reason, function, .. } => (reason.clone(), function.clone()),
            Outcome::Vanished { .. } => (None, None),
            _ => return None,
        };
        Some(match self.verdict.as_ref().and_then(|verdict| verdict.finding.as_ref()) {
            Some(finding) => LossKey {
                cause: Some(finding.code.clone()),
                known: true,
                netns: finding.place.netns,
                device: finding.place.device,
                function: finding.place.function.clone(),
            },
            None => LossKey { cause: reason.0, known: false, netns, device, function: reason.1 },
        })
    }
}
