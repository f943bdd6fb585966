//! What a rule that rewrites a field makes of the packet.

use crate::model::netfilter::expression::{Field, HeaderBase, IpVersion, Value};

use super::packet::{Packet, Transport};

/// Writes a field; a None value makes it unknown. Says whether the checksum over it is left stale.
///
/// nftables mends a checksum when the rule names the field (`ip ttl set`), and does not when the rule gives its place in bits
/// (`@nh,64,8 set`) or through the protocol-agnostic `th` (nft_payload_set_eval, net/netfilter/nft_payload.c). A rule that
/// writes the checksum itself leaves it wrong either way.
pub fn write(packet: &mut Packet, field: &Field, value: Option<&Value>, mends_checksum: Option<bool>) -> bool {
    put(packet, field, value);
    let checksummed = match field {
        field if in_ip_header(field) => packet.ip_version() == Some(IpVersion::V4),
        Field::Raw { base: HeaderBase::Transport, .. }
        | Field::AnySourcePort
        | Field::AnyDestinationPort
        | Field::SourcePort(_)
        | Field::DestinationPort(_)
        | Field::TcpFlags
        | Field::IcmpType
        | Field::IcmpCode
        | Field::IcmpId
        | Field::IcmpSequence
        | Field::Icmp6Type
        | Field::Icmp6Code
        | Field::Icmp6Id
        | Field::Icmp6Sequence => packet.ip_version().is_some(),
        _ => false,
    };
    checksummed && (mends_checksum == Some(false) || is_checksum(field, packet))
}

/// Whether a field lies in the IPv4 or IPv6 header rather than in what follows it.
pub fn in_ip_header(field: &Field) -> bool {
    matches!(
        field,
        Field::Raw { base: HeaderBase::Network, .. }
            | Field::HopLimit(_)
            | Field::Dscp(_)
            | Field::Ecn(_)
            | Field::Source(_)
            | Field::Destination(_)
            | Field::IpId
            | Field::FragmentBits
            | Field::IpLength(_)
            | Field::NextHeader(_)
            | Field::Version(_)
    )
}

fn is_checksum(field: &Field, packet: &Packet) -> bool {
    match (field, &packet.transport) {
        (Field::Raw { base: HeaderBase::Network, offset: 80, .. }, _)
        | (Field::AnyDestinationPort, Transport::Icmp { .. } | Transport::Icmp6 { .. }) => true,
        (Field::Raw { base: HeaderBase::Transport, offset, .. }, transport) => matches!(
            (offset, transport),
            (16, Transport::Icmp { .. } | Transport::Icmp6 { .. })
                | (128, Transport::Tcp { .. })
                | (48, Transport::Udp { .. })
        ),
        _ => false,
    }
}

fn put(packet: &mut Packet, field: &Field, value: Option<&Value>) {
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
        (Field::AnySourcePort, _) => set_ports(packet, number.map(|port| port as u16), None),
        (Field::AnyDestinationPort, _) => set_ports(packet, None, number.map(|port| port as u16)),
        (Field::Raw { base, offset, length }, _) => raw(packet, *base, *offset, *length, number),
        _ => {}
    }
}

fn set_ports(packet: &mut Packet, new_source: Option<u16>, new_destination: Option<u16>) {
    if let Transport::Tcp { source, destination, .. } | Transport::Udp { source, destination } = &mut packet.transport {
        *source = new_source.unwrap_or(*source);
        *destination = new_destination.unwrap_or(*destination);
    }
}

fn raw(packet: &mut Packet, base: HeaderBase, offset: u32, length: u32, number: Option<u64>) {
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
}
