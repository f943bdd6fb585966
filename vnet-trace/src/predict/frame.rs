//! Frames and packets as the walk carries them.

use std::net::IpAddr;

use crate::model::exchange::{Decision, Headers, Loss, Place, Role, Step};
use crate::model::id::{Device, MacAddr, NetnsId};
use crate::model::netfilter::RuleRef;

use super::filter::Begun;

/// A frame on a link.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// VLAN tags, outermost first, as (ethertype, id).
    pub tags: Vec<(u16, u16)>,
    /// What it carries.
    pub payload: Payload,
}

/// What a frame carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// ARP, or neighbour discovery: the same questions in other headers.
    Resolution(Resolution),
    /// An IP packet.
    Ip(Packet),
}

/// An ARP packet, or a neighbour solicitation or advertisement.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// A reply or advertisement rather than a request or solicitation.
    pub reply: bool,
    /// Who asks (request) or answers (reply): protocol address.
    pub sender: Option<IpAddr>,
    /// Link-layer address of the sender.
    pub sender_mac: MacAddr,
    /// Who is asked for (request) or whom the answer is for (reply).
    pub target: IpAddr,
}

/// An IP packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Bytes from the IP header on.
    pub len: u32,
    /// Don't fragment.
    pub df: bool,
    /// The sender learns from ICMP errors and sends smaller packets next time.
    pub adapts: bool,
    /// fwmark, meaningful within one namespace.
    pub mark: u32,
    /// Type of service.
    pub tos: u8,
    /// What is in it.
    pub carries: Carries,
    /// A rule left a checksum wrong, in this namespace; `ip` or `icmp`.
    pub stale_checksum: Option<(NetnsId, RuleRef, &'static str)>,
    /// It bears an IPsec transformation.
    pub ipsec: bool,
    /// Its connection, as the namespace it is in sees it (skb->_nfct): dropped where it leaves the namespace.
    pub flow: Option<Box<(NetnsId, Begun)>>,
}

/// What an IP packet is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Carries {
    /// Echo request with this identifier.
    EchoRequest(u16),
    /// Echo reply.
    EchoReply(u16),
    /// TCP: source port, destination port, whether it is the answer.
    Tcp(u16, u16, bool),
    /// UDP: source port, destination port.
    Udp(u16, u16),
    /// A tunnel's inner frame over UDP.
    Tunnel {
        /// UDP destination port.
        port: u16,
        /// VNI.
        vni: u32,
        /// The tunnel device that sent it.
        from: Device,
        /// The inner frame.
        inner: Box<Frame>,
    },
    /// A tunnel's inner packet without UDP (GRE, IPIP, SIT): protocol number.
    Plain {
        /// IP protocol.
        protocol: u8,
        /// The tunnel device that sent it.
        from: Device,
        /// The inner frame.
        inner: Box<Frame>,
    },
}

impl Packet {
    /// Protocol above IP.
    pub fn protocol(&self) -> u8 {
        match self.carries {
            Carries::EchoRequest(_) | Carries::EchoReply(_) => {
                if self.src.is_ipv6() {
                    58
                } else {
                    1
                }
            }
            Carries::Tcp(..) => 6,
            Carries::Udp(..) | Carries::Tunnel { .. } => 17,
            Carries::Plain { protocol, .. } => protocol,
        }
    }

    /// Source and destination port, for TCP and UDP.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.carries {
            Carries::Tcp(source, destination, _) | Carries::Udp(source, destination) => Some((source, destination)),
            _ => None,
        }
    }

    /// The same with other ports, where it has any.
    pub fn set_ports(&mut self, (from, to): (u16, u16)) {
        match &mut self.carries {
            Carries::Tcp(source, destination, _) | Carries::Udp(source, destination) => {
                (*source, *destination) = (from, to);
            }
            _ => {}
        }
    }

    /// Whether it is the answer to the question.
    pub fn is_reply(&self) -> bool {
        matches!(self.carries, Carries::EchoReply(_) | Carries::Tcp(_, _, true))
    }

    /// Its addresses for an [`crate::model::exchange::Exchange`].
    pub fn headers(&self) -> Headers {
        Headers {
            src: Some(self.src),
            dst: Some(self.dst),
            len: self.len,
            ttl: Some(self.ttl),
            id: match self.carries {
                Carries::EchoRequest(id) | Carries::EchoReply(id) => Some(id),
                Carries::Tcp(source, ..) | Carries::Udp(source, _) => Some(source),
                _ => None,
            },
            port: self.ports().map(|(_, destination)| destination),
            ..Headers::default()
        }
    }
}

impl Frame {
    /// Bytes of the network-layer packet.
    pub fn length(&self) -> u32 {
        match &self.payload {
            Payload::Resolution(resolution) if resolution.target.is_ipv6() => 72,
            Payload::Resolution(_) => 28,
            Payload::Ip(packet) => packet.len,
        }
    }

    /// Its ethertype, below the tags.
    pub fn ethertype(&self) -> u16 {
        match &self.payload {
            Payload::Resolution(resolution) if resolution.target.is_ipv6() => 0x86dd,
            Payload::Resolution(_) => 0x0806,
            Payload::Ip(packet) if packet.dst.is_ipv6() => 0x86dd,
            Payload::Ip(_) => 0x0800,
        }
    }

    /// The outermost VLAN id.
    pub fn vid(&self) -> Option<u16> {
        self.tags.first().map(|(_, vid)| *vid)
    }
}

/// The way of one copy of a packet so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trail {
    /// What happened.
    pub steps: Vec<Step>,
    /// Why it would have ended, in order. The walk goes on behind a block as if it were mended, to find out
    /// whether it mattered and what else would have stopped the packet.
    pub blocks: Vec<Block>,
    /// Places passed within this transmission, against circles at layer 2.
    pub visited: Vec<(Device, bool, Option<u16>)>,
    /// How deep in tunnels.
    pub depth: u8,
}

/// One reason why a packet ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Where.
    pub place: Place,
    /// What decides.
    pub decision: Decision,
    /// Steps taken before it.
    pub at: usize,
    /// It is the outer packet of a tunnel that is lost.
    pub underlay: bool,
    /// The role of the packet that is lost, if it is not the one that travels (address resolution of an underlay).
    pub role: Option<Role>,
}

impl Block {
    /// As the loss of a journey.
    pub fn loss(&self) -> Loss {
        Loss { place: self.place.clone(), decision: Some(self.decision.clone()), certain: true }
    }
}

/// Where one copy ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// Its way.
    pub trail: Trail,
    /// Its end.
    pub end: End,
}

/// The end of one copy of a frame.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every end is at a stack; boxing it would cost an allocation for each"
)]
pub enum End {
    /// It was handed to the protocol stack of this device.
    Stack {
        /// The device.
        device: Device,
        /// The frame as it arrived.
        frame: Frame,
    },
    /// A bridge answered it in the owner's stead.
    Answered {
        /// The bridge port whose neigh_suppress (or proxyarp) made it so.
        port: Device,
        /// The link-layer address that was given.
        lladdr: MacAddr,
    },
    /// It left what we can see.
    OutOfSight(Device),
    /// It ended, and going on makes no sense.
    Dead,
}
