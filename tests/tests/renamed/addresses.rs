//! Other addresses for a lab, with the structure kept.
//!
//! An address is renamed bit by bit: each bit is flipped or not, as a random function of the bits before it says. Two
//! addresses then share exactly as many leading bits as before, so what was in one subnet stays in one, for subnets of every
//! length. The first octet (IPv6: sixteen bits) is renamed as a whole, to any that is not special. Loopback, multicast,
//! link-local prefixes, 0/8 and 240/4 keep their prefix, for the kernel treats them apart. Host parts that are zero where a
//! subnet is meant stay zero. A choice that makes a station the network's or the broadcast address is thrown away.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use libtest_mimic::{Failed, Trial};

use crate::random::Random;

/// Old → new, for whole literals (`10.0.0.0/24`, `fd00::1`, `02:00:00:00:00:01`).
pub struct Addresses(BTreeMap<String, String>);

impl Addresses {
    /// New addresses for those in a lab's texts.
    pub fn of(text: &str, random: &mut Random) -> Result<Self, Failed> {
        let literals: BTreeSet<&str> =
            pieces(text).filter_map(|(piece, is_literal)| is_literal.then_some(piece)).collect();
        let nets: Vec<(Ipv4Addr, u8)> =
            literals.iter().filter_map(|literal| v4(literal)).filter_map(|(ip, len)| Some((ip, len?))).collect();
        for _ in 0..1000 {
            let mut keys = Keys::new(random);
            let map: BTreeMap<String, String> =
                literals.iter().map(|old| ((*old).to_owned(), keys.rename(old))).collect();
            let injective = map.values().collect::<BTreeSet<_>>().len() == map.len();
            // An address without a length belongs to every subnet of the lab that has it.
            let usable = literals.iter().filter_map(|literal| Some((v4(literal)?.0, v4(map.get(*literal)?)?.0))).all(
                |(old, new)| {
                    nets.iter().all(|(net, len)| {
                        !contains(*net, *len, old) || host(old, *len) == Host::Special || host(new, *len) == Host::Plain
                    })
                },
            );
            if injective && usable {
                return Ok(Self(map));
            }
        }
        Err("no usable addresses were found".into())
    }

    /// The text with the new addresses.
    pub fn apply(&self, text: &str) -> String {
        pieces(text).map(|(piece, _)| self.0.get(piece).map_or(piece, String::as_str)).collect()
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(old, new)| writeln!(f, "{old} → {new}"))
    }
}

/// The text cut into literals and what lies between them.
fn pieces(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let in_word = |c: char| c.is_ascii_alphanumeric() || ".:_/".contains(c);
        if !in_word(first) {
            let end = rest.find(in_word).unwrap_or(rest.len());
            let piece = &rest[..end];
            rest = &rest[end..];
            return Some((piece, false));
        }
        let word = &rest[..rest.find(|c| !in_word(c)).unwrap_or(rest.len())];
        // The longest beginning that is a literal: "10.0.0.1/32." and "10.0.0.1:80" have one; "a10.0.0.1" has none.
        let end = (1..=word.len())
            .rev()
            .find(|end| is_literal(&word[..*end]) && !word[*end..].starts_with(|c: char| c.is_ascii_alphanumeric()));
        let piece = &rest[..end.unwrap_or(word.len())];
        rest = &rest[piece.len()..];
        Some((piece, end.is_some()))
    })
}

fn is_literal(word: &str) -> bool {
    v4(word).is_some() || v6(word).is_some() || mac(word).is_some()
}

fn split(word: &str, longest: u8) -> Option<(&str, Option<u8>)> {
    match word.split_once('/') {
        Some((address, len)) => Some((address, Some(len.parse().ok().filter(|len| *len <= longest)?))),
        None => Some((word, None)),
    }
}

fn v4(word: &str) -> Option<(Ipv4Addr, Option<u8>)> {
    let (address, len) = split(word, 32)?;
    Some((address.parse().ok()?, len))
}

fn v6(word: &str) -> Option<(Ipv6Addr, Option<u8>)> {
    let (address, len) = split(word, 128)?;
    Some((address.parse().ok()?, len))
}

fn mac(word: &str) -> Option<[u8; 6]> {
    let octets: Vec<u8> = word
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2))
        .collect::<Option<_>>()?;
    octets.try_into().ok()
}

/// Whether an address of a subnet is a station's.
#[derive(PartialEq, Eq)]
enum Host {
    /// It may be given to a station.
    Plain,
    /// The network's own or the broadcast address.
    Special,
}

fn host(address: Ipv4Addr, len: u8) -> Host {
    let mask = u32::MAX.checked_shr(u32::from(len)).unwrap_or(0);
    let bits = u32::from(address) & mask;
    if len < 31 && (bits == 0 || bits == mask) { Host::Special } else { Host::Plain }
}

fn contains(net: Ipv4Addr, len: u8, address: Ipv4Addr) -> bool {
    (u32::from(net) ^ u32::from(address)).checked_shr(32 - u32::from(len)).unwrap_or(0) == 0
}

/// One way to rename all addresses.
struct Keys<'a> {
    random: &'a mut Random,
    /// Renamed as a whole: family, first octet or sixteen bits.
    heads: BTreeMap<(u8, u16), u16>,
    /// The bits before it → whether the next one is flipped.
    flips: BTreeMap<(u8, u32, u128), bool>,
    macs: BTreeMap<[u8; 6], [u8; 6]>,
}

impl<'a> Keys<'a> {
    fn new(random: &'a mut Random) -> Self {
        Self { random, heads: BTreeMap::new(), flips: BTreeMap::new(), macs: BTreeMap::new() }
    }

    fn rename(&mut self, word: &str) -> String {
        let suffix = |len: Option<u8>| len.map(|len| format!("/{len}")).unwrap_or_default();
        if let Some((address, len)) = v4(word) {
            let new = self.v4(address, len);
            return if new == address { word.to_owned() } else { format!("{new}{}", suffix(len)) };
        }
        if let Some((address, len)) = v6(word) {
            let new = self.v6(address, len);
            return if new == address { word.to_owned() } else { format!("{new}{}", suffix(len)) };
        }
        mac(word).map_or_else(|| word.to_owned(), |mac| self.mac(mac).map(|octet| format!("{octet:02x}")).join(":"))
    }

    fn v4(&mut self, address: Ipv4Addr, len: Option<u8>) -> Ipv4Addr {
        let head = address.octets()[0];
        if matches!(head, 0 | 127 | 224..) {
            return address;
        }
        let new_head = self.head(4, u16::from(head), |random| {
            loop {
                let head = 1 + u16::try_from(random.below(223)).unwrap_or(0);
                // 169.254/16 is link-local.
                if !matches!(head, 127 | 169) {
                    break head;
                }
            }
        });
        let bits = self.tail(4, 32, 8, u128::from(u32::from(address)), u128::from(new_head) << 24);
        let bits = u32::try_from(bits).unwrap_or(0);
        // Without a length, an address that ends with .0 is a subnet's, too.
        let hosts = u32::MAX.checked_shr(u32::from(len.unwrap_or(24))).unwrap_or(0);
        Ipv4Addr::from(if u32::from(address) & hosts == 0 { bits & !hosts } else { bits })
    }

    fn v6(&mut self, address: Ipv6Addr, len: Option<u8>) -> Ipv6Addr {
        let head = address.segments()[0];
        let bits = if matches!(head, 0 | 0xff00..) {
            return address;
        } else if head & 0xffc0 == 0xfe80 {
            self.tail(6, 128, 64, u128::from(address), u128::from(address) >> 64 << 64)
        } else {
            let new_head = self.head(6, head, |random| {
                let unique_local = 0xfc00 | u16::try_from(random.below(0x200)).unwrap_or(0);
                *random.of(&[unique_local, unique_local, 0x2001, 0x2a00, 0x2600])
            });
            self.tail(6, 128, 16, u128::from(address), u128::from(new_head) << 112)
        };
        let hosts = u128::MAX.checked_shr(u32::from(len.unwrap_or(64))).unwrap_or(0);
        Ipv6Addr::from(if u128::from(address) & hosts == 0 { bits & !hosts } else { bits })
    }

    /// The first bits of each family are renamed one to one.
    fn head(&mut self, family: u8, old: u16, choose: impl Fn(&mut Random) -> u16) -> u16 {
        if let Some(new) = self.heads.get(&(family, old)) {
            return *new;
        }
        let new = loop {
            let new = choose(self.random);
            if !self.heads.iter().any(|((other, _), taken)| *other == family && *taken == new) {
                break new;
            }
        };
        self.heads.insert((family, old), new);
        new
    }

    /// The bits from `from` on.
    fn tail(&mut self, family: u8, width: u32, from: u32, old: u128, head: u128) -> u128 {
        let mut new = head;
        for at in from..width {
            let shift = width - 1 - at;
            let before = old.checked_shr(shift + 1).unwrap_or(0);
            let random = &mut *self.random;
            let flip = *self.flips.entry((family, at, before)).or_insert_with(|| random.below(2) == 1);
            new |= ((old >> shift & 1) ^ u128::from(flip)) << shift;
        }
        new
    }

    fn mac(&mut self, old: [u8; 6]) -> [u8; 6] {
        if old[0] & 1 == 1 || old == [0; 6] {
            return old;
        }
        let random = &mut *self.random;
        *self.macs.entry(old).or_insert_with(|| {
            let bytes = random.number().to_be_bytes();
            [0x02 | bytes[0] & 0xfc, bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]]
        })
    }
}

/// Tests of this file.
pub fn trials() -> [Trial; 2] {
    [
        Trial::test("addresses::are_found_in_a_text", || {
            let text = "a 10.0.0.1/24,10.0.0.2:80 x10.0.0.3 1.2.3 10.0.0.4. fd00::1/64 lladdr 02:00:00:00:00:01 ::1 dst=::/0 0xb7 -c";
            let found: Vec<&str> = pieces(text).filter_map(|(piece, literal)| literal.then_some(piece)).collect();
            let whole: String = pieces(text).map(|(piece, _)| piece).collect();
            let wants = ["10.0.0.1/24", "10.0.0.2", "10.0.0.4", "fd00::1/64", "02:00:00:00:00:01", "::1", "::/0"];
            if found != wants || whole != text {
                return Err(Failed::from(format!("{found:?}")));
            }
            Ok(())
        }),
        Trial::test("addresses::keep_their_structure", || {
            let text = "10.0.1.1/24 10.0.1.2 10.0.1.0/24 10.0.0.0/8 10.0.2.1/30 192.0.2.1 127.0.0.1 224.0.0.9 fd00:1::1/64 fd00:1::2 fd00:1::/64 fe80::1 ff02::1";
            for seed in 0..200 {
                let map = Addresses::of(text, &mut Random::new(seed, "structure"))?.0;
                let net = |word: &str| v4(&map[word]).map(|(ip, len)| (u32::from(ip), len));
                let right = net("10.0.1.1/24").map(|(ip, _)| ip >> 8) == net("10.0.1.2").map(|(ip, _)| ip >> 8)
                    && net("10.0.1.0/24").map(|(ip, _)| ip) == net("10.0.1.2").map(|(ip, _)| ip & !0xff)
                    && net("10.0.0.0/8").map(|(ip, _)| ip) == net("10.0.1.2").map(|(ip, _)| ip & 0xff00_0000)
                    && net("10.0.1.2").map(|(ip, _)| ip >> 8) != net("10.0.2.1/30").map(|(ip, _)| ip >> 8)
                    && map["127.0.0.1"] == "127.0.0.1"
                    && map["224.0.0.9"] == "224.0.0.9"
                    && map["ff02::1"] == "ff02::1"
                    && map["fe80::1"].starts_with("fe80::")
                    && v6(&map["fd00:1::1/64"]).map(|(ip, _)| u128::from(ip) >> 64)
                        == v6(&map["fd00:1::2"]).map(|(ip, _)| u128::from(ip) >> 64);
                if !right {
                    return Err(Failed::from(format!("seed {seed}: {map:?}")));
                }
            }
            Ok(())
        }),
    ]
}
