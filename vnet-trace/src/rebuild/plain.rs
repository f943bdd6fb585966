//! What may get from a recording into a script.
//!
//! A recording is a file that somebody sends. Its script is run by a shell as root. Addresses and numbers are typed and
//! can't be anything else; words can: the kernel allows a device called `$(reboot)`, and a file may claim anything. So every
//! word that the script takes over is looked at before the first line is written, and one that is not plain ends the work.
//! Texts that go to a program's standard input (rules, flows) are not read by the shell; of these the lines are looked at
//! that would end the text or start another program.

use serde_json::{Value, to_value};

use crate::model::netfilter::Listing;
use crate::model::ovs::OvsBridge;
use crate::model::snapshot::{Link, Snapshot};

use super::scope::Scope;
use super::script::END;

/// What can't be written into a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} can't be written into a script")]
pub struct Unwritable {
    /// What it is.
    pub what: &'static str,
    /// As recorded, the beginning of it.
    pub text: String,
}

/// Programs that print rules, of which the script runs the counterpart that takes them back.
const SAVERS: &[&str] = &[
    "iptables-save",
    "ip6tables-save",
    "iptables-nft-save",
    "ip6tables-nft-save",
    "iptables-legacy-save",
    "ip6tables-legacy-save",
    "ebtables-save",
    "ebtables-nft-save",
    "ebtables-legacy-save",
    "arptables-save",
    "arptables-nft-save",
    "arptables-legacy-save",
    "nft",
];

/// A word that shell, batches and programs take for nothing but a name.
pub fn is_plain(word: &str) -> bool {
    let first = word.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_');
    first && !word.contains("..") && word.chars().all(|c| c.is_alphanumeric() || "-_.:@+=,/".contains(c))
}

/// A word that is the name of a file, a namespace's for one.
pub fn is_name(word: &str) -> bool {
    is_plain(word) && !word.contains('/')
}

/// Looks at everything that the script of a scope will take over.
pub fn check(snapshot: &Snapshot, scope: &Scope) -> Result<(), Unwritable> {
    for netns in snapshot.namespaces.iter().filter(|netns| scope.namespaces.contains(&netns.id)) {
        for link in &netns.links {
            self::link(link)?;
        }
        for rule in &netns.rules {
            words("the device of a policy rule", to_value(rule))?;
        }
        for qdisc in &netns.qdiscs {
            words("the queueing discipline", to_value(&qdisc.options))?;
        }
        for policy in &netns.xfrm_policies {
            words("the IPsec policy", to_value(policy))?;
        }
        for listing in &netns.netfilter.listings {
            self::listing(listing)?;
        }
    }
    for bridge in &snapshot.ovs {
        let OvsBridge { flows, .. } = bridge;
        words(
            "the Open vSwitch bridge",
            to_value(OvsBridge { flows: Vec::new(), traces: Vec::new(), ..bridge.clone() }),
        )?;
        text("the flow", flows.iter().flat_map(|flow| flow.lines()))?;
    }
    Ok(())
}

fn link(link: &Link) -> Result<(), Unwritable> {
    if !is_name(&link.name) {
        return Err(unwritable("the device name", &link.name));
    }
    words("the kind of a device", to_value(&link.kind))
}

fn listing(listing: &Listing) -> Result<(), Unwritable> {
    if !SAVERS.contains(&listing.program.as_str()) {
        return Err(unwritable("the program", &listing.program));
    }
    if listing.program == "nft" {
        // Written anew from its JSON, one object a line.
        return Ok(());
    }
    text("the rule", listing.text.lines())
}

/// Lines for a program's standard input.
fn text<'a>(what: &'static str, mut lines: impl Iterator<Item = &'a str>) -> Result<(), Unwritable> {
    match lines.find(|line| line.trim() == END || line.split_whitespace().any(starts_programs)) {
        Some(line) => Err(unwritable(what, line)),
        None => Ok(()),
    }
}

/// `-M`, `--modprobe` and `--atomic-file` of iptables and its relatives, which may be shortened.
fn starts_programs(word: &str) -> bool {
    word.starts_with("-M") || word.starts_with("--mo") || word.starts_with("--at")
}

/// Every text within a value.
fn words(what: &'static str, value: Result<Value, serde_json::Error>) -> Result<(), Unwritable> {
    fn odd(value: &Value) -> Option<&str> {
        match value {
            Value::String(text) => (!text.is_empty() && !is_value(text)).then_some(text),
            Value::Array(all) => all.iter().find_map(odd),
            Value::Object(fields) => {
                fields.iter().find_map(|(key, value)| if is_value(key) { odd(value) } else { Some(key) })
            }
            _ => None,
        }
    }
    match value {
        Ok(value) => odd(&value).map_or(Ok(()), |text| Err(unwritable(what, text))),
        Err(_) => Err(unwritable(what, "what can't be read")),
    }
}

/// As a plain word, or an address, a negative number, a share.
fn is_value(word: &str) -> bool {
    let rest = word
        .strip_prefix('-')
        .map_or(Some(word), |rest| rest.starts_with(|c: char| c.is_ascii_digit()).then_some(rest));
    rest.is_some_and(|rest| {
        !rest.contains("..") && rest.chars().all(|c| c.is_alphanumeric() || "-_.:@+=,/%".contains(c))
    })
}

fn unwritable(what: &'static str, text: &str) -> Unwritable {
    Unwritable { what, text: text.chars().take(60).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::netfilter::Backend;
    use crate::model::snapshot::{LinkKind, Netns};

    fn with(change: impl FnOnce(&mut Netns)) -> Result<(), Unwritable> {
        let mut netns = Netns::default();
        netns.links.push(Link { name: "eth0.7".to_owned(), kind: LinkKind::Veth, ..Link::default() });
        change(&mut netns);
        let snapshot = Snapshot { namespaces: vec![netns], ..Snapshot::default() };
        check(&snapshot, &Scope::everything(&snapshot))
    }

    #[test]
    fn what_networks_are_made_of_is_plain() {
        assert_eq!(with(|_| ()), Ok(()));
        for name in ["veth1@if3", "br-0a1b2c", "cali12ab", "wlan0+", "büro"] {
            assert_eq!(with(|netns| netns.links[0].name = name.to_owned()), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_device_name_that_a_shell_would_read_ends_the_work() {
        for name in
            ["$(reboot)", "`id`", "a;b", "a b", "a\nlink del b", "'", "\"", "a#", "veth%d", "-all", "../x", "a/b", ""]
        {
            let found = with(|netns| netns.links[0].name = name.to_owned());
            assert!(found.is_err(), "{name:?}");
        }
    }

    #[test]
    fn so_do_words_of_kinds_and_rules_and_disciplines() {
        let kind = LinkKind::Netkit { mode: "l3; reboot".to_owned(), pass: true };
        assert!(with(|netns| netns.links[0].kind = kind).is_err());
        let rule = crate::model::snapshot::Rule { iif: Some("$(id)".to_owned()), ..Default::default() };
        assert!(with(|netns| netns.rules.push(rule)).is_err());
    }

    #[test]
    fn rules_neither_end_their_text_nor_start_programs() {
        let listing = |program: &str, text: &str| {
            let listing =
                Listing { program: program.to_owned(), backend: Backend::IptablesLegacy, text: text.to_owned() };
            with(|netns| netns.netfilter.listings.push(listing))
        };
        assert_eq!(
            listing("iptables-legacy-save", "*filter\n-A INPUT -m comment --comment \"$(id)\" -j DROP\nCOMMIT"),
            Ok(())
        );
        for text in [
            "*filter\nEND_OF_RULES\nreboot",
            "*filter\n-A INPUT -M /sbin/reboot -j X",
            "*filter\n-A INPUT --modp=/sbin/reboot -j X",
        ] {
            assert!(listing("iptables-legacy-save", text).is_err(), "{text}");
        }
        assert!(listing("rm -rf /; x-save", "").is_err());
    }
}
