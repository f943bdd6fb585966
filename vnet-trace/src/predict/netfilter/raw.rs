//! Bits of a header by place, as `@nh,64,8` asks for them: the headers are laid out again from what we know of them.

use std::net::IpAddr;

use crate::model::netfilter::expression::{HeaderBase, IpVersion};

use super::packet::{Packet, Transport};

/// A header of which some bytes are known.
struct Layout {
    bytes: Vec<Option<u8>>,
}

impl Layout {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes.iter().copied().map(Some));
    }

    fn put_u16(&mut self, value: Option<u16>) {
        match value {
            Some(value) => self.put(&value.to_be_bytes()),
            None => self.gap(2),
        }
    }

    fn put_u8(&mut self, value: Option<u8>) {
        self.bytes.push(value);
    }

    fn gap(&mut self, count: usize) {
        self.bytes.extend(std::iter::repeat_n(None, count));
    }

    fn put_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.put(&address.octets()),
            IpAddr::V6(address) => self.put(&address.octets()),
        }
    }
}

/// The bits, most significant first. None if one of them is not known, or if there are more than 64.
pub fn bits(packet: &Packet, base: HeaderBase, offset: u32, length: u32) -> Option<u64> {
    if length == 0 || length > 64 {
        return None;
    }
    let layout = match base {
        HeaderBase::Link => link(packet)?,
        HeaderBase::Network => network(packet),
        HeaderBase::Transport => transport(packet),
        HeaderBase::Beyond => return None,
    };
    let mut value = 0u64;
    for bit in offset..offset.checked_add(length)? {
        let byte = (*layout.bytes.get((bit / 8) as usize)?)?;
        value = value << 1 | u64::from(byte >> (7 - bit % 8) & 1);
    }
    Some(value)
}

fn link(packet: &Packet) -> Option<Layout> {
    let ether = packet.ether?;
    let mut layout = Layout { bytes: Vec::with_capacity(18) };
    layout.put(&ether.destination);
    layout.put(&ether.source);
    if let Some(vlan) = ether.vlan {
        layout.put(&[0x81, 0x00]);
        layout.put_u16(Some(vlan));
    }
    layout.put_u16(Some(packet.protocol));
    Some(layout)
}

fn network(packet: &Packet) -> Layout {
    let mut layout = Layout { bytes: Vec::with_capacity(40) };
    match (packet.ip_version(), &packet.transport) {
        (Some(IpVersion::V4), _) => {
            layout.put(&[0x45]);
            layout.put_u8(packet.dscp.map(|dscp| dscp << 2));
            layout.put_u16(packet.length.and_then(|length| u16::try_from(length).ok()));
            layout.gap(2);
            layout.put_u16(packet.dont_fragment.map(|df| (u16::from(df) << 14) | (packet.fragment_offset / 8)));
            layout.put_u8(packet.hop_limit);
            layout.put_u8(packet.l4_protocol());
            layout.gap(2);
            layout.put_address(packet.source);
            layout.put_address(packet.destination);
        }
        (Some(IpVersion::V6), _) => {
            layout.gap(4);
            layout.put_u16(packet.length.and_then(|length| u16::try_from(length.saturating_sub(40)).ok()));
            layout.put_u8(packet.l4_protocol());
            layout.put_u8(packet.hop_limit);
            layout.put_address(packet.source);
            layout.put_address(packet.destination);
        }
        (None, Transport::Arp { operation, sender, target }) => {
            layout.put(&[0, 1, 8, 0, 6, 4]);
            layout.put_u16(Some(*operation));
            layout.put(sender);
            layout.put_address(packet.source);
            layout.put(target);
            layout.put_address(packet.destination);
        }
        (None, _) => {}
    }
    layout
}

fn transport(packet: &Packet) -> Layout {
    let mut layout = Layout { bytes: Vec::with_capacity(20) };
    match &packet.transport {
        Transport::Icmp { kind, code, id, sequence } | Transport::Icmp6 { kind, code, id, sequence } => {
            layout.put(&[*kind, *code]);
            layout.gap(2);
            layout.put_u16(*id);
            layout.put_u16(*sequence);
        }
        Transport::Tcp { source, destination, flags } => {
            layout.put_u16(Some(*source));
            layout.put_u16(Some(*destination));
            layout.gap(9);
            layout.put_u8(Some(*flags));
        }
        Transport::Udp { source, destination } => {
            layout.put_u16(Some(*source));
            layout.put_u16(Some(*destination));
        }
        Transport::Arp { .. } | Transport::Other(_) => {}
    }
    layout
}
