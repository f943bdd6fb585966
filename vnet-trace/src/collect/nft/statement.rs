//! nft's JSON statements into the model's.

use serde_json::Value as Json;

use crate::model::netfilter::expression::{Expression, FibFlags, Field, Kind, Match, Op, Pattern, Value};
use crate::model::netfilter::statement::{Counter, Nat, NatKind, Reject, Statement, Verdict};

use super::expression::{Parsed, map_ref, parse, pattern};
use super::symbol;

/// Named counters, quotas and limits of the table in which a rule stands.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Name and value.
    pub counters: Vec<(String, Counter)>,
    /// Name, `over`, and whether it is used up.
    pub quotas: Vec<(String, bool, bool)>,
    /// Name and `over`.
    pub limits: Vec<(String, bool)>,
}

/// A verdict, if it is one.
pub fn verdict(json: &Json) -> Option<Verdict> {
    let (word, inner) = json.as_object()?.iter().next()?;
    let target = || inner.get("target").and_then(Json::as_str).map(str::to_owned);
    Some(match word.as_str() {
        "accept" => Verdict::Accept,
        "drop" => Verdict::Drop,
        "continue" => Verdict::Continue,
        "return" => Verdict::Return,
        "jump" => Verdict::Jump(target()?),
        "goto" => Verdict::Goto(target()?),
        _ => return None,
    })
}

/// Appends what a JSON statement says to the statements of its rule.
pub fn parse_statement(json: &Json, objects: &Objects, into: &mut Vec<Statement>) {
    if let Some(verdict) = verdict(json) {
        into.push(Statement::Verdict(verdict));
        return;
    }
    let text = || super::text::statement(json);
    let unknown_condition = || {
        Statement::Match(Match {
            left: Expression::Unknown { text: text() },
            op: Op::Equal,
            right: Pattern::Is(Value::Number(1)),
        })
    };
    let Some((word, inner)) = json.as_object().and_then(|object| object.iter().next()) else {
        into.push(match json {
            // Old versions print some statements as bare words.
            Json::String(word) if word == "notrack" => Statement::Notrack,
            _ => Statement::Unknown { text: text() },
        });
        return;
    };
    match word.as_str() {
        "match" => match parse_match(inner) {
            Some((condition, implies)) => {
                imply(implies, into);
                into.push(Statement::Match(condition));
            }
            None => into.push(unknown_condition()),
        },
        "vmap" => {
            let (Some(key), Some(data)) = (inner.get("key"), inner.get("data")) else {
                into.push(Statement::Unknown { text: text() });
                return;
            };
            let key = parse(key);
            let map = map_ref(data, &key.kinds);
            imply(key.implies, into);
            into.push(Statement::VerdictMap { key: key.expression, map });
        }
        "counter" => into.push(Statement::Counter(counter(inner, objects))),
        "reject" => into.push(Statement::Reject(reject(inner))),
        "limit" => {
            let over = match inner.as_str() {
                Some(name) => objects.limits.iter().any(|(known, over)| known == name && *over),
                None => inverted(inner),
            };
            into.push(Statement::Limit { over, text: text() });
        }
        "ct count" => into.push(Statement::Limit { over: inverted(inner), text: text() }),
        "quota" => into.push(quota(inner, objects)),
        "mangle" => mangle(inner, text, into),
        "snat" => into.push(nat(NatKind::Snat, inner)),
        "dnat" => into.push(nat(NatKind::Dnat, inner)),
        "masquerade" => into.push(nat(NatKind::Masquerade, inner)),
        "redirect" => into.push(nat(NatKind::Redirect, inner)),
        "notrack" => into.push(Statement::Notrack),
        "set" | "map" => {
            let set = inner.get("set").or_else(|| inner.get("map")).and_then(Json::as_str).unwrap_or_default();
            let deletes = inner.get("op").and_then(Json::as_str) == Some("delete");
            let statements = if deletes { Vec::new() } else { nested(inner.get("stmt"), objects) };
            into.push(Statement::SetUpdate { set: set.trim_start_matches('@').to_owned(), statements });
        }
        "meter" => {
            let set = inner.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
            into.push(Statement::SetUpdate { set, statements: nested(inner.get("stmt"), objects) });
        }
        "fwd" => {
            let device = inner.get("dev").and_then(Json::as_str).map(str::to_owned);
            into.push(Statement::Forward { device });
        }
        "queue" => {
            let bypass = match inner.get("flags") {
                Some(Json::String(flag)) => flag == "bypass",
                Some(Json::Array(flags)) => flags.iter().any(|flag| flag.as_str() == Some("bypass")),
                _ => false,
            };
            into.push(Statement::Queue { bypass });
        }
        "synproxy" => {
            imply(Some(6), into);
            into.push(Statement::Unknown { text: text() });
        }
        // Goes on only if a socket takes the packet.
        "tproxy" => into.push(unknown_condition()),
        "log" | "dup" | "flow" | "last" | "ct helper" | "ct timeout" | "ct expectation" | "secmark" | "reset" => {
            into.push(Statement::Inert { text: text() });
        }
        "xt" => xt(inner, text(), into),
        _ => into.push(Statement::Unknown { text: text() }),
    }
}

/// Puts back the check for a protocol that nft leaves out when it prints.
fn imply(protocol: Option<u8>, into: &mut Vec<Statement>) {
    if let Some(protocol) = protocol {
        into.push(Statement::Match(Match {
            left: Expression::Field(Field::L4Proto),
            op: Op::Equal,
            right: Pattern::Is(Value::Number(u64::from(protocol))),
        }));
    }
}

fn parse_match(json: &Json) -> Option<(Match, Option<u8>)> {
    let op = match json.get("op")?.as_str()? {
        "==" => Op::Equal,
        "!=" => Op::NotEqual,
        "<" => Op::Less,
        ">" => Op::Greater,
        "<=" => Op::LessOrEqual,
        ">=" => Op::GreaterOrEqual,
        "in" => Op::AnyBit,
        "!" => Op::NoBit,
        _ => return None,
    };
    let Parsed { mut expression, kinds, implies } = parse(json.get("left")?);
    let right = json.get("right")?;
    if let (Expression::Field(Field::FibOif(flags) | Field::FibOifName(flags)), Json::Bool(_)) = (&expression, right) {
        // `fib … oif exists`
        let flags: FibFlags = *flags;
        expression = Expression::Field(Field::FibExists(flags));
        return Some((Match { left: expression, op, right: pattern(right, &[Kind::Flag]) }, implies));
    }
    Some((Match { left: expression, op, right: pattern(right, &kinds) }, implies))
}

fn counter(json: &Json, objects: &Objects) -> Counter {
    if let Some(name) = json.as_str() {
        return objects
            .counters
            .iter()
            .find(|(known, _)| known == name)
            .map_or(Counter::default(), |(_, counter)| *counter);
    }
    Counter {
        packets: json.get("packets").and_then(Json::as_u64).unwrap_or(0),
        bytes: json.get("bytes").and_then(Json::as_u64).unwrap_or(0),
    }
}

fn inverted(json: &Json) -> bool {
    json.get("inv").and_then(Json::as_bool).unwrap_or(false)
}

fn quota(json: &Json, objects: &Objects) -> Statement {
    if let Some(name) = json.as_str() {
        let found = objects.quotas.iter().find(|(known, ..)| known == name);
        return Statement::Quota {
            over: found.is_some_and(|(_, over, _)| *over),
            used_up: found.map(|(_, _, used)| *used),
        };
    }
    let amount = |value: &str, unit: &str| -> Option<u64> {
        let factor = match json.get(unit).and_then(Json::as_str).unwrap_or("bytes") {
            "bytes" => 1,
            "kbytes" => 1 << 10,
            "mbytes" => 1 << 20,
            "gbytes" => 1u64 << 30,
            _ => return None,
        };
        json.get(value)?.as_u64()?.checked_mul(factor)
    };
    let used = amount("used", "used_unit").unwrap_or(0);
    Statement::Quota { over: inverted(json), used_up: amount("val", "val_unit").map(|limit| used >= limit) }
}

fn reject(json: &Json) -> Reject {
    let code = json.get("expr").map(|expr| match expr {
        Json::Number(number) => number.as_u64().unwrap_or(0),
        _ => 0,
    });
    let name = json.get("expr").and_then(Json::as_str);
    let icmpx = |name: &str| match name {
        "no-route" => 0,
        "host-unreachable" => 2,
        "admin-prohibited" => 3,
        _ => 1,
    };
    let by = |kind| name.and_then(|name| symbol::number(kind, name)).or(code).map(|code| code as u8);
    match json.get("type").and_then(Json::as_str) {
        Some("tcp reset") => Reject::TcpReset,
        Some("icmp") => Reject::Icmp(by(Kind::IcmpCode).unwrap_or(3)),
        Some("icmpv6") => Reject::Icmp6(by(Kind::Icmp6Code).unwrap_or(4)),
        _ => Reject::Icmpx(name.map_or(1, icmpx)),
    }
}

fn mangle(json: &Json, text: impl Fn() -> String, into: &mut Vec<Statement>) {
    let (Some(key), Some(value)) = (json.get("key"), json.get("value")) else {
        into.push(Statement::Unknown { text: text() });
        return;
    };
    let Parsed { expression, kinds, implies } = parse(key);
    if key["ct"]["key"] == "zone" {
        into.push(Statement::Zone);
        return;
    }
    let in_header = key.get("payload").is_some();
    let field = match expression {
        Expression::Field(field) => field,
        _ if in_header => Field::Other { text: super::text::expression(key) },
        _ => {
            // Priorities, trace marks, TCP options: nothing that decides the way.
            into.push(Statement::Inert { text: text() });
            return;
        }
    };
    imply(implies, into);
    let value = match pattern(value, &kinds) {
        Pattern::Is(value) => Expression::Value(value),
        Pattern::Computed(expression) => *expression,
        // `mark | 0x4000` has an operator that also joins plain flags.
        _ => parse(value).expression,
    };
    // nft writes a place given in bits without mending checksums, and one given by name with.
    let by_name =
        !matches!(field, Field::AnySourcePort | Field::AnyDestinationPort) && key["payload"].get("base").is_none();
    into.push(Statement::Mangle { field, value, mends_checksum: in_header.then_some(by_name) });
}

fn nat(kind: NatKind, json: &Json) -> Statement {
    let flags = |name: &str| -> Vec<&str> {
        match json.get(name) {
            Some(Json::String(flag)) => vec![flag.as_str()],
            Some(Json::Array(list)) => list.iter().filter_map(Json::as_str).collect(),
            _ => Vec::new(),
        }
    };
    let target = |name: &str, kind: Kind| {
        json.get(name).map(|value| match pattern(value, &[kind]) {
            Pattern::Is(value) => Expression::Value(value),
            Pattern::Prefix { address, length } => Expression::Prefix { address, length },
            Pattern::Range { from, to } => Expression::Range { from, to },
            Pattern::Computed(expression) => *expression,
            _ => parse(value).expression,
        })
    };
    let prefix = flags("flags").contains(&"netmap") || flags("type_flags").contains(&"prefix");
    Statement::Nat(Nat { kind, address: target("addr", Kind::Address), port: target("port", Kind::Port), prefix })
}

fn nested(json: Option<&Json>, objects: &Objects) -> Vec<Statement> {
    let mut statements = Vec::new();
    match json {
        Some(Json::Array(list)) => {
            for statement in list {
                parse_statement(statement, objects, &mut statements);
            }
        }
        Some(statement) => parse_statement(statement, objects, &mut statements),
        None => {}
    }
    statements
}

/// A match or target of iptables that nft cannot print: only its name is known.
fn xt(json: &Json, text: String, into: &mut Vec<Statement>) {
    let name = json.get("name").and_then(Json::as_str).unwrap_or_default();
    if json.get("type").and_then(Json::as_str) == Some("match") {
        if name != "comment" {
            let unknown = Expression::Unknown { text };
            into.push(Statement::Match(Match { left: unknown, op: Op::Equal, right: Pattern::Is(Value::Number(1)) }));
        }
        return;
    }
    let unknown = || Some(Expression::Unknown { text: name.to_owned() });
    let nat = |kind, address| Statement::Nat(Nat { kind, address, port: None, prefix: false });
    into.push(match name {
        "REJECT" => Statement::Reject(Reject::Icmpx(1)),
        "MASQUERADE" => nat(NatKind::Masquerade, None),
        "REDIRECT" => nat(NatKind::Redirect, None),
        "SNAT" => nat(NatKind::Snat, unknown()),
        "DNAT" | "NETMAP" => nat(NatKind::Dnat, unknown()),
        "MARK" | "CONNMARK" | "mark" => Statement::Mangle {
            field: Field::Mark,
            value: Expression::Unknown { text: name.to_owned() },
            mends_checksum: None,
        },
        "NFQUEUE" => Statement::Queue { bypass: false },
        "arpreply" => Statement::ArpReply,
        "LOG" | "NFLOG" | "TCPMSS" | "CHECKSUM" | "TRACE" | "CLASSIFY" | "AUDIT" | "DSCP" | "TOS" | "SET" | "TEE"
        | "log" | "nflog" => Statement::Inert { text },
        _ => Statement::Unknown { text },
    });
}
