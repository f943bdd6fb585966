//! Headers at a glance: what tells one packet of a stream from another, read without allocating.
//!
//! [`parse_frame`](super::parse_frame) reads everything that a judgement may rest on, checksums and quoted packets
//! included; that costs more than there is time for where hundreds of thousands of packets a second go by. [`frame`] and
//! [`network`] read addresses, ports and numbers only. They agree with the full reading in all that both tell
//! (`the_glance_agrees_with_the_full_reading`), with one difference: bytes that cannot be understood are
//! [`Net::Other`] rather than an error, because in a stream they are a packet like any other.
//!
//! A packet in a tunnel is read instead of its carrier, whose addresses go to [`Skim::outer`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Arp, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ports, TunnelKind};
use crate::model::event::MacHeader;
use crate::model::frame::LinkLayer;
use crate::model::id::MacAddr;

/// A packet at a glance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Skim<'a> {
    /// Ethernet header of the carrier; its ethertype is the one after all VLAN tags.
    pub link: Option<MacHeader>,
    /// Outermost VLAN id of the carrier.
    pub vlan: Option<u16>,
    /// The tunnel that the packet is in.
    pub outer: Option<Outer>,
    /// The network layer of the packet itself.
    pub net: Net<'a>,
}

/// The outer header of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// How it is wrapped.
    pub kind: TunnelKind,
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// VNI or key; 0 if there is none.
    pub vni: u32,
}

/// The network layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Net<'a> {
    /// ARP for IPv4 over Ethernet.
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Ip<'a>),
    /// Something else, or headers that could not be read.
    Other {
        /// The ethertype; 0 if it is not known.
        ethertype: u16,
        /// What follows the link layer.
        bytes: &'a [u8],
    },
}

/// An IP packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ip<'a> {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Protocol number of what follows, after all extension headers.
    pub protocol: u8,
    /// Length of the IP packet in bytes, header included, as the header says.
    pub len: u32,
    /// Identification: of IPv6 only a fragment has one, else 0.
    pub id: u32,
    /// Its place in the whole packet in bytes, and whether others follow, if it is a fragment.
    pub fragment: Option<(u32, bool)>,
    /// The transport header.
    pub transport: Transport,
    /// What follows the transport header, as far as it is here; of what has none, what follows the IP header.
    pub payload: &'a [u8],
    /// Bytes of the payload, as the headers say.
    pub payload_len: u32,
}

/// A transport header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Ports.
        ports: Ports,
        /// Sequence number.
        seq: u32,
        /// Acknowledgment number.
        ack: u32,
        /// The flag bits, FIN in the lowest.
        flags: u8,
        /// Window.
        window: u16,
    },
    /// UDP.
    Udp(Ports),
    /// ICMP or ICMPv6.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Bytes 4 to 8 of the message: identifier and sequence number of an echo.
        rest: [u16; 2],
    },
    /// None, none that is known, or one that was cut off.
    Other,
}

impl Skim<'_> {
    /// The IP header, if it is an IP packet.
    pub fn ip(&self) -> Option<&Ip<'_>> {
        match &self.net {
            Net::Ip(ip) => Some(ip),
            Net::Arp(_) | Net::Other { .. } => None,
        }
    }
}

impl Ip<'_> {
    /// Source and destination port of TCP and UDP.
    pub fn ports(&self) -> Option<Ports> {
        match self.transport {
            Transport::Tcp { ports, .. } | Transport::Udp(ports) => Some(ports),
            Transport::Icmp { .. } | Transport::Other => None,
        }
    }
}

/// Reads a captured frame.
pub fn frame(link: LinkLayer, bytes: &[u8]) -> Skim<'_> {
    match link {
        LinkLayer::Ethernet => ethernet(bytes, true),
        LinkLayer::Ip => match bytes.first().map(|first| first >> 4) {
            Some(4) => layer3(ETHERTYPE_IPV4, bytes, true),
            Some(6) => layer3(ETHERTYPE_IPV6, bytes, true),
            _ => layer3(0, bytes, true),
        },
    }
}

/// Reads bytes from a network header on. The first byte tells which: a version, or ARP's hardware type.
pub fn network(bytes: &[u8]) -> Skim<'_> {
    let ethertype = match bytes {
        [first, ..] if first >> 4 == 4 => ETHERTYPE_IPV4,
        [first, ..] if first >> 4 == 6 => ETHERTYPE_IPV6,
        [0, 1, ..] => ETHERTYPE_ARP,
        _ => 0,
    };
    layer3(ethertype, bytes, true)
}

/// Ethertypes of VLAN tags: 802.1Q, 802.1ad, and the old QinQ one.
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// As many tags as the full reading follows.
const MAX_TAGS: usize = 8;

fn ethernet(bytes: &[u8], tunnels: bool) -> Skim<'_> {
    match tagged(bytes) {
        Some((link, vlan, rest)) => Skim { link: Some(link), vlan, ..layer3(link.ethertype, rest, tunnels) },
        None => Skim { link: None, vlan: None, outer: None, net: Net::Other { ethertype: 0, bytes } },
    }
}

/// An Ethernet header with its tags: the header, the outermost VLAN id, what follows.
fn tagged(bytes: &[u8]) -> Option<(MacHeader, Option<u16>, &[u8])> {
    let (head, mut rest) = bytes.split_first_chunk::<14>()?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, e0, e1] = *head;
    let mut ethertype = u16::from_be_bytes([e0, e1]);
    let mut vlan = None;
    let mut tags = 0;
    while TAGS.contains(&ethertype) && tags < MAX_TAGS {
        let Some(([high, low, e0, e1], after)) = rest.split_first_chunk::<4>() else { break };
        vlan = vlan.or(Some(u16::from_be_bytes([*high, *low]) & 0xfff));
        ethertype = u16::from_be_bytes([*e0, *e1]);
        rest = after;
        tags += 1;
    }
    let (dst, src) = (MacAddr([d0, d1, d2, d3, d4, d5]), MacAddr([s0, s1, s2, s3, s4, s5]));
    Some((MacHeader { dst, src, ethertype }, vlan, rest))
}

fn layer3(ethertype: u16, bytes: &[u8], tunnels: bool) -> Skim<'_> {
    let net = match ethertype {
        ETHERTYPE_ARP => arp(bytes),
        ETHERTYPE_IPV4 => ipv4(bytes).map(Net::Ip),
        ETHERTYPE_IPV6 => ipv6(bytes).map(Net::Ip),
        _ => None,
    };
    let net = net.unwrap_or(Net::Other { ethertype, bytes });
    let plain = Skim { link: None, vlan: None, outer: None, net };
    match net {
        Net::Ip(ip) if tunnels => inner(&ip).unwrap_or(plain),
        _ => plain,
    }
}

fn arp(bytes: &[u8]) -> Option<Net<'_>> {
    // IPv4, and the usual lengths of both addresses.
    let [_, _, 8, 0, 6, 4, o0, o1] = *bytes.first_chunk::<8>()? else { return None };
    let mac = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk().copied()).map(MacAddr);
    let address = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk::<4>().copied()).map(Ipv4Addr::from);
    Some(Net::Arp(Arp {
        operation: u16::from_be_bytes([o0, o1]),
        sender_mac: mac(8)?,
        sender: address(14)?,
        target_mac: mac(18)?,
        target: address(24)?,
    }))
}

fn ipv4(bytes: &[u8]) -> Option<Ip<'_>> {
    let head = bytes.first_chunk::<20>()?;
    let header = usize::from(head[0] & 15) * 4;
    if head[0] >> 4 != 4 || header < 20 || bytes.len() < header {
        return None;
    }
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (whole, part) = (usize::from(word(2)), word(6));
    let (offset, more) = (u32::from(part & 0x1fff) * 8, part & 0x2000 != 0);
    // Bytes behind the packet are padding; large packets that were merged say 0.
    let rest = if whole < header { &bytes[header..] } else { &bytes[header..whole.min(bytes.len()).max(header)] };
    let carried = if whole < header { rest.len() } else { whole - header };
    let ip = Ip {
        src: IpAddr::V4(Ipv4Addr::new(head[12], head[13], head[14], head[15])),
        dst: IpAddr::V4(Ipv4Addr::new(head[16], head[17], head[18], head[19])),
        ttl: head[8],
        protocol: head[9],
        len: whole as u32,
        id: word(4).into(),
        fragment: (offset != 0 || more).then_some((offset, more)),
        transport: Transport::Other,
        payload: rest,
        payload_len: carried as u32,
    };
    Some(transport(ip))
}

/// As many extension headers as the full reading follows.
const MAX_EXTENSIONS: usize = 16;

fn ipv6(bytes: &[u8]) -> Option<Ip<'_>> {
    let (head, rest) = bytes.split_first_chunk::<40>()?;
    if head[0] >> 4 != 6 {
        return None;
    }
    let carried = usize::from(u16::from_be_bytes([head[4], head[5]]));
    let address = |at: usize| {
        let octets: [u8; 16] = head.get(at..at + 16)?.first_chunk().copied()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    let mut ip = Ip {
        src: address(8)?,
        dst: address(24)?,
        ttl: head[7],
        protocol: head[6],
        len: 40 + carried as u32,
        id: 0,
        fragment: None,
        transport: Transport::Other,
        payload: &rest[..carried.min(rest.len())],
        payload_len: carried as u32,
    };
    for _ in 0..MAX_EXTENSIONS {
        let size = match (ip.protocol, ip.payload) {
            (44, [_, _, o0, o1, i0, i1, i2, i3, ..]) => {
                let part = u16::from_be_bytes([*o0, *o1]);
                let (offset, more) = (u32::from(part & 0xfff8), part & 1 != 0);
                ip.id = u32::from_be_bytes([*i0, *i1, *i2, *i3]);
                // A packet in one fragment (RFC 6946) is not a part of anything.
                ip.fragment = (offset != 0 || more).then_some((offset, more));
                8
            }
            (0 | 43 | 60 | 135, [_, units, ..]) => (usize::from(*units) + 1) * 8,
            (51, [_, units, ..]) => (usize::from(*units) + 2) * 4,
            _ => break,
        };
        if ip.payload.len() < size {
            return Some(ip);
        }
        ip.protocol = ip.payload[0];
        ip.payload = &ip.payload[size..];
        ip.payload_len = ip.payload_len.saturating_sub(size as u32);
        if ip.fragment.is_some_and(|(offset, _)| offset > 0) {
            break;
        }
    }
    Some(transport(ip))
}

fn transport(ip: Ip<'_>) -> Ip<'_> {
    if ip.fragment.is_some_and(|(offset, _)| offset > 0) {
        return ip;
    }
    let bytes = ip.payload;
    let ports = |p: &[u8; 4]| Ports { src: u16::from_be_bytes([p[0], p[1]]), dst: u16::from_be_bytes([p[2], p[3]]) };
    let (transport, size) = match (ip.protocol, ip.src) {
        (6, _) => {
            let Some((head, rest)) = bytes.split_first_chunk::<14>() else { return ip };
            let [p0, p1, p2, p3, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags] = *head;
            let transport = Transport::Tcp {
                ports: ports(&[p0, p1, p2, p3]),
                seq: u32::from_be_bytes([s0, s1, s2, s3]),
                ack: u32::from_be_bytes([a0, a1, a2, a3]),
                flags,
                window: rest.first_chunk().map_or(0, |window| u16::from_be_bytes(*window)),
            };
            (transport, usize::from(offset >> 4).max(5) * 4)
        }
        (17, _) => {
            let Some([p0, p1, p2, p3, _, _, _, _]) = bytes.first_chunk::<8>() else { return ip };
            (Transport::Udp(ports(&[*p0, *p1, *p2, *p3])), 8)
        }
        (1, IpAddr::V4(_)) | (58, IpAddr::V6(_)) => {
            let Some([kind, code, _, _, r0, r1, r2, r3]) = bytes.first_chunk::<8>() else { return ip };
            let rest = [u16::from_be_bytes([*r0, *r1]), u16::from_be_bytes([*r2, *r3])];
            (Transport::Icmp { kind: *kind, code: *code, rest }, 8)
        }
        _ => return ip,
    };
    Ip {
        transport,
        payload: bytes.get(size..).unwrap_or_default(),
        payload_len: ip.payload_len.saturating_sub(size as u32),
        ..ip
    }
}

/// The packet in this one, if it is a tunnel's. What a shape must have is argued in `tunnel`.
fn inner<'a>(ip: &Ip<'a>) -> Option<Skim<'a>> {
    if ip.fragment.is_some_and(|(offset, _)| offset > 0) {
        return None;
    }
    let (kind, vni, found) = match ip.protocol {
        4 => (TunnelKind::IpInIp, 0, layer3(ETHERTYPE_IPV4, ip.payload, false)),
        41 => (TunnelKind::IpInIp, 0, layer3(ETHERTYPE_IPV6, ip.payload, false)),
        47 => gre(ip.payload)?,
        17 => vxlan(ip.payload).or_else(|| geneve(ip.payload))?,
        _ => return None,
    };
    let outer = Some(Outer { kind, src: ip.src, dst: ip.dst, vni });
    let is_packet = !matches!(found.net, Net::Other { .. });
    is_packet.then_some(Skim { outer, link: None, vlan: None, ..found })
}

/// Whether this is ARP or IP with an intact header: what a shape alone is believed for.
fn convincing(ethertype: u16, bytes: &[u8]) -> bool {
    if ethertype != ETHERTYPE_IPV4 {
        return true;
    }
    let header = bytes.first().map_or(0, |first| usize::from(first & 15) * 4);
    let Some(header) = bytes.get(..header) else { return false };
    let sum: u32 = header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    folded == 0xffff
}

type Wrapped<'a> = (TunnelKind, u32, Skim<'a>);

fn vxlan(bytes: &[u8]) -> Option<Wrapped<'_>> {
    let ([8, 0, 0, 0, v1, v2, v3, 0], rest) = bytes.split_first_chunk::<8>()? else { return None };
    Some((TunnelKind::Vxlan, u32::from_be_bytes([0, *v1, *v2, *v3]), shaped(TEB, rest)?))
}

fn geneve(bytes: &[u8]) -> Option<Wrapped<'_>> {
    let ([version, flags, p1, p2, v1, v2, v3, 0], _) = bytes.split_first_chunk::<8>()? else { return None };
    if version >> 6 != 0 || flags & 0x3f != 0 {
        return None;
    }
    let rest = bytes.get(8 + usize::from(version & 0x3f) * 4..).unwrap_or_default();
    let found = shaped(u16::from_be_bytes([*p1, *p2]), rest)?;
    Some((TunnelKind::Geneve, u32::from_be_bytes([0, *v1, *v2, *v3]), found))
}

/// "Transparent Ethernet bridging": an Ethernet frame follows.
const TEB: u16 = 0x6558;

/// A packet behind a header that is known by its shape only.
fn shaped(kind: u16, bytes: &[u8]) -> Option<Skim<'_>> {
    let (ethertype, rest) = match kind {
        TEB => tagged(bytes).map(|(link, _, rest)| (link.ethertype, rest))?,
        _ => (kind, bytes),
    };
    let known = matches!(ethertype, ETHERTYPE_IPV4 | ETHERTYPE_IPV6) || kind == TEB && ethertype == ETHERTYPE_ARP;
    (known && convincing(ethertype, rest)).then(|| layer3(ethertype, rest, false))
}

fn gre(bytes: &[u8]) -> Option<Wrapped<'_>> {
    let [flags, version, p1, p2] = *bytes.first_chunk::<4>()?;
    if version & 7 != 0 {
        return None;
    }
    let key_at = 4 + 4 * usize::from(flags & 0x80 != 0);
    let has_key = flags & 0x20 != 0;
    let len = key_at + 4 * (usize::from(has_key) + usize::from(flags & 0x10 != 0));
    let vni = match bytes.get(key_at..).and_then(|rest| rest.first_chunk()) {
        Some(key) if has_key => u32::from_be_bytes(*key),
        _ => 0,
    };
    Some((TunnelKind::Gre, vni, behind(u16::from_be_bytes([p1, p2]), bytes.get(len..)?)?))
}

/// What follows a GRE header with this protocol type.
fn behind(kind: u16, bytes: &[u8]) -> Option<Skim<'_>> {
    match kind {
        TEB => Some(ethernet(bytes, false)),
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Some(layer3(kind, bytes, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
