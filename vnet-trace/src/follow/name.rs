//! The name of a packet: a hash of what no device on its way changes.
//!
//! | packet | its name | what is left out because it changes |
//! | --- | --- | --- |
//! | TCP | identification, sequence and acknowledgment number, flags, length | addresses and ports (NAT), TTL, checksums, options |
//! | UDP | identification, length, the first [`PAYLOAD`] bytes | the same |
//! | echo | type, sequence number, identification, length, the first bytes | the same, and the ICMP identifier (NAT) |
//! | ICMP error | type, code, identification of the error and of what it quotes | what NAT changes in the quote |
//! | ARP, neighbour discovery | operation, both addresses, link-layer address of the sender | MAC header, VLAN tags |
//! | fragment | protocol, identification, offset | the same as of the whole |
//! | other IP | protocol, identification, length, the first bytes | addresses, TTL |
//! | anything else | the first bytes behind the link layer | MAC header, VLAN tags |
//!
//! A packet in a tunnel has the name of the inner one. Bytes that end before the name does give none: then only
//! pointers tell.

use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;

use crate::correlate::{Outer, Said};
use crate::model::event::MacHeader;
use crate::model::exchange::Role;
use crate::model::frame::LinkLayer;
use crate::packet::skim::{self, Ip, Net, Skim, Transport};

/// Bytes of payload that go into a name: what a probe has of a datagram in an IPv6 tunnel.
const PAYLOAD: usize = 32;

/// What one sighting tells of its packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Glance {
    /// Its name, if there are bytes enough.
    pub name: Option<u64>,
    /// What it is for.
    pub role: Role,
    /// Echo sequence number.
    pub seq: Option<u16>,
    /// Offset of a fragment.
    pub offset: u32,
    /// IP identification and protocol: they stay where a packet is cut or wrapped.
    pub mark: (u32, u8),
    /// The headers.
    pub said: Said,
}

/// Of a captured frame.
pub fn of_frame(link: LinkLayer, bytes: &[u8]) -> Glance {
    glance(&skim::frame(link, bytes))
}

/// Of bytes from a network header on; None if there are none.
pub fn of_event(bytes: &[u8], mac: Option<MacHeader>) -> Option<Glance> {
    (!bytes.is_empty()).then(|| {
        let mut glance = glance(&skim::network(bytes));
        glance.said.mac = mac;
        glance
    })
}

fn glance(skim: &Skim<'_>) -> Glance {
    let outer = skim.outer.map(|outer| Outer { src: outer.src, dst: outer.dst, vni: outer.vni });
    let said = Said { mac: skim.link, vlan: skim.vlan, outer, ..Said::default() };
    match &skim.net {
        Net::Arp(arp) => {
            let mut name = Namer::new(1);
            name.word(arp.operation.into());
            name.address(arp.sender.into());
            name.address(arp.target.into());
            name.bytes(&arp.sender_mac.0);
            let said = Said { src: Some(arp.sender.into()), dst: Some(arp.target.into()), ..said };
            let role = if arp.operation == 2 { Role::ArpReply } else { Role::ArpRequest };
            Glance { name: Some(name.done()), role, seq: None, offset: 0, mark: (0, 0), said }
        }
        Net::Ip(ip) => of_ip(ip, said),
        Net::Other { bytes, .. } => {
            let mut name = Namer::new(2);
            name.bytes(bytes.get(..PAYLOAD).unwrap_or(bytes));
            Glance { name: Some(name.done()), role: Role::Request, seq: None, offset: 0, mark: (0, 0), said }
        }
    }
}

fn of_ip(ip: &Ip<'_>, said: Said) -> Glance {
    let ports = ip.ports();
    let said = Said {
        src: Some(ip.src),
        dst: Some(ip.dst),
        ttl: Some(ip.ttl),
        len: ip.len,
        id: ports.map(|ports| ports.src),
        port: ports.map(|ports| ports.dst),
        ..said
    };
    let mark = (ip.id, ip.protocol);
    let plain = Glance { name: None, role: Role::Request, seq: None, offset: 0, mark, said };
    if let Some((offset, _)) = ip.fragment {
        let mut name = Namer::new(3);
        name.word(ip.protocol.into());
        name.word(ip.id.into());
        name.word(offset.into());
        return Glance { name: Some(name.done()), offset, ..plain };
    }
    let mut name = Namer::new(4);
    name.word(u64::from(ip.protocol) << 32 | u64::from(ip.id));
    name.word(ip.payload_len.into());
    let whole = match ip.transport {
        Transport::Tcp { seq, ack, flags, .. } => {
            name.word(u64::from(seq) << 32 | u64::from(ack));
            name.word(flags.into());
            true
        }
        Transport::Udp(_) | Transport::Other => name.payload(ip),
        Transport::Icmp { kind, code, rest } => return of_icmp(ip, kind, code, rest, name, plain),
    };
    Glance { name: whole.then(|| name.done()), ..plain }
}

fn of_icmp(ip: &Ip<'_>, kind: u8, code: u8, rest: [u16; 2], mut name: Namer, plain: Glance) -> Glance {
    name.word(u64::from(kind) << 8 | u64::from(code));
    let [id, seq] = rest;
    match (ip.src, kind) {
        (IpAddr::V4(_), 0 | 8) | (IpAddr::V6(_), 128 | 129) => {
            name.word(seq.into());
            let whole = name.payload(ip);
            let role = if matches!(kind, 8 | 128) { Role::Request } else { Role::Reply };
            let said = Said { id: Some(id), ..plain.said };
            Glance { name: whole.then(|| name.done()), role, seq: Some(seq), said, ..plain }
        }
        (IpAddr::V6(_), 135 | 136) => {
            let target = ip.payload.first_chunk::<16>().map(|target| IpAddr::from(*target));
            let asks = kind == 135;
            // In the terms of ARP: who asks for whom, who answers whom.
            let (src, dst) = if asks { (Some(ip.src), target) } else { (target, Some(ip.dst)) };
            let mut name = Namer::new(5);
            name.word(kind.into());
            src.into_iter().chain(dst).for_each(|address| name.address(address));
            // The sender's link-layer address, if it says one.
            name.bytes(ip.payload.get(16..24).unwrap_or_default());
            let role = if asks { Role::ArpRequest } else { Role::ArpReply };
            Glance { name: target.map(|_| name.done()), role, said: Said { src, dst, ..plain.said }, ..plain }
        }
        (IpAddr::V4(_), 3 | 4 | 5 | 11 | 12) | (IpAddr::V6(_), 1..=4) => {
            let quoted = skim::network(ip.payload);
            if let Some(quoted) = quoted.ip() {
                name.word(u64::from(quoted.protocol) << 32 | u64::from(quoted.id));
            }
            Glance { name: Some(name.done()), role: Role::IcmpError, ..plain }
        }
        _ => {
            let whole = name.payload(ip);
            Glance { name: whole.then(|| name.done()), ..plain }
        }
    }
}

/// A name in the making. The hash is one that is hard to aim at: packets come from anybody.
struct Namer(DefaultHasher);

impl Namer {
    fn new(kind: u8) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(kind);
        Self(hasher)
    }

    fn word(&mut self, word: u64) {
        self.0.write_u64(word);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.bytes(&address.octets()),
            IpAddr::V6(address) => self.bytes(&address.octets()),
        }
    }

    /// The first bytes of the payload: whether they are there.
    fn payload(&mut self, ip: &Ip<'_>) -> bool {
        let wanted = (ip.payload_len as usize).min(PAYLOAD);
        let Some(bytes) = ip.payload.get(..wanted) else { return false };
        self.bytes(bytes);
        true
    }

    fn done(self) -> u64 {
        self.0.finish()
    }
}
