//! The socket that takes what comes to a TCP or UDP port.
//!
//! net/ipv4/inet_hashtables.c `__inet_lookup_listener`, net/ipv4/udp.c `__udp4_lib_lookup`, and their IPv6 siblings: a socket
//! fits by port, by local address, by address family (an IPv6 socket takes IPv4 unless IPV6_V6ONLY is set) and by device
//! (`inet_sk_bound_dev_eq`). Which of several fitting sockets the kernel prefers does not matter here.

use std::net::IpAddr;

use crate::model::exchange::{Decision, Place};
use crate::model::id::Device;
use crate::model::snapshot::{Netns, Socket};

use super::fib;
use super::frame::{Carries, Packet, Trail};
use super::walk::Walk;

impl Walk<'_> {
    /// Whether a socket takes the request, and has room for it.
    pub fn check_port(&self, trail: &mut Trail, device: Device, packet: &Packet) {
        let (port, protocol) = match packet.carries {
            Carries::Tcp(_, port, false) => (port, 6),
            Carries::Udp(_, port) if self.leg == crate::model::exchange::Leg::Forward => (port, 17),
            _ => return,
        };
        let netns = self.netns(device.netns);
        // Without the list of sockets nothing can be said of them.
        if netns.sockets_of != Some(protocol) {
            return;
        }
        let place = || {
            let function = match (protocol, packet.dst.is_ipv6()) {
                (6, false) => "tcp_v4_rcv",
                (6, true) => "tcp_v6_rcv",
                (_, false) => "__udp4_lib_rcv",
                (_, true) => "__udp6_lib_rcv",
            };
            Place::at(device, function)
        };
        let there: Vec<&Socket> =
            netns.sockets.iter().filter(|socket| socket.protocol == protocol && socket.port == port).collect();
        let fitting: Vec<&Socket> =
            there.iter().copied().filter(|socket| takes(netns, socket, device, packet.dst, protocol)).collect();
        if fitting.is_empty() {
            let elsewhere = there.iter().map(|socket| socket.local).find(|local| !local.is_unspecified());
            trail.block(place(), Decision::PortClosed { port, elsewhere });
        } else if fitting.iter().all(|socket| is_full(socket)) {
            trail.block(place(), Decision::SocketOverflow);
        }
    }
}

/// Whether a socket on the port takes what comes for this address by this device.
pub fn takes(netns: &Netns, socket: &Socket, device: Device, dst: IpAddr, protocol: u8) -> bool {
    let by_address = match (socket.local, dst) {
        (IpAddr::V6(local), IpAddr::V4(dst)) => {
            local.is_unspecified() && socket.v6only != Some(true) || local.to_ipv4_mapped() == Some(dst)
        }
        (local, dst) if local.is_ipv4() == dst.is_ipv4() => local.is_unspecified() || local == dst,
        _ => false,
    };
    let vrf = fib::vrf_of(netns, Some(device.ifindex)).map(|(vrf, _)| vrf);
    let key = if protocol == 6 { "net.ipv4.tcp_l3mdev_accept" } else { "net.ipv4.udp_l3mdev_accept" };
    let by_device = match socket.device {
        Some(bound) => bound == device.ifindex || Some(bound) == vrf,
        None => vrf.is_none() || netns.sysctl(key) == Some(1),
    };
    by_address && by_device
}

/// `sk_acceptq_is_full`: a listener drops SYNs while more connections wait than its backlog. How full the buffer of a datagram
/// socket is changes from one moment to the next.
fn is_full(socket: &Socket) -> bool {
    socket.listening && socket.rx_limit.is_some_and(|limit| socket.rx_queue > limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{IfIndex, NetnsId};

    fn socket(local: &str) -> Socket {
        Socket {
            protocol: 6,
            local: local.parse().unwrap(),
            port: 80,
            device: None,
            listening: true,
            rx_queue: 0,
            rx_limit: Some(1),
            drops: 0,
            process: None,
            v6only: None,
        }
    }

    fn takes_it(socket: &Socket, dst: &str) -> bool {
        let device = Device::new(NetnsId(0), IfIndex(2));
        takes(&Netns::default(), socket, device, dst.parse().unwrap(), 6)
    }

    #[test]
    fn a_socket_takes_what_is_for_its_address() {
        for (local, dst, fits) in [
            ("0.0.0.0", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("127.0.0.1", "10.0.0.1", false),
            ("0.0.0.0", "fd00::1", false),
            ("::", "fd00::1", true),
            ("::", "10.0.0.1", true),
            ("::1", "10.0.0.1", false),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
        ] {
            assert_eq!(takes_it(&socket(local), dst), fits, "{local} {dst}");
        }
        assert!(!takes_it(&Socket { v6only: Some(true), ..socket("::") }, "10.0.0.1"));
    }

    #[test]
    fn a_bound_socket_takes_what_comes_by_its_device() {
        assert!(takes_it(&Socket { device: Some(IfIndex(2)), ..socket("0.0.0.0") }, "10.0.0.1"));
        assert!(!takes_it(&Socket { device: Some(IfIndex(3)), ..socket("0.0.0.0") }, "10.0.0.1"));
    }

    #[test]
    fn a_listener_is_full_when_more_wait_than_its_backlog() {
        assert!(!is_full(&Socket { rx_queue: 1, ..socket("0.0.0.0") }));
        assert!(is_full(&Socket { rx_queue: 2, ..socket("0.0.0.0") }));
    }
}
