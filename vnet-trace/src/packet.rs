//! Bytes to headers: what a captured frame or the bytes of an event say about themselves.
//!
//! [`parse_frame`] takes a captured frame, [`parse_network`] the bytes from a network header on, as the
//! probes copy them. Both give a [`Packet`]: the headers as far as they could be read.
//!
//! # Cut bytes are normal here
//!
//! A probe copies about a hundred bytes, a capture a few hundred, and an ICMP error quotes what it likes. So
//! reading stops where the bytes stop, keeps what it has, and says in [`Packet::cut`] where that was and how
//! much was missing. Only bytes whose very first header cannot be read give an error instead of a packet.
//! Nothing in here panics or allocates in proportion to a length field.
//!
//! # Checksums
//!
//! The IPv4 header's checksum is always complete, and so is that of ICMP and ICMPv6: the kernel and raw
//! sockets compute it in software. TCP and UDP checksums of packets made on this machine are partial until a
//! network card completes them (CHECKSUM_PARTIAL), so virtual devices show wrong ones on healthy packets:
//! these are not judged.
//!
//! # Tunnels
//!
//! The inner packet of VXLAN, Geneve, GRE and IP in IP is read too, once: a tunnel in a tunnel keeps only its
//! outer headers. Because the UDP port of a VXLAN is configuration (and one that differs between the ends is a
//! fault to be found), a VXLAN or Geneve header is recognised by its shape at any port, and only if a readable
//! packet follows it.
//!
//! Read [`identity`] next: which of the packets are ours.

use std::net::{IpAddr, Ipv6Addr};

use crate::model::event::MacHeader;
use crate::model::frame::LinkLayer;
use crate::model::id::MacAddr;

mod arp;
mod ethernet;
mod icmp;
pub mod identity;
mod ip;
pub mod sightings;
pub mod skim;
mod transport;
mod tunnel;
pub mod veil;

/// Ethertype of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ethertype of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// Ethertype of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// The headers of one packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    /// Ethernet header; its ethertype is the one after all VLAN tags.
    pub link: Option<MacHeader>,
    /// VLAN ids, outermost first.
    pub vlans: Vec<u16>,
    /// The network layer.
    pub net: Net,
    /// Where reading had to stop before the headers ended; None if all of them were there.
    pub cut: Option<PacketError>,
}

/// The network layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Net {
    /// ARP.
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Ip),
    /// Something else, or headers that could not be read; the ethertype.
    Other(u16),
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Link-layer address of the sender.
    pub sender_mac: MacAddr,
    /// Protocol address of the sender.
    pub sender: std::net::Ipv4Addr,
    /// Link-layer address of the target; zero in requests.
    pub target_mac: MacAddr,
    /// Protocol address of the target.
    pub target: std::net::Ipv4Addr,
}

/// An IPv4 or IPv6 header, and what follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ip {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Protocol number of what follows, after all extension headers.
    pub protocol: u8,
    /// Length of the IP packet in bytes, header included, as the header says.
    pub len: u32,
    /// Don't-fragment bit; always true for IPv6, which routers never fragment.
    pub dont_fragment: bool,
    /// What the packet is a part of, if it is a fragment.
    pub fragment: Option<Fragment>,
    /// The IPv4 header's checksum; IPv6 has none.
    pub checksum: Checksum,
    /// What the packet carries.
    pub payload: Payload,
}

/// Which part of a fragmented packet this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Identification, the same in all parts.
    pub id: u32,
    /// Where it starts in the whole packet, in bytes.
    pub offset: u32,
    /// Others follow.
    pub more: bool,
}

/// Whether a checksum fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// It does.
    Good,
    /// It does not.
    Bad,
    /// There is none, or not all bytes that it covers are here.
    Unknown,
}

/// What an IP packet carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// ICMP or ICMPv6.
    Icmp(Icmp),
    /// TCP.
    Tcp(Tcp),
    /// UDP, without a tunnel in it.
    Udp(Udp),
    /// A packet in a tunnel.
    Tunnel(Tunnel),
    /// IPsec ESP.
    Esp {
        /// Security parameters index.
        spi: u32,
        /// Sequence number.
        seq: u32,
    },
    /// A later fragment: its first bytes are in the middle of the payload.
    LaterFragment,
    /// Another protocol, or one whose header was cut off: [`Ip::protocol`].
    Other,
}

/// An ICMP or ICMPv6 message.
#[derive(Debug, Clone, PartialEq)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Its checksum.
    pub checksum: Checksum,
    /// What it says.
    pub message: IcmpMessage,
}

/// What an ICMP message says.
#[derive(Debug, Clone, PartialEq)]
pub enum IcmpMessage {
    /// Echo request.
    EchoRequest(Echo),
    /// Echo reply.
    EchoReply(Echo),
    /// An error about another packet.
    Error {
        /// The MTU that it reports, for fragmentation needed and packet too big.
        mtu: Option<u32>,
        /// The packet that it quotes, as far as it does.
        quoted: Option<Box<Packet>>,
    },
    /// Neighbour solicitation (RFC 4861 section 4.3).
    NeighbourSolicitation {
        /// The address that is looked for.
        target: Ipv6Addr,
        /// Source link-layer address option.
        lladdr: Option<MacAddr>,
    },
    /// Neighbour advertisement (RFC 4861 section 4.4).
    NeighbourAdvertisement {
        /// The address that is advertised.
        target: Ipv6Addr,
        /// Target link-layer address option.
        lladdr: Option<MacAddr>,
        /// It answers a solicitation.
        solicited: bool,
        /// It replaces a cached entry.
        overrides: bool,
        /// The sender is a router.
        router: bool,
    },
    /// Any other type.
    Other,
}

/// The fields of an echo message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// Identifier, host byte order.
    pub id: u16,
    /// Sequence number, host byte order.
    pub seq: u16,
    /// Bytes 8 to 16 of the payload, where our own requests carry [`identity::cookie`].
    pub cookie: Option<[u8; 8]>,
}

/// Source and destination port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
}

/// A UDP header, and what tells our own datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp {
    /// Ports.
    pub ports: Ports,
    /// The first 8 bytes of the payload, where our own datagrams carry [`identity::cookie`].
    pub cookie: Option<[u8; 8]>,
}

/// A TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    /// Ports.
    pub ports: Ports,
    /// The flag bits, FIN in the lowest: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
}

impl Tcp {
    /// FIN.
    pub const FIN: u8 = 1;
    /// SYN.
    pub const SYN: u8 = 2;
    /// RST.
    pub const RST: u8 = 4;
    /// ACK.
    pub const ACK: u8 = 16;

    /// Whether all of these flags are set.
    pub fn has(self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// A packet in a packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Tunnel {
    /// How it is wrapped.
    pub kind: TunnelKind,
    /// VNI of VXLAN and Geneve, key of GRE.
    pub vni: Option<u32>,
    /// UDP ports of VXLAN and Geneve.
    pub ports: Option<Ports>,
    /// What is inside.
    pub inner: Box<Packet>,
}

/// How a packet is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelKind {
    /// VXLAN (RFC 7348).
    Vxlan,
    /// Geneve (RFC 8926).
    Geneve,
    /// GRE (RFC 2784, RFC 2890).
    Gre,
    /// IPv4 or IPv6 directly in IP: ipip, sit, ip6tnl.
    IpInIp,
}

/// A part of a packet, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layer {
    /// Ethernet header.
    Ethernet,
    /// VLAN tag.
    Vlan,
    /// ARP.
    Arp,
    /// IPv4 header.
    Ipv4,
    /// IPv6 header.
    Ipv6,
    /// IPv6 extension header.
    Ipv6Extension,
    /// ICMP.
    Icmp,
    /// ICMPv6.
    Icmpv6,
    /// TCP header.
    Tcp,
    /// UDP header.
    Udp,
    /// ESP header.
    Esp,
    /// GRE header.
    Gre,
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ethernet => "Ethernet header",
            Self::Vlan => "VLAN tag",
            Self::Arp => "ARP packet",
            Self::Ipv4 => "IPv4 header",
            Self::Ipv6 => "IPv6 header",
            Self::Ipv6Extension => "IPv6 extension header",
            Self::Icmp => "ICMP message",
            Self::Icmpv6 => "ICMPv6 message",
            Self::Tcp => "TCP header",
            Self::Udp => "UDP header",
            Self::Esp => "ESP header",
            Self::Gre => "GRE header",
        })
    }
}

/// Why a header could not be read. Offsets count from the first byte of the (inner or quoted) packet that was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The bytes end too early.
    #[error("{layer} at byte {offset} needs {needed} bytes, had {had}")]
    Short {
        /// Which header.
        layer: Layer,
        /// Where it starts.
        offset: usize,
        /// Bytes that it needs at least.
        needed: usize,
        /// Bytes that were there.
        had: usize,
    },
    /// The bytes cannot be such a header.
    #[error("{layer} at byte {offset} has {field} {value}")]
    Malformed {
        /// Which header.
        layer: Layer,
        /// Where it starts.
        offset: usize,
        /// The field that is impossible.
        field: &'static str,
        /// Its value.
        value: u32,
    },
}

/// Reads a captured frame.
pub fn parse_frame(link: LinkLayer, bytes: &[u8]) -> Result<Packet, PacketError> {
    frame(link, bytes, Depth::OUTER)
}

/// Reads the bytes from a network header on.
pub fn parse_network(ethertype: u16, bytes: &[u8]) -> Result<Packet, PacketError> {
    network(ethertype, Span { bytes, offset: 0 }, Depth::OUTER)
}

impl Packet {
    /// The IP header, if it is an IP packet.
    pub fn ip(&self) -> Option<&Ip> {
        match &self.net {
            Net::Ip(ip) => Some(ip),
            Net::Arp(_) | Net::Other(_) => None,
        }
    }

    /// The ICMP message, if it carries one.
    pub fn icmp(&self) -> Option<&Icmp> {
        match &self.ip()?.payload {
            Payload::Icmp(icmp) => Some(icmp),
            _ => None,
        }
    }

    /// The tunnel, if there is a packet in it.
    pub fn tunnel(&self) -> Option<&Tunnel> {
        match &self.ip()?.payload {
            Payload::Tunnel(tunnel) => Some(tunnel),
            _ => None,
        }
    }
}

/// What may still be unwrapped. Each is done once, so the work on any packet is bounded.
#[derive(Debug, Clone, Copy)]
struct Depth {
    /// A tunnel's inner packet.
    tunnel: bool,
    /// The packet that an ICMP error quotes.
    quote: bool,
}

impl Depth {
    const OUTER: Self = Self { tunnel: true, quote: true };

    fn in_tunnel(self) -> Self {
        Self { tunnel: false, ..self }
    }

    fn in_quote(self) -> Self {
        Self { quote: false, ..self }
    }
}

/// Bytes that are still to be read, and where they start in the packet.
#[derive(Debug, Clone, Copy)]
struct Span<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Span<'_> {
    /// The bytes after the first `count`, or none.
    fn skip(self, count: usize) -> Self {
        let count = count.min(self.bytes.len());
        Self { bytes: &self.bytes[count..], offset: self.offset + count }
    }

    /// The first `count` bytes of these, or all.
    fn keep(self, count: usize) -> Self {
        Self { bytes: &self.bytes[..count.min(self.bytes.len())], offset: self.offset }
    }

    /// `N` bytes at this place, if they are there.
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..)?.first_chunk().copied()
    }

    fn be16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    fn be32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    /// The error for a header of this layer that needs more bytes than there are.
    fn short(self, layer: Layer, needed: usize) -> PacketError {
        PacketError::Short { layer, offset: self.offset, needed, had: self.bytes.len() }
    }

    fn malformed(self, layer: Layer, field: &'static str, value: u32) -> PacketError {
        PacketError::Malformed { layer, offset: self.offset, field, value }
    }
}

fn frame(link: LinkLayer, bytes: &[u8], depth: Depth) -> Result<Packet, PacketError> {
    let span = Span { bytes, offset: 0 };
    match link {
        LinkLayer::Ethernet => ethernet::parse(span, depth),
        LinkLayer::Ip => match bytes.first().map(|first| first >> 4) {
            Some(4) => network(ETHERTYPE_IPV4, span, depth),
            Some(6) => network(ETHERTYPE_IPV6, span, depth),
            Some(version) => Err(span.malformed(Layer::Ipv4, "version", version.into())),
            None => Err(span.short(Layer::Ipv4, 20)),
        },
    }
}

fn network(ethertype: u16, span: Span<'_>, depth: Depth) -> Result<Packet, PacketError> {
    let (net, cut) = match ethertype {
        ETHERTYPE_ARP => arp::parse(span).map(|net| (net, None))?,
        ETHERTYPE_IPV4 => ip::parse_v4(span, depth)?,
        ETHERTYPE_IPV6 => ip::parse_v6(span, depth)?,
        other => (Net::Other(other), None),
    };
    Ok(Packet { link: None, vlans: Vec::new(), net, cut })
}

#[cfg(test)]
mod tests;
