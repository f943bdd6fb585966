//! Other names for the namespaces and devices of a lab.
//!
//! The names are those that the scripts give (`netns add X`, `link add X`, `name X`, `add-br X`) or speak of (`dev X`,
//! `-N X`); each becomes one that means nothing, everywhere in the text where it stands as a whole word. A name that is also
//! a word of ip, bridge, tc or nft cannot be told apart by its text: that is an error, and the lab must change.

use std::collections::BTreeMap;
use std::fmt;

use libtest_mimic::Failed;

use crate::random::Random;

/// Devices that the kernel makes, and words that stand for several.
const KEPT: &[&str] = &["lo", "all", "default", "."];

/// Words of the commands, as far as somebody may take them for a name.
const GRAMMAR: &[&str] = &[
    "accept", "add", "addr", "address", "arp", "bridge", "counter", "default", "del", "dev", "down", "drop", "dst",
    "esp", "exec", "filter", "forward", "from", "host", "id", "inet", "input", "ip", "link", "local", "master", "mode",
    "mtu", "nat", "netdev", "netns", "off", "on", "output", "peer", "policy", "priority", "private", "remote", "route",
    "rule", "saddr", "daddr", "scope", "set", "src", "state", "static", "table", "to", "type", "up", "veth", "via",
    "vlan", "vxlan",
];

/// Old name → new name.
pub struct Names(BTreeMap<String, String>);

impl Names {
    /// New names for what a lab's texts name.
    pub fn of(text: &str, random: &mut Random) -> Result<Self, Failed> {
        let mut names = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split([' ', '\'', '"', ';', '\t']).filter(|word| !word.is_empty()).collect();
            for pair in words.windows(2) {
                let (before, name) = (pair[0], pair[1]);
                let named = matches!(before, "name" | "dev" | "add-br" | "-n" | "-N") || made(&words, pair);
                let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
                    && name.len() <= 32;
                if named && is_name && !KEPT.contains(&name) && !["link", "name", "dev", "type"].contains(&name) {
                    names.insert(name.to_owned(), String::new());
                }
            }
        }
        if let Some(word) = names.keys().find(|name| GRAMMAR.contains(&name.as_str())) {
            return Err(format!("the name {word} is also a word of the commands").into());
        }
        let mut taken: Vec<String> = names.keys().cloned().collect();
        for new in names.values_mut() {
            *new = loop {
                let name = invent(random);
                if !taken.contains(&name) && !GRAMMAR.contains(&name.as_str()) {
                    break name;
                }
            };
            taken.push(new.clone());
        }
        Ok(Self(names))
    }

    /// The text with the new names.
    pub fn apply(&self, text: &str) -> String {
        let in_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let mut out = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let end = if in_word(first) { rest.find(|c| !in_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
            let (word, after) = rest.split_at(end);
            match self.0.get(word) {
                // sysctl(8) takes a dot within a name as a slash.
                Some(new) if out.ends_with("conf.") || out.ends_with("neigh.") => out.push_str(&new.replace('.', "/")),
                new => out.push_str(new.map_or(word, String::as_str)),
            }
            rest = after;
        }
        out
    }
}

/// Whether the second of two neighbouring words is made there: `netns add X`, `link add X`, `tuntap add X`.
fn made(words: &[&str], pair: &[&str]) -> bool {
    let at = words.iter().zip(words.iter().skip(1)).position(|(a, b)| [*a, *b] == *pair);
    let object = at.and_then(|at| at.checked_sub(1)).and_then(|at| words.get(at)).copied();
    matches!(pair[0], "add" | "attach" | "a") && matches!(object, Some("netns" | "link" | "tuntap"))
}

/// A name of four to thirteen characters, as short as `q7x2` and as odd as `w3_-k0` or `v8.100`.
fn invent(random: &mut Random) -> String {
    let letters: Vec<char> = ('a'..='z').collect();
    let all: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').chain("_-".chars()).collect();
    let length = 3 + random.below(10);
    let mut name = String::from(*random.of(&letters));
    name.extend((1..length).map(|_| *random.of(&all)));
    // A digit within keeps it from being a word of any language.
    name.insert(1, char::from(b'0' + u8::try_from(random.below(10)).unwrap_or(0)));
    if random.below(6) == 0 {
        name.insert(2, '.');
    }
    name
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(old, new)| writeln!(f, "{old} → {new}"))
    }
}
