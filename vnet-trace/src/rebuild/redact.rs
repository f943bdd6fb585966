//! Other names and addresses for a text about a network, the same one for the same one everywhere.
//!
//! Namespaces, devices, switches and containers get plain names with numbers. Addresses are renamed bit by bit: a bit is
//! flipped or not as a keyed hash of the bits before it says, so two addresses share as many leading bits as before and
//! what was in one subnet stays in one. Bits that a configured subnet leaves to its hosts stay, so networks and broadcast
//! addresses remain what they are; in link-local addresses they are replaced, for they may spell a hardware address. The
//! key is thrown away with the [`Redaction`]. Ranges that the kernel treats apart (loopback, link-local, multicast, 0/8,
//! 240/4) keep their prefix, and so do private ones: what is no destination in the Internet has to be translated.
//!
//! Limits: an address stays whose subnet is a whole private range, such as 10.0.0.0/8; a name that is also a word of the
//! commands (`filter`, `host`) stays; so do the names of tables and chains.

pub mod recording;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::model::id::MacAddr;
use crate::model::snapshot::Snapshot;

/// Words of the commands that could also be a name.
const WORDS: &[&str] = &[
    "ip", "tc", "bridge", "link", "addr", "route", "rule", "neigh", "netns", "exec", "add", "set", "del", "dev",
    "type", "veth", "peer", "name", "index", "master", "up", "down", "table", "local", "main", "default", "all", "via",
    "src", "scope", "host", "global", "proto", "kernel", "filter", "nat", "mangle", "raw", "input", "output",
    "forward", "lo", "far", "outside", "net", "ipv4", "ipv6", "conf", "sysctl", "nft", "accept", "drop", "chain",
    "vlan", "vxlan", "remote", "dst", "id", "on", "off", "mode", "state", "stp", "self", "sleep", "root", "append",
    "replace", "flush", "port", "mac", "from", "to", "for", "do", "done", "in", "seq", "END", "tunnel", "hook", "prio",
    "policy", "expr", "match", "left", "right", "key", "set", "map", "a", "t", "n", "p",
];

/// The new names of one recording.
#[derive(Clone)]
pub struct Redaction {
    names: Vec<(String, String)>,
    subnets: Vec<IpNet>,
    key: RandomState,
}

impl Redaction {
    /// For everything that the snapshot names.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut redaction = Self { names: Vec::new(), subnets: Vec::new(), key: RandomState::new() };
        redaction.learn(snapshot);
        redaction
    }

    /// The network has changed: what was renamed before keeps its new name.
    pub fn learn(&mut self, snapshot: &Snapshot) {
        let mut names: BTreeMap<String, String> = std::mem::take(&mut self.names).into_iter().collect();
        let mut call = |old: &str, word: &str| {
            let usable = !old.is_empty() && old != "." && !WORDS.contains(&old) && old.parse::<u64>().is_err();
            if usable && !names.contains_key(old) {
                let new = format!("{word}{}", names.len() + 1);
                names.insert(old.to_owned(), new);
            }
        };
        for netns in &snapshot.namespaces {
            call(&netns.name, "space");
            if let Some(container) = &netns.container {
                call(&container.name, "space");
                call(&container.id, "id");
                for (network, _) in &container.networks {
                    call(network, "network");
                }
                if let Some(pod) = &container.pod {
                    call(pod, "pod");
                }
            }
            for link in &netns.links {
                call(&link.name, "dev");
                if let Some(alias) = &link.alias {
                    call(alias, "alias");
                }
            }
            for process in netns.sockets.iter().filter_map(|socket| socket.process.as_ref()) {
                call(process, "process");
            }
        }
        for bridge in &snapshot.ovs {
            call(&bridge.name, "dev");
            for port in &bridge.ports {
                call(&port.name, "dev");
            }
        }
        let mut names: Vec<(String, String)> = names.into_iter().collect();
        // Of two names that fit, the longer one is meant.
        names.sort_by_key(|(old, _)| std::cmp::Reverse(old.len()));
        self.names = names;
        let addresses = snapshot.namespaces.iter().flat_map(|netns| &netns.addresses);
        for net in addresses.filter_map(crate::model::snapshot::Address::net) {
            if !self.subnets.contains(&net) {
                self.subnets.push(net);
            }
        }
    }

    /// The text with other names and addresses.
    pub fn text(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = ' ';
        while let Some(first) = rest.chars().next() {
            let starts = !in_word(before);
            if starts && let Some((taken, new)) = self.address(rest).or_else(|| self.name(rest)) {
                before = rest[..taken].chars().next_back().unwrap_or(' ');
                out.push_str(&new);
                rest = &rest[taken..];
                continue;
            }
            out.push(first);
            before = first;
            rest = &rest[first.len_utf8()..];
        }
        out
    }

    /// A name at the beginning of the text: its length and the new one.
    fn name(&self, text: &str) -> Option<(usize, String)> {
        self.names.iter().find_map(|(old, new)| {
            // sysctl(8) writes a dot in a device's name as a slash.
            let slashed = old.replace('.', "/");
            let found = text.starts_with(old.as_str()) || text.starts_with(&slashed);
            let ends = !text.get(old.len()..)?.chars().next().is_some_and(in_word);
            (found && ends).then(|| (old.len(), new.clone()))
        })
    }

    /// An address at the beginning of the text, with its prefix length if it has one.
    fn address(&self, text: &str) -> Option<(usize, String)> {
        let word = &text[..text.find(|c: char| !(c.is_ascii_hexdigit() || ".:".contains(c))).unwrap_or(text.len())];
        for end in (2..=word.len()).rev() {
            let piece = &word[..end];
            if text[end..].chars().next().is_some_and(|c| c.is_ascii_alphanumeric()) {
                continue;
            }
            if let Some(mac) = mac(piece) {
                return Some((end, self.mac(MacAddr(mac)).to_string()));
            }
            if let Ok(address) = piece.parse::<IpAddr>() {
                let new = self.ip(address);
                let len: Option<u8> = text[end..].strip_prefix('/').and_then(|rest| {
                    let digits = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
                    digits.parse().ok()
                });
                // A prefix stays one: no bits behind its length.
                let is_net = len
                    .and_then(|len| IpNet::new(address, len).ok())
                    .is_some_and(|net| net.addr() == net.network() && net.prefix_len() < net.max_prefix_len());
                let new = match len.and_then(|len| IpNet::new(new, len).ok()) {
                    Some(net) if is_net => net.network(),
                    _ => new,
                };
                return Some((end, new.to_string()));
            }
        }
        None
    }

    /// Bits of an address that say which network it is in.
    fn network_bits(&self, address: IpAddr) -> u8 {
        let most = if address.is_ipv4() { 32 } else { 128 };
        self.subnets
            .iter()
            .filter(|net| net.contains(&address) && net.prefix_len() > 0)
            .map(IpNet::prefix_len)
            .min()
            .unwrap_or(most)
    }

    /// The new address.
    pub fn ip(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(old) => {
                let [first, second, ..] = old.octets();
                if matches!(first, 0 | 127 | 224..) || (first, second) == (169, 254) {
                    return address;
                }
                if let Some(from) = private(old) {
                    let to = self.network_bits(address).max(from);
                    let bits = self.bits(u128::from(old.to_bits()) << 96, from, to);
                    // The first bit is flipped for all: none of these addresses stays what it was.
                    let first = u128::from(
                        from < to && bits >> (127 - from) & 1 == u128::from(old.to_bits() >> (31 - from) & 1),
                    );
                    return IpAddr::V4(Ipv4Addr::from_bits(((bits ^ first << (127 - from)) >> 96) as u32));
                }
                let bits = self.bits(u128::from(old.to_bits()) << 96, 8, self.network_bits(address).max(8));
                let octet = 11 + (self.key.hash_one(("octet", first)) % 89) as u8;
                IpAddr::V4(Ipv4Addr::from_bits((bits >> 96) as u32 & 0x00ff_ffff | u32::from(octet) << 24))
            }
            IpAddr::V6(old) => {
                if old.is_loopback() || old.is_unspecified() || old.is_multicast() {
                    return address;
                }
                if old.is_unicast_link_local() {
                    let host = self.key.hash_one(("host", old.octets())) | 1;
                    return IpAddr::V6(Ipv6Addr::from_bits(old.to_bits() & !u128::from(u64::MAX) | u128::from(host)));
                }
                let bits = self.bits(old.to_bits(), 16, self.network_bits(address).max(16));
                let range = if old.is_unique_local() { 0xfd00 } else { 0x3f00 };
                let first = range | (self.key.hash_one(("first", old.segments()[0])) as u16 & 0xff);
                IpAddr::V6(Ipv6Addr::from_bits(bits & (u128::MAX >> 16) | u128::from(first) << 112))
            }
        }
    }

    /// Flips the bits of `from..to`, counted from the left, each as the bits before it say.
    fn bits(&self, bits: u128, from: u8, to: u8) -> u128 {
        let mut new = bits;
        for at in from..to.min(128) {
            let before = bits >> (128 - u32::from(at));
            if self.key.hash_one((at, before)) & 1 != 0 {
                new ^= 1 << (127 - at);
            }
        }
        new
    }

    /// The new link-layer address; groups stay.
    pub fn mac(&self, mac: MacAddr) -> MacAddr {
        if mac.is_zero() || mac.is_group() {
            return mac;
        }
        let hash = self.key.hash_one(("mac", mac.0)).to_be_bytes();
        MacAddr([2, hash[0], hash[1], hash[2], hash[3], hash[4]])
    }
}

/// The bits that say of an address that it is no destination in the Internet: RFC 1918 and RFC 6598.
fn private(address: Ipv4Addr) -> Option<u8> {
    match address.octets() {
        [10, ..] => Some(8),
        [172, 16..=31, ..] => Some(12),
        [192, 168, ..] => Some(16),
        [100, 64..=127, ..] => Some(10),
        _ => None,
    }
}

fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = parts.next().filter(|part| part.len() == 2).and_then(|part| u8::from_str_radix(part, 16).ok())?;
    }
    parts.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{IfIndex, NetnsId};
    use crate::model::snapshot::{Address, Link, Netns};

    fn redaction() -> Redaction {
        let address = |text: &str, prefix_len| Address {
            ifindex: IfIndex(2),
            address: text.parse().expect("an address"),
            prefix_len,
            peer: None,
            scope: 0,
            flags: 0,
        };
        let netns = Netns {
            id: NetnsId(0),
            name: "web".to_owned(),
            links: vec![Link { index: IfIndex(2), name: "uplink.7".to_owned(), ..Link::default() }],
            addresses: vec![address("10.20.30.1", 24), address("2001:db8:7::1", 64)],
            ..Netns::default()
        };
        Redaction::of(&Snapshot { namespaces: vec![netns], ..Snapshot::default() })
    }

    #[test]
    fn nothing_of_the_old_names_is_left_and_subnets_stay_subnets() {
        let redaction = redaction();
        let text = redaction.text("ip -n web addr add 10.20.30.1/24 dev uplink.7; net.ipv4.conf.uplink/7.rp_filter; webby 10.20.30.0/24 10.20.30.255 2001:db8:7::/64");
        for old in ["10.20.30.", "uplink", " web ", "2001:db8"] {
            assert!(!text.contains(old), "{old}: {text}");
        }
        assert!(text.contains("webby") && text.contains(".255 "), "{text}");
        let words: Vec<&str> = text.split([' ', ';']).collect();
        let subnet: IpNet =
            words.iter().find(|word| word.contains(".0/24")).and_then(|word| word.parse().ok()).expect("a subnet");
        let own = words
            .iter()
            .find(|word| word.ends_with(".1/24"))
            .and_then(|word| word.split('/').next())
            .expect("an address");
        assert!(subnet.contains(&own.parse::<IpAddr>().expect("an address")), "{text}");
    }

    #[test]
    fn private_ranges_stay_private_and_none_of_their_addresses_stays() {
        for text in ["10.0.0.1", "172.16.9.1", "172.31.255.1", "192.168.3.11", "100.64.0.7"] {
            let old: Ipv4Addr = text.parse().expect("an address");
            for _ in 0..50 {
                let IpAddr::V4(new) = redaction().ip(old.into()) else { panic!("{text} is of the other family") };
                assert_eq!(private(new), private(old), "{text} became {new}");
                assert_ne!(new, old);
            }
        }
    }

    #[test]
    fn special_ranges_stay() {
        let redaction = redaction();
        for text in
            ["127.0.0.1", "224.0.0.1", "::1", "ff02::1", "0.0.0.0/0", "::/0", "ff:ff:ff:ff:ff:ff", "169.254.1.1"]
        {
            assert_eq!(redaction.text(text), text);
        }
    }
}
