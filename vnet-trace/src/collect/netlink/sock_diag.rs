//! Sockets that take what comes to a TCP or UDP port (NETLINK_SOCK_DIAG, include/uapi/linux/inet_diag.h). Unlike /proc it
//! tells the device that a socket is bound to, the length that a listener's queue may have, and whether an IPv6 socket
//! takes IPv4 as well.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::attribute::{Malformed, u32_at};
use super::{Channel, Dump, Message, NetlinkError, Request, parts};
use crate::model::id::IfIndex;
use crate::model::snapshot::Socket;

/// NETLINK_SOCK_DIAG.
pub const PROTOCOL: isize = 4;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_SKMEMINFO: u16 = 7;
const INET_DIAG_SKV6ONLY: u16 = 11;
/// Positions in the array of INET_DIAG_SKMEMINFO.
const SK_MEMINFO_RCVBUF: usize = 1;
const SK_MEMINFO_DROPS: usize = 8;
/// Sockets kept; a namespace with more has none worth listing.
const KEPT: usize = 4096;

/// TCP_CLOSE (for UDP: not connected) and TCP_LISTEN.
const CLOSE: u32 = 7;
const LISTEN: u32 = 10;

/// Listening TCP sockets (6) or UDP sockets (17) that take datagrams from everybody, of one address family.
pub fn read(channel: &mut Channel, protocol: u8, is_v6: bool) -> Result<Dump<Socket>, NetlinkError> {
    let family = if is_v6 { nix::libc::AF_INET6 } else { nix::libc::AF_INET } as u8;
    let state = if protocol == 6 { LISTEN } else { CLOSE };
    let mut request = [0; 56];
    request[..3].copy_from_slice(&[family, protocol, 1 << (INET_DIAG_SKMEMINFO - 1)]);
    request[4..8].copy_from_slice(&(1_u32 << state).to_ne_bytes());
    let mut kept = 0;
    channel.dump(&Request::new(SOCK_DIAG_BY_FAMILY, &request), |message| {
        let socket = parse(message, protocol)?.filter(|socket| kept < KEPT && socket.port != 0);
        kept += usize::from(socket.is_some());
        Ok(socket)
    })
}

/// One struct inet_diag_msg.
pub fn parse(message: Message<'_>, protocol: u8) -> Result<Option<Socket>, Malformed> {
    if message.kind != SOCK_DIAG_BY_FAMILY {
        return Ok(None);
    }
    let (header, attributes) = parts::<72>("struct inet_diag_msg", message)?;
    let [family, state, ..] = *header;
    let address = <[u8; 16]>::try_from(&header[8..24]).unwrap_or_default();
    let is_v6 = i32::from(family) == nix::libc::AF_INET6;
    let local = if is_v6 {
        IpAddr::V6(Ipv6Addr::from(address))
    } else {
        let [a, b, c, d, ..] = address;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    let memory = |index: usize| {
        let info = attributes.find(INET_DIAG_SKMEMINFO)?;
        info.value.get(index * 4..index * 4 + 4)?.try_into().ok().map(u32::from_ne_bytes)
    };
    let device = u32_at(header, 40);
    let is_tcp = protocol == 6;
    Ok(Some(Socket {
        protocol,
        local,
        port: u16::from_be_bytes([header[4], header[5]]),
        device: (device != 0).then_some(IfIndex(device)),
        listening: is_tcp && u32::from(state) == LISTEN,
        rx_queue: u32_at(header, 56),
        // A listener's "send queue" is what its accept queue may hold.
        rx_limit: if is_tcp { Some(u32_at(header, 60)) } else { memory(SK_MEMINFO_RCVBUF) },
        drops: memory(SK_MEMINFO_DROPS).map_or(0, u64::from),
        process: None,
        v6only: attributes.find(INET_DIAG_SKV6ONLY).and_then(|only| only.bool().ok()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's word on a socket of ours.
    #[test]
    fn finds_a_listener_with_the_length_of_its_queue() {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(7).unwrap();
        let port = listener.local_addr().unwrap().as_socket().unwrap().port();
        let sockets = Channel::open(PROTOCOL).and_then(|mut channel| read(&mut channel, 6, false)).unwrap().items;
        let found = sockets.iter().find(|socket| socket.port == port).expect("the listener");
        assert_eq!(
            (found.local, found.listening, found.rx_queue, found.rx_limit),
            ([127, 0, 0, 1].into(), true, 0, Some(7))
        );
    }

    #[test]
    fn finds_a_datagram_socket_and_whether_it_takes_ipv4() {
        let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None).unwrap();
        socket.set_only_v6(true).unwrap();
        socket.bind(&std::net::SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        let sockets = Channel::open(PROTOCOL).and_then(|mut channel| read(&mut channel, 17, true)).unwrap().items;
        let found = sockets.iter().find(|socket| socket.port == port).expect("the socket");
        assert_eq!((found.v6only, found.listening), (Some(true), false));
    }

    #[test]
    fn garbage_is_no_socket() {
        for length in 0..72 {
            let message = Message { kind: SOCK_DIAG_BY_FAMILY, flags: 0, sequence: 0, payload: &vec![0; length] };
            assert!(parse(message, 6).is_err());
        }
    }
}
