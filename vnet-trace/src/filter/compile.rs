//! From text to a classic program, by libpcap.
//!
//! libpcap knows the language, names of services and protocols, and, where an expression has one, host names. Its words are
//! shown as they are. It does not say where it stopped reading; that is found out in [`place`].

use pcap::{Capture, Linktype};

use super::FilterError;
use super::classic::Instruction;

/// The classic program of an expression, for Ethernet frames.
pub(super) fn classic(text: &str) -> Result<Vec<Instruction>, FilterError> {
    let library = |message: String| FilterError::Library { message };
    let dead = Capture::dead(Linktype::ETHERNET).map_err(|error| library(words(&error)))?;
    let program = dead.compile(text, true).map_err(|error| FilterError::Refused {
        expression: text.to_owned(),
        at: place(text, &words(&error)),
        message: words(&error),
    })?;
    let instructions = program.get_instructions().iter().map(ToString::to_string);
    instructions.map(|shown| read(&shown).ok_or_else(|| library(format!("{shown} is no instruction")))).collect()
}

/// An instruction, which the library only shows as text: code, both jumps, constant.
fn read(text: &str) -> Option<Instruction> {
    let mut numbers = text.split(' ').map(str::parse::<u32>);
    let mut next = || numbers.next()?.ok();
    Some(Instruction {
        code: next()?.try_into().ok()?,
        jump_true: next()?.try_into().ok()?,
        jump_false: next()?.try_into().ok()?,
        k: next()?,
    })
}

fn words(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(message) => message.clone(),
        other => other.to_string(),
    }
}

/// Where the words of an error point to: at what they quote, or at the word that cannot follow those before it.
fn place(text: &str, message: &str) -> Option<usize> {
    if !is_about_syntax(message) {
        let mut quoted = message.split(['\'', '"']).skip(1).step_by(2).filter(|word| !word.is_empty());
        return quoted.find_map(|word| text.find(word));
    }
    let tokens = tokens(text);
    // Without names that would have to be looked up in the network, word by word.
    let plain = |count: usize| tokens[..count].iter().map(|token| known(token.1)).collect::<Vec<_>>().join(" ");
    if !is_syntax_error(&plain(tokens.len())) {
        return None;
    }
    // The longest beginning that something can be added to.
    let viable = (0..=tokens.len()).rev().find(|count| can_go_on(&plain(*count)))?;
    Some(tokens.get(viable).map_or(text.len(), |token| token.0))
}

fn is_about_syntax(message: &str) -> bool {
    message.contains("syntax error")
}

fn is_syntax_error(text: &str) -> bool {
    Capture::dead(Linktype::ETHERNET)
        .and_then(|dead| dead.compile(text, false).map(|_| ()))
        .is_err_and(|error| is_about_syntax(&words(&error)))
}

/// What may be missing at the end of half a sentence.
const ENDINGS: &[&str] = &["", "1", "10.0.0.1", "tcp", "] = 1", "1 ] = 1", "= 1", "1 = 1", "host 10.0.0.1", "0 ) = 1"];

/// Whether some ending makes a sentence of it, be it one that makes no sense.
fn can_go_on(beginning: &str) -> bool {
    let open = beginning.matches('(').count().saturating_sub(beginning.matches(')').count());
    let closing = " )".repeat(open);
    ENDINGS.iter().any(|ending| !is_syntax_error(&format!("{beginning} {ending}{closing}")))
}

/// Words and signs with their places.
fn tokens(text: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |character: char| character.is_alphanumeric() || "._:-\\".contains(character);
        let length = if first.is_whitespace() {
            0
        } else if is_word(first) {
            rest.find(|character| !is_word(character)).unwrap_or(rest.len())
        } else {
            ["&&", "||", "<<", ">>", "<=", ">=", "!=", "=="]
                .iter()
                .find(|sign| rest.starts_with(**sign))
                .map_or(first.len_utf8(), |_| 2)
        };
        let step = if length == 0 { first.len_utf8() } else { length };
        if length > 0 {
            tokens.push((text.len() - rest.len(), &rest[..length]));
        }
        rest = &rest[step..];
    }
    tokens
}

/// Words of the language; others are names.
const KEYWORDS: &[&str] = &[
    "aarp",
    "ah",
    "and",
    "arp",
    "atalk",
    "broadcast",
    "byte",
    "carp",
    "decnet",
    "dst",
    "esp",
    "ether",
    "fddi",
    "gateway",
    "geneve",
    "greater",
    "host",
    "icmp",
    "icmp6",
    "igmp",
    "igrp",
    "inbound",
    "ip",
    "ip6",
    "ipx",
    "iso",
    "lat",
    "len",
    "less",
    "link",
    "mask",
    "mopdl",
    "moprc",
    "mpls",
    "multicast",
    "net",
    "netbeui",
    "not",
    "on",
    "or",
    "outbound",
    "pim",
    "port",
    "portrange",
    "ppp",
    "pppoed",
    "pppoes",
    "proto",
    "protochain",
    "radio",
    "rarp",
    "sca",
    "sctp",
    "slip",
    "src",
    "stp",
    "tcp",
    "tr",
    "type",
    "udp",
    "vlan",
    "vrrp",
    "wlan",
    "vxlan",
    "ifname",
    "subtype",
    "dir",
    "direction",
];

/// The word, or a name that needs nobody's help to be understood.
fn known(word: &str) -> &str {
    let is_name = word.starts_with(char::is_alphabetic)
        && !KEYWORDS.contains(&word)
        && !word.contains(':')
        && !["tcp", "icmp"].iter().any(|prefix| word.starts_with(prefix))
        && word.parse::<std::net::IpAddr>().is_err();
    if is_name { "localhost" } else { word }
}
