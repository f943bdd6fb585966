//! Which sightings belong to one packet.
//!
//! Takes a [`Recording`] and gives [`Packets`]: what the probes and the captures saw, sorted by packet, and within a packet by
//! *visit*, which is one passage of one device in one direction. It looks at bytes, pointers and times; it does not decide
//! how the visits hang together (`reconstruct` does) nor what any of it means. It cannot fail: what belongs to no
//! packet of the question is counted in [`Packets::unrelated`], so that nothing is lost unsaid.
//!
//! # What makes two sightings the same packet
//!
//! A packet of an exchange is known by its name, which is made of what no device on the way changes:
//!
//! | packet | its name | what is left out because it changes |
//! | --- | --- | --- |
//! | echo request and reply, UDP, TCP | role, sequence number, place within the whole packet if it is a fragment | addresses and identifier (NAT), TTL, checksums, MAC addresses, VLAN tags, what is wrapped around it |
//! | ICMP error | the name of the packet that it quotes, and its own sender | the same |
//! | ARP, neighbour discovery | role, address of the sender, address asked for | MAC header, VLAN tags, what is wrapped around it |
//!
//! Address resolution repeats itself with the same name, and so do the SYNs of a connection and datagrams. A sighting of
//! these begins a new packet if the one before it was last seen
//! at least [`APART`] ago and the place has been passed already: the kernel asks again after a second (retrans_time_ms), and a
//! frame that circles comes back within microseconds.
//!
//! Many sightings have no bytes that name the packet: a route look-up, the return value of a function, a header that has
//! been wrapped in ESP. For these the pointer of the socket buffer decides, and then the data buffer that clones
//! share. A pointer is a name only while the buffer lives: [`lives`] forgets it with kfree_skb and consume_skb, because the
//! allocator hands the same address out again within microseconds. Bytes go before pointers: a pointer under which
//! clearly another packet is seen was reused, and its end was not seen.
//!
//! # What makes two sightings the same visit
//!
//! Each device gives up to five signs of one passage: queued, transmitted and captured on the way out; put on the backlog,
//! received and captured on the way in. The first sign of each kind belongs to the first passage, the second to the
//! second, and so on. So a probe and a capture confirm each other without comparing clocks, and a packet that
//! passes twice (a loop, a duplicate) has two visits. All other sightings belong to the visit that their socket buffer
//! made last, or to the latest visit at their device.
//!
//! # Limits
//!
//! - Two packets with one name at the same time are one packet: two pings with one identifier and no readable payload, a duplicate that a
//!   qdisc makes (it shows as a second visit), two errors of one router about one request.
//! - A sign that was lost (a full buffer) at a device that the packet passed twice shifts the later ones of its kind to the
//!   earlier visit.
//! - A recording that lost the end of a socket buffer, and then saw its pointer again with a sighting that has no bytes,
//!   gives that sighting to the wrong packet.
//! - A retry within [`APART`] of the last sighting (a retransmission time below it) is taken for the same packet.

use std::net::IpAddr;

use crate::model::event::MacHeader;
use crate::model::exchange::Role;
use crate::model::id::{Device, IfIndex, Nanos, NetnsId};
use crate::model::recording::Recording;
use crate::packet::identity::Key;

mod book;
mod lives;
mod order;
mod reading;
#[cfg(test)]
pub(crate) mod tests;

/// How long a packet of address resolution must not have been seen before the same question again is another packet.
pub const APART: Nanos = Nanos(250_000_000);

/// Between a sighting of a packet and the look-ups of routes for it, which follow in the same run of the processor. Later ones
/// are for others: the processor was last seen with this packet, and its end was not seen.
pub const LOOKED_UP: Nanos = Nanos(50_000_000);

/// The sightings of a recording, by packet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Packets {
    /// In the order of their first sightings.
    pub packets: Vec<Packet>,
    /// Events without a packet that some packet waited for: those of neighbour entries, and route look-ups for what is
    /// about to be made.
    pub awaited: Vec<Pointer>,
    /// Sightings that belong to no packet of the question.
    pub unrelated: Vec<Pointer>,
}

/// One packet, whatever its socket buffers were.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    /// What it is for.
    pub role: Role,
    /// Echo sequence number; for an error that of the packet it quotes.
    pub seq: Option<u16>,
    /// For an error: what it is about.
    pub about: Option<Role>,
    /// Offset of its first byte in the whole packet, if it is a fragment.
    pub offset: u32,
    /// In the order of their beginnings.
    pub visits: Vec<Visit>,
}

/// One passage of one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Visit {
    /// When it began: by the clock of a probe if there is one among the witnesses.
    pub time: Nanos,
    /// Namespace; None if it is not in the snapshot.
    pub netns: Option<NetnsId>,
    /// Device; None inside a host, before the packet came to one.
    pub device: Option<IfIndex>,
    /// Which way.
    pub way: Way,
    /// What the headers said, each time that they said something new; empty if no sighting had bytes.
    pub said: Vec<Said>,
    /// Who saw it, by time.
    pub sightings: Vec<Sighting>,
}

/// Which way a packet passes a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// It is inside a host and was not seen at a device yet.
    Local,
    /// A device receives it.
    In,
    /// A device transmits it.
    Out,
}

/// One sighting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sighting {
    /// When.
    pub time: Nanos,
    /// Where in the recording.
    pub pointer: Pointer,
    /// What the headers said then, as position in [`Visit::said`].
    pub said: u16,
}

/// A position in the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pointer {
    /// In [`Recording::events`].
    Event(u32),
    /// In [`Recording::frames`].
    Frame(u32),
}

/// What a packet's headers said at one place. Of a packet in a tunnel these are the inner ones.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Said {
    /// Source; for address resolution that of the asker in a request and of the answerer in a reply.
    pub src: Option<IpAddr>,
    /// Destination; for address resolution the address asked for, in a reply the asker's.
    pub dst: Option<IpAddr>,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// Bytes of the IP packet; 0 for ARP.
    pub len: u32,
    /// ICMP identifier or source port.
    pub id: Option<u16>,
    /// Destination port.
    pub port: Option<u16>,
    /// Ethernet header.
    pub mac: Option<MacHeader>,
    /// Outermost VLAN id.
    pub vlan: Option<u16>,
    /// The tunnel that it is in.
    pub outer: Option<Outer>,
}

/// The outer header of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// VNI or key; 0 if there is none.
    pub vni: u32,
}

/// Sorts the sightings of a recording by packet.
pub fn correlate(recording: &Recording) -> Packets {
    let mut book = book::Book::new(Key::of(&recording.question, &recording.before));
    for pointer in order::by_time(&recording.events, &recording.frames) {
        match pointer {
            Pointer::Event(at) => {
                if let Some(event) = recording.events.get(at as usize) {
                    book.event(at, event);
                }
            }
            Pointer::Frame(at) => {
                if let Some(frame) = recording.frames.get(at as usize) {
                    book.frame(at, frame);
                }
            }
        }
    }
    let mut packets = book.close();
    packets.forget_strangers();
    packets
}

impl Packets {
    /// Address resolution is told apart by addresses alone, and another network of the machine may have the same ones. What
    /// was never seen at a place that the snapshot knows is of such a one.
    fn forget_strangers(&mut self) {
        let strange = |packet: &Packet| {
            matches!(packet.role, Role::ArpRequest | Role::ArpReply)
                && packet.visits.iter().all(|visit| visit.netns.is_none())
        };
        let (strangers, known) = std::mem::take(&mut self.packets).into_iter().partition(strange);
        self.packets = known;
        let strangers: Vec<Packet> = strangers;
        let sightings = strangers.iter().flat_map(|packet| &packet.visits).flat_map(|visit| &visit.sightings);
        self.unrelated.extend(sightings.map(|sighting| sighting.pointer));
    }

    /// How many sightings belong to a packet.
    pub fn related(&self) -> usize {
        self.packets.iter().flat_map(|packet| &packet.visits).map(|visit| visit.sightings.len()).sum()
    }
}

impl Packet {
    /// Whether it is a request or reply of address resolution.
    pub fn is_resolution(&self) -> bool {
        is_resolution(self.role)
    }

    /// When it was first seen.
    pub fn begun(&self) -> Nanos {
        self.visits.first().map_or(Nanos(0), |visit| visit.time)
    }

    /// What its headers said first.
    pub fn first_said(&self) -> Said {
        self.visits.first().map(Visit::first_said).unwrap_or_default()
    }
}

impl Visit {
    /// The device with its namespace.
    pub fn at(&self) -> Option<Device> {
        Some(Device::new(self.netns?, self.device?))
    }

    /// What the headers said first.
    pub fn first_said(&self) -> Said {
        self.said.first().copied().unwrap_or_default()
    }

    /// What the headers said last.
    pub fn last_said(&self) -> Said {
        self.said.last().copied().unwrap_or_default()
    }
}

fn is_resolution(role: Role) -> bool {
    matches!(role, Role::ArpRequest | Role::ArpReply)
}
