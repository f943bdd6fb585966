//! ICMP (RFC 792), ICMPv6 (RFC 4443), neighbour discovery (RFC 4861).

use std::net::Ipv6Addr;

use etherparse::checksum::Sum16BitWords;

use super::ip::protocol;
use super::{
    Checksum, Depth, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Echo, Icmp, IcmpMessage, Layer, Packet, PacketError, Span, network,
};
use crate::model::id::MacAddr;

/// Bytes of header before what an error quotes.
const HEADER: usize = 8;

pub(super) fn parse_v4(span: Span<'_>, complete: bool, depth: Depth) -> Result<Icmp, PacketError> {
    let (Some([kind, code]), Some(_)) = (span.array(0), span.be32(4)) else {
        return Err(span.short(Layer::Icmp, HEADER));
    };
    let message = match kind {
        8 => IcmpMessage::EchoRequest(echo(span)),
        0 => IcmpMessage::EchoReply(echo(span)),
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
        3 | 4 | 5 | 11 | 12 => IcmpMessage::Error {
            // RFC 1191 section 4: the lower half of the second word.
            mtu: if (kind, code) == (3, 4) { span.be16(6).map(u32::from) } else { None },
            quoted: quoted(ETHERTYPE_IPV4, span, depth),
        },
        _ => IcmpMessage::Other,
    };
    let checksum = judge(complete, &Sum16BitWords::new().add_slice(span.bytes));
    Ok(Icmp { kind, code, checksum, message })
}

pub(super) fn parse_v6(
    span: Span<'_>,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    complete: bool,
    depth: Depth,
) -> Result<Icmp, PacketError> {
    let (Some([kind, code]), Some(_)) = (span.array(0), span.be32(4)) else {
        return Err(span.short(Layer::Icmpv6, HEADER));
    };
    let message = match kind {
        128 => IcmpMessage::EchoRequest(echo(span)),
        129 => IcmpMessage::EchoReply(echo(span)),
        // RFC 4443: destination unreachable, packet too big, time exceeded, parameter problem; 0 to 127 are errors.
        1..=4 => IcmpMessage::Error {
            mtu: if kind == 2 { span.be32(4) } else { None },
            quoted: quoted(ETHERTYPE_IPV6, span, depth),
        },
        135 | 136 => {
            let Some(target) = span.array::<16>(HEADER) else { return Err(span.short(Layer::Icmpv6, 24)) };
            let target = Ipv6Addr::from(target);
            let flags = span.array::<1>(4).map_or(0, |[flags]| flags);
            if kind == 135 {
                IcmpMessage::NeighbourSolicitation { target, lladdr: lladdr(span, 1) }
            } else {
                IcmpMessage::NeighbourAdvertisement {
                    target,
                    lladdr: lladdr(span, 2),
                    router: flags & 0x80 != 0,
                    solicited: flags & 0x40 != 0,
                    overrides: flags & 0x20 != 0,
                }
            }
        }
        _ => IcmpMessage::Other,
    };
    // The pseudo header of RFC 8200 section 8.1.
    let mut sum = Sum16BitWords::new();
    sum = sum.add_16bytes(src.octets());
    sum = sum.add_16bytes(dst.octets());
    sum = sum.add_4bytes((span.bytes.len() as u32).to_be_bytes());
    sum = sum.add_2bytes([0, protocol::ICMPV6]);
    let checksum = judge(complete, &sum.add_slice(span.bytes));
    Ok(Icmp { kind, code, checksum, message })
}

fn judge(complete: bool, sum: &Sum16BitWords) -> Checksum {
    match (complete, sum.ones_complement()) {
        (false, _) => Checksum::Unknown,
        (true, 0) => Checksum::Good,
        (true, _) => Checksum::Bad,
    }
}

/// The caller has made sure that the header is there.
fn echo(span: Span<'_>) -> Echo {
    Echo { id: span.be16(4).unwrap_or_default(), seq: span.be16(6).unwrap_or_default(), cookie: span.array(HEADER + 8) }
}

/// The packet that an error is about. A quote in a quote is not read: errors are not sent about errors.
fn quoted(ethertype: u16, span: Span<'_>, depth: Depth) -> Option<Box<Packet>> {
    if !depth.quote {
        return None;
    }
    let quote = Span { offset: 0, ..span.skip(HEADER) };
    network(ethertype, quote, depth.in_quote()).ok().map(Box::new)
}

/// The link-layer address option of this type (RFC 4861 section 4.6.1): type, length in units of 8 bytes, address.
fn lladdr(span: Span<'_>, wanted: u8) -> Option<MacAddr> {
    let mut options = span.skip(24);
    while let Some([kind, units]) = options.array(0) {
        if units == 0 {
            return None;
        }
        if kind == wanted && units == 1 {
            return options.array(2).map(MacAddr);
        }
        options = options.skip(usize::from(units) * 8);
    }
    None
}
