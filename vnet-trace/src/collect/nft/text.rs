//! A rule as its owner would recognise it: nft's JSON written the way `nft list ruleset` writes it.
//!
//! nft gives either text or JSON. Asking twice would cost as much again on a large rule set, and rules may change in between,
//! so the text is made from the JSON. It is meant for recognition, not for reading back: what we do not know is shown as JSON.

use std::fmt::Write as _;

use serde_json::Value as Json;

/// Deepest nesting written out.
const DEPTH: u32 = 16;

/// A whole rule: its statements side by side.
pub fn rule(statements: &[Json], comment: Option<&str>) -> String {
    let mut text = String::new();
    for json in statements {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&statement(json));
    }
    if let Some(comment) = comment {
        text.push_str(" comment \"");
        text.push_str(comment);
        text.push('"');
    }
    text
}

/// One statement.
pub fn statement(json: &Json) -> String {
    let Some((word, inner)) = json.as_object().and_then(|object| object.iter().next()) else {
        return json.as_str().map_or_else(|| json.to_string(), str::to_owned);
    };
    let get = |key: &str| inner.get(key);
    let string = |key: &str| get(key).and_then(Json::as_str);
    match word.as_str() {
        "match" => comparison(inner),
        "jump" | "goto" => format!("{word} {}", string("target").unwrap_or("?")),
        "counter" => match inner {
            Json::String(name) => format!("counter name \"{name}\""),
            Json::Null => "counter".to_owned(),
            _ => format!("counter packets {} bytes {}", plain(get("packets")), plain(get("bytes"))),
        },
        "vmap" => format!("{} vmap {}", optional(get("key")), optional(get("data"))),
        "reject" => match (string("type"), get("expr")) {
            (Some("tcp reset"), _) => "reject with tcp reset".to_owned(),
            (Some("icmpx"), Some(Json::String(code))) if code == "port-unreachable" => "reject".to_owned(),
            (Some(kind), Some(code)) => format!("reject with {kind} {}", value(code, None, 0)),
            _ => "reject".to_owned(),
        },
        "limit" => {
            if let Json::String(name) = inner {
                format!("limit name \"{name}\"")
            } else {
                let over = if get("inv").and_then(Json::as_bool) == Some(true) { "over " } else { "" };
                let unit = string("rate_unit").map(|unit| format!(" {unit}")).unwrap_or_default();
                format!("limit rate {over}{}{unit}/{}", plain(get("rate")), string("per").unwrap_or("second"))
            }
        }
        "ct count" => {
            let over = if get("inv").and_then(Json::as_bool) == Some(true) { "over " } else { "" };
            format!("ct count {over}{}", plain(get("val")))
        }
        "quota" => {
            if let Json::String(name) = inner {
                format!("quota name \"{name}\"")
            } else {
                let over = if get("inv").and_then(Json::as_bool) == Some(true) { "over " } else { "" };
                format!("quota {over}{} {}", plain(get("val")), string("val_unit").unwrap_or("bytes"))
            }
        }
        "mangle" => {
            let kind = get("key").and_then(hint);
            format!("{} set {}", optional(get("key")), get("value").map_or_else(String::new, |set| value(set, kind, 0)))
        }
        "snat" | "dnat" | "masquerade" | "redirect" | "tproxy" => rewriting(word, inner),
        "log" => {
            let mut text = "log".to_owned();
            if let Some(prefix) = string("prefix") {
                text.push_str(" prefix \"");
                text.push_str(prefix);
                text.push('"');
            }
            for key in ["group", "snaplen", "queue-threshold", "level", "flags"] {
                if let Some(setting) = get(key) {
                    let _ = write!(text, " {key} {}", words(setting));
                }
            }
            text
        }
        "set" | "map" => {
            let mut parts = optional(get("elem"));
            if let Some(Json::Array(nested)) = get("stmt") {
                for json in nested {
                    parts.push(' ');
                    parts.push_str(&statement(json));
                }
            }
            format!("{} {} {{ {parts} }}", string("op").unwrap_or("update"), string("set").unwrap_or("?"))
        }
        "meter" => {
            let nested = get("stmt").map(statement).unwrap_or_default();
            format!("meter {} {{ {} {nested} }}", string("name").unwrap_or("?"), optional(get("key")))
        }
        "fwd" => format!(
            "fwd to {}",
            get("dev").map_or_else(|| "?".to_owned(), |device| value(device, Some(Hint::Quoted), 0))
        ),
        "queue" => match (get("num"), get("flags")) {
            (Some(number), Some(flags)) => format!("queue flags {} to {}", words(flags), value(number, None, 0)),
            (Some(number), None) => format!("queue to {}", value(number, None, 0)),
            _ => "queue".to_owned(),
        },
        "xt" => format!("xt {} \"{}\"", string("type").unwrap_or("target"), string("name").unwrap_or("?")),
        "flow" => format!("flow add {}", string("flowtable").unwrap_or("?")),
        "synproxy" => "synproxy".to_owned(),
        _ if inner.is_null() => word.clone(),
        _ if inner.is_string() => format!("{word} set {}", value(inner, Some(Hint::Quoted), 0)),
        _ => json.to_string(),
    }
}

/// One expression.
pub fn expression(json: &Json) -> String {
    value(json, None, 0)
}

/// How constants of a field are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hint {
    Quoted,
    Mark,
    Hexadecimal,
}

fn hint(left: &Json) -> Option<Hint> {
    let (word, inner) = left.as_object()?.iter().next()?;
    let key = inner.get("key").and_then(Json::as_str);
    match (word.as_str(), key) {
        ("meta" | "ct", Some("mark")) => Some(Hint::Mark),
        (
            "meta",
            Some(
                "iifname" | "oifname" | "iif" | "oif" | "iifkind" | "oifkind" | "sdifname" | "ibrname" | "obrname"
                | "day" | "hour",
            ),
        )
        | ("ct", Some("helper")) => Some(Hint::Quoted),
        ("fib", _) => {
            inner.get("result").and_then(Json::as_str).filter(|result| result.starts_with("oif")).map(|_| Hint::Quoted)
        }
        ("payload", _) if inner.get("base").is_some() => Some(Hint::Hexadecimal),
        ("&" | "|" | "^" | "<<" | ">>", _) => inner.get(0).and_then(hint),
        _ => None,
    }
}

fn comparison(json: &Json) -> String {
    let (Some(left), Some(right)) = (json.get("left"), json.get("right")) else {
        return json.to_string();
    };
    let op = json.get("op").and_then(Json::as_str).unwrap_or("==");
    let kind = hint(left);
    let masked = left.get("&").and_then(Json::as_array).map(Vec::as_slice);
    if let (Some([field, mask @ Json::Array(_)]), "==") = (masked, op) {
        return format!("{} {} / {}", expression(field), value(right, kind, 0), value(mask, kind, 0));
    }
    let plain = matches!(op, "==" | "in") && masked.is_none();
    let right = match (left.get("fib"), right) {
        (_, Json::Bool(true)) => "exists".to_owned(),
        (_, Json::Bool(false)) => "missing".to_owned(),
        (Some(_), Json::String(text)) if text == "0" => "0".to_owned(),
        (_, Json::Array(bits)) => bits.iter().map(|bit| value(bit, kind, 0)).collect::<Vec<_>>().join(","),
        (_, right) => value(right, kind, 0),
    };
    if plain { format!("{} {right}", expression(left)) } else { format!("{} {op} {right}", expression(left)) }
}

fn rewriting(word: &str, json: &Json) -> String {
    let mut text = word.to_owned();
    if let Some(family) = json.get("family").and_then(Json::as_str) {
        text.push(' ');
        text.push_str(family);
    }
    if json.get("type_flags").is_some() {
        text.push_str(" prefix");
    }
    let (address, port) = (json.get("addr"), json.get("port"));
    if address.is_some() || port.is_some() {
        text.push_str(" to ");
    }
    if let Some(address) = address {
        let written = expression(address);
        if port.is_some() && written.contains(':') {
            let _ = write!(text, "[{written}]");
        } else {
            text.push_str(&written);
        }
    }
    if let Some(port) = port {
        text.push(':');
        text.push_str(&expression(port));
    }
    if let Some(flags) = json.get("flags").filter(|_| json.get("type_flags").is_none()) {
        text.push(' ');
        text.push_str(&words(flags));
    }
    text
}

fn value(json: &Json, kind: Option<Hint>, depth: u32) -> String {
    if depth > DEPTH {
        return "…".to_owned();
    }
    let again = |json: &Json| value(json, kind, depth + 1);
    let object = match json {
        Json::String(text) if kind == Some(Hint::Quoted) && !text.starts_with('@') && text != "*" => {
            return format!("\"{text}\"");
        }
        Json::String(text) => return text.clone(),
        Json::Number(number) => {
            return match (kind, number.as_u64()) {
                (Some(Hint::Mark), Some(number)) => format!("0x{number:08x}"),
                (Some(Hint::Hexadecimal), Some(number)) => format!("0x{number:x}"),
                _ => number.to_string(),
            };
        }
        Json::Array(parts) => return parts.iter().map(again).collect::<Vec<_>>().join(","),
        Json::Bool(flag) => return flag.to_string(),
        Json::Null => return String::new(),
        Json::Object(object) => object,
    };
    let Some((word, inner)) = object.iter().next() else { return String::new() };
    let string = |key: &str| inner.get(key).and_then(Json::as_str);
    match word.as_str() {
        "meta" => {
            let key = string("key").unwrap_or("?");
            // Some keys are written without the word.
            match key {
                "iif" | "oif" | "iifname" | "oifname" | "iifgroup" | "oifgroup" => key.to_owned(),
                _ => format!("meta {key}"),
            }
        }
        "payload" => match (inner.get("base"), string("protocol"), string("field")) {
            (Some(base), ..) => {
                format!("@{},{},{}", base.as_str().unwrap_or("?"), plain(inner.get("offset")), plain(inner.get("len")))
            }
            (None, Some(protocol), Some(field)) => format!("{protocol} {field}"),
            _ => json.to_string(),
        },
        "ct" => match (string("dir"), string("key")) {
            (Some(side), Some(key)) => format!("ct {side} {key}"),
            (None, Some(key)) => format!("ct {key}"),
            _ => json.to_string(),
        },
        "rt" => match (string("family"), string("key")) {
            (Some(family), Some(key)) => format!("rt {family} {key}"),
            (None, Some(key)) => format!("rt {key}"),
            _ => json.to_string(),
        },
        "socket" => format!("socket {}", string("key").unwrap_or("?")),
        "fib" => {
            let flags = match inner.get("flags") {
                Some(Json::Array(flags)) => flags.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(" . "),
                Some(Json::String(flag)) => flag.clone(),
                _ => String::new(),
            };
            format!("fib {flags} {}", string("result").unwrap_or("?"))
        }
        "prefix" => format!("{}/{}", inner.get("addr").map(again).unwrap_or_default(), plain(inner.get("len"))),
        "range" => match inner.as_array().map(Vec::as_slice) {
            Some([from, to]) => format!("{}-{}", again(from), again(to)),
            _ => json.to_string(),
        },
        "concat" => inner
            .as_array()
            .map(|parts| {
                let written: Vec<String> = parts
                    .iter()
                    .map(|part| match part {
                        Json::String(_) | Json::Number(_) => value(part, None, depth + 1),
                        part => again(part),
                    })
                    .collect();
                written.join(" . ")
            })
            .unwrap_or_default(),
        "set" => match inner {
            Json::Array(members) => {
                let written: Vec<String> = members.iter().map(|member| element(member, kind, depth + 1)).collect();
                format!("{{ {} }}", written.join(", "))
            }
            one => again(one),
        },
        "elem" => {
            let mut text = inner.get("val").map(again).unwrap_or_default();
            if let Some(timeout) = inner.get("timeout").and_then(Json::as_u64) {
                let _ = write!(text, " timeout {timeout}s");
            }
            text
        }
        "map" => format!("{} map {}", optional(inner.get("key")), optional(inner.get("data"))),
        "&" | "|" | "^" | "<<" | ">>" => inner
            .as_array()
            .map(|operands| {
                let kind = operands.first().and_then(hint).or(kind);
                operands
                    .iter()
                    .map(|operand| value(operand, kind, depth + 1))
                    .collect::<Vec<_>>()
                    .join(&format!(" {word} "))
            })
            .unwrap_or_default(),
        "numgen" => format!("numgen {} mod {}", string("mode").unwrap_or("?"), plain(inner.get("mod"))),
        "jhash" | "symhash" => format!("{word} {} mod {}", optional(inner.get("expr")), plain(inner.get("mod"))),
        "exthdr" => match string("field") {
            Some(field) => format!("{} {field}", string("name").unwrap_or("?")),
            None => format!("exthdr {}", string("name").unwrap_or("?")),
        },
        "tcp option" | "ip option" | "sctp chunk" => match string("field") {
            Some(field) => format!("{word} {} {field}", string("name").unwrap_or("?")),
            None => format!("{word} {}", string("name").unwrap_or("?")),
        },
        "jump" | "goto" => format!("{word} {}", string("target").unwrap_or("?")),
        _ if inner.is_null() => word.clone(),
        _ => json.to_string(),
    }
}

fn element(json: &Json, kind: Option<Hint>, depth: u32) -> String {
    match json.as_array().map(Vec::as_slice) {
        Some([key, data]) => format!("{} : {}", value(key, kind, depth), value(data, None, depth)),
        _ => value(json, kind, depth),
    }
}

fn optional(json: Option<&Json>) -> String {
    json.map(expression).unwrap_or_default()
}

fn plain(json: Option<&Json>) -> String {
    json.map_or_else(|| "?".to_owned(), Json::to_string)
}

fn words(json: &Json) -> String {
    match json {
        Json::Array(words) => words.iter().map(expression).collect::<Vec<_>>().join(","),
        other => expression(other),
    }
}
