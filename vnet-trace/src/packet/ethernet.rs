//! Ethernet II and its VLAN tags (IEEE 802.1Q, 802.1ad).

use etherparse::{Ethernet2HeaderSlice, SingleVlanHeaderSlice};

use super::{Depth, Layer, Net, Packet, PacketError, Span, network};
use crate::model::event::MacHeader;
use crate::model::id::MacAddr;

/// Ethertypes of VLAN tags: 802.1Q, 802.1ad, and the old QinQ one.
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// More tags than this are not a network, they are an attack on the reader.
const MAX_TAGS: usize = 8;

pub(super) fn parse(span: Span<'_>, depth: Depth) -> Result<Packet, PacketError> {
    let header = Ethernet2HeaderSlice::from_slice(span.bytes).map_err(|_| span.short(Layer::Ethernet, 14))?;
    let mut link = MacHeader {
        dst: MacAddr(header.destination()),
        src: MacAddr(header.source()),
        ethertype: header.ether_type().0,
    };
    let mut vlans = Vec::new();
    let mut rest = span.skip(14);
    let mut cut = None;
    while TAGS.contains(&link.ethertype) && vlans.len() < MAX_TAGS {
        let Ok(tag) = SingleVlanHeaderSlice::from_slice(rest.bytes) else {
            cut = Some(rest.short(Layer::Vlan, 4));
            break;
        };
        vlans.push(tag.vlan_identifier().value());
        link.ethertype = tag.ether_type().0;
        rest = rest.skip(4);
    }
    let inner = match cut {
        None => network(link.ethertype, rest, depth),
        Some(cut) => Err(cut),
    };
    Ok(match inner {
        Ok(packet) => Packet { link: Some(link), vlans, ..packet },
        Err(cut) => Packet { link: Some(link), vlans, net: Net::Other(link.ethertype), cut: Some(cut) },
    })
}
