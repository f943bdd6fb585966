//! iptables, ip6tables, ebtables and arptables: what their `-save` programs print, into the model.
//!
//! Their nftables back ends show up in `nft -j list ruleset` too, but there a match or target that nftables has no words for
//! is only a name (`xt match "multiport"`). So the tables that these programs made are read from the programs.
//!
//! Each match becomes the nftables expression that asks the same question; what has none stays as text. Tolerant as a whole,
//! exact in the parts: a line that makes no sense is a gap that names the line, an option that is not known makes its rule
//! *maybe*.
//!
//! Read first: [`parse_iptables_save`].

mod arp;
mod bridge;
mod matches;
mod target;
mod words;

use crate::model::netfilter::statement::{Counter, Statement};
use crate::model::netfilter::{Backend, Base, Chain, ChainKind, Family, Hook, Policy, Rule, RulesetGap, Table};

/// Parses what `iptables-save -c` and its relatives print.
///
/// `family` is that of the program (`Ip6` for ip6tables). Which of the three dialects it is follows from `backend`.
pub fn parse_iptables_save(output: &str, family: Family, backend: Backend) -> (Vec<Table>, Vec<RulesetGap>) {
    let mut tables: Vec<Table> = Vec::new();
    let mut gaps = Vec::new();
    for (index, line) in output.lines().enumerate() {
        let line = line.trim();
        let malformed = |reason: &str| RulesetGap::Malformed {
            program: program(backend, family).to_owned(),
            place: format!("line {}", index + 1),
            reason: reason.to_owned(),
        };
        if line.is_empty() || line.starts_with('#') || line == "COMMIT" {
            continue;
        }
        if let Some(name) = line.strip_prefix('*') {
            tables.push(Table::new(backend, family, name.trim()));
            continue;
        }
        let Some(table) = tables.last_mut() else {
            gaps.push(malformed("before the first table"));
            continue;
        };
        let added = if let Some(rest) = line.strip_prefix(':') {
            declare_chain(table, rest)
        } else if line.starts_with('[') || line.starts_with('-') {
            add_rule(table, line)
        } else {
            Err("neither a table, a chain nor a rule")
        };
        if let Err(reason) = added {
            gaps.push(malformed(reason));
        }
    }
    resolve_jumps(&mut tables);
    super::nft::name_unknowns(&tables, &mut gaps);
    (tables, gaps)
}

/// The program that lists these rules.
pub fn program(backend: Backend, family: Family) -> &'static str {
    match (backend, family) {
        (Backend::Nft, _) => "nft",
        (Backend::IptablesNft, Family::Ip6) => "ip6tables-save",
        (Backend::IptablesNft, _) => "iptables-save",
        (Backend::IptablesLegacy, Family::Ip6) => "ip6tables-legacy-save",
        (Backend::IptablesLegacy, _) => "iptables-legacy-save",
        (Backend::EbtablesNft, _) => "ebtables-save",
        (Backend::EbtablesLegacy, _) => "ebtables-legacy-save",
        (Backend::ArptablesNft, _) => "arptables-save",
        (Backend::ArptablesLegacy, _) => "arptables-legacy-save",
    }
}

fn declare_chain(table: &mut Table, rest: &str) -> Result<(), &'static str> {
    let mut words = rest.split_whitespace();
    let name = words.next().ok_or("a chain without a name")?;
    let policy = match words.next() {
        Some("ACCEPT") => Some(Policy::Accept),
        Some("DROP") => Some(Policy::Drop),
        // `-` marks a chain of one's own; ebtables also knows RETURN there.
        _ => None,
    };
    let base = base(table.backend, &table.name, name);
    let counter = words.next().and_then(counter);
    let policy = match (&base, table.backend) {
        (Some(_), _) | (None, Backend::EbtablesNft | Backend::EbtablesLegacy) => policy,
        (None, _) => None,
    };
    table.chains.push(Chain {
        name: name.to_owned(),
        handle: None,
        base,
        policy,
        policy_counter: counter,
        rules: Vec::new(),
    });
    Ok(())
}

/// `[packets:bytes]`
fn counter(text: &str) -> Option<Counter> {
    let (packets, bytes) = text.strip_prefix('[')?.strip_suffix(']')?.split_once(':')?;
    Some(Counter { packets: packets.parse().ok()?, bytes: bytes.parse().ok()? })
}

/// Where a built-in chain hangs (include/uapi/linux/netfilter_ipv4.h and netfilter_bridge.h).
fn base(backend: Backend, table: &str, chain: &str) -> Option<Base> {
    let filter = |hook, priority| Some(Base { kind: ChainKind::Filter, hook, priority, devices: Vec::new() });
    match backend {
        Backend::EbtablesNft | Backend::EbtablesLegacy => {
            if chain == "BROUTING" {
                return filter(Hook::Prerouting, -400);
            }
            let hook = built_in(chain)?;
            match (table, hook) {
                ("nat", Hook::Prerouting) => filter(hook, -300),
                ("nat", Hook::Output) => filter(hook, 100),
                ("nat", Hook::Postrouting) => filter(hook, 300),
                (_, Hook::Output) if backend == Backend::EbtablesLegacy => filter(hook, 200),
                _ => filter(hook, -200),
            }
        }
        Backend::ArptablesNft | Backend::ArptablesLegacy => filter(built_in(chain)?, 0),
        _ => {
            let hook = built_in(chain)?;
            match (table, hook) {
                ("raw", _) => filter(hook, -300),
                ("mangle", Hook::Output) => {
                    Some(Base { kind: ChainKind::Route, hook, priority: -150, devices: Vec::new() })
                }
                ("mangle", _) => filter(hook, -150),
                ("nat", Hook::Prerouting | Hook::Output) => {
                    Some(Base { kind: ChainKind::Nat, hook, priority: -100, devices: Vec::new() })
                }
                ("nat", _) => Some(Base { kind: ChainKind::Nat, hook, priority: 100, devices: Vec::new() }),
                ("security", _) => filter(hook, 50),
                _ => filter(hook, 0),
            }
        }
    }
}

/// Built-in chains are in capitals; a chain of one's own may well be called `input`.
fn built_in(chain: &str) -> Option<Hook> {
    match chain {
        "PREROUTING" | "INPUT" | "FORWARD" | "OUTPUT" | "POSTROUTING" => Hook::from_word(chain),
        _ => None,
    }
}

fn add_rule(table: &mut Table, line: &str) -> Result<(), &'static str> {
    let (counted, text) = match line.strip_prefix('[') {
        Some(rest) => {
            let (inner, text) = rest.split_once(']').ok_or("a counter without an end")?;
            (counter(&format!("[{inner}]")), text.trim_start())
        }
        None => (None, line),
    };
    let words = words::split(text).ok_or("a quotation without an end")?;
    let (Some("-A"), Some(name)) = (words.first().map(String::as_str), words.get(1)) else {
        return Err("a rule that is not appended to a chain");
    };
    let options = words.get(2..).unwrap_or_default();
    let parsed = match table.backend {
        Backend::EbtablesNft | Backend::EbtablesLegacy => bridge::parse(options),
        Backend::ArptablesNft | Backend::ArptablesLegacy => arp::parse(options),
        _ => matches::parse(options, table.family),
    };
    let mut statements = parsed.conditions;
    if let Some(counted) = counted {
        statements.push(Statement::Counter(counted));
    }
    statements.extend(parsed.actions);
    let chain = if let Some(chain) = table.chains.iter_mut().find(|chain| chain.name == *name) {
        chain
    } else {
        // A listing cut short; the rules are kept all the same.
        table.chains.push(Chain { name: name.clone(), ..Chain::default() });
        table.chains.last_mut().ok_or("no chain")?
    };
    chain.rules.push(Rule {
        position: chain.rules.len() as u32 + 1,
        handle: None,
        text: text.to_owned(),
        comment: parsed.comment,
        statements,
    });
    Ok(())
}

/// A rule taken apart.
#[derive(Debug, Default)]
struct ParsedRule {
    /// What must hold.
    conditions: Vec<Statement>,
    /// What is done then.
    actions: Vec<Statement>,
    /// `-m comment`.
    comment: Option<String>,
}

/// A target that is not known may be a chain declared later, or in `broute` mean something else than it says.
fn resolve_jumps(tables: &mut [Table]) {
    use crate::model::netfilter::statement::Verdict;
    for table in tables {
        let names: std::collections::HashSet<String> = table.chains.iter().map(|chain| chain.name.clone()).collect();
        let broute = table.name == "broute";
        for rule in table.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
            for statement in &mut rule.statements {
                match statement {
                    Statement::Unknown { text } if names.contains(text.as_str()) => {
                        *statement = Statement::Verdict(Verdict::Jump(text.clone()));
                    }
                    // There, DROP means: route it instead of bridging it.
                    Statement::Verdict(Verdict::Drop) if broute => {
                        *statement = Statement::Unknown { text: "broute DROP".to_owned() }
                    }
                    _ => {}
                }
            }
        }
    }
}
