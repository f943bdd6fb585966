//! Packet-filter rules, put back as their own programs printed them.
//!
//! nft's JSON listing is taken back by `nft -j -f -`. Tables that iptables and its relatives made on nftables are left out
//! of it and given back to their own programs, which alone can print them whole. Counters begin anew.

use serde_json::Value as Json;

use crate::model::netfilter::statement::Statement;
use crate::model::netfilter::{Backend, Listing, Table};
use crate::model::snapshot::Netns;

use super::Work;

/// All rules of all namespaces.
pub fn make(work: &mut Work<'_>) {
    let all: Vec<&Netns> = work.namespaces().collect();
    for netns in all {
        let rules = &netns.netfilter;
        for listing in &rules.listings {
            match listing.backend {
                Backend::Nft => nft(work, netns, listing),
                _ => saved(work, netns, listing),
            }
        }
        if rules.listings.is_empty() && !rules.tables.is_empty() {
            let what = format!("the packet filter of {}", work.script.name(netns.id));
            work.miss(None, what, "the recording does not have its text");
        }
    }
}

fn nft(work: &mut Work<'_>, netns: &Netns, listing: &Listing) {
    let Ok(Json::Object(root)) = serde_json::from_str::<Json>(&listing.text) else { return };
    let Some(Json::Array(objects)) = root.get("nftables") else { return };
    let table_of = |word: &str, json: &Json| -> Option<&Table> {
        let key = if word == "table" { "name" } else { "table" };
        let (family, name) = (json.get("family")?.as_str()?, json.get(key)?.as_str()?);
        netns.netfilter.tables.iter().find(|table| table.family.word() == family && table.name == name)
    };
    let mut lines = Vec::new();
    for object in objects {
        let Some((word, json)) = object.as_object().and_then(|object| object.iter().next()) else { continue };
        if word == "metainfo" {
            continue;
        }
        let table = table_of(word, json);
        if table.is_some_and(|table| table.backend != Backend::Nft) {
            continue;
        }
        let mut json = json.clone();
        if word == "rule" {
            keep_checksum(&mut json, table);
        }
        if let Json::Object(fields) = &mut json {
            fields.remove("handle");
            let asleep = table.is_some_and(|table| table.dormant);
            if word == "table" && asleep {
                fields.insert("flags".to_owned(), Json::Array(vec!["dormant".into()]));
            }
            // nft leaves out the device of a chain that hangs at one.
            let devices = table.and_then(|table| {
                let chain = table.chain(fields.get("name")?.as_str()?)?;
                Some(chain.base.as_ref()?.devices.clone())
            });
            if word == "chain"
                && !fields.contains_key("dev")
                && let Some([first, rest @ ..]) = devices.as_deref()
            {
                let value = if rest.is_empty() {
                    Json::from(first.clone())
                } else {
                    Json::from(devices.clone().unwrap_or_default())
                };
                fields.insert("dev".to_owned(), value);
            }
        }
        lines.push(serde_json::json!({ "add": { word: json } }).to_string());
    }
    if !lines.is_empty() {
        work.needs.insert("cmd:nft".to_owned());
        work.script.feed(netns.id, "nft -j -f -", &format!("{{\"nftables\": [\n{}\n]}}", lines.join(",\n")));
    }
}

fn saved(work: &mut Work<'_>, netns: &Netns, listing: &Listing) {
    let program = listing.program.replace("-save", "-restore");
    work.needs.insert(format!("cmd:{program}"));
    let text: Vec<String> = listing
        .text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| match line.strip_prefix('[').and_then(|rest| rest.split_once("] -A")) {
            Some((_, rule)) => format!("-A{rule}"),
            None => without_counters(line),
        })
        .collect();
    let text = text.join("\n");
    work.script.feed(netns.id, &program, &text);
}

/// `:INPUT ACCEPT [12:3456]` without the counter; ebtables prints `-c` behind its rules.
fn without_counters(line: &str) -> String {
    if line.starts_with(':') {
        return line.split(" [").next().unwrap_or(line).to_owned();
    }
    match line.split_once(" -c ") {
        Some((rule, counters)) if counters.split(' ').all(|word| word.parse::<u64>().is_ok()) => rule.to_owned(),
        _ => line.to_owned(),
    }
}

/// A rule that writes bytes without mending the checksum is listed like one that mends it; said by offset, it does what it
/// did. The model knows which one it is.
fn keep_checksum(json: &mut Json, table: Option<&Table>) {
    let handle = json.get("handle").and_then(Json::as_u64);
    let chain = json.get("chain").and_then(Json::as_str).and_then(|chain| table?.chain(chain));
    let Some(rule) = chain.and_then(|chain| chain.rules.iter().find(|rule| rule.handle == handle && handle.is_some()))
    else {
        return;
    };
    let leaves = rule
        .statements
        .iter()
        .any(|statement| matches!(statement, Statement::Mangle { mends_checksum: Some(false), .. }));
    let Some(statements) = json.get_mut("expr").and_then(Json::as_array_mut).filter(|_| leaves) else { return };
    for statement in statements {
        let Some(key) = statement.get_mut("mangle").and_then(|mangle| mangle.get_mut("key")) else { continue };
        let field = |name: &str| key.get("payload").and_then(|payload| payload.get(name)).and_then(Json::as_str);
        let raw = FIELDS
            .iter()
            .find(|(protocol, name, ..)| field("protocol") == Some(protocol) && field("field") == Some(name));
        if let Some((_, _, base, offset, len)) = raw {
            *key = serde_json::json!({ "payload": { "base": base, "offset": offset, "len": len } });
        }
    }
}

/// Header fields by protocol and name: base, offset and length in bits (RFC 791, 8200, 792, 9293, 768).
const FIELDS: &[(&str, &str, &str, u32, u32)] = &[
    ("ip", "ttl", "nh", 64, 8),
    ("ip", "protocol", "nh", 72, 8),
    ("ip", "id", "nh", 32, 16),
    ("ip", "length", "nh", 16, 16),
    ("ip", "checksum", "nh", 80, 16),
    ("ip", "saddr", "nh", 96, 32),
    ("ip", "daddr", "nh", 128, 32),
    ("ip6", "hoplimit", "nh", 56, 8),
    ("ip6", "saddr", "nh", 64, 128),
    ("ip6", "daddr", "nh", 192, 128),
    ("icmp", "type", "th", 0, 8),
    ("icmp", "code", "th", 8, 8),
    ("icmp", "checksum", "th", 16, 16),
    ("icmp", "id", "th", 32, 16),
    ("icmp", "sequence", "th", 48, 16),
    ("icmpv6", "type", "th", 0, 8),
    ("icmpv6", "code", "th", 8, 8),
    ("icmpv6", "checksum", "th", 16, 16),
    ("tcp", "sport", "th", 0, 16),
    ("tcp", "dport", "th", 16, 16),
    ("udp", "sport", "th", 0, 16),
    ("udp", "dport", "th", 16, 16),
];
