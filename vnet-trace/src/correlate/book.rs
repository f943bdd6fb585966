//! Where each sighting is entered: under its packet, and there under its visit.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::lives::{Life, Lives};
use super::reading::{self, Name, Reading};
use super::{APART, LOOKED_UP, Packet, Packets, Pointer, Said, Sighting, Visit, Way};
use crate::model::event::{Event, EventKind};
use crate::model::frame::{Direction, Frame};
use crate::model::id::{Device, IfIndex, Nanos, NetnsId};
use crate::packet::identity::{Key, Sieve};

/// How many of a packet's latest visits are looked at to find the one at a place. More only matters in a loop.
const LATEST: usize = 64;

/// Bytes that a packet grows by when it is put into a datagram: an IPv4 and a UDP header, at least.
const WRAPPED: u32 = 28;

/// The signs that a device gives of one passage.
#[derive(Debug, Clone, Copy)]
enum Sign {
    Captured,
    Queued,
    Transmitted,
    Backlogged,
    Received,
}

/// A passage of a device: where, which way, and by which sign it is known.
#[derive(Debug, Clone, Copy)]
struct Passage {
    device: Device,
    way: Way,
    sign: Sign,
}

/// What is known about one device and direction for one packet.
#[derive(Debug, Default)]
struct Place {
    /// The first visit there, by its position in the packet. Mostly it is the only one.
    first: Option<u32>,
    /// The others.
    more: Vec<u32>,
    /// How many signs of each kind were entered.
    signs: [u32; 5],
}

/// What is kept of a packet while sightings come in.
#[derive(Debug, Clone, Copy)]
struct Open {
    name: Name,
    /// The last sighting.
    last: Nanos,
    /// The last one with bytes.
    told: Nanos,
}

/// The entries so far.
pub struct Book {
    sieve: Sieve,
    packets: Vec<Packet>,
    open: Vec<Open>,
    names: HashMap<Name, u32>,
    places: HashMap<(u32, Device, Way), Place>,
    lives: Lives,
    /// The packet of the sighting before.
    recent: Option<u32>,
    awaited: Vec<Pointer>,
    unrelated: Vec<Pointer>,
}

impl Book {
    /// An empty book for the packets of this key.
    pub fn new(key: Key) -> Self {
        Self {
            sieve: Sieve::new(key),
            packets: Vec::new(),
            open: Vec::new(),
            names: HashMap::new(),
            places: HashMap::new(),
            lives: Lives::default(),
            recent: None,
            awaited: Vec::new(),
            unrelated: Vec::new(),
        }
    }

    /// Enters a captured frame.
    pub fn frame(&mut self, at: u32, frame: &Frame) {
        let pointer = Pointer::Frame(at);
        let Reading::Ours(name, said) = reading::of_frame(frame, &mut self.sieve) else {
            self.unrelated.push(pointer);
            return;
        };
        let way = if frame.direction == Direction::Out { Way::Out } else { Way::In };
        let passage = Passage { device: frame.device, way, sign: Sign::Captured };
        let packet = self.packet(name, frame.time, Some(passage), None);
        let visit = self.pass(packet, passage, frame.time);
        self.enter(packet, visit, frame.time, pointer, Some(said));
    }

    /// Enters an event.
    pub fn event(&mut self, at: u32, event: &Event) {
        let pointer = Pointer::Event(at);
        if is_awaited(event) {
            return self.awaited.push(pointer);
        }
        // A clone is entered where its original is.
        let carrier = match event.kind {
            EventKind::Clone { of } => Some(of),
            _ => event.skb,
        };
        let life = self.lives.of(carrier);
        let passage = passage(event);
        // Where it is now is no place that we know: it has left the one where it was seen last.
        if event.netns == Some(NetnsId::ELSEWHERE) {
            if matches!(event.kind, EventKind::Drop { .. } | EventKind::Consume { .. }) {
                self.lives.end(event.skb);
            }
            return self.unrelated.push(pointer);
        }
        let carried = life.or_else(|| self.lives.by_head(event.head));
        let (packet, said) = match reading::of_event(event, &mut self.sieve) {
            Reading::Ours(name, said) => (self.packet(name, event.time, passage, life), Some(said)),
            Reading::Silent => match carried.filter(|life| self.can_look_up(*life, event)) {
                Some(life) => (life.packet, None),
                None => return self.unrelated.push(pointer),
            },
            Reading::Datagram(len) if len >= carried.map_or(u32::MAX, |life| self.len_of(life) + WRAPPED) => {
                (carried.map_or(0, |life| life.packet), None)
            }
            Reading::Another | Reading::Datagram(_) => {
                self.lives.reused(carrier, event.head);
                return self.unrelated.push(pointer);
            }
        };
        let visit = match (passage, life) {
            (Some(passage), _) => self.pass(packet, passage, event.time),
            (None, Some(life)) if life.packet == packet => life.visit,
            _ => self.whereabouts(packet, event),
        };
        self.enter(packet, visit, event.time, pointer, said);
        match (&event.kind, event.skb) {
            (EventKind::Drop { .. } | EventKind::Consume { .. }, skb) => self.lives.end(skb),
            (_, Some(skb)) => self.lives.note(skb, packet, visit, event.head),
            (_, None) => {}
        }
    }

    /// All packets.
    pub fn close(self) -> Packets {
        Packets { packets: self.packets, awaited: self.awaited, unrelated: self.unrelated }
    }

    /// The length of the IP packet that a buffer carries, as it was last told; 0 if it is none, or nothing was told.
    fn len_of(&self, life: Life) -> u32 {
        let visits = self.packets.get(life.packet as usize).map_or(&[][..], |packet| &packet.visits);
        visits.iter().rev().take(LATEST).find_map(|visit| visit.said.last()).map_or(0, |said| said.len)
    }

    /// Whether a route that is looked up can be for the packet that the processor had last. The look-up tells no skb of its own,
    /// and that packet may be gone since: UDP frees what a program has read without a word.
    fn can_look_up(&self, life: Life, event: &Event) -> bool {
        let EventKind::FibLookup { dst, .. } = &event.kind else { return true };
        let told = self.open.get(life.packet as usize).map_or(Nanos(0), |open| open.told);
        let visits = self.packets.get(life.packet as usize).map_or(&[][..], |packet| &packet.visits);
        let own = visits.iter().rev().take(LATEST).find_map(|visit| visit.said.last()?.dst);
        event.time.0.saturating_sub(told.0) < LOOKED_UP.0 && own.is_none_or(|own| own.is_ipv4() == dst.is_ipv4())
    }

    /// The packet with this name that a sighting now belongs to.
    fn packet(&mut self, name: Name, time: Nanos, passage: Option<Passage>, life: Option<Life>) -> u32 {
        if let Some(known) = self.known(&name, life)
            && !self.is_asked_again(known, time, passage, life)
        {
            return known;
        }
        let packet = self.packets.len() as u32;
        self.packets.push(Packet {
            role: name.role,
            seq: name.seq,
            about: name.about,
            offset: name.offset,
            visits: Vec::new(),
        });
        self.open.push(Open { name, last: time, told: time });
        self.names.insert(name, packet);
        packet
    }

    /// The latest packet with this name. Mostly it is the one that the socket buffer has carried before, or that of the sighting
    /// before this one; what repeats itself has several packets of one name, and only the map knows the latest.
    fn known(&self, name: &Name, life: Option<Life>) -> Option<u32> {
        let is_it = |packet: &u32| self.open.get(*packet as usize).is_some_and(|open| open.name == *name);
        let near = life.map(|life| life.packet).filter(is_it).or_else(|| self.recent.filter(is_it));
        near.filter(|_| !name.repeats()).or_else(|| self.names.get(name).copied())
    }

    /// Whether this sighting of a packet that repeats itself begins a new one.
    fn is_asked_again(&self, known: u32, time: Nanos, passage: Option<Passage>, life: Option<Life>) -> bool {
        let Some(open) = self.open.get(known as usize) else { return true };
        if !open.name.repeats() || time.0.saturating_sub(open.last.0) < APART.0 {
            return false;
        }
        match passage {
            Some(Passage { device, way, sign }) => {
                self.places.get(&(known, device, way)).is_some_and(|place| place.signs[sign as usize] > 0)
            }
            None => life.is_none_or(|life| life.packet != known),
        }
    }

    /// The visit that a sign of a passage belongs to.
    fn pass(&mut self, packet: u32, passage: Passage, time: Nanos) -> u32 {
        let Passage { device, way, sign } = passage;
        let place = self.places.entry((packet, device, way)).or_default();
        let count = &mut place.signs[sign as usize];
        let visit = match *count {
            0 => place.first,
            again => place.more.get(again as usize - 1).copied(),
        };
        *count += 1;
        if let Some(visit) = visit {
            return visit;
        }
        let visit = self.begin(packet, time, Some(device.netns), Some(device.ifindex), way);
        if let Entry::Occupied(mut place) = self.places.entry((packet, device, way)) {
            let place = place.get_mut();
            match place.first {
                None => place.first = Some(visit),
                Some(_) => place.more.push(visit),
            }
        }
        visit
    }

    /// The visit that an event without a passage of its own belongs to: the latest at its device, else in its namespace.
    fn whereabouts(&mut self, packet: u32, event: &Event) -> u32 {
        let netns = event.device.map(|device| device.netns).or(event.netns);
        let ifindex = event.device.map(|device| device.ifindex);
        let visits = self.packets.get(packet as usize).map_or(&[][..], |packet| &packet.visits);
        let latest = || (0..visits.len()).zip(visits).rev().take(LATEST);
        let at_device = || latest().find(|(_, visit)| visit.at().is_some() && visit.at() == event.device);
        let in_netns = || latest().find(|(_, visit)| visit.netns.is_some() && visit.netns == netns);
        let anywhere = || latest().find(|_| netns.is_none());
        match at_device().or_else(in_netns).or_else(anywhere) {
            Some((visit, _)) => visit as u32,
            None => self.begin(packet, event.time, netns, ifindex, Way::Local),
        }
    }

    fn begin(&mut self, packet: u32, time: Nanos, netns: Option<NetnsId>, device: Option<IfIndex>, way: Way) -> u32 {
        let Some(packet) = self.packets.get_mut(packet as usize) else { return 0 };
        packet.visits.push(Visit { time, netns, device, way, said: Vec::with_capacity(1), sightings: Vec::new() });
        packet.visits.len() as u32 - 1
    }

    fn enter(&mut self, packet: u32, visit: u32, time: Nanos, pointer: Pointer, said: Option<Said>) {
        self.recent = Some(packet);
        if let Some(open) = self.open.get_mut(packet as usize) {
            open.last = open.last.max(time);
            if said.is_some() {
                open.told = open.told.max(time);
            }
        }
        let visit = self.packets.get_mut(packet as usize).and_then(|packet| packet.visits.get_mut(visit as usize));
        let Some(visit) = visit else { return self.unrelated.push(pointer) };
        if matches!(pointer, Pointer::Event(_))
            && visit.sightings.iter().all(|other| matches!(other.pointer, Pointer::Frame(_)))
        {
            visit.time = time;
        }
        if let Some(said) = said
            && visit.said.last().is_none_or(|last| is_news(last, &said))
            && visit.said.len() < usize::from(u16::MAX)
        {
            visit.said.push(said);
        }
        let said = visit.said.len().saturating_sub(1) as u16;
        visit.sightings.push(Sighting { time, pointer, said });
    }
}

/// Whether headers say something that they did not say before at this place. A probe without a MAC header says nothing new.
fn is_news(before: &Said, now: &Said) -> bool {
    let addresses = |said: &Said| (said.src, said.dst, said.id, said.port, said.outer.is_some());
    addresses(before) != addresses(now) || before.mac.is_none() && now.mac.is_some()
}

/// Neighbour entries have no packet, and neither has a socket that looks for a route (iif is that of lo then).
fn is_awaited(event: &Event) -> bool {
    match &event.kind {
        EventKind::Neigh { .. } => true,
        EventKind::FibLookup { iif, .. } => event.skb.is_none() && *iif == IfIndex(1),
        _ => false,
    }
}

fn passage(event: &Event) -> Option<Passage> {
    let (way, sign) = match event.kind {
        EventKind::Queue => (Way::Out, Sign::Queued),
        EventKind::Xmit => (Way::Out, Sign::Transmitted),
        EventKind::NetifRx => (Way::In, Sign::Backlogged),
        EventKind::Receive => (Way::In, Sign::Received),
        _ => return None,
    };
    Some(Passage { device: event.device?, way, sign })
}
