//! ARP for IPv4 over Ethernet (RFC 826). Other address families are not followed.

use etherparse::ArpPacketSlice;

use super::{Arp, ETHERTYPE_ARP, Layer, Net, PacketError, Span};
use crate::model::id::MacAddr;

pub(super) fn parse(span: Span<'_>) -> Result<Net, PacketError> {
    let slice = ArpPacketSlice::from_slice(span.bytes).map_err(|error| span.short(Layer::Arp, error.required_len))?;
    let addresses = (
        slice.sender_hw_addr().first_chunk(),
        slice.sender_protocol_addr().first_chunk::<4>(),
        slice.target_hw_addr().first_chunk(),
        slice.target_protocol_addr().first_chunk::<4>(),
    );
    let is_ipv4 = slice.proto_addr_type() == etherparse::EtherType::IPV4;
    match addresses {
        (Some(sender_mac), Some(sender), Some(target_mac), Some(target)) if is_ipv4 => Ok(Net::Arp(Arp {
            operation: slice.operation().0,
            sender_mac: MacAddr(*sender_mac),
            sender: (*sender).into(),
            target_mac: MacAddr(*target_mac),
            target: (*target).into(),
        })),
        _ => Ok(Net::Other(ETHERTYPE_ARP)),
    }
}
