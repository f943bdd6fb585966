//! The sockets that ask: one for the echo messages, and the UDP one that only learns a source address.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use nix::{setsockopt_impl, sockopt_impl};
use socket2::{Domain, Socket, Type};

use super::{Manner, choose_id, unspecified};
use crate::collect::clock;
use crate::model::id::Nanos;
use crate::model::question::{PmtuDiscovery, Question};
use crate::model::recording::PingError;

/// include/uapi/linux/icmp.h and icmpv6.h; libc has no names for them.
const ICMP_FILTER: libc::c_int = 1;
const ICMPV6_FILTER: libc::c_int = 1;
const SOL_RAW: libc::c_int = 255;
const SOL_ICMPV6: libc::c_int = libc::IPPROTO_ICMPV6;

sockopt_impl!(
    /// Which ICMP types a raw socket does not get, one bit each.
    IcmpFilter, SetOnly, SOL_RAW, ICMP_FILTER, u32
);
sockopt_impl!(
    /// Which ICMPv6 types a raw socket does not get, one bit each.
    Icmpv6Filter, SetOnly, SOL_ICMPV6, ICMPV6_FILTER, [u32; 8]
);
sockopt_impl!(
    /// Path MTU discovery strategy, IPv4.
    MtuDiscover, SetOnly, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, i32
);
sockopt_impl!(
    /// Path MTU discovery strategy, IPv6.
    MtuDiscoverV6, SetOnly, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, i32
);

/// What the echo messages go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SOCK_RAW: needs CAP_NET_RAW; the identifier is ours to choose.
    Raw,
    /// SOCK_DGRAM with IPPROTO_ICMP: the kernel's choice of port is the identifier.
    Ping,
}

/// Why there is no socket to ask with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither kind of socket may be made.
    #[error(
        "cannot open a socket for echo requests: a raw socket needs CAP_NET_RAW, and a ping socket a group in net.ipv4.ping_group_range"
    )]
    NotPermitted {
        /// What the kernel said to the raw socket.
        raw: io::Error,
        /// What the kernel said to the ping socket.
        #[source]
        ping: io::Error,
    },
    /// The zone of a link-local address is no device here.
    #[error("cannot ask {address} on {zone}: no such device in the asked namespace")]
    NoSuchZone {
        /// Destination.
        address: IpAddr,
        /// The name behind the `%`.
        zone: String,
    },
    /// Another system call failed.
    #[error("cannot prepare a socket for echo requests: {call}")]
    Call {
        /// Which.
        call: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A socket for echo messages of one address family.
#[derive(Debug)]
pub(super) struct EchoSocket {
    socket: Socket,
    /// Made here, because it has to belong to the same namespace.
    probe: Socket,
    pub kind: Kind,
    pub icmp_id: u16,
    is_v6: bool,
}

/// One message that was received.
pub(super) struct Received {
    pub len: usize,
    /// When the kernel got it.
    pub at: Nanos,
}

/// The destination with its zone. Has to be called in the asked namespace.
pub(in crate::collect) fn destination(question: &Question) -> Result<SocketAddr, OpenError> {
    Ok(match question.dst {
        IpAddr::V4(address) => SocketAddr::new(address.into(), 0),
        IpAddr::V6(address) => {
            // A link-local address belongs to one link: the zone, else the device that is bound to.
            let zone = match &question.zone {
                Some(zone) => Some(zone.as_str()),
                None if address.is_unicast_link_local() || address.is_multicast() => question.device(),
                None => None,
            };
            let scope = match zone {
                Some(zone) => match zone.parse() {
                    Ok(index) => index,
                    Err(_) => nix::net::if_::if_nametoindex(zone)
                        .map_err(|_| OpenError::NoSuchZone { address: question.dst, zone: zone.to_owned() })?,
                },
                None => 0,
            };
            SocketAddrV6::new(address, 0, 0, scope).into()
        }
    })
}

/// The error of a system call, in ping's words.
pub(in crate::collect) fn call_failed(call: &str, error: &io::Error, seq: Option<u16>) -> PingError {
    let errno = error.raw_os_error();
    let said = errno.map_or_else(|| error.to_string(), |code| Errno::from_raw(code).desc().to_owned());
    PingError { seq, call: call.to_owned(), errno, icmp: None, offender: None, text: format!("{call}: {said}") }
}

/// Where the question is asked from, as setsockopt(2) has it: device, mark, type of service.
pub(in crate::collect) fn set_origin(
    socket: &Socket,
    is_v6: bool,
    question: &Question,
    manner: Manner,
) -> Result<(), PingError> {
    let of_nix = |name: &'static str| move |errno: Errno| call_failed(name, &errno.into(), None);
    if let Some(device) = question.device() {
        let name = format!("SO_BINDTODEVICE {device}");
        socket
            .bind_device(Some(device.as_bytes()))
            .map_err(|error| PingError { call: "setsockopt".to_owned(), ..call_failed(&name, &error, None) })?;
    }
    if question.mark != 0 {
        setsockopt(socket, sockopt::Mark, &question.mark).map_err(of_nix("SO_MARK"))?;
    }
    if question.tos != 0 {
        let tos = i32::from(question.tos);
        if is_v6 {
            setsockopt(socket, sockopt::Ipv6TClass, &tos).map_err(of_nix("IPV6_TCLASS"))?;
        } else {
            setsockopt(socket, sockopt::Ipv4Tos, &tos).map_err(of_nix("IP_TOS"))?;
        }
    }
    if manner.broadcast {
        socket.set_broadcast(true).map_err(|error| call_failed("SO_BROADCAST", &error, None))?;
    }
    Ok(())
}

/// How far a packet may go and how large it may be, and that the errors it meets are kept for us.
pub(in crate::collect) fn set_path(socket: &Socket, is_v6: bool, question: &Question) -> Result<(), PingError> {
    let named = |name: &'static str| move |error: io::Error| call_failed(name, &error, None);
    let of_nix = |name: &'static str| move |errno: Errno| call_failed(name, &errno.into(), None);
    if let Some(ttl) = question.ttl {
        let ttl = u32::from(ttl);
        if is_v6 {
            socket.set_unicast_hops_v6(ttl).map_err(named("IPV6_UNICAST_HOPS"))?;
            socket.set_multicast_hops_v6(ttl).map_err(named("IPV6_MULTICAST_HOPS"))?;
        } else {
            socket.set_ttl_v4(ttl).map_err(named("IP_TTL"))?;
            socket.set_multicast_ttl_v4(ttl).map_err(named("IP_MULTICAST_TTL"))?;
        }
    }
    let strategy = match question.pmtu {
        PmtuDiscovery::Default => None,
        PmtuDiscovery::Do => Some(libc::IP_PMTUDISC_DO),
        PmtuDiscovery::Want => Some(libc::IP_PMTUDISC_WANT),
        PmtuDiscovery::Probe => Some(libc::IP_PMTUDISC_PROBE),
        PmtuDiscovery::Dont => Some(libc::IP_PMTUDISC_DONT),
    };
    // The IPv6 values are the same numbers.
    if let Some(strategy) = strategy {
        if is_v6 {
            setsockopt(socket, MtuDiscoverV6, &strategy).map_err(of_nix("IPV6_MTU_DISCOVER"))?;
        } else {
            setsockopt(socket, MtuDiscover, &strategy).map_err(of_nix("IP_MTU_DISCOVER"))?;
        }
    }
    if is_v6 {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true).map_err(of_nix("IPV6_RECVERR"))
    } else {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true).map_err(of_nix("IP_RECVERR"))
    }
}

/// A source address as bind(2) takes it; a link-local one belongs to the link of the destination.
pub(in crate::collect) fn source(address: IpAddr, port: u16, destination: &SocketAddr) -> SocketAddr {
    let scope = match (address, destination) {
        (IpAddr::V6(address), SocketAddr::V6(to)) if address.is_unicast_link_local() => to.scope_id(),
        _ => 0,
    };
    match address {
        IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, scope).into(),
        IpAddr::V4(_) => SocketAddr::new(address, port),
    }
}

impl EchoSocket {
    pub fn open(question: &Question) -> Result<Self, OpenError> {
        let is_v6 = question.dst.is_ipv6();
        let (domain, protocol) =
            if is_v6 { (Domain::IPV6, socket2::Protocol::ICMPV6) } else { (Domain::IPV4, socket2::Protocol::ICMPV4) };
        let probe = Socket::new(domain, Type::DGRAM.nonblocking(), None)
            .map_err(|source| OpenError::Call { call: "socket", source })?;
        match Socket::new(domain, Type::RAW.nonblocking(), Some(protocol)) {
            Ok(socket) => {
                let icmp_id = if question.icmp_id == 0 { choose_id() } else { question.icmp_id };
                Ok(Self { socket, probe, kind: Kind::Raw, icmp_id, is_v6 })
            }
            Err(raw) => {
                let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(protocol))
                    .map_err(|ping| OpenError::NotPermitted { raw, ping })?;
                let any = SocketAddr::new(unspecified(is_v6), question.icmp_id);
                socket.bind(&any.into()).map_err(|source| OpenError::Call { call: "bind", source })?;
                let port = socket.local_addr().map_err(|source| OpenError::Call { call: "getsockname", source })?;
                let icmp_id = port.as_socket().map_or(0, |address| address.port());
                Ok(Self { socket, probe, kind: Kind::Ping, icmp_id, is_v6 })
            }
        }
    }

    /// Whether what is received begins with an IP header.
    pub fn has_ip_header(&self) -> bool {
        self.kind == Kind::Raw && !self.is_v6
    }

    /// Everything that setsockopt(2) can say about the question.
    pub fn set_options(&self, question: &Question, manner: Manner) -> Result<(), PingError> {
        let of_nix = |name: &'static str| move |errno: Errno| call_failed(name, &errno.into(), None);
        for socket in [&self.probe, &self.socket] {
            set_origin(socket, self.is_v6, question, manner)?;
        }
        let socket = &self.socket;
        set_path(socket, self.is_v6, question)?;
        setsockopt(socket, sockopt::ReceiveTimestampns, &true).map_err(of_nix("SO_TIMESTAMPNS"))?;
        if self.kind == Kind::Raw {
            // Echo replies only; errors come by the error queue.
            if self.is_v6 {
                let mut blocked = [u32::MAX; 8];
                blocked[129 / 32] &= !(1 << (129 % 32));
                setsockopt(socket, Icmpv6Filter, &blocked).map_err(of_nix("ICMPV6_FILTER"))?;
            } else {
                setsockopt(socket, IcmpFilter, &!1).map_err(of_nix("ICMP_FILTER"))?;
            }
        }
        Ok(())
    }

    /// Binds to a source address. A ping socket has its identifier from an earlier bind and cannot be bound again, so
    /// there the kernel is asked by the other socket whether the address may be used.
    pub fn bind(&self, address: IpAddr, destination: &SocketAddr) -> Result<(), PingError> {
        let source = source(address, 0, destination);
        let socket = match self.kind {
            Kind::Raw => &self.socket,
            Kind::Ping => &self.probe,
        };
        socket.bind(&source.into()).map_err(|error| call_failed("bind", &error, None))
    }

    /// The source that the kernel would choose. Connecting sends nothing.
    pub fn learn_source(&self, destination: &SocketAddr) -> Result<IpAddr, PingError> {
        let mut to = *destination;
        // The port that ping uses; it only has to be different from 0.
        to.set_port(1025);
        self.probe.connect(&to.into()).map_err(|error| call_failed("connect", &error, None))?;
        let source = self.probe.local_addr().map_err(|error| call_failed("getsockname", &error, None))?;
        Ok(source.as_socket().map_or(unspecified(self.is_v6), |address| address.ip()))
    }

    pub fn send(&self, request: &[u8], destination: &SocketAddr) -> io::Result<()> {
        self.socket.send_to(request, &(*destination).into()).map(drop)
    }

    /// The next message that is waiting.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut slices = [IoSliceMut::new(buffer)];
        let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        // The kernel's own time is earlier, and not blurred by when we were woken.
        let stamp = message.cmsgs().ok().and_then(|mut all| {
            all.find_map(|part| match part {
                ControlMessageOwned::ScmTimestampns(time) => Some(time),
                _ => None,
            })
        });
        let now = clock::monotonic();
        let at = stamp.map_or(now, |time| {
            let wall = u64::try_from(time.tv_sec()).unwrap_or_default() * 1_000_000_000
                + u64::try_from(time.tv_nsec()).unwrap_or_default();
            Nanos(now.0.saturating_sub(clock::realtime().saturating_sub(wall)))
        });
        Ok(Received { len: message.bytes, at })
    }
}

impl AsFd for EchoSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for EchoSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

const _: fn() = || {
    // Asking happens on another thread than opening.
    fn is_send<T: Send>() {}
    is_send::<EchoSocket>();
};
