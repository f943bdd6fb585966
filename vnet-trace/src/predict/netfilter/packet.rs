//! A packet as the rules see it: headers, the kernel's marks on it, and what conntrack thinks of it.
//!
//! Every field that may be unknown is an `Option`: None means that we do not know, and a rule that asks for it may match and
//! may not. Rewriting rules change the packet in place, so that the next hook sees what the kernel would see.

use std::net::{IpAddr, Ipv4Addr};

use crate::model::netfilter::expression::IpVersion;

/// A packet on its way through the hooks of one namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// The Ethernet header, where there is one.
    pub ether: Option<Ether>,
    /// EtherType of what it carries: 0x0800, 0x86dd, 0x0806.
    pub protocol: u16,
    /// Source address; for ARP the sender's.
    pub source: IpAddr,
    /// Destination address; for ARP the target's.
    pub destination: IpAddr,
    /// What follows the IP header, or the ARP packet.
    pub transport: Transport,
    /// TTL or hop limit.
    pub hop_limit: Option<u8>,
    /// Whole length from the IP header on, in bytes.
    pub length: Option<u32>,
    /// Differentiated services code point.
    pub dscp: Option<u8>,
    /// Whether it must not be fragmented.
    pub dont_fragment: Option<bool>,
    /// Fragment offset in bytes; 0 for a whole packet and a first fragment.
    pub fragment_offset: u16,
    /// The packet's mark.
    pub mark: Option<u32>,
    /// To whom the frame was sent, as the kernel classified it.
    pub cast: Option<Cast>,
    /// User that owns the sending socket, at the sender.
    pub socket_user: Option<u32>,
    /// What conntrack thinks of it.
    pub conntrack: Conntrack,
}

/// An Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ether {
    /// Source.
    pub source: [u8; 6],
    /// Destination.
    pub destination: [u8; 6],
    /// VLAN identifier, if tagged.
    pub vlan: Option<u16>,
}

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// ICMP.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Echo identifier.
        id: Option<u16>,
        /// Echo sequence number.
        sequence: Option<u16>,
    },
    /// ICMPv6.
    Icmp6 {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Echo identifier.
        id: Option<u16>,
        /// Echo sequence number.
        sequence: Option<u16>,
    },
    /// TCP.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Flags: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32.
        flags: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ARP for IPv4 over Ethernet.
    Arp {
        /// 1 request, 2 reply.
        operation: u16,
        /// Sender's hardware address.
        sender: [u8; 6],
        /// Target's hardware address; zero in a request.
        target: [u8; 6],
    },
    /// Another protocol above IP, by number.
    Other(u8),
}

/// To whom a frame was sent (skb->pkt_type).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// To the device that received it.
    Host,
    /// To all.
    Broadcast,
    /// To a group.
    Multicast,
    /// To somebody else (seen in promiscuous mode or on a bridge).
    Other,
}

/// conntrack's view of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// Its state. None: not known.
    pub state: Option<CtState>,
    /// Mark of its connection.
    pub mark: Option<u32>,
    /// Whether it travels against the direction in which the connection was begun. None: not known, but for a new one no.
    pub reply: Option<bool>,
    /// Whether the connection's destination was rewritten.
    pub dnat: Option<bool>,
    /// Whether the connection's source was rewritten.
    pub snat: Option<bool>,
    /// The addresses with which the connection began. None: not known; for a new connection the evaluator fills it in.
    pub original: Option<Tuple>,
    /// Whether nat chains have already been asked about the destination of this connection.
    pub destination_settled: bool,
    /// Whether nat chains have already been asked about the source of this connection.
    pub source_settled: bool,
    /// Whether a rule has put it into a zone of its own: what is known of the connection elsewhere does not count.
    pub zoned: bool,
}

/// conntrack's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtState {
    /// Begins a connection.
    New,
    /// Belongs to a connection that was seen both ways; every reply does.
    Established,
    /// Belongs to a connection in another way: an ICMP error.
    Related,
    /// Fits no connection and may begin none.
    Invalid,
    /// Not tracked.
    Untracked,
}

/// Addresses and ports of one direction of a connection. Ports are ICMP identifiers for an echo, 0 where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Protocol above IP.
    pub protocol: u8,
}

/// How a connection's addresses are rewritten: what its first packet looked like and what its replies will look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatBinding {
    /// The first packet before any rewriting.
    pub original: Tuple,
    /// A reply to it before any rewriting back: source is the rewritten destination, destination the rewritten source.
    pub reply: Tuple,
}

impl Packet {
    /// A packet of which only the addresses and what it carries are known, beginning a connection, with no mark.
    pub fn new(source: IpAddr, destination: IpAddr, transport: Transport) -> Packet {
        let protocol = match (&transport, source) {
            (Transport::Arp { .. }, _) => 0x0806,
            (_, IpAddr::V4(_)) => 0x0800,
            (_, IpAddr::V6(_)) => 0x86dd,
        };
        Packet {
            ether: None,
            protocol,
            source,
            destination,
            transport,
            hop_limit: None,
            length: None,
            dscp: Some(0),
            dont_fragment: None,
            fragment_offset: 0,
            mark: Some(0),
            cast: None,
            socket_user: None,
            conntrack: Conntrack {
                state: Some(CtState::New),
                mark: Some(0),
                reply: Some(false),
                dnat: Some(false),
                snat: Some(false),
                ..Conntrack::default()
            },
        }
    }

    /// An echo request, ICMP or ICMPv6 by the addresses.
    pub fn echo_request(source: IpAddr, destination: IpAddr, id: u16) -> Packet {
        let (id, sequence) = (Some(id), None);
        let transport = if source.is_ipv4() {
            Transport::Icmp { kind: 8, code: 0, id, sequence }
        } else {
            Transport::Icmp6 { kind: 128, code: 0, id, sequence }
        };
        Packet::new(source, destination, transport)
    }

    /// The reply to this packet as its receiver makes it: addresses, ports and types turned round, established, unmarked.
    #[must_use]
    pub fn reply(&self) -> Packet {
        let transport = match self.transport {
            Transport::Icmp { id, sequence, .. } => Transport::Icmp { kind: 0, code: 0, id, sequence },
            Transport::Icmp6 { id, sequence, .. } => Transport::Icmp6 { kind: 129, code: 0, id, sequence },
            Transport::Tcp { source, destination, .. } => {
                Transport::Tcp { source: destination, destination: source, flags: 0x12 }
            }
            Transport::Udp { source, destination } => Transport::Udp { source: destination, destination: source },
            Transport::Arp { sender, .. } => Transport::Arp { operation: 2, sender: [0; 6], target: sender },
            Transport::Other(protocol) => Transport::Other(protocol),
        };
        let mut reply = Packet::new(self.destination, self.source, transport);
        reply.conntrack.state = Some(CtState::Established);
        reply.conntrack.reply = Some(true);
        reply.length = self.length;
        reply
    }

    /// An ARP request: who has `target`, asked by `sender`.
    pub fn arp_request(sender_mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Packet {
        let arp = Transport::Arp { operation: 1, sender: sender_mac, target: [0; 6] };
        let mut packet = Packet::new(sender.into(), target.into(), arp);
        packet.ether = Some(Ether { source: sender_mac, destination: [0xff; 6], vlan: None });
        packet.cast = Some(Cast::Broadcast);
        packet
    }

    /// Which IP header it has. None for ARP and anything else.
    pub fn ip_version(&self) -> Option<IpVersion> {
        match self.protocol {
            0x0800 => Some(IpVersion::V4),
            0x86dd => Some(IpVersion::V6),
            _ => None,
        }
    }

    /// Protocol number above IP. None for ARP.
    pub fn l4_protocol(&self) -> Option<u8> {
        Some(match self.transport {
            Transport::Icmp { .. } => 1,
            Transport::Icmp6 { .. } => 58,
            Transport::Tcp { .. } => 6,
            Transport::Udp { .. } => 17,
            Transport::Other(protocol) => protocol,
            Transport::Arp { .. } => return None,
        })
    }

    /// Source and destination port, for TCP and UDP.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.transport {
            Transport::Tcp { source, destination, .. } | Transport::Udp { source, destination } => {
                Some((source, destination))
            }
            _ => None,
        }
    }

    /// Addresses and ports as conntrack keys them.
    pub fn tuple(&self) -> Tuple {
        let (source_port, destination_port) = match self.transport {
            Transport::Icmp { id, .. } | Transport::Icmp6 { id, .. } => (id.unwrap_or(0), id.unwrap_or(0)),
            _ => self.ports().unwrap_or((0, 0)),
        };
        Tuple {
            source: self.source,
            destination: self.destination,
            source_port,
            destination_port,
            protocol: self.l4_protocol().unwrap_or(0),
        }
    }

    /// Writes a tuple's addresses and ports into the packet.
    pub fn set_tuple(&mut self, tuple: Tuple) {
        self.source = tuple.source;
        self.destination = tuple.destination;
        match &mut self.transport {
            Transport::Tcp { source, destination, .. } | Transport::Udp { source, destination } => {
                *source = tuple.source_port;
                *destination = tuple.destination_port;
            }
            _ => {}
        }
    }
}

impl Tuple {
    /// The same seen from the other end.
    #[must_use]
    pub fn reversed(self) -> Tuple {
        Tuple {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}

impl NatBinding {
    /// The binding of a connection whose first packet came as `original` and left as `translated`.
    pub fn new(original: Tuple, translated: Tuple) -> NatBinding {
        NatBinding { original, reply: translated.reversed() }
    }

    /// Whether anything is rewritten at all.
    pub fn is_identity(&self) -> bool {
        self.original == self.reply.reversed()
    }

    /// What a packet of the connection becomes. None if it belongs to neither direction.
    ///
    /// The kernel rewrites the destination before routing and the source after it; here both are done at once, which is
    /// the packet as it leaves. [`NatBinding::destination_first`] gives the packet as it is routed.
    pub fn translate(&self, tuple: Tuple) -> Option<Tuple> {
        if tuple == self.original {
            Some(self.reply.reversed())
        } else if tuple == self.reply {
            Some(self.original.reversed())
        } else {
            None
        }
    }

    /// The packet with only its destination rewritten: as the route look-up, INPUT and FORWARD see it.
    pub fn destination_first(&self, tuple: Tuple) -> Option<Tuple> {
        let after = self.translate(tuple)?;
        Some(Tuple { destination: after.destination, destination_port: after.destination_port, ..tuple })
    }
}
