//! Which packets belong to the question, and what they are for.
//!
//! # What makes a packet ours
//!
//! | packet | ours if | limits |
//! | --- | --- | --- |
//! | echo request or reply | its ICMP identifier is the question's, or its payload carries our cookie | another ping with the same identifier (1 in 65536) is taken for ours if it carries no readable payload; NAT that rewrites the identifier is seen through by the cookie, unless the payload is shorter than 16 bytes or was cut off |
//! | TCP | a SYN from our source port, or with a sequence number that such a SYN had ([`Sieve`]); a SYN-ACK or RST that acknowledges one, or goes between the question's ports | another connection from the same source port at the same time; while our own port is not known yet, the other one and a known address must do. Segments of an established connection are no part of the exchange |
//! | UDP | it carries our cookie, goes between the two ports of the question, or answers a datagram of ours as NAT has left it ([`Sieve`]) | as above; NAT that rewrites both ports of an answer whose request was not seen there |
//! | ICMP error | the packet that it quotes is ours | an error that quotes less than 8 bytes behind the IP header |
//! | ARP, neighbour discovery | it asks for, or tells, an address of the exchange | two exchanges that need the same neighbour at the same time cannot be told apart, and need not be |
//! | later fragment | its addresses and identification are those of a first fragment that was ours ([`Sieve`]) | a first fragment that was not seen |
//! | tunnel packet | its inner packet is ours | encrypted tunnels (ESP, WireGuard) |
//!
//! Addresses do not decide about echo messages: NAT rewrites them, and following a packet through NAT is the point.
//! Duplicate address detection, gratuitous ARP and unsolicited advertisements to nobody in particular are
//! not part of an exchange.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::{Arp, Echo, Icmp, IcmpMessage, Ip, Net, Packet, Payload, Tcp, Udp};
use crate::model::exchange::Role;
use crate::model::question::{Protocol, Question};
use crate::model::snapshot::Snapshot;

/// What tells the question's packets from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// ICMP identifier of the requests.
    pub icmp_id: u16,
    /// What is asked with.
    pub protocol: Protocol,
    /// The addresses whose neighbour resolution belongs to the exchange: both ends, next hops, what NAT makes
    /// of them. Empty means any: nothing is known yet.
    pub addresses: BTreeSet<IpAddr>,
    /// The destination, where it is an address of the asking namespace. A request for the sender's own address is
    /// an announcement, but for this one: a host whose local route is gone asks the network for itself.
    pub own: Option<IpAddr>,
}

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its role.
    pub role: Role,
    /// Echo sequence number; for an error that of the packet it quotes.
    pub seq: Option<u16>,
    /// For an error: the role of the packet that it quotes.
    pub about: Option<Role>,
    /// It was in a tunnel: the headers outside are not its own.
    pub encapsulated: bool,
    /// It is a later fragment, recognised by its first one.
    pub later_fragment: bool,
}

/// The 8 bytes that our echo requests carry at payload bytes 8 to 16, and our datagrams at their beginning. They depend on nothing but the identifier, so
/// that a recording needs no further field to be read again.
pub fn cookie(icmp_id: u16) -> [u8; 8] {
    let [high, low] = icmp_id.to_be_bytes();
    [b'v', b't', b'r', b'a', b'c', b'e', high, low]
}

/// What the packet is for, if it belongs to the question. A later fragment does not say; see [`Sieve`].
pub fn identify(packet: &Packet, key: &Key) -> Option<Identity> {
    recognise(packet, key, &Learned::default())
}

fn recognise(packet: &Packet, key: &Key, learned: &Learned) -> Option<Identity> {
    match &packet.net {
        Net::Arp(arp) => of_arp(arp, key),
        Net::Ip(ip) => of_ip(ip, key, learned),
        Net::Other(_) => None,
    }
}

/// What requests that were recognised tell about packets to come, as NAT has left them.
#[derive(Debug, Clone, Default)]
struct Learned {
    /// Initial sequence numbers of our SYNs. NAT changes ports and addresses, never these.
    numbers: BTreeSet<u32>,
    /// Source and destination of our datagrams.
    flows: BTreeSet<(SocketAddr, SocketAddr)>,
}

/// Flows and sequence numbers that are remembered: a few for each attempt and each place where NAT rewrites.
const MAX_LEARNED: usize = 1024;

impl Learned {
    fn learn(&mut self, ip: &Ip) {
        match &ip.payload {
            Payload::Tcp(tcp) if self.numbers.len() < MAX_LEARNED => {
                self.numbers.insert(tcp.seq);
            }
            Payload::Udp(Udp { ports, .. }) if self.flows.len() < MAX_LEARNED => {
                self.flows.insert((SocketAddr::new(ip.src, ports.src), SocketAddr::new(ip.dst, ports.dst)));
            }
            _ => {}
        }
    }
}

/// Picks the question's packets out of many, in the order in which they were seen, later fragments included.
#[derive(Debug, Clone)]
pub struct Sieve {
    key: Key,
    fragments: BTreeMap<(IpAddr, IpAddr, u8, u32), Identity>,
    learned: Learned,
}

/// First fragments that are remembered. An exchange has a few; a hostile capture may have any number.
const MAX_FRAGMENTED: usize = 4096;

impl Sieve {
    /// A sieve for the packets of this key.
    pub fn new(key: Key) -> Self {
        Self { key, fragments: BTreeMap::new(), learned: Learned::default() }
    }

    /// What the packet is for, if it belongs to the question.
    pub fn admit(&mut self, packet: &Packet) -> Option<Identity> {
        let encapsulated = packet.tunnel().is_some();
        let ip = packet.tunnel().map_or(packet, |tunnel| &tunnel.inner).ip();
        let part = ip.and_then(|ip| Some((ip, ip.fragment?)));
        let name = part.map(|(ip, part)| (ip.src, ip.dst, ip.protocol, part.id));
        if let (Some(name), Some((_, part))) = (name, part)
            && part.offset > 0
        {
            let first = self.fragments.get(&name)?;
            return Some(Identity { encapsulated, later_fragment: true, ..*first });
        }
        let identity = recognise(packet, &self.key, &self.learned)?;
        if let Some(ip) = ip.filter(|_| identity.role == Role::Request) {
            self.learned.learn(ip);
        }
        if let Some(name) = name
            && self.fragments.len() < MAX_FRAGMENTED
        {
            self.fragments.insert(name, identity);
        }
        Some(identity)
    }
}

impl Key {
    /// The key of a question, without the next hops on its way.
    pub fn of(question: &Question, before: &Snapshot) -> Self {
        let asker = before.netns(question.netns);
        let is_own = asker.is_some_and(|netns| netns.addresses.iter().any(|entry| entry.address == question.dst));
        let own = is_own.then_some(question.dst);
        Self { icmp_id: question.icmp_id, protocol: question.protocol, addresses: BTreeSet::new(), own }
    }

    /// The same, with the addresses whose neighbour resolution counts.
    #[must_use]
    pub fn with_addresses(self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { addresses: addresses.into_iter().collect(), ..self }
    }

    fn knows(&self, address: IpAddr) -> bool {
        self.addresses.is_empty() || self.addresses.contains(&address)
    }
}

impl Identity {
    fn new(role: Role, seq: Option<u16>) -> Self {
        Self { role, seq, about: None, encapsulated: false, later_fragment: false }
    }
}

fn of_arp(arp: &Arp, key: &Key) -> Option<Identity> {
    // A probe (RFC 5227) has no sender address; an announcement asks for the sender's own.
    let announces = arp.sender == arp.target && (arp.operation != 1 || key.own != Some(arp.target.into()));
    if arp.sender.is_unspecified() || announces {
        return None;
    }
    match arp.operation {
        1 if key.knows(arp.target.into()) => Some(Identity::new(Role::ArpRequest, None)),
        2 if key.knows(arp.sender.into()) => Some(Identity::new(Role::ArpReply, None)),
        _ => None,
    }
}

fn of_ip(ip: &Ip, key: &Key, learned: &Learned) -> Option<Identity> {
    match &ip.payload {
        Payload::Icmp(icmp) => of_icmp(ip, icmp, key, learned),
        Payload::Tcp(tcp) => match key.protocol {
            Protocol::Tcp { port, sport } => of_segment(ip, *tcp, (port, sport), key, learned),
            Protocol::Echo | Protocol::Udp { .. } => None,
        },
        Payload::Udp(udp) => match key.protocol {
            Protocol::Udp { port, sport } => of_datagram(ip, *udp, (port, sport), key, learned),
            Protocol::Echo | Protocol::Tcp { .. } => None,
        },
        Payload::Tunnel(tunnel) => {
            recognise(&tunnel.inner, key, learned).map(|identity| Identity { encapsulated: true, ..identity })
        }
        Payload::Esp { .. } | Payload::LaterFragment | Payload::Other => None,
    }
}

fn of_icmp(ip: &Ip, icmp: &Icmp, key: &Key, learned: &Learned) -> Option<Identity> {
    match &icmp.message {
        IcmpMessage::EchoRequest(echo) => of_echo(Role::Request, *echo, key),
        IcmpMessage::EchoReply(echo) => of_echo(Role::Reply, *echo, key),
        IcmpMessage::Error { quoted, .. } => {
            let quoted = recognise(quoted.as_deref()?, key, learned)?;
            // An error is never about ARP, and one about neighbour discovery says nothing about the exchange.
            let is_ours = matches!(quoted.role, Role::Request | Role::Reply);
            is_ours.then_some(Identity {
                role: Role::IcmpError,
                about: Some(quoted.role),
                encapsulated: false,
                ..quoted
            })
        }
        IcmpMessage::NeighbourSolicitation { target, .. } => {
            let is_dad = ip.src.is_unspecified();
            (!is_dad && key.knows((*target).into())).then_some(Identity::new(Role::ArpRequest, None))
        }
        IcmpMessage::NeighbourAdvertisement { target, solicited, .. } => {
            let to_somebody = *solicited || !ip.dst.is_multicast();
            (to_somebody && key.knows((*target).into())).then_some(Identity::new(Role::ArpReply, None))
        }
        IcmpMessage::Other => None,
    }
}

fn of_echo(role: Role, echo: Echo, key: &Key) -> Option<Identity> {
    let is_ours =
        key.protocol == Protocol::Echo && (echo.id == key.icmp_id || echo.cookie == Some(cookie(key.icmp_id)));
    is_ours.then_some(Identity::new(role, Some(echo.seq)))
}

/// Only what opens a connection, accepts it or refuses it is part of the exchange.
fn of_segment(ip: &Ip, tcp: Tcp, (port, sport): (u16, u16), key: &Key, learned: &Learned) -> Option<Identity> {
    let role = if tcp.has(Tcp::SYN | Tcp::ACK) {
        Role::Reply
    } else if tcp.has(Tcp::RST | Tcp::ACK) {
        Role::Reset
    } else if tcp.has(Tcp::SYN) {
        Role::Request
    } else {
        return None;
    };
    let is_ours = if role == Role::Request {
        // Destination NAT may have come before the first sighting.
        learned.numbers.contains(&tcp.seq)
            || near(tcp.ports.src, sport)
            || sport == 0 && tcp.ports.dst == port && key.knows(ip.dst)
    } else {
        learned.numbers.contains(&tcp.ack.wrapping_sub(1))
            || tcp.ports.src == port && (near(tcp.ports.dst, sport) || sport == 0 && key.knows(ip.src))
    };
    is_ours.then_some(Identity::new(role, None))
}

fn of_datagram(ip: &Ip, udp: Udp, (port, sport): (u16, u16), key: &Key, learned: &Learned) -> Option<Identity> {
    let Udp { ports, cookie: carried } = udp;
    let back = (SocketAddr::new(ip.dst, ports.dst), SocketAddr::new(ip.src, ports.src));
    let between =
        |from: u16, to: u16, address: IpAddr| to == port && (near(from, sport) || sport == 0 && key.knows(address));
    // The answer first: an echo service sends our own cookie back.
    if learned.flows.contains(&back) || between(ports.dst, ports.src, ip.src) {
        Some(Identity::new(Role::Reply, None))
    } else if carried == Some(cookie(key.icmp_id)) || between(ports.src, ports.dst, ip.dst) {
        Some(Identity::new(Role::Request, None))
    } else {
        None
    }
}

/// Whether a port is our own, which is known.
fn near(port: u16, sport: u16) -> bool {
    sport != 0 && port == sport
}

#[cfg(test)]
mod tests;
