//! Targets of iptables and ip6tables.

use std::net::IpAddr;

use crate::collect::nft::symbol;
use crate::model::netfilter::expression::{BitOp, Expression, Field, IpVersion, Kind, Value};
use crate::model::netfilter::statement::{Nat, NatKind, Reject, Statement, Verdict};

use super::matches::masked;

/// Parses a target and its options. A name that is no known target is kept as unknown; it may be a chain.
pub fn parse(name: &str, options: &[String], version: IpVersion, into: &mut Vec<Statement>) {
    let written = || if options.is_empty() { name.to_owned() } else { format!("{name} {}", options.join(" ")) };
    let argument = |option: &str| -> Option<&str> {
        let at = options.iter().position(|word| word == option)?;
        options.get(at + 1).map(String::as_str)
    };
    let has = |option: &str| options.iter().any(|word| word == option);
    match name {
        "ACCEPT" => into.push(Statement::Verdict(Verdict::Accept)),
        "DROP" => into.push(Statement::Verdict(Verdict::Drop)),
        "RETURN" => into.push(Statement::Verdict(Verdict::Return)),
        "REJECT" => into.push(Statement::Reject(reject(argument("--reject-with"), version))),
        "MASQUERADE" => into.push(Statement::Nat(Nat {
            kind: NatKind::Masquerade,
            address: None,
            port: argument("--to-ports").and_then(ports),
            prefix: false,
        })),
        "REDIRECT" => into.push(Statement::Nat(Nat {
            kind: NatKind::Redirect,
            address: None,
            port: argument("--to-ports").and_then(ports),
            prefix: false,
        })),
        "SNAT" | "DNAT" => {
            let kind = if name == "SNAT" { NatKind::Snat } else { NatKind::Dnat };
            let to = argument("--to-source").or_else(|| argument("--to-destination"));
            let (address, port) = match to.map(nat_target) {
                Some(Some(target)) => target,
                Some(None) | None => (Some(Expression::Unknown { text: written() }), None),
            };
            into.push(Statement::Nat(Nat { kind, address, port, prefix: false }));
        }
        "NETMAP" => {
            let address = argument("--to").map(|to| network(to).unwrap_or(Expression::Unknown { text: to.to_owned() }));
            // At PREROUTING and OUTPUT it is the destination; POSTROUTING's is settled by the caller of this table's chain.
            into.push(Statement::Nat(Nat { kind: NatKind::Dnat, address, port: None, prefix: true }));
        }
        "MARK" => mark(Field::Mark, &argument, written, into),
        "CONNMARK" if has("--restore-mark") => copy_mark(Field::Mark, Field::CtMark, &argument, into),
        "CONNMARK" if has("--save-mark") => copy_mark(Field::CtMark, Field::Mark, &argument, into),
        "CONNMARK" => mark(Field::CtMark, &argument, written, into),
        "NOTRACK" => into.push(Statement::Notrack),
        "CT" if has("--notrack") => into.push(Statement::Notrack),
        "CT" if ["--zone", "--zone-orig", "--zone-reply"].into_iter().any(has) => into.push(Statement::Zone),
        "TTL" | "HL" => hop_limit(version, &argument, written, into),
        "NFQUEUE" | "QUEUE" => into.push(Statement::Queue { bypass: has("--queue-bypass") }),
        "LOG" | "NFLOG" | "ULOG" | "TRACE" | "TCPMSS" | "CHECKSUM" | "CLASSIFY" | "AUDIT" | "CT" | "SET" | "TEE"
        | "DSCP" | "TOS" | "ECN" | "TCPOPTSTRIP" | "SECMARK" | "CONNSECMARK" | "RATEEST" | "IDLETIMER" | "LED"
        | "HMARK" => {
            // HMARK sets a mark from a hash, which nobody can tell beforehand.
            if name == "HMARK" {
                into.push(Statement::Mangle {
                    field: Field::Mark,
                    value: Expression::Unknown { text: written() },
                    mends_checksum: None,
                });
            } else {
                into.push(Statement::Inert { text: written() });
            }
        }
        _ => into.push(Statement::Unknown { text: name.to_owned() }),
    }
}

/// What the sender is told; without `--reject-with`, that the port is unreachable.
pub fn reject(with: Option<&str>, version: IpVersion) -> Reject {
    if matches!(with, Some("tcp-reset")) {
        return Reject::TcpReset;
    }
    match version {
        IpVersion::V4 => Reject::Icmp(match with {
            Some("icmp-net-unreachable") => 0,
            Some("icmp-host-unreachable") => 1,
            Some("icmp-proto-unreachable") => 2,
            Some("icmp-net-prohibited") => 9,
            Some("icmp-host-prohibited") => 10,
            Some("icmp-admin-prohibited") => 13,
            _ => 3,
        }),
        IpVersion::V6 => Reject::Icmp6(match with {
            Some("icmp6-no-route") => 0,
            Some("icmp6-adm-prohibited") => 1,
            Some("icmp6-addr-unreachable") => 3,
            Some("icmp6-policy-fail") => 5,
            Some("icmp6-reject-route") => 6,
            _ => 4,
        }),
    }
}

/// `address[-address][:port[-port]]`, with IPv6 addresses in brackets when a port follows; `:port` alone.
fn nat_target(text: &str) -> Option<(Option<Expression>, Option<Expression>)> {
    let (addresses, port) = if let Some(rest) = text.strip_prefix('[') {
        let (addresses, rest) = rest.split_once(']')?;
        // `[a]-[b]:port`
        match rest.strip_prefix("-[") {
            Some(rest) => {
                let (last, rest) = rest.split_once(']')?;
                (format!("{addresses}-{last}"), rest.strip_prefix(':'))
            }
            None => (addresses.to_owned(), rest.strip_prefix(':')),
        }
    } else if text.matches(':').count() > 1 {
        (text.to_owned(), None)
    } else {
        match text.split_once(':') {
            Some((addresses, port)) => (addresses.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        }
    };
    let address = match addresses.split_once('-') {
        _ if addresses.is_empty() => None,
        Some((from, to)) => {
            Some(Expression::Range { from: Value::Address(from.parse().ok()?), to: Value::Address(to.parse().ok()?) })
        }
        None => Some(Expression::Value(Value::Address(addresses.parse().ok()?))),
    };
    let port = match port {
        Some(port) => Some(ports(port)?),
        None => None,
    };
    Some((address, port))
}

fn ports(text: &str) -> Option<Expression> {
    // A third part, `/base`, shifts a range; the port is then not known.
    let text = text.split('/').next()?;
    match text.split_once('-') {
        Some((from, to)) => {
            Some(Expression::Range { from: Value::Number(symbol::plain(from)?), to: Value::Number(symbol::plain(to)?) })
        }
        None => symbol::plain(text).map(|port| Expression::Value(Value::Number(port))),
    }
}

fn network(text: &str) -> Option<Expression> {
    let (address, length) = text.split_once('/').unwrap_or((text, if text.contains(':') { "128" } else { "32" }));
    let address: IpAddr = address.parse().ok()?;
    Some(Expression::Prefix { address, length: length.parse().ok()? })
}

fn number(value: u64) -> Expression {
    Expression::Value(Value::Number(value))
}

fn bits(op: BitOp, left: Expression, right: Expression) -> Expression {
    Expression::Bits { op, left: Box::new(left), right: Box::new(right) }
}

/// `--set-xmark value/mask`: the bits of the mask are cleared, then the value's are flipped.
fn mark<'a>(
    field: Field,
    argument: &impl Fn(&str) -> Option<&'a str>,
    written: impl Fn() -> String,
    into: &mut Vec<Statement>,
) {
    let current = || Expression::Field(field.clone());
    let xmark = argument("--set-xmark").and_then(masked);
    let set = argument("--set-mark").and_then(masked);
    let and = argument("--and-mark").and_then(symbol::plain);
    let or = argument("--or-mark").and_then(symbol::plain);
    let xor = argument("--xor-mark").and_then(symbol::plain);
    let value = match (xmark, set, and, or, xor) {
        (Some((value, 0xffff_ffff)), ..) => number(value),
        (Some((value, mask)), ..) => {
            bits(BitOp::Xor, bits(BitOp::And, current(), number(!mask & 0xffff_ffff)), number(value))
        }
        (_, Some((value, mask)), ..) => {
            bits(BitOp::Or, bits(BitOp::And, current(), number(!mask & 0xffff_ffff)), number(value))
        }
        (_, _, Some(mask), ..) => bits(BitOp::And, current(), number(mask)),
        (_, _, _, Some(value), _) => bits(BitOp::Or, current(), number(value)),
        (.., Some(value)) => bits(BitOp::Xor, current(), number(value)),
        _ => Expression::Unknown { text: written() },
    };
    into.push(Statement::Mangle { field, value, mends_checksum: None });
}

/// `to = (to & ~tomask) ^ (from & frommask)`
fn copy_mark<'a>(to: Field, from: Field, argument: &impl Fn(&str) -> Option<&'a str>, into: &mut Vec<Statement>) {
    let mask = |option: &str| argument(option).and_then(symbol::plain).unwrap_or(0xffff_ffff);
    let packet_mask = argument("--mask").and_then(symbol::plain).unwrap_or_else(|| mask("--nfmask"));
    let connection_mask = argument("--mask").and_then(symbol::plain).unwrap_or_else(|| mask("--ctmask"));
    let (kept, taken) = if to == Field::Mark { (packet_mask, connection_mask) } else { (connection_mask, packet_mask) };
    let taken = bits(BitOp::And, Expression::Field(from), number(taken));
    let value = if kept == 0xffff_ffff {
        taken
    } else {
        bits(BitOp::Xor, bits(BitOp::And, Expression::Field(to.clone()), number(!kept & 0xffff_ffff)), taken)
    };
    into.push(Statement::Mangle { field: to, value, mends_checksum: None });
}

fn hop_limit<'a>(
    version: IpVersion,
    argument: &impl Fn(&str) -> Option<&'a str>,
    written: impl Fn() -> String,
    into: &mut Vec<Statement>,
) {
    let set =
        argument("--ttl-set").or_else(|| argument("--hl-set")).and_then(|text| symbol::number(Kind::Number, text));
    let value = set.map_or_else(|| Expression::Unknown { text: written() }, number);
    into.push(Statement::Mangle { field: Field::HopLimit(version), value, mends_checksum: Some(true) });
}
