//! Matches and targets of ebtables.

use crate::collect::nft::symbol;
use crate::model::netfilter::expression::{Expression, Field, IpVersion, Kind, Match, Op, Pattern, Value};
use crate::model::netfilter::statement::{Statement, Verdict};

use super::ParsedRule;
use super::matches::{address, device, masked, port_range, unknown_condition};

/// Parses the options of a rule, from after `-A CHAIN`.
pub fn parse(options: &[String]) -> ParsedRule {
    let mut rule = ParsedRule::default();
    let mut at = 0;
    let mut protocol = 0;
    while let Some(option) = options.get(at).map(String::as_str) {
        // Old versions write the negation after the option, new ones before it.
        let (option, mut negated, mut next) = match option {
            "!" => match options.get(at + 1) {
                Some(option) => (option.as_str(), true, at + 2),
                None => break,
            },
            option => (option, false, at + 1),
        };
        if options.get(next).is_some_and(|word| word == "!") {
            negated = true;
            next += 1;
        }
        if option == "-j" {
            let Some(name) = options.get(next) else { break };
            target(name, options.get(next + 1..).unwrap_or_default(), &mut rule.actions);
            break;
        }
        let argument = options.get(next).map(String::as_str);
        let parsed = argument.and_then(|argument| condition(option, argument, &mut protocol));
        match parsed {
            Some(Condition::Skip) => {}
            Some(Condition::Limit) => rule
                .conditions
                .push(Statement::Limit { over: false, text: format!("{option} {}", argument.unwrap_or_default()) }),
            Some(Condition::Match(left, right)) => {
                let op = if negated { Op::NotEqual } else { Op::Equal };
                rule.conditions.push(Statement::Match(Match { left, op, right }));
            }
            None => {
                let flag_only = argument.is_none_or(|argument| argument.starts_with('-'));
                let text =
                    if flag_only { option.to_owned() } else { format!("{option} {}", argument.unwrap_or_default()) };
                // Watchers log and go on; everything else that is not known may match and may not.
                if !option.starts_with("--log") && !option.starts_with("--nflog") && !option.starts_with("--ulog") {
                    rule.conditions.push(unknown_condition(text));
                }
                at = if flag_only { next } else { next + 1 };
                continue;
            }
        }
        at = next + 1;
    }
    rule
}

enum Condition {
    Match(Expression, Pattern),
    Limit,
    Skip,
}

fn condition(option: &str, argument: &str, protocol: &mut u8) -> Option<Condition> {
    let field = |field: Field, right: Pattern| Some(Condition::Match(Expression::Field(field), right));
    let number = |kind: Kind, word: &str| symbol::number(kind, word).map(|number| Pattern::Is(Value::Number(number)));
    let by_address = |at: Field| address(at, argument).map(|(left, right)| Condition::Match(left, right));
    match option {
        "-p" | "--protocol" | "--proto" => {
            if argument.eq_ignore_ascii_case("length") {
                return None;
            }
            let kind = match symbol::number(Kind::EtherType, argument) {
                Some(number) => number,
                None => u64::from_str_radix(argument, 16).ok()?,
            };
            field(Field::EtherType, Pattern::Is(Value::Number(kind)))
        }
        "-i" | "--in-interface" | "--in-if" => field(Field::IifName, device(argument)),
        "-o" | "--out-interface" | "--out-if" => field(Field::OifName, device(argument)),
        "--logical-in" => field(Field::BridgeIn, device(argument)),
        "--logical-out" => field(Field::BridgeOut, device(argument)),
        "-s" | "--source" | "--src" => field(Field::EtherSource, mac(argument)?),
        "-d" | "--destination" | "--dst" => field(Field::EtherDestination, mac(argument)?),
        "--ip-src" | "--ip-source" => by_address(Field::Source(IpVersion::V4)),
        "--ip-dst" | "--ip-destination" => by_address(Field::Destination(IpVersion::V4)),
        "--ip6-src" | "--ip6-source" => by_address(Field::Source(IpVersion::V6)),
        "--ip6-dst" | "--ip6-destination" => by_address(Field::Destination(IpVersion::V6)),
        "--ip-proto" | "--ip-protocol" | "--ip6-proto" | "--ip6-protocol" => {
            *protocol = symbol::number(Kind::Protocol, argument).and_then(|number| u8::try_from(number).ok())?;
            field(Field::L4Proto, Pattern::Is(Value::Number(u64::from(*protocol))))
        }
        "--ip-sport" | "--ip-source-port" | "--ip6-sport" if *protocol != 0 => {
            field(Field::SourcePort(*protocol), port_range(argument)?)
        }
        "--ip-dport" | "--ip-destination-port" | "--ip6-dport" if *protocol != 0 => {
            field(Field::DestinationPort(*protocol), port_range(argument)?)
        }
        "--ip-icmp-type" => field(Field::IcmpType, icmp(argument, Kind::IcmpType)?),
        "--ip6-icmp-type" => field(Field::Icmp6Type, icmp(argument, Kind::Icmp6Type)?),
        "--arp-op" | "--arp-opcode" => field(Field::ArpOperation, number(Kind::ArpOperation, argument)?),
        "--arp-htype" => field(
            Field::ArpHardwareType,
            if argument == "Ethernet" { Pattern::Is(Value::Number(1)) } else { number(Kind::Number, argument)? },
        ),
        "--arp-ptype" => field(Field::ArpProtocolType, number(Kind::EtherType, argument)?),
        "--arp-ip-src" => by_address(Field::ArpSourceIp),
        "--arp-ip-dst" => by_address(Field::ArpTargetIp),
        "--arp-mac-src" => field(Field::ArpSourceMac, mac(argument)?),
        "--arp-mac-dst" => field(Field::ArpTargetMac, mac(argument)?),
        "--vlan-id" => field(Field::VlanId, number(Kind::Number, argument)?),
        "--vlan-encap" => field(Field::Protocol, number(Kind::EtherType, argument)?),
        "--mark" => {
            let (bits, mask) = masked(argument)?;
            field(Field::Mark, Pattern::Masked { bits, mask })
        }
        "--pkttype-type" => field(Field::PacketType, number(Kind::PacketType, argument)?),
        "--limit" => Some(Condition::Limit),
        "--limit-burst" => Some(Condition::Skip),
        _ => None,
    }
}

/// A hardware address, with a mask or by one of ebtables' names.
fn mac(text: &str) -> Option<Pattern> {
    let (text, mask) = match text.to_ascii_lowercase().as_str() {
        "unicast" => return Some(Pattern::Masked { bits: 0, mask: 0x0100_0000_0000 }),
        "multicast" => return Some(Pattern::Masked { bits: 0x0100_0000_0000, mask: 0x0100_0000_0000 }),
        "broadcast" => return Some(Pattern::Is(Value::Mac([0xff; 6]))),
        "bga" => return Some(Pattern::Is(Value::Mac([0x01, 0x80, 0xc2, 0, 0, 0]))),
        _ => match text.split_once('/') {
            Some((text, mask)) => (text, Some(symbol::mac(mask)?)),
            None => (text, None),
        },
    };
    let mac = symbol::mac(text)?;
    let as_number = |mac: [u8; 6]| mac.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    Some(match mask {
        Some(mask) => Pattern::Masked { bits: as_number(mac) & as_number(mask), mask: as_number(mask) },
        None => Pattern::Is(Value::Mac(mac)),
    })
}

/// `type[:type][/code…]`; a code other than any is not understood.
fn icmp(text: &str, kind: Kind) -> Option<Pattern> {
    let (types, codes) = text.split_once('/').unwrap_or((text, "0:255"));
    if !matches!(codes, "0:255" | "0") {
        return None;
    }
    match types.split_once(':') {
        Some((from, to)) => Some(Pattern::Range {
            from: Value::Number(symbol::number(kind, from)?),
            to: Value::Number(symbol::number(kind, to)?),
        }),
        None => symbol::number(kind, types).map(|number| Pattern::Is(Value::Number(number))),
    }
}

fn target(name: &str, options: &[String], into: &mut Vec<Statement>) {
    let argument = |option: &str| -> Option<&str> {
        let at = options.iter().position(|word| word == option)?;
        options.get(at + 1).map(String::as_str)
    };
    let finally = |option: &str, default: Verdict| match argument(option) {
        Some("ACCEPT") => Verdict::Accept,
        Some("DROP") => Verdict::Drop,
        Some("CONTINUE") => Verdict::Continue,
        Some("RETURN") => Verdict::Return,
        _ => default,
    };
    match name {
        "ACCEPT" => into.push(Statement::Verdict(Verdict::Accept)),
        "DROP" => into.push(Statement::Verdict(Verdict::Drop)),
        "CONTINUE" => into.push(Statement::Verdict(Verdict::Continue)),
        "RETURN" => into.push(Statement::Verdict(Verdict::Return)),
        "mark" => {
            let value = argument("--mark-set").and_then(symbol::plain).map_or_else(
                || Expression::Unknown { text: "mark".to_owned() },
                |number| Expression::Value(Value::Number(number)),
            );
            into.push(Statement::Mangle { field: Field::Mark, value, mends_checksum: None });
            into.push(Statement::Verdict(finally("--mark-target", Verdict::Accept)));
        }
        "snat" | "dnat" => {
            let (field, to, finish) = if name == "snat" {
                (Field::EtherSource, "--to-source", "--snat-target")
            } else {
                (Field::EtherDestination, "--to-destination", "--dnat-target")
            };
            let mac =
                argument(to).or_else(|| argument("--to-src")).or_else(|| argument("--to-dst")).and_then(symbol::mac);
            let value = mac.map_or_else(
                || Expression::Unknown { text: name.to_owned() },
                |mac| Expression::Value(Value::Mac(mac)),
            );
            into.push(Statement::Mangle { field, value, mends_checksum: None });
            into.push(Statement::Verdict(finally(finish, Verdict::Accept)));
        }
        "arpreply" => into.push(Statement::ArpReply),
        _ => into.push(Statement::Unknown { text: name.to_owned() }),
    }
}
