//! What was asked: one exchange of packets, in the words of ping(8).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::id::NetnsId;

/// One question: "does an echo request from here to there come back?"
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// The namespace it is asked in.
    pub netns: NetnsId,
    /// The address asked for.
    pub dst: IpAddr,
    /// `-I`: a device to bind to, or a source address.
    pub iface: Option<Iface>,
    /// The zone of a link-local destination (`fe80::1%eth0`), as it was typed.
    pub zone: Option<String>,
    /// `-c`: echo requests to send.
    pub count: u32,
    /// `-i`: milliseconds between requests.
    pub interval_ms: u64,
    /// `-W`: milliseconds to wait for a reply.
    pub timeout_ms: u64,
    /// `-s`: bytes of ICMP payload.
    pub size: u16,
    /// `-t`: time to live or hop limit; None leaves it to the namespace's default.
    pub ttl: Option<u8>,
    /// `-Q`: type of service or traffic class.
    pub tos: u8,
    /// `-m`: fwmark of the packets.
    pub mark: u32,
    /// `-M`: path MTU discovery strategy.
    pub pmtu: PmtuDiscovery,
    /// The ICMP identifier of the requests, host byte order.
    pub icmp_id: u16,
    /// What is asked with.
    pub protocol: Protocol,
}

/// The argument of `-I`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Iface {
    /// A device name: the socket is bound to it (SO_BINDTODEVICE).
    Device(String),
    /// A source address: the socket is bound to it (bind(2)).
    Address(IpAddr),
}

/// ping's `-M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PmtuDiscovery {
    /// Not given: the kernel's default for the socket (IP_PMTUDISC_WANT unless ip_no_pmtu_disc).
    #[default]
    Default,
    /// `do`: always set DF, never fragment locally.
    Do,
    /// `want`: set DF, fragment locally when the packet is too large.
    Want,
    /// `probe`: set DF, ignore the path MTU.
    Probe,
    /// `dont`: never set DF.
    Dont,
}

/// The protocol of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// ICMP or ICMPv6 echo.
    #[default]
    Echo,
    /// A TCP connection to this port, from this source port (0: not known yet).
    Tcp {
        /// Destination port.
        port: u16,
        /// Source port.
        sport: u16,
    },
    /// A UDP datagram to this port, from this source port.
    Udp {
        /// Destination port.
        port: u16,
        /// Source port.
        sport: u16,
    },
}

impl Question {
    /// One echo request with ping(8)'s defaults, its identifier not known yet.
    pub fn echo(netns: NetnsId, dst: IpAddr) -> Self {
        Self {
            netns,
            dst,
            iface: None,
            zone: None,
            count: 1,
            interval_ms: 1000,
            timeout_ms: 1000,
            size: 56,
            ttl: None,
            tos: 0,
            mark: 0,
            pmtu: PmtuDiscovery::Default,
            icmp_id: 0,
            protocol: Protocol::Echo,
        }
    }

    /// The device name of `-I`, if it named a device.
    pub fn device(&self) -> Option<&str> {
        match &self.iface {
            Some(Iface::Device(name)) => Some(name),
            _ => self.zone.as_deref(),
        }
    }

    /// IPPROTO_* of the requests.
    pub fn protocol_number(&self) -> u8 {
        match self.protocol {
            Protocol::Echo if self.dst.is_ipv6() => 58,
            Protocol::Echo => 1,
            Protocol::Tcp { .. } => 6,
            Protocol::Udp { .. } => 17,
        }
    }

    /// The destination port, if a port is asked for.
    pub fn port(&self) -> Option<u16> {
        match self.protocol {
            Protocol::Echo => None,
            Protocol::Tcp { port, .. } | Protocol::Udp { port, .. } => Some(port),
        }
    }

    /// The source address of `-I`, if it named one.
    pub fn source(&self) -> Option<IpAddr> {
        match self.iface {
            Some(Iface::Address(address)) => Some(address),
            _ => None,
        }
    }
}
