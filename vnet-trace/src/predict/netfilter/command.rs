//! An accept rule as a command line, in the language of the program whose chain it goes to.

use crate::model::netfilter::expression::IpVersion;
use crate::model::netfilter::{Backend, Family, RuleRef};

use super::fix::{Narrow, What};

/// Where a rule goes: before a rule of a chain, or at the chain's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose table.
    pub backend: Backend,
    /// Its family.
    pub family: Family,
    /// Its name.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Before the rule at this one-based position. None: at the end.
    pub position: Option<u32>,
    /// Before the rule with this handle.
    pub handle: Option<u64>,
}

impl Place {
    /// Just before a rule; for a policy, at the end of its chain.
    pub fn before(rule: &RuleRef) -> Place {
        Place {
            backend: rule.backend,
            family: rule.family,
            table: rule.table.clone(),
            chain: rule.chain.clone(),
            position: rule.position,
            handle: rule.handle,
        }
    }
}

/// A command and the one that takes it back.
pub struct Change {
    /// Adds the rule.
    pub command: String,
    /// Deletes that rule and no other.
    pub undo: String,
}

/// The commands that put an accept rule at a place; without a [`Narrow`], one for everything that belongs to a connection.
pub fn render(place: &Place, narrow: Option<&Narrow>, prefix: &str, two_backends: bool) -> Vec<Change> {
    match place.backend {
        Backend::Nft => vec![nft(place, narrow, prefix)],
        Backend::IptablesNft | Backend::IptablesLegacy => {
            let v6 = place.family == Family::Ip6;
            let program = match (place.backend, v6, two_backends) {
                (Backend::IptablesLegacy, false, _) => "iptables-legacy",
                (Backend::IptablesLegacy, true, _) => "ip6tables-legacy",
                (_, false, true) => "iptables-nft",
                (_, true, true) => "ip6tables-nft",
                (_, false, false) => "iptables",
                (_, true, false) => "ip6tables",
            };
            let specifications = match narrow {
                Some(Narrow { what: What::Neighbours, .. }) => {
                    [135, 136].map(|kind| format!("-p ipv6-icmp -m icmp6 --icmpv6-type {kind}")).to_vec()
                }
                Some(narrow) => vec![iptables_match(narrow)],
                None => vec!["-m conntrack --ctstate RELATED,ESTABLISHED".to_owned()],
            };
            positional(place, &format!("{prefix}{program} -t {}", place.table), &specifications)
        }
        Backend::EbtablesNft | Backend::EbtablesLegacy => {
            let program = if place.backend == Backend::EbtablesLegacy { "ebtables-legacy" } else { "ebtables" };
            let specifications = narrow.map(ebtables_matches).unwrap_or_default();
            positional(place, &format!("{prefix}{program} -t {}", place.table), &specifications)
        }
        Backend::ArptablesNft | Backend::ArptablesLegacy => {
            let program = if place.backend == Backend::ArptablesLegacy { "arptables-legacy" } else { "arptables" };
            let specifications = match narrow {
                Some(Narrow { source, destination, what: What::Arp(operation) }) => {
                    vec![format!("-s {source} -d {destination} --opcode {operation}")]
                }
                _ => Vec::new(),
            };
            positional(place, &format!("{prefix}{program}"), &specifications)
        }
    }
}

/// How to make a rule at that place last.
pub fn persist(place: &Place) -> String {
    match (place.backend, place.chain.as_str()) {
        (_, "DOCKER-USER") => {
            "Docker keeps DOCKER-USER as it is while it runs; to have the rule after a reboot, add the command to a unit that is \
             ordered after docker.service"
                .to_owned()
        }
        (Backend::Nft, _) => format!(
            "put the rule at the same place into the file that loads table {} {} (on most systems /etc/nftables.conf)",
            place.family.word(),
            place.table
        ),
        (Backend::IptablesNft | Backend::IptablesLegacy, _) => {
            let program = if place.family == Family::Ip6 { "ip6tables-save" } else { "iptables-save" };
            format!(
                "with iptables-persistent: netfilter-persistent save; elsewhere, keep the output of {program} and load it at boot; \
                 if a program made these rules, change its configuration instead"
            )
        }
        (Backend::EbtablesNft | Backend::EbtablesLegacy, _) => {
            "keep the output of ebtables-save and load it at boot with ebtables-restore".to_owned()
        }
        (Backend::ArptablesNft | Backend::ArptablesLegacy, _) => {
            "keep the output of arptables-save and load it at boot with arptables-restore".to_owned()
        }
    }
}

fn positional(place: &Place, program: &str, specifications: &[String]) -> Vec<Change> {
    specifications
        .iter()
        .map(|specification| {
            let chain = quoted(&place.chain);
            let command = match place.position {
                Some(position) => format!("{program} -I {chain} {position} {specification} -j ACCEPT"),
                None => format!("{program} -A {chain} {specification} -j ACCEPT"),
            };
            Change { command, undo: format!("{program} -D {chain} {specification} -j ACCEPT") }
        })
        .collect()
}

fn iptables_match(narrow: &Narrow) -> String {
    let Narrow { source, destination, what } = narrow;
    let between = format!("-s {source} -d {destination}");
    match what {
        What::Icmp(kind) => format!("{between} -p icmp -m icmp --icmp-type {kind}"),
        What::Icmp6(kind) => format!("{between} -p ipv6-icmp -m icmp6 --icmpv6-type {kind}"),
        What::Neighbours => "-p ipv6-icmp -m icmp6 --icmpv6-type 135".to_owned(),
        What::TcpTo(port) => format!("{between} -p tcp -m tcp --dport {port}"),
        What::TcpFrom(port) => format!("{between} -p tcp -m tcp --sport {port}"),
        What::UdpTo(port) => format!("{between} -p udp -m udp --dport {port}"),
        What::UdpFrom(port) => format!("{between} -p udp -m udp --sport {port}"),
        What::Arp(_) => between,
        What::Protocol(protocol) => format!("{between} -p {protocol}"),
    }
}

fn ebtables_matches(narrow: &Narrow) -> Vec<String> {
    let Narrow { source, destination, what } = narrow;
    let (ethertype, between, protocol) = match narrow.version() {
        IpVersion::V4 => ("IPv4", format!("--ip-src {source} --ip-dst {destination}"), "--ip-proto"),
        IpVersion::V6 => ("IPv6", format!("--ip6-src {source} --ip6-dst {destination}"), "--ip6-proto"),
    };
    let ip = protocol.trim_end_matches("-proto");
    vec![match what {
        What::Arp(operation) => {
            format!("-p ARP --arp-op {operation} --arp-ip-src {source} --arp-ip-dst {destination}")
        }
        What::Neighbours => {
            return [135, 136].map(|kind| format!("-p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type {kind}")).to_vec();
        }
        What::Icmp(_) => format!("-p {ethertype} {between} {protocol} icmp"),
        What::Icmp6(_) => format!("-p {ethertype} {between} {protocol} ipv6-icmp"),
        What::TcpTo(port) => format!("-p {ethertype} {between} {protocol} tcp {ip}-dport {port}"),
        What::TcpFrom(port) => format!("-p {ethertype} {between} {protocol} tcp {ip}-sport {port}"),
        What::UdpTo(port) => format!("-p {ethertype} {between} {protocol} udp {ip}-dport {port}"),
        What::UdpFrom(port) => format!("-p {ethertype} {between} {protocol} udp {ip}-sport {port}"),
        What::Protocol(number) => format!("-p {ethertype} {between} {protocol} {number}"),
    }]
}

fn nft(place: &Place, narrow: Option<&Narrow>, prefix: &str) -> Change {
    let Place { family, table, chain, handle, .. } = place;
    let location = format!("{} {} {}", family.word(), quoted(table), quoted(chain));
    let (conditions, label) = match narrow {
        Some(narrow) => nft_match(narrow),
        None => ("ct state established,related".to_owned(), "replies".to_owned()),
    };
    let (comment, undo) = nft_comment(prefix, &location, &label);
    let rule = format!("{conditions} counter accept {comment}");
    let command = match (place.position, handle) {
        (_, Some(handle)) => format!("{prefix}nft insert rule {location} position {handle} {rule}"),
        (Some(_), None) => format!("{prefix}nft insert rule {location} {rule}"),
        (None, None) => format!("{prefix}nft add rule {location} {rule}"),
    };
    Change { command, undo }
}

/// The comment of a rule that is added to a chain, and the command that deletes the rule by it: nft names rules by a handle
/// that is not known beforehand. The label holds no `/`.
pub fn nft_comment(prefix: &str, location: &str, label: &str) -> (String, String) {
    let comment = format!("vnet-trace: {label}");
    let find =
        format!("{prefix}nft -a list chain {location} | sed -n 's/.*comment \"{comment}\" # handle //p' | head -n 1");
    (format!("comment '\"{comment}\"'"), format!("{prefix}nft delete rule {location} handle $({find})"))
}

fn nft_match(narrow: &Narrow) -> (String, String) {
    let Narrow { source, destination, what } = narrow;
    let ip = match narrow.version() {
        IpVersion::V4 => "ip",
        IpVersion::V6 => "ip6",
    };
    let between = format!("{ip} saddr {source} {ip} daddr {destination}");
    let (conditions, word) = match what {
        What::Icmp(kind) => (format!("{between} icmp type {}", icmp_word(*kind)), "icmp"),
        What::Icmp6(kind) => (format!("{between} icmpv6 type {}", icmp6_word(*kind)), "icmpv6"),
        What::Neighbours => {
            let conditions = "icmpv6 type '{ nd-neighbor-solicit, nd-neighbor-advert }'".to_owned();
            return (conditions, "neighbour discovery".to_owned());
        }
        What::TcpTo(port) => (format!("{between} tcp dport {port}"), "tcp"),
        What::TcpFrom(port) => (format!("{between} tcp sport {port}"), "tcp"),
        What::UdpTo(port) => (format!("{between} udp dport {port}"), "udp"),
        What::UdpFrom(port) => (format!("{between} udp sport {port}"), "udp"),
        What::Arp(operation) => {
            (format!("arp operation {operation} arp saddr ip {source} arp daddr ip {destination}"), "arp")
        }
        What::Protocol(protocol) => (format!("{between} meta l4proto {protocol}"), "ip"),
    };
    (conditions, format!("{word} {source} to {destination}"))
}

fn icmp_word(kind: u8) -> String {
    match kind {
        0 => "echo-reply".to_owned(),
        8 => "echo-request".to_owned(),
        other => other.to_string(),
    }
}

fn icmp6_word(kind: u8) -> String {
    match kind {
        128 => "echo-request".to_owned(),
        129 => "echo-reply".to_owned(),
        other => other.to_string(),
    }
}

/// A name that a shell takes for one word.
fn quoted(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.:@/+,".contains(letter);
    if !name.is_empty() && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', "'\\''"))
    }
}
