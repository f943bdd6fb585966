//! The socket's error queue (ip(7), IP_RECVERR): ICMP errors with their sender, and the kernel's own refusals.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, recvmsg};

use crate::model::recording::PingError;

/// One entry of the queue, and the packet that it is about.
pub(in crate::collect) struct Queued {
    error: libc::sock_extended_err,
    offender: Option<IpAddr>,
    /// Our message from its ICMP header on.
    message: Vec<u8>,
    is_v6: bool,
}

/// The oldest entry, if there is one.
pub(in crate::collect) fn next(socket: &impl AsRawFd, destination: &SocketAddr) -> Option<Queued> {
    if destination.is_ipv6() { read::<SockaddrIn6, _>(socket, true) } else { read::<SockaddrIn, _>(socket, false) }
}

fn read<S: SockaddrLike, F: AsRawFd>(socket: &F, is_v6: bool) -> Option<Queued> {
    let mut buffer = [0; 256];
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6, nix::sys::time::TimeSpec);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<S>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags).ok()?;
    let len = received.bytes;
    let (error, offender) = received.cmsgs().ok()?.find_map(|part| match part {
        ControlMessageOwned::Ipv4RecvErr(error, from) => {
            Some((error, from.map(|from| IpAddr::from(u32::from_be(from.sin_addr.s_addr).to_be_bytes()))))
        }
        ControlMessageOwned::Ipv6RecvErr(error, from) => {
            Some((error, from.map(|from| IpAddr::from(from.sin6_addr.s6_addr))))
        }
        _ => None,
    })?;
    // The address is there but empty when nobody sent the error.
    let offender = offender.filter(|address| !address.is_unspecified());
    let message = buffer.get(..len)?.to_vec();
    Some(Queued { error, offender, message, is_v6 })
}

impl Queued {
    /// The error, if it is about one of our requests: a raw socket gets everybody's.
    pub fn about(self, icmp_id: u16) -> Option<PingError> {
        let mut error = self.of_own();
        let seq = match self.message.first_chunk::<8>() {
            Some([_, _, _, _, a, b, c, d]) => {
                if u16::from_be_bytes([*a, *b]) != icmp_id {
                    return None;
                }
                Some(u16::from_be_bytes([*c, *d]))
            }
            // Local errors may come without the packet.
            None if error.icmp.is_none() => None,
            None => return None,
        };
        if let (Some(from), Some(seq), Some(_)) = (error.offender, seq, error.icmp) {
            error.text = format!("From {from} icmp_seq={seq} {}", error.text);
        }
        error.seq = seq;
        Some(error)
    }

    /// The error, on a socket that gets no others.
    pub fn of_own(&self) -> PingError {
        let errno = i32::try_from(self.error.ee_errno).ok();
        let (call, icmp, text) = match self.error.ee_origin {
            libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => {
                let icmp = (self.error.ee_type, self.error.ee_code);
                ("icmp", Some(icmp), words(self.is_v6, icmp, self.error.ee_info))
            }
            _ if errno == Some(libc::EMSGSIZE) => {
                ("sendmsg", None, format!("local error: message too long, mtu={}", self.error.ee_info))
            }
            _ => ("sendmsg", None, format!("local error: {}", Errno::from_raw(errno.unwrap_or_default()).desc())),
        };
        PingError { seq: None, call: call.to_owned(), errno, icmp, offender: self.offender, text }
    }
}

/// What ping(8) prints for an ICMP error.
fn words(is_v6: bool, (kind, code): (u8, u8), info: u32) -> String {
    let fixed = if is_v6 {
        match (kind, code) {
            (1, 0) => "Destination unreachable: No route",
            (1, 1) => "Destination unreachable: Administratively prohibited",
            (1, 2) => "Destination unreachable: Beyond scope of source address",
            (1, 3) => "Destination unreachable: Address unreachable",
            (1, 4) => "Destination unreachable: Port unreachable",
            (1, 5) => "Destination unreachable: Source address failed ingress/egress policy",
            (1, 6) => "Destination unreachable: Reject route to destination",
            (2, _) => return format!("Packet too big: mtu={info}"),
            (3, 0) => "Time exceeded: Hop limit",
            (3, 1) => "Time exceeded: Defragmentation failure",
            (4, _) => "Parameter problem",
            _ => return format!("ICMPv6 error type {kind} code {code}"),
        }
    } else {
        match (kind, code) {
            (3, 0) => "Destination Net Unreachable",
            (3, 1) => "Destination Host Unreachable",
            (3, 2) => "Destination Protocol Unreachable",
            (3, 3) => "Destination Port Unreachable",
            (3, 4) => return format!("Frag needed and DF set (mtu = {info})"),
            (3, 5) => "Source Route Failed",
            (3, 6) => "Destination Net Unknown",
            (3, 7) => "Destination Host Unknown",
            (3, 9) => "Destination Net Prohibited",
            (3, 10) => "Destination Host Prohibited",
            (3, 13) => "Packet filtered",
            (3, _) => return format!("Dest Unreachable, Bad Code: {code}"),
            (4, _) => "Source Quench",
            (5, _) => "Redirect",
            (11, 0) => "Time to live exceeded",
            (11, 1) => "Frag reassembly time exceeded",
            (12, _) => "Parameter problem",
            _ => return format!("ICMP error type {kind} code {code}"),
        }
    };
    fixed.to_owned()
}
