//! What the probes are asked to do.
//!
//! Plain data: [`ProbeConfig`] is what [`super::attach()`] takes. It says nothing about how the question is put to the kernel.

use std::net::IpAddr;

use super::attach::{Scope, Tier};
use super::record::DeviceRef;
use crate::filter::{Expression, Kinds};

pub use vnet_trace_ebpf::{PACKET_BYTES, SNAP_MAX};

/// What the probes are to look for.
#[derive(Clone, Debug)]
pub struct ProbeConfig {
    /// Use this tier and what it cannot do without (tracepoints), for tests; None takes the best.
    pub tier: Option<Tier>,
    /// Addresses whose ARP, ND, route look-ups and neighbour entries are of interest.
    pub addresses: Vec<IpAddr>,
    /// Inodes of the namespaces in which these count, or in which a packet must be seen to be followed from there on;
    /// None means all.
    pub netns: Option<Vec<u32>>,
    /// Identifiers of our echo requests, as they stand in the packet.
    pub identifiers: Vec<u16>,
    /// 6 or 17: the exchange is one of TCP or UDP, and [`super::Probes::watch_port`] tells the ports; else 0.
    pub transport: u8,
    /// Size of the ring buffer; rounded up to a power of two of pages.
    pub ring_bytes: u32,
    /// UDP ports that carry tunnels, at most [`TUNNEL_PORTS`].
    pub tunnel_ports: Vec<u16>,
    /// How much the probes say about themselves.
    pub log: LogLevel,
    /// Which probes are attached from the beginning.
    pub begin: Begin,
    /// Which packets are asked for.
    pub question: Matching,
    /// The address family of the exchange; None if it is not known, or both may matter.
    pub family: Option<Family>,
}

/// Which probes are attached from the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// All.
    #[default]
    Whole,
    /// Those that can find a packet, follow it from device to device and see its end. The others, which tell what happens to it in
    /// between, are loaded, and attached by [`super::Probes::attach_rest`].
    Lean,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl ProbeConfig {
    /// What the question is about.
    pub(super) fn scope(&self) -> Scope {
        match &self.question {
            // Neighbour discovery and the like are of no use to an IPv4 exchange; which IPv6 routes its tunnels take is.
            // The other way around ARP may be what a tunnel over IPv4 waits for.
            Matching::Ping if self.family == Some(Family::Ipv4) => Scope { ipv6: false, ..Scope::ALL },
            Matching::Ping => Scope::ALL,
            Matching::Expression(watched) => {
                let way = watched.told == Told::Everything;
                let Some(kinds) = watched.filter.as_ref().map(Expression::kinds) else {
                    return Scope { neighbours: false, way, handing: false, ..Scope::ALL };
                };
                let Kinds { ipv4, ipv6, arp, icmp } = kinds;
                Scope { ipv4, ipv6, arp, icmp, neighbours: false, tunnels: watched.inner, way, handing: false }
            }
        }
    }
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            tier: None,
            question: Matching::Ping,
            family: None,
            addresses: Vec::new(),
            netns: None,
            identifiers: Vec::new(),
            transport: 0,
            ring_bytes: 1 << 20,
            // VXLAN by IANA's choice and by Linux's old one, Geneve.
            tunnel_ports: vec![4789, 8472, 6081],
            log: LogLevel::heard(),
            begin: Begin::Whole,
        }
    }
}

/// Which packets are asked for.
#[derive(Clone, Debug, Default)]
pub enum Matching {
    /// Those of one ping: echoes with one of [`ProbeConfig::identifiers`], errors that quote them, and the address resolution
    /// of [`ProbeConfig::addresses`].
    #[default]
    Ping,
    /// Those that match an expression, whoever sends them.
    Expression(Watched),
}

/// Which packets of others are followed, and how much of them is told.
///
/// A packet is followed from the first place where it matches, through clones, address translation, tunnels and
/// namespaces, to its end; what else is asked here restricts only where it may begin.
#[derive(Clone, Debug)]
pub struct Watched {
    /// What a packet must match; None means all.
    pub filter: Option<Expression>,
    /// Devices at which it must be seen to be followed; empty means all.
    pub devices: Vec<DeviceRef>,
    /// Whether packets inside tunnels are held against the filter as well.
    pub inner: bool,
    /// What is told of the packets that are followed.
    pub told: Told,
    /// How many bytes of each packet are told, from its network header; at most [`SNAP_MAX`].
    pub snap: u16,
}

impl Default for Watched {
    fn default() -> Self {
        Self { filter: None, devices: Vec::new(), inner: false, told: Told::Everything, snap: PACKET_BYTES }
    }
}

/// What is told of the packets that are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Every sighting.
    #[default]
    Everything,
    /// Only the drops.
    Losses,
}

/// How much the probes say about themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    #[default]
    Off,
    /// What they begin to follow.
    Debug,
}

impl LogLevel {
    /// As much as somebody listens to.
    fn heard() -> Self {
        if log::log_enabled!(log::Level::Debug) { Self::Debug } else { Self::Off }
    }
}
