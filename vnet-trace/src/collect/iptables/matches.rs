//! Matches of iptables and ip6tables, as the nftables expressions that ask the same.
//!
//! `-m comment` aside, every option of a module that is not listed here makes the whole module an unknown condition: half an
//! understood module would be a wrong one.

use std::net::IpAddr;

use crate::collect::nft::symbol;
use crate::model::netfilter::Family;
use crate::model::netfilter::expression::{
    BitOp, CtSide, Expression, FibFlags, Field, IpVersion, Kind, Match, Op, Pattern, Value,
};
use crate::model::netfilter::statement::{Statement, Verdict};

use super::{ParsedRule, target};

/// Parses the options of a rule, from after `-A CHAIN`.
pub fn parse(options: &[String], family: Family) -> ParsedRule {
    let version = if family == Family::Ip6 { IpVersion::V6 } else { IpVersion::V4 };
    let mut cursor = Cursor { options, at: 0, version, protocol: None, rule: ParsedRule::default() };
    cursor.run();
    cursor.rule
}

struct Cursor<'a> {
    options: &'a [String],
    at: usize,
    version: IpVersion,
    protocol: Option<u8>,
    rule: ParsedRule,
}

impl<'a> Cursor<'a> {
    fn run(&mut self) {
        while self.at < self.options.len() {
            let start = self.at;
            let negated = self.take_if("!");
            let Some(option) = self.next() else { return };
            match option {
                "-m" | "--match" => {
                    let Some(module) = self.next() else { return };
                    self.module(module);
                }
                "-j" | "--jump" => {
                    let Some(name) = self.next() else { return };
                    let rest = self.options.get(self.at..).unwrap_or_default();
                    target::parse(name, rest, self.version, &mut self.rule.actions);
                    return;
                }
                "-g" | "--goto" => {
                    if let Some(name) = self.next() {
                        self.rule.actions.push(Statement::Verdict(Verdict::Goto(name.to_owned())));
                    }
                    return;
                }
                _ => {
                    if self.common(option, negated).is_none() {
                        self.at = start;
                        self.unknown();
                    }
                }
            }
        }
    }

    fn peek(&self) -> Option<&'a str> {
        self.options.get(self.at).map(String::as_str)
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        self.at += 1;
        Some(word)
    }

    fn take_if(&mut self, word: &str) -> bool {
        let there = self.peek() == Some(word);
        self.at += usize::from(there);
        there
    }

    fn push(&mut self, field: Field, negated: bool, right: Pattern) {
        let op = if negated { Op::NotEqual } else { Op::Equal };
        self.push_match(Expression::Field(field), op, right);
    }

    fn push_match(&mut self, left: Expression, op: Op, right: Pattern) {
        self.rule.conditions.push(Statement::Match(Match { left, op, right }));
    }

    /// Takes everything up to the next module or target as one condition that is not understood.
    fn unknown(&mut self) {
        let start = self.at;
        if self.next().is_none() {
            return;
        }
        while let Some(word) = self.peek() {
            if matches!(word, "-m" | "--match" | "-j" | "--jump" | "-g" | "--goto") {
                break;
            }
            self.at += 1;
        }
        let text = self.options.get(start..self.at).unwrap_or_default().join(" ");
        self.rule.conditions.push(unknown_condition(text));
    }

    /// Options that need no module.
    fn common(&mut self, option: &str, negated: bool) -> Option<()> {
        match option {
            "-s" | "--source" | "-d" | "--destination" => {
                let field = match option {
                    "-s" | "--source" => Field::Source(self.version),
                    _ => Field::Destination(self.version),
                };
                let (left, right) = address(field, self.next()?)?;
                let op = if negated { Op::NotEqual } else { Op::Equal };
                self.push_match(left, op, right);
            }
            "-i" | "--in-interface" => {
                let name = device(self.next()?);
                self.push(Field::IifName, negated, name);
            }
            "-o" | "--out-interface" => {
                let name = device(self.next()?);
                self.push(Field::OifName, negated, name);
            }
            "-p" | "--protocol" => {
                let word = self.next()?;
                let number = symbol::number(Kind::Protocol, word)?;
                if number == 0 || word == "all" {
                    return Some(());
                }
                if !negated {
                    self.protocol = u8::try_from(number).ok();
                }
                self.push(Field::L4Proto, negated, Pattern::Is(Value::Number(number)));
            }
            "-f" | "--fragment" => {
                self.push(Field::LaterFragment, false, Pattern::Is(Value::Number(u64::from(!negated))));
            }
            _ => return None,
        }
        Some(())
    }

    fn module(&mut self, module: &str) {
        let start = self.at;
        let kept = self.rule.conditions.len();
        let protocol = self.protocol;
        if module == "comment" {
            self.take_if("--comment");
            self.rule.comment = self.next().map(str::to_owned);
            return;
        }
        if self.options_of(module).is_some() {
            return;
        }
        self.rule.conditions.truncate(kept);
        self.protocol = protocol;
        // Back to the module's name, which is the first word of the text.
        self.at = start.saturating_sub(1);
        self.unknown();
    }

    /// The options of a known module. None if the module or one of its options is not known.
    fn options_of(&mut self, module: &str) -> Option<()> {
        match module {
            "limit" | "hashlimit" | "connlimit" | "statistic" => {
                self.rate(module);
                return Some(());
            }
            "addrtype" => return self.addrtype(),
            "rpfilter" => return self.rpfilter(),
            "tcp" | "udp" | "icmp" | "icmp6" | "conntrack" | "state" | "mark" | "connmark" | "multiport"
            | "iprange" | "physdev" | "mac" | "pkttype" | "owner" | "length" | "ttl" | "hl" | "dscp" | "devgroup"
            | "sctp" | "dccp" | "udplite" => {}
            _ => return None,
        }
        while let Some(word) = self.peek() {
            let negated = word == "!" && self.options.get(self.at + 1).is_some_and(|next| next.starts_with("--"));
            let option = if negated { self.options.get(self.at + 1)?.as_str() } else { word };
            if !option.starts_with("--") || matches!(option, "--match" | "--jump" | "--goto") {
                break;
            }
            self.at += 1 + usize::from(negated);
            self.option(module, option, negated)?;
        }
        Some(())
    }

    fn option(&mut self, module: &str, option: &str, negated: bool) -> Option<()> {
        let default = match module {
            "tcp" => 6,
            "udp" => 17,
            "sctp" => 132,
            "dccp" => 33,
            "udplite" => 136,
            _ => self.protocol.unwrap_or(0),
        };
        match (module, option) {
            (_, "--sport" | "--source-port" | "--dport" | "--destination-port") => {
                let ports = port_range(self.next()?)?;
                let field = if option.starts_with("--s") { source_port(default) } else { destination_port(default) };
                self.push(field, negated, ports);
            }
            ("multiport", "--sports" | "--source-ports" | "--dports" | "--destination-ports") => {
                let ports: Option<Vec<Pattern>> = self.next()?.split(',').map(port_range).collect();
                let field = if option.starts_with("--s") { source_port(default) } else { destination_port(default) };
                self.push(field, negated, Pattern::Set(ports?));
            }
            ("tcp", "--tcp-flags") => {
                let mask = tcp_flags(self.next()?)?;
                let bits = tcp_flags(self.next()?)?;
                self.push(Field::TcpFlags, negated, Pattern::Masked { bits, mask });
            }
            ("tcp", "--syn") => self.push(Field::TcpFlags, negated, Pattern::Masked { bits: 2, mask: 0x17 }),
            ("icmp" | "icmp6", "--icmp-type" | "--icmpv6-type") => self.icmp(negated)?,
            ("conntrack" | "state", _) => self.conntrack(option, negated)?,
            ("mark" | "connmark", "--mark") => {
                let (bits, mask) = masked(self.next()?)?;
                let field = if module == "mark" { Field::Mark } else { Field::CtMark };
                self.push(field, negated, Pattern::Masked { bits, mask });
            }
            ("iprange", "--src-range" | "--dst-range") => {
                let (from, to) = self.next()?.split_once('-')?;
                let from = Value::Address(from.parse().ok()?);
                let to = Value::Address(to.parse().ok()?);
                let field = if option == "--src-range" {
                    Field::Source(self.version)
                } else {
                    Field::Destination(self.version)
                };
                self.push(field, negated, Pattern::Range { from, to });
            }
            ("physdev", "--physdev-in") => {
                let name = device(self.next()?);
                self.push(Field::PhysIn, negated, name);
            }
            ("physdev", "--physdev-out") => {
                let name = device(self.next()?);
                self.push(Field::PhysOut, negated, name);
            }
            ("physdev", "--physdev-is-in") => self.push(Field::PhysHasIn, negated, yes()),
            ("physdev", "--physdev-is-out") => self.push(Field::PhysHasOut, negated, yes()),
            ("physdev", "--physdev-is-bridged") => self.push(Field::PhysBridged, negated, yes()),
            ("mac", "--mac-source") => {
                let mac = symbol::mac(self.next()?)?;
                self.push(Field::EtherSource, negated, Pattern::Is(Value::Mac(mac)));
            }
            ("pkttype", "--pkt-type") => {
                let number = symbol::number(Kind::PacketType, self.next()?)?;
                self.push(Field::PacketType, negated, Pattern::Is(Value::Number(number)));
            }
            ("owner", "--uid-owner" | "--gid-owner") => {
                let ids = number_range(self.next()?, '-')?;
                let field = match option {
                    "--uid-owner" if negated => Field::SocketUserOrNone,
                    "--uid-owner" => Field::SocketUser,
                    _ => Field::SocketGroup,
                };
                self.push(field, negated, ids);
            }
            ("length", "--length") => {
                let lengths = number_range(self.next()?, ':')?;
                self.push(Field::Length, negated, lengths);
            }
            ("ttl" | "hl", _) => {
                let op = match option.rsplit('-').next()? {
                    "eq" if negated => Op::NotEqual,
                    "eq" => Op::Equal,
                    "lt" => Op::Less,
                    "gt" => Op::Greater,
                    _ => return None,
                };
                let number = symbol::plain(self.next()?)?;
                self.push_match(
                    Expression::Field(Field::HopLimit(self.version)),
                    op,
                    Pattern::Is(Value::Number(number)),
                );
            }
            ("dscp", "--dscp" | "--dscp-class") => {
                let number = symbol::number(Kind::Dscp, self.next()?)?;
                self.push(Field::Dscp(self.version), negated, Pattern::Is(Value::Number(number)));
            }
            ("devgroup", "--src-group" | "--dst-group") => {
                let (bits, mask) = masked(self.next()?)?;
                let field = if option == "--src-group" { Field::IifGroup } else { Field::OifGroup };
                self.push(field, negated, Pattern::Masked { bits, mask });
            }
            _ => return None,
        }
        Some(())
    }

    fn icmp(&mut self, negated: bool) -> Option<()> {
        let (kind, code, type_kind) = match self.version {
            IpVersion::V4 => (Field::IcmpType, Field::IcmpCode, Kind::IcmpType),
            IpVersion::V6 => (Field::Icmp6Type, Field::Icmp6Code, Kind::Icmp6Type),
        };
        let word = self.next()?;
        if word == "any" || (word == "255" && self.version == IpVersion::V4) {
            return Some(());
        }
        let Some((type_word, code_word)) = word.split_once('/') else {
            let number = symbol::number(type_kind, word)?;
            self.push(kind, negated, Pattern::Is(Value::Number(number)));
            return Some(());
        };
        let type_number = symbol::number(type_kind, type_word)?;
        let code_number = symbol::plain(code_word)?;
        let left = Expression::Concat(vec![Expression::Field(kind), Expression::Field(code)]);
        let right = Pattern::Is(Value::Concat(vec![Value::Number(type_number), Value::Number(code_number)]));
        self.push_match(left, if negated { Op::NotEqual } else { Op::Equal }, right);
        Some(())
    }

    fn conntrack(&mut self, option: &str, negated: bool) -> Option<()> {
        let word = self.next()?;
        let bits = |kind: Kind| -> Option<u64> {
            word.split(',').try_fold(0, |bits, name| Some(bits | symbol::number(kind, name)?))
        };
        let any = if negated { Op::NoBit } else { Op::AnyBit };
        let (field, right) = match option {
            "--ctstate" | "--state" => {
                let bits = bits(Kind::CtState)?;
                self.push_match(Expression::Field(Field::CtStateOrNat), any, Pattern::Is(Value::Number(bits)));
                return Some(());
            }
            "--ctstatus" => {
                let bits = bits(Kind::CtStatus)?;
                if bits == 0 {
                    self.push(Field::CtStatus, negated, Pattern::Is(Value::Number(0)));
                } else {
                    self.push_match(Expression::Field(Field::CtStatus), any, Pattern::Is(Value::Number(bits)));
                }
                return Some(());
            }
            "--ctdir" => (Field::CtDirection, Pattern::Is(Value::Number(symbol::number(Kind::CtDirection, word)?))),
            "--ctproto" => (Field::CtProtocol, Pattern::Is(Value::Number(symbol::number(Kind::Protocol, word)?))),
            "--ctorigsrc" => (Field::CtSource(CtSide::Original), prefix(word)?),
            "--ctorigdst" => (Field::CtDestination(CtSide::Original), prefix(word)?),
            "--ctreplsrc" => (Field::CtSource(CtSide::Reply), prefix(word)?),
            "--ctrepldst" => (Field::CtDestination(CtSide::Reply), prefix(word)?),
            "--ctorigsrcport" => (Field::CtSourcePort(CtSide::Original), port_range(word)?),
            "--ctorigdstport" => (Field::CtDestinationPort(CtSide::Original), port_range(word)?),
            "--ctreplsrcport" => (Field::CtSourcePort(CtSide::Reply), port_range(word)?),
            "--ctrepldstport" => (Field::CtDestinationPort(CtSide::Reply), port_range(word)?),
            _ => return None,
        };
        self.push(field, negated, right);
        Some(())
    }

    fn addrtype(&mut self) -> Option<()> {
        let start = self.at;
        let mut flags = FibFlags::default();
        let mut asked: Vec<(bool, bool, Pattern)> = Vec::new();
        loop {
            let negated =
                self.peek() == Some("!") && self.options.get(self.at + 1).is_some_and(|next| next.starts_with("--"));
            let option =
                if negated { self.options.get(self.at + 1)?.as_str() } else { self.peek().unwrap_or_default() };
            match option {
                "--src-type" | "--dst-type" => {
                    self.at += 1 + usize::from(negated);
                    let types: Option<Vec<Pattern>> = self
                        .next()?
                        .split(',')
                        .map(|name| {
                            symbol::number(Kind::AddressType, name).map(|number| Pattern::Is(Value::Number(number)))
                        })
                        .collect();
                    asked.push((option == "--src-type", negated, Pattern::Set(types?)));
                }
                "--limit-iface-in" => {
                    self.at += 1;
                    flags.iif = true;
                }
                "--limit-iface-out" => {
                    self.at += 1;
                    flags.oif = true;
                }
                _ => break,
            }
        }
        if self.at == start {
            return None;
        }
        for (source, negated, types) in asked {
            self.push(Field::FibType(FibFlags { source, ..flags }), negated, types);
        }
        Some(())
    }

    /// `-m rpfilter` matches packets whose source would be answered by the device they came in by.
    fn rpfilter(&mut self) -> Option<()> {
        let mut flags = FibFlags { source: true, mark: false, iif: true, oif: false };
        let mut expected = 1;
        loop {
            match self.peek() {
                Some("--loose") => flags.iif = false,
                Some("--validmark") => flags.mark = true,
                Some("--invert") => expected = 0,
                // Local sources would need another look-up.
                Some("--accept-local") => return None,
                _ => break,
            }
            self.at += 1;
        }
        self.push(Field::FibExists(flags), false, Pattern::Is(Value::Number(expected)));
        Some(())
    }

    fn rate(&mut self, module: &str) {
        let start = self.at;
        let mut over = false;
        while let Some(word) = self.peek() {
            if word == "!" && self.options.get(self.at + 1).is_some_and(|next| next.starts_with(&format!("--{module}")))
            {
                over = !over;
            } else if word.starts_with("--hashlimit") || word.starts_with("--limit") || word.starts_with("--connlimit")
            {
                over |= word.ends_with("-above");
            } else if module == "statistic" && matches!(word, "--mode" | "--probability" | "--every" | "--packet" | "!")
            {
                // Their values follow as words that are not options.
            } else if word.starts_with('-') || word == "!" {
                break;
            }
            self.at += 1;
        }
        let text = format!("-m {module} {}", self.options.get(start..self.at).unwrap_or_default().join(" "));
        self.rule.conditions.push(if module == "statistic" {
            Statement::Chance { text }
        } else {
            Statement::Limit { over, text }
        });
    }
}

/// A condition that may hold and may not.
pub fn unknown_condition(text: String) -> Statement {
    Statement::Match(Match { left: Expression::Unknown { text }, op: Op::Equal, right: yes() })
}

fn yes() -> Pattern {
    Pattern::Is(Value::Number(1))
}

/// A device, where a trailing `+` stands for any ending.
pub fn device(name: &str) -> Pattern {
    match name.strip_suffix('+') {
        Some("") => Pattern::Any,
        Some(start) => Pattern::NameStart(start.to_owned()),
        None => Pattern::Is(Value::Name(name.to_owned())),
    }
}

/// An address with a prefix length or a mask, which need not be contiguous.
pub fn address(field: Field, text: &str) -> Option<(Expression, Pattern)> {
    if let Some(pattern) = prefix(text) {
        return Some((Expression::Field(field), pattern));
    }
    let (address, mask) = text.split_once('/')?;
    let (address, mask): (IpAddr, IpAddr) = (address.parse().ok()?, mask.parse().ok()?);
    let left = Expression::Bits {
        op: BitOp::And,
        left: Box::new(Expression::Field(field)),
        right: Box::new(Expression::Value(Value::Address(mask))),
    };
    Some((left, Pattern::Is(Value::Address(address))))
}

fn prefix(text: &str) -> Option<Pattern> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse().ok().map(|address| Pattern::Is(Value::Address(address)));
    };
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length: u8 = match length.parse::<u8>() {
        Ok(length) => length,
        Err(_) => match length.parse::<IpAddr>().ok()? {
            IpAddr::V4(mask) if mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros() == 32 => {
                mask.to_bits().leading_ones() as u8
            }
            IpAddr::V6(mask) if mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros() == 128 => {
                mask.to_bits().leading_ones() as u8
            }
            _ => return None,
        },
    };
    match length {
        length if length > bits => None,
        length if length == bits => Some(Pattern::Is(Value::Address(address))),
        length => Some(Pattern::Prefix { address, length }),
    }
}

/// `value[/mask]`
pub fn masked(text: &str) -> Option<(u64, u64)> {
    match text.split_once('/') {
        Some((bits, mask)) => Some((symbol::plain(bits)?, symbol::plain(mask)?)),
        None => Some((symbol::plain(text)?, 0xffff_ffff)),
    }
}

fn source_port(protocol: u8) -> Field {
    if protocol == 0 { Field::AnySourcePort } else { Field::SourcePort(protocol) }
}

fn destination_port(protocol: u8) -> Field {
    if protocol == 0 { Field::AnyDestinationPort } else { Field::DestinationPort(protocol) }
}

/// `80`, `80:90`, `:1023`, `1024:`
pub fn port_range(text: &str) -> Option<Pattern> {
    number_range(text, ':')
}

fn number_range(text: &str, separator: char) -> Option<Pattern> {
    let Some((from, to)) = text.split_once(separator) else {
        return symbol::plain(text).map(|number| Pattern::Is(Value::Number(number)));
    };
    let from = if from.is_empty() { 0 } else { symbol::plain(from)? };
    let to = if to.is_empty() { 0xffff } else { symbol::plain(to)? };
    Some(Pattern::Range { from: Value::Number(from), to: Value::Number(to) })
}

fn tcp_flags(text: &str) -> Option<u64> {
    match text {
        "NONE" => Some(0),
        "ALL" => Some(0x3f),
        _ => match symbol::plain(text) {
            Some(number) => Some(number),
            None => text.split(',').try_fold(0, |bits, name| Some(bits | symbol::number(Kind::TcpFlags, name)?)),
        },
    }
}
