//! Which captured frames are sightings of one packet.
//!
//! Captures know no sk_buff, so a packet must be recognised by what it says, although it is rewritten on its way:
//! a router changes MAC addresses and TTL, NAT the IP addresses, a tunnel wraps all of it.
//!
//! | packet | what stays the same | what makes it another packet |
//! | --- | --- | --- |
//! | echo, TCP, UDP of the question, and errors about it | role, sequence number, for an error the sender | nothing: seen again at the same place it is the same packet in a loop, or a duplicate |
//! | ARP and neighbour discovery | role, addresses | seen again at the same device in the same direction: then it was asked again |
//! | a fragment | the above and its offset | as above |
//!
//! Limits: two errors of one router about one request are one packet; a neighbour request that is flooded back to a port
//! that has sent it counts as a new one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::identity::{Identity, Key, Sieve};
use super::{IcmpMessage, Net, Packet, parse_frame};
use crate::model::exchange::Role;
use crate::model::frame::{Direction, Frame};
use crate::model::id::Device;

/// A frame that belongs to the question.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// Position in the frames.
    pub frame: usize,
    /// What it says.
    pub packet: Packet,
    /// What it is for.
    pub identity: Identity,
    /// The packet that it is a sighting of, numbered from 1 in the order of their first sightings.
    pub number: u64,
}

/// What stays the same on a packet's way.
type Name = (Role, Option<u16>, Option<Role>, Option<IpAddr>, Option<IpAddr>, u32);

/// The frames that belong to the question, in their order. Frames have to be in the order of time.
pub fn sightings(frames: &[Frame], key: Key) -> Vec<Sighting> {
    let mut sieve = Sieve::new(key);
    let mut count = 0;
    let mut known: BTreeMap<Name, (u64, Vec<(Device, Direction)>)> = BTreeMap::new();
    let mut all = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        let Ok(packet) = parse_frame(frame.link, &frame.bytes) else { continue };
        let Some(identity) = sieve.admit(&packet) else { continue };
        let place = (frame.device, frame.direction);
        let is_neighbour = matches!(identity.role, Role::ArpRequest | Role::ArpReply);
        let (number, places) = known.entry(name(&packet, identity)).or_default();
        if *number == 0 || is_neighbour && places.contains(&place) {
            count += 1;
            *number = count;
            places.clear();
        }
        places.push(place);
        all.push(Sighting { frame: at, identity, number: *number, packet });
    }
    all
}

fn name(packet: &Packet, identity: Identity) -> Name {
    let inner = packet.tunnel().map_or(packet, |tunnel| &tunnel.inner);
    let (from, about) = match (&inner.net, inner.icmp().map(|icmp| &icmp.message)) {
        (Net::Arp(arp), _) => (Some(arp.sender.into()), Some(arp.target.into())),
        (
            Net::Ip(ip),
            Some(
                IcmpMessage::NeighbourSolicitation { target, .. } | IcmpMessage::NeighbourAdvertisement { target, .. },
            ),
        ) => (Some(ip.src), Some((*target).into())),
        (Net::Ip(ip), _) if identity.role == Role::IcmpError => (Some(ip.src), None),
        _ => (None, None),
    };
    let offset = inner.ip().and_then(|ip| ip.fragment).map_or(0, |part| part.offset);
    (identity.role, identity.seq, identity.about, from, about, offset)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use etherparse::PacketBuilder;

    use super::*;
    use crate::model::frame::LinkLayer;
    use crate::model::id::{IfIndex, Nanos, NetnsId};
    use crate::model::question::Protocol;

    fn frame(device: u32, direction: Direction, bytes: Vec<u8>) -> Frame {
        let device = Device::new(NetnsId(0), IfIndex(device));
        Frame { time: Nanos(0), device, direction, len: bytes.len() as u32, bytes, link: LinkLayer::Ethernet }
    }

    fn request(seq: u16, ttl: u8, src: [u8; 4]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([ttl; 6], [2; 6])
            .ipv4(src, [10, 0, 0, 2], ttl)
            .icmpv4_echo_request(7, seq)
            .write(&mut bytes, &[])
            .unwrap();
        bytes
    }

    fn who_has() -> Vec<u8> {
        let mut bytes = vec![0xff; 6];
        bytes.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1]);
        bytes.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        bytes
    }

    fn numbers(frames: &[Frame]) -> Vec<u64> {
        let key = Key { icmp_id: 7, protocol: Protocol::Echo, addresses: BTreeSet::new(), own: None };
        sightings(frames, key).iter().map(|sighting| sighting.number).collect()
    }

    #[test]
    fn a_packet_keeps_its_number_through_routers_and_nat() {
        let frames = [
            frame(1, Direction::Out, request(1, 64, [10, 0, 0, 1])),
            frame(2, Direction::In, request(1, 64, [10, 0, 0, 1])),
            frame(3, Direction::Out, request(1, 63, [192, 0, 2, 1])),
            frame(1, Direction::Out, request(2, 64, [10, 0, 0, 1])),
        ];
        assert_eq!(numbers(&frames), [1, 1, 1, 2]);
    }

    #[test]
    fn a_request_that_is_repeated_is_another_packet() {
        let frames = [
            frame(1, Direction::Out, who_has()),
            frame(2, Direction::In, who_has()),
            frame(1, Direction::Out, who_has()),
            frame(2, Direction::In, who_has()),
        ];
        assert_eq!(numbers(&frames), [1, 1, 2, 2]);
    }

    #[test]
    fn what_is_not_of_the_exchange_has_no_number() {
        let frames = [frame(1, Direction::Out, vec![0; 60]), frame(1, Direction::Out, who_has())];
        assert_eq!(numbers(&frames), [1]);
    }
}
