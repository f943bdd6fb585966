//! Which sightings of a stream are one packet, whatever the packets are: the endless counterpart of `correlate`.
//!
//! Takes [`Event`]s and [`Frame`]s in the order of time, and gives [`Followed`] packets as soon as they have ended, each with
//! its sightings. It knows no question: every packet that is shown to it is followed. Memory is bounded ([`Limits`]); what the
//! bounds cost is counted ([`Counts`]), so that nothing is lost unsaid. It looks at bytes, pointers and times, and does not
//! decide what any of it means: [`way`] tells a packet's way, with what the snapshot says about the network.
//!
//! # What makes two sightings the same packet
//!
//! A socket buffer is the packet for as long as it lives, and so are its clones. A capture knows no socket buffers, and a
//! packet may change its buffer (a copy), so a packet also has a name, made of what no device on its way changes
//! ([`name`]). Pointers go before names where both are known, unless the bytes are clearly another packet's: then the pointer
//! was reused, and its end was not seen.
//!
//! Unlike the packets of a ping, those of a stream may be alike: datagrams with one payload and no identification, TCP
//! segments that are sent again. Three things keep them apart, in this order:
//!
//! 1. A device shows a packet to a witness once in each direction. A name that is seen there again is another packet, unless its TTL
//!    or hop limit has become less: then it circles.
//! 2. One of the two ends must be the same: NAT that changes both at one place is followed by pointers only.
//! 3. Of several packets that fit, the one that was seen last.
//!
//! # When a packet has ended
//!
//! When all its socket buffers have been freed, or carry other packets, and no other sighting came within [`Limits::linger`];
//! else when nothing was seen of it for [`Limits::idle`], or, while a buffer of it lives, for [`Limits::held`]: it may wait for address
//! resolution, or in a queue.
//!
//! # Limits
//!
//! - Captures alone cannot keep apart packets that are alike in everything (unconnected UDP sockets send identification 0, and a
//!   flood has one payload): their number at each place is right, but where one of them was lost, another may be told in
//!   its place.
//! - A packet that circles in a network without TTL (a loop of bridges) is many packets.
//! - A packet that is cut into segments or fragments goes on as packets of their own.

use crate::correlate::Packet;
use crate::model::event::Event;
use crate::model::frame::Frame;
use crate::model::id::{Nanos, NetnsId};

mod book;
pub mod name;
pub mod recent;
#[cfg(test)]
mod tests;
pub mod totals;
pub mod way;

pub use book::Follower;

/// What bounds memory, and how long is waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Packets that are followed at the same time. One more ends the one that began first.
    pub open: usize,
    /// Sightings that are kept of one packet.
    pub sightings: usize,
    /// How long a packet whose buffers have been freed may still be seen by others.
    pub linger: Nanos,
    /// How long nothing must be seen of a packet.
    pub idle: Nanos,
    /// The same while a socket buffer of it lives.
    pub held: Nanos,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open: 8_192,
            sightings: 256,
            linger: Nanos(5_000_000),
            idle: Nanos(250_000_000),
            held: Nanos(4_000_000_000),
        }
    }
}

/// What was followed, and what the bounds cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Sightings that were entered.
    pub sightings: u64,
    /// Packets that have ended.
    pub packets: u64,
    /// Of these, such that were told before their end, because there were too many at the same time.
    pub cut_short: u64,
    /// Sightings that were not kept, because there were too many of one packet.
    pub too_many: u64,
    /// Sightings whose bytes and pointers say nothing of which packet they are.
    pub nameless: u64,
}

/// A packet that has ended, with what was seen of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Followed {
    /// Its visits. The pointers count in `events` and `frames`.
    pub packet: Packet,
    /// What the probes saw of it, by time.
    pub events: Vec<Event>,
    /// What the captures saw of it, by time.
    pub frames: Vec<Frame>,
    /// At least one sighting is of what was asked for.
    pub asked: bool,
    /// It was told before its end.
    pub cut_short: bool,
    /// Address resolution: where it was answered.
    pub answered_in: Option<NetnsId>,
}

impl Followed {
    /// When it was seen first and last.
    pub fn span(&self) -> (Nanos, Nanos) {
        let times = || self.packet.visits.iter().flat_map(|visit| &visit.sightings).map(|sighting| sighting.time);
        (times().min().unwrap_or_default(), times().max().unwrap_or_default())
    }

    /// Bytes of its first sighting that has any, and whether a link-layer header comes first.
    pub fn first_bytes(&self) -> Option<(Option<crate::model::frame::LinkLayer>, &[u8])> {
        let event = self.events.iter().find(|event| !event.bytes.is_empty());
        match (event, self.frames.first()) {
            (Some(event), Some(frame)) if frame.time < event.time => Some((Some(frame.link), &frame.bytes)),
            (Some(event), _) => Some((None, &event.bytes)),
            (None, Some(frame)) => Some((Some(frame.link), &frame.bytes)),
            (None, None) => None,
        }
    }
}
