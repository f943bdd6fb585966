//! IPv4 (RFC 791) and IPv6 with its extension headers (RFC 8200 section 4).

use std::net::IpAddr;

use etherparse::err::ipv4::{HeaderError, HeaderSliceError};
use etherparse::{Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice};

use super::{Checksum, Depth, Fragment, Ip, Layer, Net, PacketError, Payload, Span, Udp, icmp, transport, tunnel};

/// Protocol numbers (IANA).
pub(super) mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IPV4: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const ESP: u8 = 50;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION: u8 = 60;
    pub const MOBILITY: u8 = 135;
}

/// A chain of more extension headers than this is not followed.
const MAX_EXTENSIONS: usize = 16;

type Parsed = Result<(Net, Option<PacketError>), PacketError>;

pub(super) fn parse_v4(span: Span<'_>, depth: Depth) -> Parsed {
    let header = Ipv4HeaderSlice::from_slice(span.bytes).map_err(|error| match error {
        HeaderSliceError::Len(error) => span.short(Layer::Ipv4, error.required_len),
        HeaderSliceError::Content(HeaderError::UnexpectedVersion { version_number }) => {
            span.malformed(Layer::Ipv4, "version", version_number.into())
        }
        HeaderSliceError::Content(HeaderError::HeaderLengthSmallerThanHeader { ihl }) => {
            span.malformed(Layer::Ipv4, "header length", ihl.into())
        }
    })?;
    let header_len = header.slice().len();
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(header.slice()).ones_complement();
    let offset = u32::from(header.fragments_offset().value()) * 8;
    let more = header.more_fragments();
    let ip = Ip {
        src: IpAddr::V4(header.source_addr()),
        dst: IpAddr::V4(header.destination_addr()),
        ttl: header.ttl(),
        tos: header.slice()[1],
        protocol: header.protocol().0,
        len: header.total_len().into(),
        dont_fragment: header.dont_fragment(),
        fragment: (offset != 0 || more).then_some(Fragment { id: header.identification().into(), offset, more }),
        checksum: if sum == 0 { Checksum::Good } else { Checksum::Bad },
        payload: Payload::Other,
    };
    // Bytes after the packet's own length are padding of a short Ethernet frame. Large packets that were
    // merged (BIG TCP) say 0.
    let whole = usize::from(header.total_len());
    let payload = if whole < header_len { span } else { span.keep(whole) }.skip(header_len);
    let complete = whole >= header_len && span.bytes.len() >= whole;
    Ok(carry(ip, payload, complete, depth))
}

pub(super) fn parse_v6(span: Span<'_>, depth: Depth) -> Parsed {
    let Some(first) = span.bytes.first() else { return Err(span.short(Layer::Ipv6, 40)) };
    if first >> 4 != 6 {
        return Err(span.malformed(Layer::Ipv6, "version", u32::from(first >> 4)));
    }
    let header = Ipv6HeaderSlice::from_slice(span.bytes).map_err(|_| span.short(Layer::Ipv6, 40))?;
    let payload_len = usize::from(header.payload_length());
    let mut rest = span.keep(40 + payload_len).skip(40);
    let complete = payload_len > 0 && span.bytes.len() >= 40 + payload_len;
    let mut ip = Ip {
        src: IpAddr::V6(header.source_addr()),
        dst: IpAddr::V6(header.destination_addr()),
        ttl: header.hop_limit(),
        tos: header.traffic_class(),
        protocol: header.next_header().0,
        len: 40 + u32::from(header.payload_length()),
        dont_fragment: true,
        fragment: None,
        checksum: Checksum::Unknown,
        payload: Payload::Other,
    };
    for _ in 0..MAX_EXTENSIONS {
        let needed = match ip.protocol {
            protocol::FRAGMENT => {
                let Ok(part) = Ipv6FragmentHeaderSlice::from_slice(rest.bytes) else {
                    return Ok((Net::Ip(ip), Some(rest.short(Layer::Ipv6Extension, 8))));
                };
                ip.protocol = part.next_header().0;
                ip.fragment = Some(Fragment {
                    id: part.identification(),
                    offset: u32::from(part.fragment_offset().value()) * 8,
                    more: part.more_fragments(),
                });
                rest = rest.skip(8);
                // A packet in one fragment ("atomic", RFC 6946) is not a part of anything.
                if ip.fragment.is_some_and(|part| part.offset == 0 && !part.more) {
                    ip.fragment = None;
                }
                // What follows a later fragment's header is payload, whatever the next header says.
                if ip.fragment.is_some_and(|part| part.offset > 0) {
                    break;
                }
                continue;
            }
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION | protocol::MOBILITY => {
                rest.array(1).map_or(8, |[units]: [u8; 1]| (usize::from(units) + 1) * 8)
            }
            // RFC 4302 section 2.2: in units of 4 bytes, minus 2.
            protocol::AUTHENTICATION => rest.array(1).map_or(8, |[units]: [u8; 1]| (usize::from(units) + 2) * 4),
            _ => break,
        };
        let (Some([next]), true) = (rest.array(0), rest.bytes.len() >= needed) else {
            return Ok((Net::Ip(ip), Some(rest.short(Layer::Ipv6Extension, needed))));
        };
        ip.protocol = next;
        rest = rest.skip(needed);
    }
    Ok(carry(ip, rest, complete, depth))
}

/// Reads what the IP header announces. `complete` says whether all bytes of the IP packet are here.
fn carry(mut ip: Ip, span: Span<'_>, complete: bool, depth: Depth) -> (Net, Option<PacketError>) {
    if ip.fragment.is_some_and(|part| part.offset > 0) {
        ip.payload = Payload::LaterFragment;
        return (Net::Ip(ip), None);
    }
    let complete = complete && ip.fragment.is_none();
    let payload = match (ip.protocol, ip.src, ip.dst) {
        (protocol::ICMP, IpAddr::V4(_), _) => icmp::parse_v4(span, complete, depth).map(Payload::Icmp),
        (protocol::ICMPV6, IpAddr::V6(src), IpAddr::V6(dst)) => {
            icmp::parse_v6(span, src, dst, complete, depth).map(Payload::Icmp)
        }
        (protocol::TCP, ..) => transport::parse_tcp(span).map(Payload::Tcp),
        (protocol::UDP, ..) => transport::parse_udp(span).map(|ports| {
            let tunnel = if depth.tunnel { tunnel::in_udp(span.skip(8), ports, depth) } else { None };
            tunnel.map_or(Payload::Udp(Udp { ports, cookie: span.array(8) }), Payload::Tunnel)
        }),
        (protocol::ESP, ..) => transport::parse_esp(span),
        (protocol::IPV4 | protocol::IPV6 | protocol::GRE, ..) if depth.tunnel => {
            tunnel::in_ip(ip.protocol, span, depth).map(|tunnel| tunnel.map_or(Payload::Other, Payload::Tunnel))
        }
        _ => Ok(Payload::Other),
    };
    match payload {
        Ok(payload) => {
            ip.payload = payload;
            (Net::Ip(ip), None)
        }
        Err(cut) => (Net::Ip(ip), Some(cut)),
    }
}
