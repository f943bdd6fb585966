//! nft's JSON expressions into the model's: fields, values, patterns.

use std::net::IpAddr;

use serde_json::Value as Json;

use crate::model::netfilter::expression::{
    BitOp, CtSide, Expression, FibFlags, Field, HeaderBase, IpVersion, Kind, MapRef, Pattern, Value,
};
use crate::model::netfilter::{Element, ElementData};

use super::statement;
use super::symbol;

/// An expression, what its values are (one kind per part), and the protocol above IP that it takes for granted.
///
/// nft hides the check for the protocol when it prints `esp spi 5`; for fields that we cannot read, the check is put back,
/// so that such a rule does not seem to concern every packet.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The expression.
    pub expression: Expression,
    /// Its kinds.
    pub kinds: Vec<Kind>,
    /// Implied protocol above IP.
    pub implies: Option<u8>,
}

impl Parsed {
    fn field(field: Field, kind: Kind) -> Parsed {
        Parsed { expression: Expression::Field(field), kinds: vec![kind], implies: None }
    }

    fn unknown(json: &Json, implies: Option<u8>) -> Parsed {
        Parsed {
            expression: Expression::Unknown { text: super::text::expression(json) },
            kinds: vec![Kind::Other],
            implies,
        }
    }
}

/// Deepest nesting followed; nft itself prints a few levels only.
const DEPTH: u32 = 32;

/// Parses what stands left of a comparison, or is looked up, or assigned.
pub fn parse(json: &Json) -> Parsed {
    parse_at(json, 0)
}

fn parse_at(json: &Json, depth: u32) -> Parsed {
    if depth > DEPTH {
        return Parsed::unknown(&Json::Null, None);
    }
    let Json::Object(object) = json else {
        let pattern = pattern(json, &[Kind::Other]);
        return match pattern {
            Pattern::Is(value) => {
                Parsed { expression: Expression::Value(value), kinds: vec![Kind::Other], implies: None }
            }
            _ => Parsed::unknown(json, None),
        };
    };
    let Some((word, inner)) = object.iter().next() else {
        return Parsed::unknown(json, None);
    };
    match word.as_str() {
        "meta" => meta(inner).unwrap_or_else(|| Parsed::unknown(json, None)),
        "payload" => payload(inner).unwrap_or_else(|| Parsed::unknown(json, implied_protocol(inner))),
        "ct" => conntrack(inner).unwrap_or_else(|| Parsed::unknown(json, None)),
        "fib" => fib(inner).unwrap_or_else(|| Parsed::unknown(json, None)),
        "concat" => {
            let parts: Vec<Parsed> = inner
                .as_array()
                .map_or_else(Vec::new, |parts| parts.iter().map(|part| parse_at(part, depth + 1)).collect());
            let kinds = parts.iter().map(|part| part.kinds.first().copied().unwrap_or(Kind::Other)).collect();
            let implies = parts.iter().find_map(|part| part.implies);
            Parsed {
                expression: Expression::Concat(parts.into_iter().map(|part| part.expression).collect()),
                kinds,
                implies,
            }
        }
        "&" | "|" | "^" | "<<" | ">>" => bits(word, inner, depth).unwrap_or_else(|| Parsed::unknown(json, None)),
        "map" => {
            let (Some(key), Some(data)) = (inner.get("key"), inner.get("data")) else {
                return Parsed::unknown(json, None);
            };
            let key = parse_at(key, depth + 1);
            let map = map_ref(data, &key.kinds);
            Parsed {
                expression: Expression::Lookup { key: Box::new(key.expression), map },
                kinds: vec![Kind::Other],
                implies: key.implies,
            }
        }
        "numgen" => {
            let modulus = inner.get("mod").and_then(Json::as_u64).unwrap_or(0);
            let offset = inner.get("offset").and_then(Json::as_u64).unwrap_or(0);
            Parsed { expression: Expression::Generated { modulus, offset }, kinds: vec![Kind::Number], implies: None }
        }
        "prefix" | "range" => {
            let expression = match pattern(json, &[Kind::Other]) {
                Pattern::Prefix { address, length } => Expression::Prefix { address, length },
                Pattern::Range { from, to } => Expression::Range { from, to },
                _ => return Parsed::unknown(json, None),
            };
            Parsed { expression, kinds: vec![Kind::Other], implies: None }
        }
        "elem" => inner.get("val").map_or_else(|| Parsed::unknown(json, None), |value| parse_at(value, depth + 1)),
        "tcp option" => Parsed::unknown(json, Some(6)),
        "sctp chunk" => Parsed::unknown(json, Some(132)),
        _ => Parsed::unknown(json, None),
    }
}

fn bits(word: &str, inner: &Json, depth: u32) -> Option<Parsed> {
    let op = match word {
        "&" => BitOp::And,
        "|" => BitOp::Or,
        "^" => BitOp::Xor,
        "<<" => BitOp::ShiftLeft,
        _ => BitOp::ShiftRight,
    };
    let operands = inner.as_array()?;
    let (first, rest) = operands.split_first()?;
    let mut result = parse_at(first, depth + 1);
    if rest.is_empty() {
        return None;
    }
    for operand in rest {
        // The right-hand side takes its symbols from the left: `tcp flags & (syn | ack)`.
        let right = match pattern(operand, &result.kinds) {
            Pattern::Is(value) => Expression::Value(value),
            Pattern::Computed(expression) => *expression,
            _ => return None,
        };
        result.expression = Expression::Bits { op, left: Box::new(result.expression), right: Box::new(right) };
    }
    Some(result)
}

/// Parses a value that is compared with something of these kinds.
pub fn pattern(json: &Json, kinds: &[Kind]) -> Pattern {
    pattern_at(json, kinds, 0)
}

fn pattern_at(json: &Json, kinds: &[Kind], depth: u32) -> Pattern {
    let kind = kinds.first().copied().unwrap_or(Kind::Other);
    let unknown = || Pattern::Unknown { text: super::text::expression(json) };
    if depth > DEPTH {
        return Pattern::Unknown { text: String::new() };
    }
    match json {
        Json::String(text) => word(text, kind),
        Json::Number(number) => match (number.as_u64(), kind) {
            (Some(0), Kind::DeviceIndex) => Pattern::Is(Value::Name(String::new())),
            (Some(number), _) => Pattern::Is(Value::Number(number)),
            (None, _) => unknown(),
        },
        Json::Bool(flag) => Pattern::Is(Value::Number(u64::from(*flag))),
        Json::Array(parts) => any_of_bits(parts, kind).unwrap_or_else(unknown),
        Json::Null => unknown(),
        Json::Object(object) => {
            let Some((key, inner)) = object.iter().next() else { return unknown() };
            match (key.as_str(), inner) {
                ("prefix", inner) => {
                    let address = inner.get("addr").and_then(Json::as_str).and_then(|text| text.parse().ok());
                    let length = inner.get("len").and_then(Json::as_u64).and_then(|length| u8::try_from(length).ok());
                    match (address, length) {
                        (Some(address), Some(length)) => Pattern::Prefix { address, length },
                        _ => unknown(),
                    }
                }
                ("range", Json::Array(ends)) => match ends.as_slice() {
                    [from, to] => match (pattern_at(from, kinds, depth + 1), pattern_at(to, kinds, depth + 1)) {
                        (Pattern::Is(from), Pattern::Is(to)) => Pattern::Range { from, to },
                        _ => unknown(),
                    },
                    _ => unknown(),
                },
                ("set", Json::Array(members)) => {
                    Pattern::Set(members.iter().map(|member| pattern_at(member, kinds, depth + 1)).collect())
                }
                ("set", member) => pattern_at(member, kinds, depth + 1),
                ("concat", Json::Array(parts)) => Pattern::Concat(
                    parts
                        .iter()
                        .enumerate()
                        .map(|(index, part)| {
                            let kind = kinds.get(index).copied().unwrap_or(Kind::Other);
                            pattern_at(part, &[kind], depth + 1)
                        })
                        .collect(),
                ),
                ("elem", inner) => inner.get("val").map_or_else(unknown, |value| pattern_at(value, kinds, depth + 1)),
                ("|", Json::Array(parts)) => any_of_bits(parts, kind).unwrap_or_else(unknown),
                ("meta" | "payload" | "ct" | "fib" | "&" | "^" | "<<" | ">>" | "map" | "numgen", _) => {
                    Pattern::Computed(Box::new(parse_at(json, depth + 1).expression))
                }
                _ => unknown(),
            }
        }
    }
}

fn any_of_bits(parts: &[Json], kind: Kind) -> Option<Pattern> {
    let mut bits = 0;
    for part in parts {
        match pattern_at(part, &[kind], DEPTH) {
            Pattern::Is(Value::Number(number)) => bits |= number,
            _ => return None,
        }
    }
    Some(Pattern::Is(Value::Number(bits)))
}

fn word(text: &str, kind: Kind) -> Pattern {
    if let Some(set) = text.strip_prefix('@') {
        return Pattern::Named(set.to_owned());
    }
    if text == "*" {
        return Pattern::Any;
    }
    let unknown = || Pattern::Unknown { text: text.to_owned() };
    match kind {
        Kind::Address => match text.parse::<IpAddr>() {
            Ok(address) => Pattern::Is(Value::Address(address)),
            Err(_) => prefix(text).unwrap_or_else(unknown),
        },
        Kind::Mac => symbol::mac(text).map_or_else(unknown, |mac| Pattern::Is(Value::Mac(mac))),
        Kind::DeviceName => match text.strip_suffix('*') {
            Some(start) => match start.strip_suffix('\\') {
                Some(start) => Pattern::Is(Value::Name(format!("{start}*"))),
                None => Pattern::NameStart(start.to_owned()),
            },
            None => Pattern::Is(Value::Name(text.to_owned())),
        },
        Kind::DeviceIndex if text == "0" => Pattern::Is(Value::Name(String::new())),
        Kind::DeviceIndex | Kind::Text => Pattern::Is(Value::Name(text.to_owned())),
        Kind::Other => {
            // Nothing says what it is: take it for what it looks like.
            if let Ok(address) = text.parse::<IpAddr>() {
                Pattern::Is(Value::Address(address))
            } else if let Some(mac) = symbol::mac(text) {
                Pattern::Is(Value::Mac(mac))
            } else if let Some(number) = symbol::plain(text) {
                Pattern::Is(Value::Number(number))
            } else {
                unknown()
            }
        }
        kind => symbol::number(kind, text).map_or_else(unknown, |number| Pattern::Is(Value::Number(number))),
    }
}

fn prefix(text: &str) -> Option<Pattern> {
    let (address, length) = text.split_once('/')?;
    Some(Pattern::Prefix { address: address.parse().ok()?, length: length.parse().ok()? })
}

/// A map's or set's elements, or its name.
pub fn map_ref(json: &Json, kinds: &[Kind]) -> MapRef {
    if let Some(name) = json.as_str().and_then(|name| name.strip_prefix('@')) {
        return MapRef::Named(name.to_owned());
    }
    let members = json.get("set").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    MapRef::Anonymous(members.iter().map(|member| element(member, kinds, &[Kind::Other])).collect())
}

/// An element of a set (`key`) or map (`[key, data]`).
pub fn element(json: &Json, kinds: &[Kind], data_kinds: &[Kind]) -> Element {
    match json.as_array().map(Vec::as_slice) {
        Some([key, data]) => Element { key: pattern(key, kinds), data: Some(element_data(data, data_kinds)) },
        _ => Element { key: pattern(json, kinds), data: None },
    }
}

fn element_data(json: &Json, kinds: &[Kind]) -> ElementData {
    if let Some(verdict) = statement::verdict(json) {
        return ElementData::Verdict(verdict);
    }
    ElementData::Value(match pattern(json, kinds) {
        Pattern::Is(value) => Expression::Value(value),
        Pattern::Prefix { address, length } => Expression::Prefix { address, length },
        Pattern::Range { from, to } => Expression::Range { from, to },
        Pattern::Concat(parts) => {
            let values: Option<Vec<Expression>> = parts
                .into_iter()
                .map(|part| match part {
                    Pattern::Is(value) => Some(Expression::Value(value)),
                    _ => None,
                })
                .collect();
            values.map_or_else(|| Expression::Unknown { text: super::text::expression(json) }, Expression::Concat)
        }
        _ => Expression::Unknown { text: super::text::expression(json) },
    })
}

fn meta(json: &Json) -> Option<Parsed> {
    let key = json.get("key")?.as_str()?;
    let (field, kind) = match key {
        "iifname" => (Field::IifName, Kind::DeviceName),
        "oifname" => (Field::OifName, Kind::DeviceName),
        "iif" => (Field::Iif, Kind::DeviceIndex),
        "oif" => (Field::Oif, Kind::DeviceIndex),
        "iiftype" => (Field::IifType, Kind::DeviceType),
        "oiftype" => (Field::OifType, Kind::DeviceType),
        "iifkind" => (Field::IifKind, Kind::Text),
        "oifkind" => (Field::OifKind, Kind::Text),
        "iifgroup" => (Field::IifGroup, Kind::Number),
        "oifgroup" => (Field::OifGroup, Kind::Number),
        "sdifname" => (Field::SdifName, Kind::DeviceName),
        "ibrname" | "ibridgename" => (Field::BridgeIn, Kind::DeviceName),
        "obrname" | "obridgename" => (Field::BridgeOut, Kind::DeviceName),
        "l4proto" => (Field::L4Proto, Kind::Protocol),
        "nfproto" => (Field::NfProto, Kind::NfProto),
        "protocol" => (Field::Protocol, Kind::EtherType),
        "mark" => (Field::Mark, Kind::Mark),
        "length" => (Field::Length, Kind::Number),
        "pkttype" => (Field::PacketType, Kind::PacketType),
        "skuid" => (Field::SocketUser, Kind::Number),
        "skgid" => (Field::SocketGroup, Kind::Number),
        "ipsec" | "secpath" => (Field::Ipsec, Kind::Flag),
        _ => return None,
    };
    Some(Parsed::field(field, kind))
}

fn conntrack(json: &Json) -> Option<Parsed> {
    let key = json.get("key")?.as_str()?;
    let side = match json.get("dir").and_then(Json::as_str) {
        Some("original") => Some(CtSide::Original),
        Some("reply") => Some(CtSide::Reply),
        Some(_) => return None,
        None => None,
    };
    let (field, kind) = match (key, side) {
        ("state", None) => (Field::CtState, Kind::CtState),
        ("status", None) => (Field::CtStatus, Kind::CtStatus),
        ("direction", None) => (Field::CtDirection, Kind::CtDirection),
        ("mark", None) => (Field::CtMark, Kind::Mark),
        ("protocol" | "l4proto", _) => (Field::CtProtocol, Kind::Protocol),
        ("saddr" | "ip saddr" | "ip6 saddr", Some(side)) => (Field::CtSource(side), Kind::Address),
        ("daddr" | "ip daddr" | "ip6 daddr", Some(side)) => (Field::CtDestination(side), Kind::Address),
        ("proto-src", Some(side)) => (Field::CtSourcePort(side), Kind::Port),
        ("proto-dst", Some(side)) => (Field::CtDestinationPort(side), Kind::Port),
        _ => return None,
    };
    Some(Parsed::field(field, kind))
}

fn fib(json: &Json) -> Option<Parsed> {
    let mut flags = FibFlags::default();
    let mut destination = false;
    let listed: Vec<&str> = match json.get("flags")? {
        Json::String(flag) => vec![flag.as_str()],
        Json::Array(list) => list.iter().filter_map(Json::as_str).collect(),
        _ => return None,
    };
    for flag in listed {
        match flag {
            "saddr" => flags.source = true,
            "daddr" => destination = true,
            "mark" => flags.mark = true,
            "iif" => flags.iif = true,
            "oif" => flags.oif = true,
            _ => return None,
        }
    }
    if flags.source == destination {
        return None;
    }
    let (field, kind) = match json.get("result")?.as_str()? {
        "type" => (Field::FibType(flags), Kind::AddressType),
        "oif" => (Field::FibOif(flags), Kind::DeviceIndex),
        "oifname" => (Field::FibOifName(flags), Kind::DeviceName),
        "check" => (Field::FibExists(flags), Kind::Flag),
        _ => return None,
    };
    Some(Parsed::field(field, kind))
}

fn implied_protocol(json: &Json) -> Option<u8> {
    let name = json.get("protocol")?.as_str()?;
    match name {
        "icmpv6" => Some(58),
        "tcp" | "udp" | "icmp" | "igmp" | "esp" | "ah" | "comp" | "sctp" | "dccp" | "udplite" | "gre" => {
            symbol::number(Kind::Protocol, name).map(|number| number as u8)
        }
        _ => None,
    }
}

fn payload(json: &Json) -> Option<Parsed> {
    if let Some(base) = json.get("base") {
        let base = match base.as_str()? {
            "ll" => HeaderBase::Link,
            "nh" => HeaderBase::Network,
            "th" => HeaderBase::Transport,
            _ => HeaderBase::Beyond,
        };
        let offset = u32::try_from(json.get("offset")?.as_u64()?).ok()?;
        let length = u32::try_from(json.get("len")?.as_u64()?).ok()?;
        return Some(Parsed::field(Field::Raw { base, offset, length }, Kind::Number));
    }
    let protocol = json.get("protocol")?.as_str()?;
    let name = json.get("field")?.as_str()?;
    if json.get("tunnel").is_some() {
        return None;
    }
    let version = match protocol {
        "ip" => Some(IpVersion::V4),
        "ip6" => Some(IpVersion::V6),
        _ => None,
    };
    let checksum = |base: HeaderBase, offset: u32| (Field::Raw { base, offset, length: 16 }, Kind::Number);
    let (field, kind) = match (protocol, name, version) {
        ("ip", "checksum", _) => checksum(HeaderBase::Network, 80),
        ("icmp" | "icmpv6", "checksum", _) => checksum(HeaderBase::Transport, 16),
        ("tcp", "checksum", _) => checksum(HeaderBase::Transport, 128),
        ("udp", "checksum", _) => checksum(HeaderBase::Transport, 48),
        (_, "saddr", Some(version)) => (Field::Source(version), Kind::Address),
        (_, "daddr", Some(version)) => (Field::Destination(version), Kind::Address),
        (_, "ttl" | "hoplimit", Some(version)) => (Field::HopLimit(version), Kind::Number),
        (_, "protocol" | "nexthdr", Some(version)) => (Field::NextHeader(version), Kind::Protocol),
        (_, "version", Some(version)) => (Field::Version(version), Kind::Number),
        (_, "length", Some(version)) => (Field::IpLength(version), Kind::Number),
        (_, "dscp", Some(version)) => (Field::Dscp(version), Kind::Dscp),
        (_, "ecn", Some(version)) => (Field::Ecn(version), Kind::Ecn),
        ("ip", "id", _) => (Field::IpId, Kind::Number),
        ("ip", "frag-off", _) => (Field::FragmentBits, Kind::Number),
        ("ip", "hdrlength", _) => (Field::Raw { base: HeaderBase::Network, offset: 4, length: 4 }, Kind::Number),
        ("ether", "saddr", _) => (Field::EtherSource, Kind::Mac),
        ("ether", "daddr", _) => (Field::EtherDestination, Kind::Mac),
        ("ether", "type", _) => (Field::EtherType, Kind::EtherType),
        ("vlan", "id", _) => (Field::VlanId, Kind::Number),
        ("vlan", "type", _) => (Field::Protocol, Kind::EtherType),
        ("arp", "htype", _) => (Field::ArpHardwareType, Kind::Number),
        ("arp", "ptype", _) => (Field::ArpProtocolType, Kind::EtherType),
        ("arp", "hlen", _) => (Field::ArpHardwareLength, Kind::Number),
        ("arp", "plen", _) => (Field::ArpProtocolLength, Kind::Number),
        ("arp", "operation", _) => (Field::ArpOperation, Kind::ArpOperation),
        ("arp", "saddr ip", _) => (Field::ArpSourceIp, Kind::Address),
        ("arp", "daddr ip", _) => (Field::ArpTargetIp, Kind::Address),
        ("arp", "saddr ether", _) => (Field::ArpSourceMac, Kind::Mac),
        ("arp", "daddr ether", _) => (Field::ArpTargetMac, Kind::Mac),
        ("icmp", "type", _) => (Field::IcmpType, Kind::IcmpType),
        ("icmp", "code", _) => (Field::IcmpCode, Kind::IcmpCode),
        ("icmp", "id", _) => (Field::IcmpId, Kind::Number),
        ("icmp", "sequence", _) => (Field::IcmpSequence, Kind::Number),
        ("icmpv6", "type", _) => (Field::Icmp6Type, Kind::Icmp6Type),
        ("icmpv6", "code", _) => (Field::Icmp6Code, Kind::Icmp6Code),
        ("icmpv6", "id", _) => (Field::Icmp6Id, Kind::Number),
        ("icmpv6", "sequence", _) => (Field::Icmp6Sequence, Kind::Number),
        ("th", "sport", _) => (Field::AnySourcePort, Kind::Port),
        ("th", "dport", _) => (Field::AnyDestinationPort, Kind::Port),
        ("tcp" | "udp" | "udplite" | "sctp" | "dccp", "sport", _) => {
            (Field::SourcePort(implied_protocol(json)?), Kind::Port)
        }
        ("tcp" | "udp" | "udplite" | "sctp" | "dccp", "dport", _) => {
            (Field::DestinationPort(implied_protocol(json)?), Kind::Port)
        }
        ("tcp", "flags", _) => (Field::TcpFlags, Kind::TcpFlags),
        _ => return None,
    };
    // Where the field itself says nothing about the protocol, nft's hidden check is put back.
    let implies = if matches!(field, Field::Raw { .. }) { implied_protocol(json) } else { None };
    Some(Parsed { implies, ..Parsed::field(field, kind) })
}
