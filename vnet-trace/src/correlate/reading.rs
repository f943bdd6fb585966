//! What the bytes of a sighting say: the name of the packet and its headers.

use std::net::IpAddr;

use super::{Outer, Said, is_resolution};
use crate::model::event::Event;
use crate::model::exchange::Role;
use crate::model::frame::Frame;
use crate::packet::identity::{Identity, Sieve};
use crate::packet::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IcmpMessage, Ip, Net, Packet, Payload, parse_frame, parse_network,
};

/// What stays the same on a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    /// What it is for.
    pub role: Role,
    /// Echo sequence number.
    pub seq: Option<u16>,
    /// For an error: what it is about.
    pub about: Option<Role>,
    /// Sender of an error; sender of address resolution.
    pub from: Option<IpAddr>,
    /// The other address of address resolution.
    pub to: Option<IpAddr>,
    /// Offset of a fragment in its whole.
    pub offset: u32,
    /// TCP: sequence number and flags.
    pub segment: Option<(u32, u8)>,
}

impl Name {
    /// Whether several packets have this name, one after the other: those of address resolution, and what is asked with
    /// without sequence numbers of its own.
    pub fn repeats(&self) -> bool {
        let exchanged = matches!(self.role, Role::Request | Role::Reply | Role::Reset);
        is_resolution(self.role) || exchanged && self.seq.is_none() && self.offset == 0
    }
}

/// What the bytes of one sighting tell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// A packet of the question.
    Ours(Name, Said),
    /// Clearly another packet.
    Another,
    /// A datagram that is not ours, so long as an IP packet. It may carry one of ours in a way that is not known here; one that
    /// is too short for that is another packet.
    Datagram(u32),
    /// They do not tell: none, too few, or encrypted.
    Silent,
}

/// Reads an event.
pub fn of_event(event: &Event, sieve: &mut Sieve) -> Reading {
    let Some(ethertype) = ethertype(&event.bytes) else { return Reading::Silent };
    let Ok(packet) = parse_network(ethertype, &event.bytes) else { return Reading::Silent };
    match read(&packet, sieve) {
        Reading::Ours(name, said) => Reading::Ours(name, Said { mac: event.mac, ..said }),
        other => other,
    }
}

/// Reads a frame.
pub fn of_frame(frame: &Frame, sieve: &mut Sieve) -> Reading {
    match parse_frame(frame.link, &frame.bytes) {
        Ok(packet) => read(&packet, sieve),
        Err(_) => Reading::Silent,
    }
}

/// The ethertype of bytes from a network header on. The first byte tells: a version and header length, or ARP's hardware type.
fn ethertype(bytes: &[u8]) -> Option<u16> {
    match (bytes.first()?, bytes.get(1)?) {
        (first, _) if first >> 4 == 4 => Some(ETHERTYPE_IPV4),
        (first, _) if first >> 4 == 6 => Some(ETHERTYPE_IPV6),
        (0, 1) => Some(ETHERTYPE_ARP),
        _ => None,
    }
}

fn read(packet: &Packet, sieve: &mut Sieve) -> Reading {
    let Some(identity) = sieve.admit(packet) else {
        return foreign(packet);
    };
    let said = said(packet, identity.role);
    Reading::Ours(name(packet, identity, &said), said)
}

/// What bytes that are not ours are: whether they can be one of ours in other clothes.
fn foreign(packet: &Packet) -> Reading {
    match &packet.net {
        Net::Arp(_) => Reading::Another,
        Net::Ip(ip) => match ip.payload {
            Payload::Icmp(_) | Payload::Tcp(_) => Reading::Another,
            Payload::Udp(_) => Reading::Datagram(ip.len),
            _ => Reading::Silent,
        },
        Net::Other(_) => Reading::Silent,
    }
}

fn inner(packet: &Packet) -> &Packet {
    packet.tunnel().map_or(packet, |tunnel| &tunnel.inner)
}

fn name(packet: &Packet, identity: Identity, said: &Said) -> Name {
    let ip = inner(packet).ip();
    let resolution = is_resolution(identity.role);
    let segment = ip.and_then(|ip| match &ip.payload {
        Payload::Tcp(tcp) => Some((tcp.seq, tcp.flags)),
        _ => None,
    });
    Name {
        role: identity.role,
        seq: identity.seq,
        about: identity.about,
        from: said.src.filter(|_| resolution || identity.role == Role::IcmpError),
        to: said.dst.filter(|_| resolution),
        offset: ip.and_then(|ip| ip.fragment).map_or(0, |part| part.offset),
        segment,
    }
}

fn said(packet: &Packet, role: Role) -> Said {
    let own = inner(packet);
    let outer = packet.ip().filter(|_| packet.tunnel().is_some()).map(|ip| Outer {
        src: ip.src,
        dst: ip.dst,
        vni: packet.tunnel().and_then(|tunnel| tunnel.vni).unwrap_or(0),
    });
    let said = Said { mac: packet.link, vlan: packet.vlans.first().copied(), outer, ..Said::default() };
    match &own.net {
        Net::Arp(arp) => Said { src: Some(arp.sender.into()), dst: Some(arp.target.into()), ..said },
        Net::Ip(ip) => {
            let (src, dst) = if is_resolution(role) { solicited(ip) } else { (ip.src, ip.dst) };
            let id = match &ip.payload {
                Payload::Icmp(icmp) => match &icmp.message {
                    IcmpMessage::EchoRequest(echo) | IcmpMessage::EchoReply(echo) => Some(echo.id),
                    _ => None,
                },
                Payload::Tcp(tcp) => Some(tcp.ports.src),
                Payload::Udp(udp) => Some(udp.ports.src),
                _ => None,
            };
            let port = match &ip.payload {
                Payload::Tcp(tcp) => Some(tcp.ports.dst),
                Payload::Udp(udp) => Some(udp.ports.dst),
                _ => None,
            };
            Said { src: Some(src), dst: Some(dst), ttl: Some(ip.ttl), len: ip.len, id, port, ..said }
        }
        Net::Other(_) => said,
    }
}

/// Neighbour discovery in the terms of ARP: who asks for whom, who answers whom.
fn solicited(ip: &Ip) -> (IpAddr, IpAddr) {
    match &ip.payload {
        Payload::Icmp(icmp) => match &icmp.message {
            IcmpMessage::NeighbourSolicitation { target, .. } => (ip.src, (*target).into()),
            IcmpMessage::NeighbourAdvertisement { target, .. } => ((*target).into(), ip.dst),
            _ => (ip.src, ip.dst),
        },
        _ => (ip.src, ip.dst),
    }
}
