//! Packets in packets: VXLAN (RFC 7348), Geneve (RFC 8926), GRE (RFC 2784, RFC 2890), IP in IP (RFC 2003, RFC 2473).
//!
//! Nothing but its port says that a UDP packet is a tunnel's, and the port is configuration. So the shape decides:
//! for VXLAN all reserved bits zero and the I bit set, for Geneve version 0 and an Ethernet or IP protocol type, and in
//! both cases ARP or IP with an intact first header behind it. A payload that happens to look like that is some 60
//! bits of coincidence.

use super::ip::protocol;
use super::{
    Checksum, Depth, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Layer, Net, Packet, PacketError, Ports, Span, Tunnel, TunnelKind,
    frame, network,
};
use crate::model::frame::LinkLayer;

/// "Transparent Ethernet bridging": an Ethernet frame follows.
const ETHERTYPE_TEB: u16 = 0x6558;

/// The tunnel in a UDP packet, if there is one. `span` starts after the UDP header.
pub(super) fn in_udp(span: Span<'_>, ports: Ports, depth: Depth) -> Option<Tunnel> {
    let depth = depth.in_tunnel();
    vxlan(span, ports, depth).or_else(|| geneve(span, ports, depth))
}

/// The tunnel in an IP packet of one of the protocols that are tunnels by themselves.
pub(super) fn in_ip(kind: u8, span: Span<'_>, depth: Depth) -> Result<Option<Tunnel>, PacketError> {
    let depth = depth.in_tunnel();
    let inner = match kind {
        protocol::IPV4 => network(ETHERTYPE_IPV4, at_start(span), depth)?,
        protocol::IPV6 => network(ETHERTYPE_IPV6, at_start(span), depth)?,
        _ => return gre(span, depth),
    };
    Ok(Some(Tunnel { kind: TunnelKind::IpInIp, vni: None, ports: None, inner: Box::new(inner) }))
}

fn vxlan(span: Span<'_>, ports: Ports, depth: Depth) -> Option<Tunnel> {
    let [flags, r1, r2, r3, v1, v2, v3, r4] = span.array(0)?;
    // The group policy extension and others use further bits; these are not recognised.
    if flags != 0x08 || (r1, r2, r3, r4) != (0, 0, 0, 0) {
        return None;
    }
    let inner = convincing(frame(LinkLayer::Ethernet, span.skip(8).bytes, depth).ok()?)?;
    let vni = Some(u32::from_be_bytes([0, v1, v2, v3]));
    Some(Tunnel { kind: TunnelKind::Vxlan, vni, ports: Some(ports), inner: Box::new(inner) })
}

fn geneve(span: Span<'_>, ports: Ports, depth: Depth) -> Option<Tunnel> {
    let [version, flags, p1, p2, v1, v2, v3, reserved] = span.array(0)?;
    // Two bits of version, six bits of option length in units of 4 bytes; O and C are the only flags.
    if version >> 6 != 0 || flags & 0x3f != 0 || reserved != 0 {
        return None;
    }
    let payload = span.skip(8 + usize::from(version & 0x3f) * 4);
    let inner = match u16::from_be_bytes([p1, p2]) {
        ETHERTYPE_TEB => frame(LinkLayer::Ethernet, payload.bytes, depth).ok()?,
        ethertype @ (ETHERTYPE_IPV4 | ETHERTYPE_IPV6) => network(ethertype, at_start(payload), depth).ok()?,
        _ => return None,
    };
    let inner = convincing(inner)?;
    let vni = Some(u32::from_be_bytes([0, v1, v2, v3]));
    Some(Tunnel { kind: TunnelKind::Geneve, vni, ports: Some(ports), inner: Box::new(inner) })
}

fn gre(span: Span<'_>, depth: Depth) -> Result<Option<Tunnel>, PacketError> {
    let (Some([flags, version]), Some(kind)) = (span.array(0), span.be16(2)) else {
        return Err(span.short(Layer::Gre, 4));
    };
    // Version 1 is PPTP's.
    if version & 7 != 0 {
        return Ok(None);
    }
    let (has_checksum, has_key, has_sequence) = (flags & 0x80 != 0, flags & 0x20 != 0, flags & 0x10 != 0);
    let key_at = 4 + 4 * usize::from(has_checksum);
    let len = key_at + 4 * (usize::from(has_key) + usize::from(has_sequence));
    if span.bytes.len() < len {
        return Err(span.short(Layer::Gre, len));
    }
    let payload = span.skip(len);
    let inner = match kind {
        ETHERTYPE_TEB => frame(LinkLayer::Ethernet, payload.bytes, depth)?,
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => network(kind, at_start(payload), depth)?,
        _ => return Ok(None),
    };
    let vni = if has_key { span.be32(key_at) } else { None };
    Ok(Some(Tunnel { kind: TunnelKind::Gre, vni, ports: None, inner: Box::new(inner) }))
}

/// An inner packet counts its offsets from its own first byte.
fn at_start(span: Span<'_>) -> Span<'_> {
    Span { offset: 0, ..span }
}

/// The packet, if it is one that a shape alone may be believed for.
fn convincing(packet: Packet) -> Option<Packet> {
    let believable = match &packet.net {
        Net::Arp(_) => true,
        Net::Ip(ip) => ip.checksum != Checksum::Bad,
        Net::Other(_) => false,
    };
    believable.then_some(packet)
}
