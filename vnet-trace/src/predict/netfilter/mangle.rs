//! What a rule that rewrites a field makes of the packet.

use crate::model::netfilter::expression::{Field, HeaderBase, IpVersion, Value};

use super::packet::{Packet, Transport};

/// Writes a field; a None value makes it unknown. Says whether the checksum over it is left stale.
///
/// nftables mends checksums when it knows the field (`ip ttl set`); it cannot when the place is given in bits
/// (`@nh,64,8 set`) or through the protocol-agnostic `th` (nft_payload_set_eval, net/netfilter/nft_payload.c).
pub fn write(packet: &mut Packet, field: &Field, value: Option<&Value>) -> bool {
    let number = match value {
        Some(Value::Number(number)) => Some(*number),
        _ => None,
    };
    match (field, value) {
        (Field::Mark, _) => packet.mark = number.map(|number| number as u32),
        (Field::CtMark, _) => packet.conntrack.mark = number.map(|number| number as u32),
        (Field::HopLimit(version), _) if packet.ip_version() == Some(*version) => {
            packet.hop_limit = number.map(|number| number as u8);
        }
        (Field::Dscp(version), _) if packet.ip_version() == Some(*version) => {
            packet.dscp = number.map(|number| number as u8);
        }
        (Field::Source(_), Some(Value::Address(address))) => packet.source = *address,
        (Field::Destination(_), Some(Value::Address(address))) => packet.destination = *address,
        (Field::EtherSource, Some(Value::Mac(mac))) => {
            if let Some(ether) = &mut packet.ether {
                ether.source = *mac;
            }
        }
        (Field::EtherDestination, Some(Value::Mac(mac))) => {
            if let Some(ether) = &mut packet.ether {
                ether.destination = *mac;
            }
        }
        (Field::SourcePort(_), Some(Value::Number(port))) => set_ports(packet, Some(*port as u16), None),
        (Field::DestinationPort(_), Some(Value::Number(port))) => set_ports(packet, None, Some(*port as u16)),
        (Field::AnySourcePort, _) => {
            set_ports(packet, number.map(|port| port as u16), None);
            return true;
        }
        (Field::AnyDestinationPort, _) => {
            set_ports(packet, None, number.map(|port| port as u16));
            return true;
        }
        (Field::Raw { base, offset, length }, _) => return raw(packet, *base, *offset, *length, number),
        _ => {}
    }
    false
}

fn set_ports(packet: &mut Packet, new_source: Option<u16>, new_destination: Option<u16>) {
    if let Transport::Tcp { source, destination, .. } | Transport::Udp { source, destination } = &mut packet.transport {
        *source = new_source.unwrap_or(*source);
        *destination = new_destination.unwrap_or(*destination);
    }
}

fn raw(packet: &mut Packet, base: HeaderBase, offset: u32, length: u32, number: Option<u64>) -> bool {
    match (base, packet.ip_version(), offset, length) {
        (HeaderBase::Network, Some(IpVersion::V4), 64, 8) | (HeaderBase::Network, Some(IpVersion::V6), 56, 8) => {
            packet.hop_limit = number.map(|number| number as u8);
        }
        (HeaderBase::Network, Some(IpVersion::V4), 96, 32) => {
            if let Some(number) = number {
                packet.source = std::net::Ipv4Addr::from_bits(number as u32).into();
            }
        }
        (HeaderBase::Network, Some(IpVersion::V4), 128, 32) => {
            if let Some(number) = number {
                packet.destination = std::net::Ipv4Addr::from_bits(number as u32).into();
            }
        }
        _ => {}
    }
    // IPv6 and Ethernet headers have no checksum; ARP has none at all.
    match base {
        HeaderBase::Network => packet.ip_version() == Some(IpVersion::V4),
        HeaderBase::Transport => packet.ip_version().is_some(),
        HeaderBase::Link | HeaderBase::Beyond => false,
    }
}
