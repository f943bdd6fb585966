//! The packets that are followed at the moment.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;

use super::name::{self, Glance};
use super::recent::Recent;
use super::{Counts, Followed, Limits};
use crate::correlate::{LOOKED_UP, Packet, Pointer, Said, Sighting, Visit, Way};
use crate::model::event::{Event, EventKind};
use crate::model::exchange::Role;
use crate::model::frame::{Direction, Frame};
use crate::model::id::{Device, IfIndex, Nanos, NetnsId, SkbId};

/// How many packets of one name are looked at.
const ALIKE: usize = 32;

/// The same answer after this time is another one.
const AGAIN: Nanos = Nanos(100_000_000);

/// Answers of address resolution that are remembered.
const ANSWERS: usize = 4096;

/// Protocols that wrap others: where one of them appears or goes away, the packet was wrapped or unwrapped.
const WRAPPERS: [u8; 7] = [4, 41, 47, 50, 51, 115, 137];

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

/// One device and direction of one packet.
#[derive(Debug)]
struct Place {
    device: Device,
    way: Way,
    /// The first visit, by its position in the packet, and further ones of a packet that circles.
    first: u32,
    more: Vec<u32>,
    /// How many signs of each kind were entered.
    signs: [u32; 5],
    /// TTL or hop limit of the last visit.
    ttl: Option<u8>,
}

/// A packet that is followed.
#[derive(Debug)]
struct Open {
    generation: u32,
    name: Option<u64>,
    /// The packet of the same name that began before.
    older: Option<u32>,
    mark: (u32, u8),
    last: Nanos,
    /// Socket buffers that live.
    alive: u32,
    /// Socket buffers and data buffers that were ever seen, to forget them with the packet.
    buffers: Vec<SkbId>,
    heads: Vec<u64>,
    places: Vec<Place>,
    followed: Followed,
}

/// What a socket buffer carries.
#[derive(Debug, Clone, Copy)]
struct Life {
    slot: u32,
    visit: u32,
}

/// A packet to look after at a time.
#[derive(Debug, Clone, Copy)]
struct Due {
    time: Nanos,
    slot: u32,
    generation: u32,
}

/// Pointers and names are spread already, or nearly so: one multiplication is hash enough.
#[derive(Debug, Default, Clone, Copy)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

/// Follows packets: sightings in, ended packets out.
pub struct Follower {
    limits: Limits,
    slots: Vec<Option<Box<Open>>>,
    free: Vec<u32>,
    generation: u32,
    names: Map<u64, u32>,
    lives: Map<SkbId, Life>,
    heads: Map<u64, u32>,
    /// Every packet is in here once, by the time at which it would be idle had nothing been seen since.
    idle: VecDeque<Due>,
    ended: VecDeque<Due>,
    done: VecDeque<Followed>,
    /// Who answered whom, and from where: (answerer, asker).
    answers: Recent<(IpAddr, IpAddr), (Nanos, NetnsId)>,
    now: Nanos,
    counts: Counts,
}

impl Follower {
    /// Nothing is followed yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            generation: 0,
            names: Map::default(),
            lives: Map::default(),
            heads: Map::default(),
            idle: VecDeque::new(),
            ended: VecDeque::new(),
            done: VecDeque::new(),
            answers: Recent::new(ANSWERS),
            now: Nanos(0),
            counts: Counts::default(),
        }
    }

    /// What was followed so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many packets are being followed.
    pub fn open(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The next packet that has ended.
    pub fn pop(&mut self) -> Option<Followed> {
        self.done.pop_front()
    }

    /// It is this late: packets that have ended by now are handed out.
    pub fn tick(&mut self, now: Nanos) {
        self.now = self.now.max(now);
        while let Some(due) = self.ended.front().copied().filter(|due| due.time <= self.now) {
            self.ended.pop_front();
            if let Some(open) = self.at(due) {
                let linger = Nanos(open.last.0.saturating_add(self.limits.linger.0));
                if open.alive > 0 {
                    // It goes on in another buffer.
                } else if linger <= self.now {
                    self.finish(due.slot, false);
                } else {
                    self.ended.push_back(Due { time: linger, ..due });
                }
            }
        }
        while let Some(due) = self.idle.front().copied().filter(|due| due.time <= self.now) {
            self.idle.pop_front();
            if let Some(open) = self.at(due) {
                let wait = if open.alive > 0 { self.limits.held } else { self.limits.idle };
                let time = Nanos(open.last.0.saturating_add(wait.0));
                if time <= self.now {
                    self.finish(due.slot, false);
                } else {
                    self.idle.push_back(Due { time, ..due });
                }
            }
        }
    }

    /// Nothing more will come: everything is handed out.
    pub fn close(&mut self) {
        while let Some(due) = self.idle.pop_front() {
            if self.at(due).is_some() {
                self.finish(due.slot, false);
            }
        }
    }

    /// Enters a captured frame. `asked` says whether it is of what was asked for.
    pub fn frame(&mut self, frame: Frame, asked: bool) {
        self.counts.sightings += 1;
        let glance = name::of_frame(frame.link, &frame.bytes);
        let time = frame.time;
        self.tick(time);
        let way = if frame.direction == Direction::Out { Way::Out } else { Way::In };
        let passage = Passage { device: frame.device, way, sign: Sign::Captured };
        if glance.name.is_none() {
            self.counts.nameless += 1;
            return;
        }
        let slot = self.find(&glance, Some(passage)).unwrap_or_else(|| self.begin(&glance, time));
        self.hear(&glance, Some(frame.device.netns), time);
        let visit = self.pass(slot, passage, &glance.said, time);
        let limit = self.limits.sightings;
        if let Some(open) = self.open_mut(slot) {
            open.followed.asked |= asked;
            open.last = open.last.max(time);
            let pointer = Pointer::Frame(open.followed.frames.len() as u32);
            if open.enter(visit, time, pointer, Some(glance.said), limit) {
                open.followed.frames.push(frame);
            } else {
                self.counts.too_many += 1;
            }
        }
    }

    /// Enters an event. `asked` says whether it is of what was asked for.
    pub fn event(&mut self, event: Event, asked: bool) {
        self.counts.sightings += 1;
        let time = event.time;
        self.tick(time);
        // A clone is entered where its original is.
        let carrier = match event.kind {
            EventKind::Clone { of } => Some(of),
            _ => event.skb,
        };
        let life = carrier.and_then(|skb| self.lives.get(&skb).copied());
        let glance = name::of_event(&event.bytes, event.mac);
        let passage = passage(&event);
        let known = life.filter(|life| glance.as_ref().is_none_or(|glance| self.is_still(life.slot, glance)));
        let last = known.and_then(|life| self.slots.get(life.slot as usize)?.as_deref()).map_or(time, |open| open.last);
        if matches!(event.kind, EventKind::FibLookup { .. }) && time.0.saturating_sub(last.0) >= LOOKED_UP.0 {
            self.counts.nameless += 1;
            return;
        }
        let slot = match (known, glance.as_ref().filter(|glance| glance.name.is_some())) {
            (Some(life), _) => life.slot,
            (None, Some(glance)) => {
                // Another packet under the same pointer: the end of the first was not seen.
                if let Some(life) = life {
                    self.end_of(life.slot, carrier, time);
                }
                self.find(glance, passage).unwrap_or_else(|| self.begin(glance, time))
            }
            (None, None) => {
                let Some(slot) = event.head.and_then(|head| self.heads.get(&head).copied()) else {
                    self.counts.nameless += 1;
                    return;
                };
                slot
            }
        };
        if let Some(glance) = &glance {
            self.hear(glance, event.device.map(|device| device.netns).or(event.netns), time);
        }
        let visit = match (passage, known) {
            (Some(passage), _) => {
                let said = glance.as_ref().map(|glance| glance.said).unwrap_or_default();
                self.pass(slot, passage, &said, time)
            }
            (None, Some(life)) => life.visit,
            (None, None) => self.whereabouts(slot, &event),
        };
        let (skb, head) = (event.skb, event.head);
        let ends = matches!(event.kind, EventKind::Drop { .. } | EventKind::Consume { .. });
        let limit = self.limits.sightings;
        if let Some(open) = self.open_mut(slot) {
            open.followed.asked |= asked;
            open.last = open.last.max(time);
            let pointer = Pointer::Event(open.followed.events.len() as u32);
            // The end of a packet is kept whatever came before.
            if open.enter(visit, time, pointer, glance.map(|glance| glance.said), limit + usize::from(ends)) {
                let events = &mut open.followed.events;
                // Most packets have few, there are many packets, and doubling would leave half of the room empty.
                if events.len() == events.capacity() {
                    events.reserve_exact(2 + events.len() / 4);
                }
                events.push(sharing(event, events));
            } else {
                self.counts.too_many += 1;
            }
        }
        if ends {
            self.end_of(slot, skb, time);
        } else if let Some(skb) = skb {
            self.note(skb, head, slot, visit);
        }
    }

    /// Whether these bytes can be of this packet, which its pointer says they are.
    fn is_still(&self, slot: u32, glance: &Glance) -> bool {
        let Some(open) = self.slots.get(slot as usize).and_then(Option::as_deref) else { return false };
        let (id, protocol) = glance.mark;
        let wraps = |protocol: u8| protocol == 0 || WRAPPERS.contains(&protocol);
        open.name.is_none()
            || glance.name.is_none()
            || open.name == glance.name
            // Cut to fragments or otherwise shortened.
            || glance.mark == open.mark && id != 0
            || wraps(protocol) != wraps(open.mark.1)
    }

    /// The packet with this name that a sighting now belongs to.
    fn find(&self, glance: &Glance, passage: Option<Passage>) -> Option<u32> {
        let mut next = self.names.get(&glance.name?).copied();
        let mut best: Option<(Nanos, u32)> = None;
        for _ in 0..ALIKE {
            let Some(slot) = next else { break };
            let Some(open) = self.slots.get(slot as usize).and_then(Option::as_deref) else { break };
            if open.may_pass(passage, &glance.said)
                && open.is_akin(glance)
                && best.is_none_or(|(last, _)| open.last > last)
            {
                best = Some((open.last, slot));
            }
            next = open.older;
        }
        best.map(|(_, slot)| slot)
    }

    fn begin(&mut self, glance: &Glance, time: Nanos) -> u32 {
        if self.open() >= self.limits.open {
            self.make_room();
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.generation = self.generation.wrapping_add(1);
        let packet = Packet {
            role: glance.role,
            seq: glance.seq,
            about: (glance.role == Role::IcmpError).then_some(Role::Request),
            offset: glance.offset,
            visits: Vec::with_capacity(4),
        };
        let followed = Followed {
            packet,
            events: Vec::new(),
            frames: Vec::new(),
            asked: false,
            cut_short: false,
            answered_in: None,
        };
        let older = glance.name.and_then(|name| self.names.insert(name, slot));
        let open = Open {
            generation: self.generation,
            name: glance.name,
            older,
            mark: glance.mark,
            last: time,
            alive: 0,
            buffers: Vec::new(),
            heads: Vec::new(),
            places: Vec::with_capacity(4),
            followed,
        };
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(Box::new(open));
        }
        let due = Nanos(time.0.saturating_add(self.limits.idle.0));
        self.idle.push_back(Due { time: due, slot, generation: self.generation });
        slot
    }

    /// Remembers who answers whom: where an answer is seen first, it was made.
    fn hear(&mut self, glance: &Glance, netns: Option<NetnsId>, time: Nanos) {
        if glance.role == Role::ArpReply
            && let (Some(answerer), Some(asker), Some(netns)) = (glance.said.src, glance.said.dst, netns)
            && self.answers.get(&(answerer, asker)).is_none_or(|(before, _)| time.0 > before.0 + AGAIN.0)
        {
            self.answers.insert((answerer, asker), (time, netns));
        }
    }

    /// Where a question of address resolution was answered, if it was.
    fn answer(&self, packet: &Packet) -> Option<NetnsId> {
        let said = packet.first_said();
        let (time, netns) = self.answers.get(&(said.dst?, said.src?))?;
        (packet.role == Role::ArpRequest && *time >= packet.begun()).then_some(*netns)
    }

    /// Ends the packet that began first.
    fn make_room(&mut self) {
        while let Some(due) = self.idle.pop_front() {
            if self.at(due).is_some() {
                self.counts.cut_short += 1;
                return self.finish(due.slot, true);
            }
        }
    }

    /// The visit that a sign of a passage belongs to.
    fn pass(&mut self, slot: u32, passage: Passage, said: &Said, time: Nanos) -> u32 {
        let Some(open) = self.open_mut(slot) else { return 0 };
        let Passage { device, way, sign } = passage;
        let known = open.places.iter_mut().find(|place| place.device == device && place.way == way);
        if let Some(place) = known {
            let count = place.signs[sign as usize];
            place.signs[sign as usize] += 1;
            let visit = match count {
                0 => Some(place.first),
                again => place.more.get(again as usize - 1).copied(),
            };
            place.ttl = said.ttl.or(place.ttl);
            if let Some(visit) = visit {
                return visit;
            }
            let visit = open.followed.packet.visits.len() as u32;
            place.more.push(visit);
            return open.visit(time, Some(device.netns), Some(device.ifindex), way);
        }
        let mut signs = [0; 5];
        signs[sign as usize] = 1;
        let first = open.followed.packet.visits.len() as u32;
        open.places.push(Place { device, way, first, more: Vec::new(), signs, ttl: said.ttl });
        open.visit(time, Some(device.netns), Some(device.ifindex), way)
    }

    /// The visit that an event without a passage of its own belongs to: the latest at its device, else in its namespace.
    fn whereabouts(&mut self, slot: u32, event: &Event) -> u32 {
        let netns = event.device.map(|device| device.netns).or(event.netns);
        let Some(open) = self.open_mut(slot) else { return 0 };
        let visits = &open.followed.packet.visits;
        let latest = |fits: &dyn Fn(&Visit) -> bool| visits.iter().rposition(fits);
        let found = latest(&|visit| visit.at().is_some() && visit.at() == event.device)
            .or_else(|| latest(&|visit| visit.netns.is_some() && visit.netns == netns))
            .or_else(|| latest(&|_| netns.is_none()));
        match found {
            Some(visit) => visit as u32,
            None => open.visit(event.time, netns, event.device.map(|device| device.ifindex), Way::Local),
        }
    }

    fn note(&mut self, skb: SkbId, head: Option<u64>, slot: u32, visit: u32) {
        let before = self.lives.insert(skb, Life { slot, visit });
        if let Some(before) = before.filter(|before| before.slot != slot) {
            self.let_go(before.slot);
            self.see_end(before.slot, self.now);
        }
        let is_new = before.is_none_or(|before| before.slot != slot);
        let Some(open) = self.open_mut(slot) else { return };
        if is_new {
            open.alive += 1;
            open.buffers.push(skb);
        }
        if let Some(head) = head.filter(|head| open.heads.last() != Some(head)) {
            open.heads.push(head);
            self.heads.insert(head, slot);
        }
    }

    /// A buffer of this packet has been freed by now.
    fn end_of(&mut self, slot: u32, skb: Option<SkbId>, now: Nanos) {
        if let Some(life) = skb.and_then(|skb| self.lives.remove(&skb)) {
            self.let_go(life.slot);
        }
        self.see_end(slot, now);
    }

    /// A buffer does not carry this packet any more.
    fn let_go(&mut self, slot: u32) {
        if let Some(open) = self.open_mut(slot) {
            open.alive = open.alive.saturating_sub(1);
        }
    }

    /// A packet without buffers has ended if nobody sees it any more.
    fn see_end(&mut self, slot: u32, now: Nanos) {
        let linger = self.limits.linger;
        let Some(open) = self.open_mut(slot) else { return };
        if open.alive == 0 {
            let due = Due { time: Nanos(now.0.saturating_add(linger.0)), slot, generation: open.generation };
            self.ended.push_back(due);
        }
    }

    fn finish(&mut self, slot: u32, cut_short: bool) {
        let Some(open) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return };
        self.free.push(slot);
        for skb in &open.buffers {
            if self.lives.get(skb).is_some_and(|life| life.slot == slot) {
                self.lives.remove(skb);
            }
        }
        for head in &open.heads {
            if self.heads.get(head) == Some(&slot) {
                self.heads.remove(head);
            }
        }
        if let Some(name) = open.name {
            self.unlink(name, slot, open.older);
        }
        self.counts.packets += 1;
        let answered_in = self.answer(&open.followed.packet);
        self.done.push_back(Followed { cut_short, answered_in, ..open.followed });
    }

    /// Takes a packet out of the chain of its name.
    fn unlink(&mut self, name: u64, slot: u32, older: Option<u32>) {
        let Some(&first) = self.names.get(&name) else { return };
        if first == slot {
            match older {
                Some(older) => self.names.insert(name, older),
                None => self.names.remove(&name),
            };
            return;
        }
        let mut at = first;
        while let Some(open) = self.open_mut(at) {
            match open.older {
                Some(next) if next == slot => return open.older = older,
                Some(next) => at = next,
                None => return,
            }
        }
    }

    fn at(&self, due: Due) -> Option<&Open> {
        let open = self.slots.get(due.slot as usize)?.as_deref()?;
        (open.generation == due.generation).then_some(open)
    }

    fn open_mut(&mut self, slot: u32) -> Option<&mut Open> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }
}

impl Open {
    /// Whether the packet may give this sign now: it has not given it yet, or it circles and has aged.
    fn may_pass(&self, passage: Option<Passage>, said: &Said) -> bool {
        let Some(Passage { device, way, sign }) = passage else { return true };
        let Some(place) = self.places.iter().find(|place| place.device == device && place.way == way) else {
            return true;
        };
        // Another witness has told of a further visit already.
        place.signs[sign as usize] <= place.more.len() as u32
            || place.ttl.zip(said.ttl).is_some_and(|(before, now)| now < before)
    }

    /// Whether one of the two ends is still the same.
    fn is_akin(&self, glance: &Glance) -> bool {
        if matches!(glance.role, Role::ArpRequest | Role::ArpReply) {
            return true;
        }
        let (src, dst) = (glance.said.src, glance.said.dst);
        let same = |said: &Said| said.src == src || said.dst == dst;
        let visits = &self.followed.packet.visits;
        let last = visits.last().map(Visit::last_said).unwrap_or_default();
        same(&last) || visits.first().is_some_and(|visit| same(&visit.first_said()))
    }

    fn visit(&mut self, time: Nanos, netns: Option<NetnsId>, device: Option<IfIndex>, way: Way) -> u32 {
        let visits = &mut self.followed.packet.visits;
        visits.push(Visit { time, netns, device, way, said: Vec::with_capacity(1), sightings: Vec::with_capacity(2) });
        visits.len() as u32 - 1
    }

    /// Enters a sighting: whether there was room for it.
    fn enter(&mut self, visit: u32, time: Nanos, pointer: Pointer, said: Option<Said>, limit: usize) -> bool {
        if self.followed.events.len() + self.followed.frames.len() >= limit {
            return false;
        }
        let Some(visit) = self.followed.packet.visits.get_mut(visit as usize) else { return false };
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
        true
    }
}

/// Where a packet looks as it did before, it needs no memory of its own.
fn sharing(event: Event, before: &[Event]) -> Event {
    match before.iter().rev().find(|before| !before.bytes.is_empty()) {
        Some(before) if before.bytes == event.bytes => Event { bytes: before.bytes.clone(), ..event },
        _ => event,
    }
}

/// Whether headers say something that they did not say before at this place. A probe without a MAC header says nothing new.
fn is_news(before: &Said, now: &Said) -> bool {
    let ends = |said: &Said| (said.src, said.dst, said.id, said.port, said.outer.is_some());
    ends(before) != ends(now) || before.mac.is_none() && now.mac.is_some()
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
