//! Packets with other addresses and another payload, so that they can be shown to anybody.
//!
//! [`frame`] and [`network`] change bytes in place: every address that a header holds (Ethernet, ARP, IP, neighbour discovery, what an
//! ICMP error quotes, what a tunnel carries), and all payload. What they do not understand becomes payload. Lengths, ports,
//! identifications and sequence numbers stay, so packets are told apart as before; a checksum that was right
//! is right again, one that was wrong stays wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::identity::cookie;
use super::skim;
use super::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::model::frame::LinkLayer;
use crate::model::id::MacAddr;

/// What addresses and payload become.
pub trait Veil {
    /// Another address for this one, always the same.
    fn ip(&self, address: IpAddr) -> IpAddr;
    /// The same of link-layer addresses.
    fn mac(&self, mac: MacAddr) -> MacAddr;
    /// A number that the payload with this beginning leads to, and that says nothing about it.
    fn seed(&self, beginning: &[u8]) -> u64;
}

/// Bytes at the beginning of a payload that decide what it becomes: those that [`crate::follow`]'s names are made of.
const BEGINNING: usize = 32;

/// Nesting that is followed: a tunnel, and in it an error with its quote.
const DEEPEST: u8 = 3;

/// Changes a captured frame.
pub fn frame(link: LinkLayer, bytes: &mut [u8], veil: &dyn Veil) {
    match link {
        LinkLayer::Ethernet => ethernet(bytes, veil, DEEPEST),
        LinkLayer::Ip => network(bytes, veil),
    }
}

/// Changes bytes from a network header on.
pub fn network(bytes: &mut [u8], veil: &dyn Veil) {
    let ethertype = match bytes {
        [first, ..] if *first >> 4 == 4 => ETHERTYPE_IPV4,
        [first, ..] if *first >> 4 == 6 => ETHERTYPE_IPV6,
        [0, 1, ..] => ETHERTYPE_ARP,
        _ => 0,
    };
    layer3(ethertype, bytes, veil, DEEPEST);
}

fn ethernet(bytes: &mut [u8], veil: &dyn Veil, deep: u8) {
    let Some((head, mut rest)) = bytes.split_first_chunk_mut::<14>() else { return payload(bytes, veil) };
    let target = solicited(head, rest);
    mac_at(head, 0, veil);
    mac_at(head, 6, veil);
    let mut ethertype = u16::from_be_bytes([head[12], head[13]]);
    while matches!(ethertype, 0x8100 | 0x88a8 | 0x9100) {
        if rest.len() < 4 {
            return payload(rest, veil);
        }
        ethertype = u16::from_be_bytes([rest[2], rest[3]]);
        rest = &mut rest[4..];
    }
    // The group that a solicitation goes to is made of the address that it asks for.
    if let Some(IpAddr::V6(target)) = target.map(|target| veil.ip(target)) {
        let low = target.octets();
        head[3..6].copy_from_slice(&low[13..]);
    }
    layer3(ethertype, rest, veil, deep);
}

/// The address that a neighbour solicitation asks for, if that is what the frame is.
fn solicited(head: &[u8; 14], rest: &[u8]) -> Option<IpAddr> {
    let group = head.starts_with(&[0x33, 0x33, 0xff]);
    let whole = skim::network(rest);
    let ip = whole.ip().filter(|_| group && whole.outer.is_none())?;
    match ip.transport {
        skim::Transport::Icmp { kind: 135, .. } => Some(IpAddr::from(*ip.payload.first_chunk::<16>()?)),
        _ => None,
    }
}

fn layer3(ethertype: u16, bytes: &mut [u8], veil: &dyn Veil, deep: u8) {
    match ethertype {
        ETHERTYPE_ARP => arp(bytes, veil),
        ETHERTYPE_IPV4 => ipv4(bytes, veil, deep),
        ETHERTYPE_IPV6 => ipv6(bytes, veil, deep),
        _ => payload(bytes, veil),
    }
}

fn arp(bytes: &mut [u8], veil: &dyn Veil) {
    let Some((head, rest)) = bytes.split_first_chunk_mut::<8>() else { return payload(bytes, veil) };
    if head[2..6] != [8, 0, 6, 4] {
        return payload(rest, veil);
    }
    mac_at(rest, 0, veil);
    v4_at(rest, 6, veil);
    mac_at(rest, 10, veil);
    v4_at(rest, 16, veil);
    if rest.len() < 20 {
        return payload(rest, veil);
    }
    // What follows is padding.
    rest[20..].fill(0);
}

fn ipv4(bytes: &mut [u8], veil: &dyn Veil, deep: u8) {
    let header = bytes.first().map_or(0, |first| usize::from(first & 15) * 4);
    if header < 20 || bytes.len() < header {
        return payload(bytes, veil);
    }
    let whole = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    let later = u16::from_be_bytes([bytes[6], bytes[7]]) & 0x1fff != 0;
    let (head, rest) = bytes.split_at_mut(header);
    let right = sum(head, 0) == 0xffff;
    v4_at(head, 12, veil);
    v4_at(head, 16, veil);
    // Options may hold addresses (record route).
    head[20..].fill(1);
    let complete = whole >= header && rest.len() + header >= whole;
    let carried = if whole < header { rest.len() } else { (whole - header).min(rest.len()) };
    let (rest, padding) = rest.split_at_mut(carried);
    padding.fill(0);
    if later {
        payload(rest, veil);
    } else {
        let fragment = head[6] & 0x20 != 0;
        transport(head[9], rest, &Pseudo::V4, complete && !fragment, veil, deep);
    }
    mend(head, 10, 0, right);
}

fn ipv6(bytes: &mut [u8], veil: &dyn Veil, deep: u8) {
    let Some((head, rest)) = bytes.split_first_chunk_mut::<40>() else { return payload(bytes, veil) };
    let carried = usize::from(u16::from_be_bytes([head[4], head[5]]));
    let address =
        |bytes: &[u8], at: usize| -> [u8; 16] { bytes[at..at + 16].first_chunk().copied().unwrap_or_default() };
    let before = (address(head, 8), address(head, 24));
    v6_at(head, 8, veil);
    v6_at(head, 24, veil);
    let complete = carried > 0 && rest.len() >= carried;
    let (mut rest, padding) = rest.split_at_mut(carried.min(rest.len()));
    padding.fill(0);
    let mut protocol = head[6];
    let mut fragment = false;
    for _ in 0..16 {
        let size = match (protocol, &*rest) {
            (44, [_, _, _, flags, ..]) => {
                fragment = true;
                if rest[2] != 0 || flags & 0xf8 != 0 {
                    let (_, after) = rest.split_at_mut(8.min(rest.len()));
                    return payload(after, veil);
                }
                8
            }
            (0 | 43 | 60 | 135, [_, units, ..]) => (usize::from(*units) + 1) * 8,
            (51, [_, units, ..]) => (usize::from(*units) + 2) * 4,
            _ => break,
        };
        if rest.len() < size {
            return payload(rest, veil);
        }
        let (extension, after) = rest.split_at_mut(size);
        // A routing header lists addresses.
        if protocol == 43 {
            extension[8.min(size)..].fill(0);
        }
        protocol = extension[0];
        rest = after;
    }
    // The group that a solicitation goes to is made of the address that it asks for.
    let asks = protocol == 58 && rest.first() == Some(&135);
    if asks && before.1.starts_with(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff]) && rest.len() >= 24 {
        let target = veil.ip(IpAddr::from(address(rest, 8)));
        if let IpAddr::V6(target) = target {
            head[37..40].copy_from_slice(&target.octets()[13..]);
        }
    }
    let after = (address(head, 8), address(head, 24));
    transport(protocol, rest, &Pseudo::V6 { before, after }, complete && !fragment, veil, deep);
}

/// What ICMPv6's checksum covers beside the message.
enum Pseudo {
    V4,
    V6 { before: ([u8; 16], [u8; 16]), after: ([u8; 16], [u8; 16]) },
}

impl Pseudo {
    fn sum(ends: &([u8; 16], [u8; 16]), len: usize) -> u32 {
        u32::from(sum(&ends.0, 0)) + u32::from(sum(&ends.1, 0)) + len as u32 + 58
    }
}

fn transport(protocol: u8, bytes: &mut [u8], pseudo: &Pseudo, complete: bool, veil: &dyn Veil, deep: u8) {
    let inner = deep.saturating_sub(1);
    match (protocol, pseudo) {
        (1, Pseudo::V4) | (58, Pseudo::V6 { .. }) if bytes.len() >= 8 => {
            let len = bytes.len();
            let (old, new) = match pseudo {
                Pseudo::V4 => (0, 0),
                Pseudo::V6 { before, after } => (Pseudo::sum(before, len), Pseudo::sum(after, len)),
            };
            let right = complete && sum(bytes, old) == 0xffff;
            icmp(protocol, bytes, veil, inner);
            mend(bytes, 2, new, right);
        }
        (6, _) if bytes.len() >= 20 => {
            let header = (usize::from(bytes[12] >> 4) * 4).clamp(20, bytes.len());
            let (head, rest) = bytes.split_at_mut(header);
            head[16..18].fill(0);
            // The options tell of clocks and of what the sender can do; none of them matters.
            head[20..].fill(1);
            payload(rest, veil);
        }
        (17, _) if bytes.len() >= 8 => {
            let (head, rest) = bytes.split_at_mut(8);
            head[6..8].fill(0);
            match (rest.split_first_chunk_mut::<8>(), deep) {
                (Some(([8, 0, 0, 0, _, _, _, 0], inside)), 1..) => ethernet(inside, veil, inner),
                (Some(([version, flags, p1, p2, _, _, _, 0], inside)), 1..)
                    if *version >> 6 == 0 && flags.trailing_zeros() >= 6 =>
                {
                    let options = (usize::from(*version & 0x3f) * 4).min(inside.len());
                    let kind = u16::from_be_bytes([*p1, *p2]);
                    let (options, inside) = inside.split_at_mut(options);
                    options.fill(0);
                    behind(kind, inside, veil, inner);
                }
                _ => payload(rest, veil),
            }
        }
        (4, _) if deep > 0 => ipv4(bytes, veil, inner),
        (41, _) if deep > 0 => ipv6(bytes, veil, inner),
        (47, _) if deep > 0 && bytes.len() >= 4 => {
            let flags = bytes[0];
            let len = 4 + 4
                * (usize::from(flags & 0x80 != 0) + usize::from(flags & 0x20 != 0) + usize::from(flags & 0x10 != 0));
            let kind = u16::from_be_bytes([bytes[2], bytes[3]]);
            let (_, inside) = bytes.split_at_mut(len.min(bytes.len()));
            behind(kind, inside, veil, inner);
        }
        // ESP: the index and the number stay.
        (50, _) if bytes.len() >= 8 => payload(&mut bytes[8..], veil),
        _ => payload(bytes, veil),
    }
}

/// What a tunnel header announces.
fn behind(kind: u16, bytes: &mut [u8], veil: &dyn Veil, deep: u8) {
    match kind {
        0x6558 => ethernet(bytes, veil, deep),
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => layer3(kind, bytes, veil, deep),
        _ => payload(bytes, veil),
    }
}

fn icmp(protocol: u8, bytes: &mut [u8], veil: &dyn Veil, deep: u8) {
    let (head, rest) = bytes.split_at_mut(8);
    let id = u16::from_be_bytes([head[4], head[5]]);
    match (protocol, head[0]) {
        (1, 0 | 8) | (58, 128 | 129) => {
            // Our own mark is no secret, and packets are known by it.
            let marked = rest.get(8..16) == Some(&cookie(id));
            payload(rest, veil);
            if marked {
                rest[8..16].copy_from_slice(&cookie(id));
            }
        }
        (1, 3 | 4 | 5 | 11 | 12) => {
            if head[0] == 5 {
                // A redirect names the router.
                v4_at(head, 4, veil);
            }
            if deep > 0 { ipv4(rest, veil, deep) } else { payload(rest, veil) }
        }
        (58, 1..=4) => {
            if deep > 0 {
                ipv6(rest, veil, deep);
            } else {
                payload(rest, veil);
            }
        }
        (58, 135 | 136) if rest.len() >= 16 => {
            v6_at(rest, 0, veil);
            options(&mut rest[16..], veil);
        }
        (58, 133) => options(rest, veil),
        _ => payload(rest, veil),
    }
}

/// Options of neighbour discovery: link-layer addresses stay such, all else goes.
fn options(mut bytes: &mut [u8], veil: &dyn Veil) {
    while let [kind, units, ..] = *bytes {
        let size = usize::from(units) * 8;
        if size == 0 || size > bytes.len() {
            break;
        }
        let (option, after) = bytes.split_at_mut(size);
        match kind {
            1 | 2 if units == 1 => mac_at(option, 2, veil),
            _ => option[2..].fill(0),
        }
        bytes = after;
    }
    bytes.fill(0);
}

/// What follows all headers becomes noise that its beginning decides.
fn payload(bytes: &mut [u8], veil: &dyn Veil) {
    let mut state = veil.seed(&bytes[..bytes.len().min(BEGINNING)]);
    for eight in bytes.chunks_mut(8) {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut noise = state;
        noise = (noise ^ (noise >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        noise = (noise ^ (noise >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let noise = (noise ^ (noise >> 31)).to_be_bytes();
        eight.copy_from_slice(&noise[..eight.len()]);
    }
}

fn mac_at(bytes: &mut [u8], at: usize, veil: &dyn Veil) {
    if let Some(mac) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<6>()) {
        *mac = veil.mac(MacAddr(*mac)).0;
    }
}

fn v4_at(bytes: &mut [u8], at: usize, veil: &dyn Veil) {
    if let Some(octets) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>())
        && let IpAddr::V4(new) = veil.ip(IpAddr::V4(Ipv4Addr::from(*octets)))
    {
        *octets = new.octets();
    }
}

fn v6_at(bytes: &mut [u8], at: usize, veil: &dyn Veil) {
    if let Some(octets) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<16>())
        && let IpAddr::V6(new) = veil.ip(IpAddr::V6(Ipv6Addr::from(*octets)))
    {
        *octets = new.octets();
    }
}

/// The Internet checksum's sum, folded: 0xffff over something whose checksum is right.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum = words.fold(u64::from(start), |sum, word| sum + u64::from(word));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Puts in a checksum that is right, or one that is not.
fn mend(bytes: &mut [u8], at: usize, pseudo: u32, right: bool) {
    bytes[at..at + 2].fill(0);
    let checksum = !sum(bytes, pseudo);
    let checksum = if right { checksum } else { checksum ^ 0x5555 };
    bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests;
