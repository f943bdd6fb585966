//! What a field of a packet is, at a place: the value, none, or not known.
//!
//! The difference between *absent* and *unknown* decides whether an answer is certain. `tcp dport` of an ICMP packet is
//! absent: nft_payload ends the rule, so neither `tcp dport 22` nor `tcp dport != 22` matches. The mark of a packet seen in a
//! capture is unknown: any rule that asks for it may match and may not.
//!
//! Names of devices are never absent: a hook without an output device compares with the empty name (nft_meta_store_ifname in
//! net/netfilter/nft_meta.c and ip_packet_match in net/ipv4/netfilter/ip_tables.c, both since before 5.10), so `! -o eth0`
//! matches at INPUT.

use std::net::IpAddr;

use crate::model::netfilter::Hook;
use crate::model::netfilter::expression::{CtSide, FibFlags, Field, HeaderBase, IpVersion, Value, ct_state, ct_status};

use super::context::{AddressType, Answer, Device, HookContext, Layer, Oracle};
use super::outcome::DoubtKind;
use super::packet::{Cast, CtState, Packet, Transport};

/// Priority at which connection tracking looks at a packet (NF_IP_PRI_CONNTRACK); chains before it see no connection.
const CONNTRACK_PRIORITY: i32 = -200;

/// What came of reading.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// The packet has this.
    Is(Value),
    /// The packet has nothing of the sort: the rule ends without matching.
    Absent,
    /// We do not know.
    Unknown(DoubtKind),
}

/// The place from which a field is read.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Hook and devices.
    pub context: &'a HookContext,
    /// Answers for the host.
    pub oracle: &'a dyn Oracle,
    /// Priority of the base chain.
    pub priority: i32,
}

/// Reads a field.
pub fn read(field: &Field, packet: &Packet, view: View<'_>) -> Reading {
    let context = view.context;
    let unknown = || Reading::Unknown(DoubtKind::Field(field.clone()));
    let known = |value: Option<u64>| value.map_or_else(unknown, number);
    match field {
        Field::IifName | Field::Iif => name(context.input.as_ref().map(|device| device.name.as_str())),
        Field::OifName | Field::Oif => name(context.output.as_ref().map(|device| device.name.as_str())),
        Field::IifKind | Field::OifKind => match device(field, context) {
            None => Reading::Absent,
            Some(Device { kind: Some(kind), .. }) => Reading::Is(Value::Name(kind.clone())),
            Some(_) => unknown(),
        },
        Field::IifType | Field::OifType => match device(field, context) {
            None => Reading::Absent,
            Some(device) => known(device.device_type.map(u64::from)),
        },
        Field::IifGroup | Field::OifGroup => match device(field, context) {
            None => Reading::Absent,
            Some(device) => known(device.group.map(u64::from)),
        },
        Field::BridgeIn => bridge_of(context.input.as_ref(), context),
        Field::BridgeOut => bridge_of(context.output.as_ref(), context),
        Field::PhysIn => name(context.bridged.as_ref().and_then(|ports| ports.input.as_deref())),
        Field::PhysOut => name(context.bridged.as_ref().and_then(|ports| ports.output.as_deref())),
        Field::PhysHasIn => flag(context.bridged.as_ref().is_some_and(|ports| ports.input.is_some())),
        Field::PhysHasOut => flag(context.bridged.as_ref().is_some_and(|ports| ports.output.is_some())),
        Field::PhysBridged => flag(context.bridged.is_some() && !matches!(context.hook, Hook::Input | Hook::Output)),
        Field::L4Proto => packet.l4_protocol().map_or(Reading::Absent, |protocol| number(u64::from(protocol))),
        Field::NfProto => match packet.ip_version() {
            Some(IpVersion::V4) => number(2),
            Some(IpVersion::V6) => number(10),
            None => number(3),
        },
        Field::Protocol => number(u64::from(packet.protocol)),
        Field::Mark => known(packet.mark.map(u64::from)),
        Field::Length => known(packet.length.map(u64::from)),
        Field::PacketType => known(packet.cast.map(|cast| match cast {
            Cast::Host => 0,
            Cast::Broadcast => 1,
            Cast::Multicast => 2,
            Cast::Other => 3,
        })),
        Field::SocketUser => socket_user(packet, context),
        Field::SocketUserOrNone => match socket_user(packet, context) {
            Reading::Absent => number(u64::MAX),
            reading => reading,
        },
        Field::EtherSource | Field::EtherDestination | Field::EtherType | Field::VlanId => link(field, packet, context),
        Field::ArpHardwareType
        | Field::ArpProtocolType
        | Field::ArpHardwareLength
        | Field::ArpProtocolLength
        | Field::ArpOperation
        | Field::ArpSourceIp
        | Field::ArpTargetIp
        | Field::ArpSourceMac
        | Field::ArpTargetMac => arp(field, packet),
        Field::Source(version) => if_version(*version, packet, || Reading::Is(Value::Address(packet.source))),
        Field::Destination(version) => if_version(*version, packet, || Reading::Is(Value::Address(packet.destination))),
        Field::HopLimit(version) => if_version(*version, packet, || known(packet.hop_limit.map(u64::from))),
        Field::NextHeader(version) => if_version(*version, packet, || known(packet.l4_protocol().map(u64::from))),
        Field::Version(version) => if_version(*version, packet, || {
            number(match version {
                IpVersion::V4 => 4,
                IpVersion::V6 => 6,
            })
        }),
        Field::IpLength(version) => if_version(*version, packet, || {
            let header = match version {
                IpVersion::V4 => 0,
                IpVersion::V6 => 40,
            };
            known(packet.length.map(|length| u64::from(length).saturating_sub(header)))
        }),
        Field::Dscp(version) => if_version(*version, packet, || known(packet.dscp.map(u64::from))),
        Field::FragmentBits => if_version(IpVersion::V4, packet, || {
            let offset = u64::from(packet.fragment_offset) / 8;
            if offset > 0 { unknown() } else { known(packet.dont_fragment.map(|df| u64::from(df) << 14)) }
        }),
        Field::LaterFragment => flag(packet.fragment_offset > 0),
        Field::HeaderLength => if_version(IpVersion::V4, packet, || number(20)),
        Field::IcmpType
        | Field::IcmpCode
        | Field::IcmpId
        | Field::IcmpSequence
        | Field::Icmp6Type
        | Field::Icmp6Code
        | Field::Icmp6Id
        | Field::Icmp6Sequence
        | Field::SourcePort(_)
        | Field::DestinationPort(_)
        | Field::AnySourcePort
        | Field::AnyDestinationPort
        | Field::TcpFlags => transport(field, packet),
        Field::Raw { base, offset, length } => super::raw::bits(packet, *base, *offset, *length).map_or_else(
            || if *base == HeaderBase::Link && packet.ether.is_none() { link_absent(context) } else { unknown() },
            number,
        ),
        Field::CtState
        | Field::CtStateOrNat
        | Field::CtStatus
        | Field::CtDirection
        | Field::CtMark
        | Field::CtProtocol
        | Field::CtSource(_)
        | Field::CtDestination(_)
        | Field::CtSourcePort(_)
        | Field::CtDestinationPort(_) => conntrack(field, packet, view),
        Field::FibType(flags) | Field::FibOif(flags) | Field::FibOifName(flags) | Field::FibExists(flags) => {
            fib(field, *flags, packet, view)
        }
        Field::SdifName | Field::SocketGroup | Field::IpId | Field::Ecn(_) | Field::Ipsec | Field::Other { .. } => {
            unknown()
        }
    }
}

/// Only packets of a program's socket have an owner. What is on its way through has none, and neither have echo replies,
/// errors and neighbour discovery, which the kernel makes itself.
fn socket_user(packet: &Packet, context: &HookContext) -> Reading {
    let by_kernel = match packet.transport {
        Transport::Icmp { kind, .. } => kind != 8,
        Transport::Icmp6 { kind, .. } => kind != 128,
        _ => false,
    };
    match (context.hook, packet.socket_user) {
        (Hook::Output | Hook::Postrouting | Hook::Egress, Some(user)) => number(u64::from(user)),
        (Hook::Output | Hook::Postrouting | Hook::Egress, None) if !by_kernel => {
            Reading::Unknown(DoubtKind::Field(Field::SocketUser))
        }
        _ => Reading::Absent,
    }
}

fn number(value: u64) -> Reading {
    Reading::Is(Value::Number(value))
}

fn flag(value: bool) -> Reading {
    number(u64::from(value))
}

fn name(name: Option<&str>) -> Reading {
    Reading::Is(Value::Name(name.unwrap_or_default().to_owned()))
}

fn device<'a>(field: &Field, context: &'a HookContext) -> Option<&'a Device> {
    match field {
        Field::IifKind | Field::IifType | Field::IifGroup => context.input.as_ref(),
        _ => context.output.as_ref(),
    }
}

fn bridge_of(port: Option<&Device>, context: &HookContext) -> Reading {
    match (context.layer, port) {
        (Layer::Bridge, Some(Device { bridge: Some(bridge), .. })) => Reading::Is(Value::Name(bridge.clone())),
        (Layer::Bridge, Some(_)) => Reading::Unknown(DoubtKind::Field(Field::BridgeIn)),
        _ => Reading::Absent,
    }
}

fn if_version(version: IpVersion, packet: &Packet, value: impl FnOnce() -> Reading) -> Reading {
    if packet.ip_version() == Some(version) { value() } else { Reading::Absent }
}

/// A packet that this host makes has no Ethernet header before it leaves; one that came in has, if we know it.
fn link_absent(context: &HookContext) -> Reading {
    match (context.layer, context.hook) {
        (Layer::Ip | Layer::Arp, Hook::Output) => Reading::Absent,
        _ => Reading::Unknown(DoubtKind::Field(Field::EtherSource)),
    }
}

fn link(field: &Field, packet: &Packet, context: &HookContext) -> Reading {
    let Some(ether) = packet.ether else {
        // Without a tag the EtherType is the protocol.
        return if *field == Field::EtherType { number(u64::from(packet.protocol)) } else { link_absent(context) };
    };
    match field {
        Field::EtherSource => Reading::Is(Value::Mac(ether.source)),
        Field::EtherDestination => Reading::Is(Value::Mac(ether.destination)),
        Field::EtherType if ether.vlan.is_some() => number(0x8100),
        Field::EtherType => number(u64::from(packet.protocol)),
        _ => ether.vlan.map_or(Reading::Absent, |vlan| number(u64::from(vlan))),
    }
}

fn arp(field: &Field, packet: &Packet) -> Reading {
    let Transport::Arp { operation, sender, target } = packet.transport else {
        return Reading::Absent;
    };
    match field {
        Field::ArpHardwareType => number(1),
        Field::ArpProtocolType => number(0x0800),
        Field::ArpHardwareLength => number(6),
        Field::ArpProtocolLength => number(4),
        Field::ArpOperation => number(u64::from(operation)),
        Field::ArpSourceIp => Reading::Is(Value::Address(packet.source)),
        Field::ArpTargetIp => Reading::Is(Value::Address(packet.destination)),
        Field::ArpSourceMac => Reading::Is(Value::Mac(sender)),
        _ => Reading::Is(Value::Mac(target)),
    }
}

fn transport(field: &Field, packet: &Packet) -> Reading {
    if packet.fragment_offset > 0 {
        // Only the first fragment carries the header.
        return Reading::Absent;
    }
    let maybe = |value: Option<u16>| match value {
        Some(value) => number(u64::from(value)),
        None => Reading::Unknown(DoubtKind::Field(field.clone())),
    };
    match (field, &packet.transport) {
        (Field::IcmpType, Transport::Icmp { kind, .. }) | (Field::Icmp6Type, Transport::Icmp6 { kind, .. }) => {
            number(u64::from(*kind))
        }
        (Field::IcmpCode, Transport::Icmp { code, .. }) | (Field::Icmp6Code, Transport::Icmp6 { code, .. }) => {
            number(u64::from(*code))
        }
        (Field::IcmpId, Transport::Icmp { id, .. }) | (Field::Icmp6Id, Transport::Icmp6 { id, .. }) => maybe(*id),
        (Field::IcmpSequence, Transport::Icmp { sequence, .. })
        | (Field::Icmp6Sequence, Transport::Icmp6 { sequence, .. }) => maybe(*sequence),
        (Field::SourcePort(6) | Field::AnySourcePort, Transport::Tcp { source, .. })
        | (Field::SourcePort(17) | Field::AnySourcePort, Transport::Udp { source, .. }) => number(u64::from(*source)),
        (Field::DestinationPort(6) | Field::AnyDestinationPort, Transport::Tcp { destination, .. })
        | (Field::DestinationPort(17) | Field::AnyDestinationPort, Transport::Udp { destination, .. }) => {
            number(u64::from(*destination))
        }
        (Field::TcpFlags, Transport::Tcp { flags, .. }) => number(u64::from(*flags)),
        // `th sport` takes whatever stands there: in ICMP, type and code.
        (Field::AnySourcePort, Transport::Icmp { kind, code, .. } | Transport::Icmp6 { kind, code, .. }) => {
            number(u64::from(*kind) << 8 | u64::from(*code))
        }
        (Field::AnyDestinationPort, Transport::Icmp { .. } | Transport::Icmp6 { .. })
        | (Field::AnySourcePort | Field::AnyDestinationPort, Transport::Other(_)) => {
            Reading::Unknown(DoubtKind::Field(field.clone()))
        }
        (Field::SourcePort(wanted) | Field::DestinationPort(wanted), Transport::Other(protocol))
            if wanted == protocol =>
        {
            Reading::Unknown(DoubtKind::Field(field.clone()))
        }
        _ => Reading::Absent,
    }
}

/// Whether this chain runs before connection tracking has looked at the packet.
pub fn before_conntrack(view: View<'_>) -> bool {
    match view.context.layer {
        Layer::Netdev | Layer::Arp => true,
        Layer::Bridge => false,
        Layer::Ip => matches!(view.context.hook, Hook::Prerouting | Hook::Output) && view.priority < CONNTRACK_PRIORITY,
    }
}

fn conntrack(field: &Field, packet: &Packet, view: View<'_>) -> Reading {
    let unknown = || Reading::Unknown(DoubtKind::Field(field.clone()));
    let known = |value: Option<u64>| value.map_or_else(unknown, number);
    let tracked = &packet.conntrack;
    let untracked = tracked.state == Some(CtState::Untracked);
    if before_conntrack(view) && !untracked {
        // A packet over lo keeps its connection from the first pass; any other has none yet.
        let loopback = view.context.hook == Hook::Prerouting
            && view.context.input.as_ref().is_some_and(|device| device.name == "lo");
        return match field {
            _ if loopback => unknown(),
            Field::CtState | Field::CtStateOrNat => number(ct_state::INVALID),
            _ => Reading::Absent,
        };
    }
    if view.context.layer == Layer::Bridge {
        // Only with nf_conntrack_bridge, which `ct` in a bridge rule loads.
        return unknown();
    }
    let state = match tracked.state {
        None => None,
        Some(CtState::New) => Some(ct_state::NEW),
        Some(CtState::Established) => Some(ct_state::ESTABLISHED),
        Some(CtState::Related) => Some(ct_state::RELATED),
        Some(CtState::Invalid) => Some(ct_state::INVALID),
        Some(CtState::Untracked) => Some(ct_state::UNTRACKED),
    };
    match field {
        Field::CtState => return known(state),
        Field::CtStateOrNat => {
            let bit = |set: Option<bool>, bit: u64| set.map(|set| if set { bit } else { 0 });
            return match (state, bit(tracked.snat, ct_state::SNAT), bit(tracked.dnat, ct_state::DNAT)) {
                (Some(state), snat, dnat) => number(state | snat.unwrap_or(0) | dnat.unwrap_or(0)),
                _ => unknown(),
            };
        }
        _ => {}
    }
    if matches!(tracked.state, Some(CtState::Invalid | CtState::Untracked)) {
        return Reading::Absent;
    }
    let original = tracked.original;
    let reply = match (original, tracked.snat, tracked.dnat) {
        (Some(original), Some(false), Some(false)) => Some(original.reversed()),
        _ => None,
    };
    let side = |side: &CtSide| match side {
        CtSide::Original => original,
        CtSide::Reply => reply,
    };
    let address =
        |address: Option<IpAddr>| address.map_or_else(unknown, |address| Reading::Is(Value::Address(address)));
    match field {
        Field::CtStatus => match (tracked.state, tracked.snat, tracked.dnat) {
            (Some(state), Some(snat), Some(dnat)) => {
                let seen = if state == CtState::Established { ct_status::SEEN_REPLY | ct_status::CONFIRMED } else { 0 };
                let snat = if snat { ct_status::SNAT } else { 0 };
                let dnat = if dnat { ct_status::DNAT } else { 0 };
                number(seen | snat | dnat)
            }
            _ => unknown(),
        },
        Field::CtDirection => known(tracked.reply.map(u64::from)),
        Field::CtMark => known(tracked.mark.map(u64::from)),
        Field::CtProtocol => known(packet.l4_protocol().map(u64::from)),
        Field::CtSource(at) => address(side(at).map(|tuple| tuple.source)),
        Field::CtDestination(at) => address(side(at).map(|tuple| tuple.destination)),
        Field::CtSourcePort(at) => known(side(at).map(|tuple| u64::from(tuple.source_port))),
        Field::CtDestinationPort(at) => known(side(at).map(|tuple| u64::from(tuple.destination_port))),
        _ => unknown(),
    }
}

fn fib(field: &Field, flags: FibFlags, packet: &Packet, view: View<'_>) -> Reading {
    let unknown = || Reading::Unknown(DoubtKind::Field(field.clone()));
    if packet.ip_version().is_none() {
        return Reading::Absent;
    }
    let address = if flags.source { packet.source } else { packet.destination };
    let device = if flags.iif {
        view.context.input.as_ref()
    } else if flags.oif {
        view.context.output.as_ref()
    } else {
        None
    };
    if let Field::FibType(_) = field {
        return match view.oracle.address_type(address, device) {
            Answer::Unknown => unknown(),
            Answer::None => number(0),
            Answer::Is(kind) => number(address_type_number(kind)),
        };
    }
    let mark = match (flags.mark, packet.mark) {
        (true, None) => return unknown(),
        (true, Some(mark)) => mark,
        (false, _) => 0,
    };
    match (view.oracle.route_device(address, mark, device), field) {
        (Answer::Unknown, _) => unknown(),
        (Answer::None, Field::FibExists(_)) => flag(false),
        (Answer::None, _) => name(None),
        (Answer::Is(_), Field::FibExists(_)) => flag(true),
        (Answer::Is(found), _) => name(Some(&found.name)),
    }
}

/// RTN_* in include/uapi/linux/rtnetlink.h.
pub fn address_type_number(kind: AddressType) -> u64 {
    match kind {
        AddressType::Unspecified => 0,
        AddressType::Unicast => 1,
        AddressType::Local => 2,
        AddressType::Broadcast => 3,
        AddressType::Anycast => 4,
        AddressType::Multicast => 5,
        AddressType::Blackhole => 6,
        AddressType::Unreachable => 7,
        AddressType::Prohibit => 8,
    }
}
