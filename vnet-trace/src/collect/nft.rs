//! nftables: what `nft -j list ruleset` prints, into the model, and whether it is worth asking.
//!
//! The JSON is walked as `serde_json::Value` rather than through a schema crate. A schema is all or nothing: one expression
//! that it does not know, from a newer nft, and the whole listing is lost. Here an unknown expression becomes an `Unknown`
//! with its text, and everything round it is kept. The schema has also changed in small ways between nft 0.9 and 1.1 (flags as
//! a string or a list, `typeof` sets, `|` for joined bits); each is one match arm here.
//!
//! Takes the program's output as text, gives tables and gaps. It deliberately does not decide anything about rules, and does
//! not resolve names of users or services: nft is run so that it prints numbers.
//!
//! Read first: [`parse_nft_json`].

mod expression;
pub mod kernel;
mod statement;
pub mod symbol;
mod text;

use std::collections::HashMap;

use serde_json::Value as Json;

use crate::model::netfilter::expression::{Expression, Field, Kind, Match, Pattern};
use crate::model::netfilter::statement::{Counter, Statement};
use crate::model::netfilter::{
    Backend, Base, Chain, ChainKind, Family, Hook, Policy, Rule, RuleRef, RulesetGap, Set, Table,
};

/// Elements kept of one set or map.
const MAX_ELEMENTS: usize = 65_536;
/// Expressions named one by one among the gaps.
const MAX_NAMED_GAPS: usize = 32;

/// Parses what `nft -j -a list ruleset` prints.
///
/// Never fails as a whole: what is not JSON is a gap that names line and column, what is not understood stays as text.
pub fn parse_nft_json(output: &str) -> (Vec<Table>, Vec<RulesetGap>) {
    let mut gaps = Vec::new();
    if output.trim().is_empty() {
        return (Vec::new(), gaps);
    }
    let root: Json = match serde_json::from_str(output) {
        Ok(root) => root,
        Err(error) => {
            gaps.push(RulesetGap::Malformed {
                program: "nft".to_owned(),
                place: format!("line {}, column {}", error.line(), error.column()),
                reason: error.to_string(),
            });
            return (Vec::new(), gaps);
        }
    };
    let Some(objects) = root.get("nftables").and_then(Json::as_array) else {
        gaps.push(RulesetGap::Malformed {
            program: "nft".to_owned(),
            place: "top level".to_owned(),
            reason: "no list `nftables`".to_owned(),
        });
        return (Vec::new(), gaps);
    };
    let mut listing = Listing { tables: Vec::new(), places: HashMap::new(), chains: HashMap::new(), gaps };
    for (index, object) in objects.iter().enumerate() {
        if listing.declare(object).is_none() {
            listing.gaps.push(RulesetGap::Malformed {
                program: "nft".to_owned(),
                place: format!("object {index}"),
                reason: object.to_string().chars().take(120).collect(),
            });
        }
    }
    // Rules come second: a rule may name a quota or a counter that is listed after it.
    for (index, object) in objects.iter().enumerate() {
        if let Some(rule) = object.get("rule")
            && listing.rule(rule).is_none()
        {
            listing.gaps.push(RulesetGap::Malformed {
                program: "nft".to_owned(),
                place: format!("object {index}"),
                reason: rule.to_string().chars().take(120).collect(),
            });
        }
    }
    let mut tables: Vec<Table> = listing.tables.into_iter().map(|entry| entry.table).collect();
    let mut gaps = listing.gaps;
    name_unknowns(&tables, &mut gaps);
    for table in &mut tables {
        table.chains.iter_mut().for_each(|chain| chain.rules.shrink_to_fit());
    }
    (tables, gaps)
}

struct Entry {
    table: Table,
    objects: statement::Objects,
}

struct Listing {
    tables: Vec<Entry>,
    places: HashMap<(Family, String), usize>,
    chains: HashMap<(usize, String), usize>,
    gaps: Vec<RulesetGap>,
}

impl Listing {
    fn entry(&mut self, json: &Json, key: &str) -> Option<usize> {
        let family = Family::from_word(json.get("family")?.as_str()?)?;
        let name = json.get(key)?.as_str()?;
        let place = (family, name.to_owned());
        if let Some(index) = self.places.get(&place) {
            return Some(*index);
        }
        let index = self.tables.len();
        self.tables
            .push(Entry { table: Table::new(Backend::Nft, family, name), objects: statement::Objects::default() });
        self.places.insert(place, index);
        Some(index)
    }

    /// Everything but rules. None if it cannot be placed.
    fn declare(&mut self, object: &Json) -> Option<()> {
        let (word, json) = object.as_object()?.iter().next()?;
        match word.as_str() {
            "table" => {
                let index = self.entry(json, "name")?;
                let table = &mut self.tables[index].table;
                table.handle = json.get("handle").and_then(Json::as_u64);
                table.comment = json.get("comment").and_then(Json::as_str).map(str::to_owned);
                table.dormant = match json.get("flags") {
                    Some(Json::String(flag)) => flag == "dormant",
                    Some(Json::Array(flags)) => flags.iter().any(|flag| flag.as_str() == Some("dormant")),
                    _ => false,
                };
            }
            "chain" => {
                let index = self.entry(json, "table")?;
                let chain = chain(json)?;
                let chains = &mut self.tables[index].table.chains;
                self.chains.insert((index, chain.name.clone()), chains.len());
                chains.push(chain);
            }
            "set" | "map" => {
                let index = self.entry(json, "table")?;
                let (set, total) = set(json)?;
                let table = &mut self.tables[index].table;
                if set.truncated {
                    self.gaps.push(RulesetGap::SetTruncated {
                        table: table.name.clone(),
                        set: set.name.clone(),
                        kept: set.elements.len(),
                        total,
                    });
                }
                table.sets.push(set);
            }
            "counter" => {
                let index = self.entry(json, "table")?;
                let number = |key: &str| json.get(key).and_then(Json::as_u64).unwrap_or(0);
                let counter = Counter { packets: number("packets"), bytes: number("bytes") };
                self.tables[index].objects.counters.push((json.get("name")?.as_str()?.to_owned(), counter));
            }
            "quota" => {
                let index = self.entry(json, "table")?;
                let used = json.get("used").and_then(Json::as_u64).unwrap_or(0)
                    >= json.get("bytes").and_then(Json::as_u64).unwrap_or(u64::MAX);
                let over = json.get("inv").and_then(Json::as_bool).unwrap_or(false);
                self.tables[index].objects.quotas.push((json.get("name")?.as_str()?.to_owned(), over, used));
            }
            "limit" => {
                let index = self.entry(json, "table")?;
                let over = json.get("inv").and_then(Json::as_bool).unwrap_or(false);
                self.tables[index].objects.limits.push((json.get("name")?.as_str()?.to_owned(), over));
            }
            // Rules are parsed in a second pass; the rest (metainfo, flowtables, helpers, timeouts …) decides nothing.
            _ => {}
        }
        Some(())
    }

    fn rule(&mut self, json: &Json) -> Option<()> {
        let index = self.entry(json, "table")?;
        let name = json.get("chain")?.as_str()?;
        let place = if let Some(place) = self.chains.get(&(index, name.to_owned())) {
            *place
        } else {
            let chains = &mut self.tables[index].table.chains;
            self.chains.insert((index, name.to_owned()), chains.len());
            chains.push(Chain { name: name.to_owned(), ..Chain::default() });
            chains.len() - 1
        };
        let none = Vec::new();
        let listed = json.get("expr").and_then(Json::as_array).unwrap_or(&none);
        let comment = json.get("comment").and_then(Json::as_str);
        let entry = &mut self.tables[index];
        let mut statements = Vec::with_capacity(listed.len());
        for statement in listed {
            statement::parse_statement(statement, &entry.objects, &mut statements);
        }
        let rules = &mut entry.table.chains[place].rules;
        rules.push(Rule {
            position: rules.len() as u32 + 1,
            handle: json.get("handle").and_then(Json::as_u64),
            text: text::rule(listed, comment),
            comment: comment.map(str::to_owned),
            statements,
        });
        Some(())
    }
}

fn chain(json: &Json) -> Option<Chain> {
    let string = |key: &str| json.get(key).and_then(Json::as_str);
    let base = match (string("type"), string("hook")) {
        (Some(kind), Some(hook)) => {
            let devices = match json.get("dev") {
                Some(Json::String(device)) => vec![device.clone()],
                Some(Json::Array(devices)) => devices.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
                _ => Vec::new(),
            };
            Some(Base {
                kind: match kind {
                    "nat" => ChainKind::Nat,
                    "route" => ChainKind::Route,
                    _ => ChainKind::Filter,
                },
                hook: Hook::from_word(hook)?,
                priority: json.get("prio").and_then(Json::as_i64).and_then(|priority| i32::try_from(priority).ok())?,
                devices,
            })
        }
        _ => None,
    };
    let policy = match (&base, string("policy")) {
        (Some(_), Some("drop")) => Some(Policy::Drop),
        (Some(_), _) => Some(Policy::Accept),
        (None, _) => None,
    };
    Some(Chain {
        name: string("name")?.to_owned(),
        handle: json.get("handle").and_then(Json::as_u64),
        base,
        policy,
        policy_counter: None,
        rules: Vec::new(),
    })
}

/// A set or map, and how many elements it has.
fn set(json: &Json) -> Option<(Set, usize)> {
    let kinds = kinds(json.get("type"));
    let data_kinds = match json.get("map") {
        Some(Json::String(text)) => text.split(" . ").map(|name| symbol::kind(name.trim())).collect(),
        other => self::kinds(other),
    };
    let none = Vec::new();
    let listed = match json.get("elem") {
        Some(Json::Array(listed)) => listed,
        _ => &none,
    };
    let elements: Vec<_> =
        listed.iter().take(MAX_ELEMENTS).map(|element| expression::element(element, &kinds, &data_kinds)).collect();
    let set =
        Set { name: json.get("name")?.as_str()?.to_owned(), kinds, truncated: listed.len() > elements.len(), elements };
    Some((set, listed.len()))
}

fn kinds(json: Option<&Json>) -> Vec<Kind> {
    match json {
        Some(Json::String(name)) => vec![symbol::kind(name)],
        Some(Json::Array(names)) => {
            names.iter().map(|name| name.as_str().map_or_else(|| expression_kind(name), symbol::kind)).collect()
        }
        // nft 1.1 prints what a `typeof` set was declared with.
        Some(Json::Object(object)) => match object.get("typeof") {
            Some(declared) => expression::parse(declared).kinds,
            None => vec![Kind::Other],
        },
        _ => vec![Kind::Other],
    }
}

fn expression_kind(json: &Json) -> Kind {
    expression::parse(json).kinds.first().copied().unwrap_or(Kind::Other)
}

/// Names what no evaluator can answer, so that a person can see how far the picture reaches.
pub(super) fn name_unknowns(tables: &[Table], gaps: &mut Vec<RulesetGap>) {
    let mut named = 0;
    let mut more = 0;
    for table in tables {
        for chain in &table.chains {
            for rule in &chain.rules {
                for text in rule.statements.iter().filter_map(unknown_text) {
                    if named < MAX_NAMED_GAPS {
                        named += 1;
                        gaps.push(RulesetGap::NotUnderstood { at: RuleRef::to_rule(table, chain, rule), text });
                    } else {
                        more += 1;
                    }
                }
            }
        }
    }
    if more > 0 {
        gaps.push(RulesetGap::MoreNotUnderstood { count: more });
    }
}

fn unknown_text(statement: &Statement) -> Option<String> {
    match statement {
        Statement::Unknown { text }
        | Statement::Match(
            Match { left: Expression::Unknown { text } | Expression::Field(Field::Other { text }), .. }
            | Match { right: Pattern::Unknown { text }, .. },
        ) => Some(text.clone()),
        _ => None,
    }
}
