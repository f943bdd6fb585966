//! Other people's traffic: packets are followed as they come, told when they have ended, and judged when they were lost.
//!
//! This joins the stages for an endless stream as [`crate::ask`] does for one question. [`Watcher`] is the pure half: it takes
//! events and frames and gives [`Told`] ways, live or from a recording alike. [`live`] looks at this machine.

use crate::filter::{Expression, FRAME_REACH};
use crate::follow::totals::Totals;
use crate::follow::way::{Ground, Told};
use crate::follow::{Counts, Follower, Limits};
use crate::model::event::Event;
use crate::model::exchange::Role;
use crate::model::frame::{Frame, LinkLayer};
use crate::model::id::{Device, Nanos, NetnsId};
use crate::model::recording::{Picture, Recording};
use crate::model::sight::Sight;
use crate::model::snapshot::Snapshot;
use crate::rebuild::redact::Redaction;
use crate::rebuild::redact::recording::RedactError;

mod eyes;
mod judge;
pub mod live;
mod reach;
pub mod record;
pub mod replay;

use judge::Judge;

/// Which packets are told.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// What a packet must match somewhere; None takes all.
    pub expression: Option<Expression>,
    /// Namespaces in which it must match; empty means any.
    pub netns: Vec<NetnsId>,
    /// Devices at which it must match; empty means any.
    pub devices: Vec<Device>,
    /// Packets inside tunnels are matched as well.
    pub inner: bool,
    /// Only losses.
    pub drops: bool,
    /// Only packets that took at least so long, and losses with `drops`.
    pub slower_than: Option<Nanos>,
}

impl Wanted {
    /// Whether a frame is of what is asked for.
    pub fn is_asked(&self, frame: &Frame) -> bool {
        self.is_place(Some(frame.device))
            && self.expression.as_ref().is_none_or(|expression| matches(expression, frame))
    }

    /// Whether what a probe saw is of what is asked for. In a recording the probes saw more than is asked for now.
    pub fn is_asked_event(&self, event: &Event) -> bool {
        let device = event.device;
        self.is_place(device)
            && self.expression.as_ref().is_none_or(|expression| {
                framed(event, &mut [0; FRAME_REACH])
                    .is_some_and(|frame| expression.matches(frame, event.len.max(frame.len() as u32)))
            })
    }

    /// Whether what a probe let through is not of what is asked for after all, or does not say so. Probes recognise the clone of
    /// a packet by its buffer, which the kernel may have freed without a word and given to somebody else's packet. A packet is
    /// asked for if this holds for any sighting of it: it does for the first one, by which the probes chose it.
    fn is_in_doubt(&self, event: &Event) -> bool {
        let netns = event.device.map(|device| device.netns).or(event.netns);
        let elsewhere = !self.netns.is_empty() && netns.is_none_or(|netns| !self.netns.contains(&netns))
            || !self.devices.is_empty() && event.device.is_none_or(|device| !self.devices.contains(&device));
        elsewhere
            || event.bytes.is_empty()
            || !self.inner && self.expression.as_ref().is_some_and(|expression| is_clearly_not(expression, event))
    }

    fn is_place(&self, device: Option<Device>) -> bool {
        let netns = device.map(|device| device.netns);
        (self.netns.is_empty() || netns.is_some_and(|netns| self.netns.contains(&netns)))
            && (self.devices.is_empty() || device.is_some_and(|device| self.devices.contains(&device)))
    }

    fn is_told(&self, told: &Told) -> bool {
        let loss = told.way.outcome.is_loss();
        let slow = self.slower_than.is_some_and(|least| told.way.last.0 - told.way.first.0 >= least.0);
        match (self.drops, self.slower_than.is_some()) {
            (false, false) => true,
            (true, false) => loss,
            (false, true) => slow,
            (true, true) => loss || slow,
        }
    }
}

fn matches(expression: &Expression, frame: &Frame) -> bool {
    match frame.link {
        LinkLayer::Ethernet => expression.matches(&frame.bytes, frame.len),
        LinkLayer::Ip => ethertype(&frame.bytes).is_some_and(|ethertype| {
            let whole = [&[0; 12][..], &ethertype.to_be_bytes(), &frame.bytes].concat();
            expression.matches(&whole, frame.len + 14)
        }),
    }
}

/// Whether a sighting has all that the expression asks about, and does not match. A sighting lacks the VLAN tag beside the packet, and the
/// length of the frame.
fn is_clearly_not(expression: &Expression, event: &Event) -> bool {
    if expression.asks_for_length_or_tag() || event.mac.is_none() && expression.reads_addresses() {
        return false;
    }
    framed(event, &mut [0; FRAME_REACH])
        .is_some_and(|frame| expression.denies(frame, event.len.max(frame.len() as u32)))
}

/// Length of an Ethernet header.
const HEADER: usize = 14;

/// A sighting as the Ethernet frame that an expression asks about, as far as one can reach; None if its type is not known.
fn framed<'a>(event: &Event, room: &'a mut [u8; FRAME_REACH]) -> Option<&'a [u8]> {
    let ethertype = event.mac.map(|mac| mac.ethertype).or_else(|| ethertype(&event.bytes))?;
    if let Some(mac) = event.mac {
        room[..6].copy_from_slice(&mac.dst.0);
        room[6..12].copy_from_slice(&mac.src.0);
    }
    room[12..HEADER].copy_from_slice(&ethertype.to_be_bytes());
    let taken = event.bytes.len().min(FRAME_REACH - HEADER);
    room[HEADER..HEADER + taken].copy_from_slice(&event.bytes[..taken]);
    Some(&room[..HEADER + taken])
}

/// The ethertype of bytes from a network header on.
fn ethertype(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [first, ..] if first >> 4 == 4 => Some(crate::packet::ETHERTYPE_IPV4),
        [first, ..] if first >> 4 == 6 => Some(crate::packet::ETHERTYPE_IPV6),
        [0, 1, ..] => Some(crate::packet::ETHERTYPE_ARP),
        _ => None,
    }
}

/// Follows, tells and judges.
pub struct Watcher {
    wanted: Wanted,
    ground: Ground,
    follower: Follower,
    judge: Judge,
    totals: Totals,
    number: u64,
    redaction: Option<Redaction>,
}

impl Watcher {
    /// For packets in this network.
    pub fn new(wanted: Wanted, seen: Seen, limits: Limits) -> Self {
        Self {
            wanted,
            ground: Ground::new(seen.snapshot, seen.sight),
            follower: Follower::new(limits),
            judge: Judge::default(),
            totals: Totals::default(),
            number: 0,
            redaction: None,
        }
    }

    /// The same, that tells everything with other names, addresses and payload. What is asked for is asked of the packets as
    /// they are.
    pub fn redacted(wanted: Wanted, seen: Seen, limits: Limits) -> Result<Self, RedactError> {
        let redaction = Redaction::of(&seen.snapshot);
        let Picture { snapshot, sight } = redaction.picture(Picture { snapshot: seen.snapshot, sight: seen.sight })?;
        Ok(Self { redaction: Some(redaction), ..Self::new(wanted, Seen { snapshot, sight }, limits) })
    }

    /// What is told instead of what there is.
    pub fn redaction(&self) -> Option<&Redaction> {
        self.redaction.as_ref()
    }

    /// Which packets are told.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Other devices or namespaces are asked for.
    pub fn wanted_mut(&mut self) -> &mut Wanted {
        &mut self.wanted
    }

    /// The network.
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Sightings were lost: found now, and how many it were until now.
    pub fn lose(&mut self, now: Nanos, frames: u64, events: u64) {
        self.ground.lose(now, frames, events);
    }

    /// The network has changed, or what can be seen of it. A picture that cannot be redacted is not taken.
    pub fn renew(&mut self, seen: Seen) {
        let Seen { mut snapshot, mut sight } = seen;
        if let Some(redaction) = &mut self.redaction {
            redaction.learn(&snapshot);
            let Ok(picture) = redaction.picture(Picture { snapshot, sight }) else { return };
            Picture { snapshot, sight } = picture;
        }
        self.ground = self.ground.again(snapshot, sight);
        self.judge.forget();
    }

    /// Takes a captured frame. It is shown first, with whether it is of what is asked for.
    pub fn frame(&mut self, mut frame: Frame, show: impl FnOnce(&Frame, bool)) {
        let asked = self.wanted.is_asked(&frame);
        if let Some(redaction) = &self.redaction {
            redaction.frame(&mut frame);
        }
        show(&frame, asked);
        self.follower.frame(frame, asked);
    }

    /// Takes what a probe saw. The probes have matched it, unless it comes from a recording. It is shown first, with whether
    /// it is of what is asked for.
    pub fn event(&mut self, mut event: Event, matched: Matched, show: impl FnOnce(&Event, bool)) {
        let asked = match matched {
            Matched::ByProbe => !self.wanted.is_in_doubt(&event),
            Matched::NotYet => self.wanted.is_asked_event(&event),
        };
        if let Some(redaction) = &self.redaction {
            redaction.event(&mut event);
        }
        show(&event, asked);
        self.follower.event(event, asked);
    }

    /// It is this late.
    pub fn tick(&mut self, now: Nanos) {
        self.follower.tick(now);
    }

    /// Nothing more will come.
    pub fn close(&mut self) {
        self.follower.close();
    }

    /// What has ended and is to be told, one by one. Before a loss is judged that is unlike those before, `look` may give a newer
    /// picture of the network.
    pub fn tell(&mut self, look: &mut dyn FnMut(&Wanted) -> Option<Seen>) -> Option<Told> {
        loop {
            let followed = self.follower.pop()?;
            let helps = followed.packet.is_resolution() || followed.packet.role == Role::IcmpError;
            if !followed.asked && !helps {
                continue;
            }
            let asked = followed.asked;
            let mut way = self.ground.tell(followed);
            if !asked {
                self.judge.remember(way);
                continue;
            }
            let verdict = way.outcome.is_loss().then(|| {
                if !self.judge.knows(&way)
                    && let Some(seen) = look(&self.wanted)
                {
                    self.renew(seen);
                }
                self.judge.judge(&mut self.ground, &mut way)
            });
            self.number += 1;
            let told = Told { number: self.number, way, verdict };
            self.totals.count(&told.way, told.loss());
            if self.wanted.is_told(&told) {
                return Some(told);
            }
            self.judge.remember(told.way);
        }
    }

    /// Lends the network as a recording that has the sightings of this packet.
    pub fn with<T>(&mut self, told: &mut Told, look: impl FnOnce(&Recording, &Told) -> T) -> T {
        let mut events = std::mem::take(&mut told.way.followed.events);
        let mut frames = std::mem::take(&mut told.way.followed.frames);
        let given = self.ground.lend(&mut events, &mut frames, |recording| look(recording, told));
        told.way.followed.events = events;
        told.way.followed.frames = frames;
        given
    }

    /// Takes back what was told: later judgements may need it.
    pub fn remember(&mut self, told: Told) {
        self.judge.remember(told.way);
    }

    /// Everything so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What was followed, and what the bounds cost.
    pub fn counts(&self) -> Counts {
        self.follower.counts()
    }
}

/// The network, and what can be seen of it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The network.
    pub snapshot: Snapshot,
    /// What can be seen.
    pub sight: Sight,
}

/// Whether an event is known to be of what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    /// The probes gave it because it is, or shares a buffer with one that is.
    ByProbe,
    /// That is still to be seen.
    NotYet,
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::correlate::tests::{device, event};
    use crate::model::event::EventKind;

    fn datagram() -> Event {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(4000, 53);
        builder.write(&mut bytes, &[7; 40]).unwrap();
        event(1, 0x100, Some(device(0, 2)), &bytes, EventKind::Xmit)
    }

    fn doubts(expression: &str, wanted: Wanted, event: &Event) -> bool {
        let expression = Some(Expression::compile(expression).unwrap());
        Wanted { expression, ..wanted }.is_in_doubt(event)
    }

    #[test]
    fn what_shares_a_buffer_with_what_matched_need_not_match() {
        let own = Wanted { netns: vec![NetnsId(0)], ..Wanted::default() };
        assert!(!doubts("udp port 53", own.clone(), &datagram()));
        assert!(doubts("tcp", own.clone(), &datagram()));
        assert!(doubts("udp port 53", Wanted { netns: vec![NetnsId(1)], ..own.clone() }, &datagram()));
        assert!(doubts("udp port 53", Wanted { devices: vec![device(0, 3)], ..own.clone() }, &datagram()));
        let without_bytes = Event { bytes: [].into(), ..datagram() };
        assert!(doubts("udp port 53", own, &without_bytes), "it says nothing, and others of its packet do");
    }

    #[test]
    fn what_cannot_be_seen_in_a_sighting_is_left_to_the_probes() {
        let cut = Event { bytes: datagram().bytes[..40].into(), ..datagram() };
        assert!(!doubts("udp[50] = 1", Wanted::default(), &cut), "the byte is not there");
        assert!(doubts("udp[47] = 1", Wanted::default(), &datagram()), "it is there, and is 7");
        for expression in ["vlan 5", "greater 1000", "len > 1000", "ether host 2:2:2:2:2:3"] {
            assert!(!doubts(expression, Wanted::default(), &datagram()), "{expression}");
        }
        assert!(!doubts("tcp", Wanted { inner: true, ..Wanted::default() }, &datagram()), "it may be in a tunnel");
    }
}
