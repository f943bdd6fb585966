//! The invariants of ARCHITECTURE.md, proved from the source text: nothing here runs the program.
//!
//! Each check fails with file and line, and a list of exemptions fails as well when one of them has become stale.

#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use source::Source;
use vnet_trace::diagnose::registry::{self, Family, Kind};
use vnet_trace::lab::embedded;

/// What a module of the library may use. A module that is not listed may use everything.
struct Rule {
    module: &'static str,
    modules: &'static [&'static str],
    crates: &'static [&'static str],
    /// Words that stand for what it must not do.
    never: &'static [&'static str],
}

/// Files, processes, sockets, clocks and output: what a pure stage has no business with.
const WORLD: &[&str] = &[
    "std::fs",
    "std::process",
    "std::env",
    "std::thread",
    "std::os",
    "std::io",
    "TcpStream",
    "UdpSocket",
    "Instant",
    "SystemTime",
    "print!",
    "println!",
    "eprint!",
    "eprintln!",
    "dbg!",
    "unsafe",
];

const RULES: &[Rule] = &[
    Rule { module: "model", modules: &[], crates: &["serde", "ipnet", "thiserror"], never: WORLD },
    Rule { module: "packet", modules: &["model"], crates: &["etherparse", "serde", "thiserror"], never: WORLD },
    Rule { module: "filter", modules: &[], crates: &["pcap", "thiserror", "vnet_trace_ebpf"], never: WORLD },
    Rule { module: "collect", modules: &["model", "packet", "filter"], crates: ANY, never: &["println!", "print!"] },
    Rule { module: "correlate", modules: &["model", "packet"], crates: &["serde", "ipnet"], never: WORLD },
    Rule {
        module: "predict",
        modules: &["model", "packet"],
        crates: &["serde", "serde_json", "ipnet", "thiserror"],
        never: WORLD,
    },
    Rule {
        module: "reconstruct",
        modules: &["model", "packet", "correlate", "predict"],
        crates: &["serde", "ipnet"],
        never: WORLD,
    },
    Rule { module: "diagnose", modules: &["model", "predict"], crates: &["serde", "ipnet"], never: WORLD },
    Rule {
        module: "rebuild",
        modules: &["model", "packet", "predict", "diagnose"],
        crates: &["serde", "serde_json", "ipnet", "thiserror"],
        never: WORLD,
    },
    Rule { module: "follow", modules: &["model", "packet", "correlate", "reconstruct"], crates: &[], never: WORLD },
    Rule {
        module: "present",
        modules: &["model", "packet", "follow", "diagnose", "lab"],
        crates: ANY,
        never: &["std::process", "std::net::Tcp", "SystemTime::now", "unsafe"],
    },
    Rule {
        module: "lab",
        modules: &["collect", "model", "packet", "correlate", "reconstruct", "predict", "diagnose", "rebuild"],
        crates: ANY,
        never: &["println!", "print!", "unsafe"],
    },
];

const ANY: &[&str] = &["*"];

/// Causes for which no lab can be built here, and why.
const WITHOUT_LAB: &[(&str, &str)] = &[
    ("neigh-table-full", "the table's limits belong to the machine's first namespace"),
    ("duplicate-mac", "no lab yet"),
    ("ipv6-disabled", "no lab yet"),
    ("scope-missing", "no lab yet"),
];

#[test]
fn modules_use_only_what_the_design_allows() {
    let mut wrong = Vec::new();
    let crates = dependencies();
    for source in library() {
        let Some(rule) = RULES.iter().find(|rule| rule.module == source.module) else { continue };
        for (line, module) in source.modules_used() {
            if module != rule.module && !rule.modules.contains(&module.as_str()) {
                wrong.push(format!("{}:{line}: {} must not use {module}", source.path.display(), rule.module));
            }
        }
        // Tests make what they need with whatever makes it: packets with etherparse, random input with proptest.
        let is_test =
            source.path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        for (line, name) in source.crates_used(&crates).into_iter().filter(|_| !is_test) {
            if rule.crates != ANY && !rule.crates.contains(&name.as_str()) {
                wrong.push(format!("{}:{line}: {} must not use the crate {name}", source.path.display(), rule.module));
            }
        }
        for word in rule.never {
            for line in source.lines_with(word) {
                wrong.push(format!("{}:{line}: {} must not have {word}", source.path.display(), rule.module));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_say_what_they_are_for_and_stay_readable() {
    let mut wrong = Vec::new();
    for source in
        library().into_iter().chain(below("xtask/src")).chain(below("vnet-trace-ebpf/src")).chain(below("tests"))
    {
        let path = source.path.display();
        if !source.text.starts_with("//! ") {
            wrong.push(format!("{path}: does not begin with what it is for (`//!`)"));
        }
        let stem = source.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
        if ["mod", "util", "utils", "common", "helper", "helpers", "misc"].contains(&stem) {
            wrong.push(format!("{path}: `{stem}` says nothing"));
        }
        for line in source.lines_with("#[allow(").chain(source.lines_with("#![allow(")) {
            wrong.push(format!(
                "{path}:{line}: `#[expect(…, reason = …)]` instead, which fails when it has become stale"
            ));
        }
        let code = source.code.lines().filter(|line| !line.trim().is_empty()).count();
        if code > 700 {
            wrong.push(format!("{path}: {code} lines of code; split it"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn each_code_has_one_page_and_each_page_a_code() {
    let pages: BTreeSet<String> = std::fs::read_dir(root().join("vnet-trace/causes"))
        .expect("causes/")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .map(|path| path.file_stem().expect("a stem").to_string_lossy().into_owned())
        .collect();
    let codes: BTreeSet<String> = registry::all().iter().map(|entry| entry.code.to_owned()).collect();
    assert_eq!(codes.len(), registry::all().len(), "a code is listed twice");
    assert_eq!(pages, codes);
}

#[test]
fn each_code_has_one_rule_file_and_each_rule_file_a_code() {
    let folder = |family: Family| match family {
        Family::Link => "link",
        Family::Bridge => "bridge",
        Family::Arp => "arp",
        Family::Route => "route",
        Family::Filter => "filter",
        Family::Note => "notes",
    };
    // A note may belong to the family of what it is about; its rule is a note's.
    let of = |entry: &registry::Entry| if entry.kind == Kind::Note { "notes" } else { folder(entry.family) };
    let codes: BTreeSet<String> =
        registry::all().iter().map(|entry| format!("{}/{}.rs", of(entry), entry.code.replace('-', "_"))).collect();
    let files: BTreeSet<String> =
        rules().into_iter().map(|(family, source)| format!("{family}/{}", source.path.display())).collect();
    assert_eq!(files, codes);
}

/// The rule files with their family. A file without a rule holds what several rules of its family share.
fn rules() -> Vec<(&'static str, Source)> {
    ["link", "bridge", "arp", "route", "filter", "notes"]
        .into_iter()
        .flat_map(|family| {
            let sources = below(&format!("vnet-trace/src/diagnose/{family}"));
            sources.into_iter().map(move |source| (family, source))
        })
        .filter(|(_, source)| source.code.contains("\npub fn check("))
        .collect()
}

#[test]
fn each_rule_is_tested_where_it_fires_and_where_it_is_silent() {
    let mut wrong = Vec::new();
    for (family, source) in rules() {
        for what in ["fn fires_when_", "fn silent_when_"] {
            if !source.text.contains(what) {
                wrong.push(format!("{family}/{}: no test {what}…", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn each_lab_expects_known_codes() {
    for lab in embedded::all().expect("well-formed labs") {
        for (code, kind) in lab
            .expect
            .cause
            .iter()
            .chain(&lab.expect.also)
            .map(|code| (code, Kind::Cause))
            .chain(lab.expect.notes.iter().flatten().map(|code| (code, Kind::Note)))
        {
            let known = registry::entry(code).unwrap_or_else(|| panic!("{}: there is no code {code}", lab.id));
            assert_eq!(known.kind, kind, "{}: {code}", lab.id);
        }
    }
}

#[test]
fn each_cause_has_a_lab() {
    let labs = embedded::all().expect("well-formed labs");
    let expected: BTreeSet<&str> = labs
        .iter()
        .flat_map(|lab| lab.expect.cause.iter().chain(&lab.expect.also).chain(lab.expect.notes.iter().flatten()))
        .map(String::as_str)
        .collect();
    let without: BTreeSet<&str> =
        registry::all().iter().map(|entry| entry.code).filter(|code| !expected.contains(code)).collect();
    let exempt: BTreeSet<&str> = WITHOUT_LAB.iter().map(|(code, _)| *code).collect();
    assert_eq!(without, exempt, "codes without a lab, and the list WITHOUT_LAB");
}

#[test]
fn each_page_names_its_labs() {
    let labs = embedded::all().expect("well-formed labs");
    let mut wrong = Vec::new();
    for entry in registry::all() {
        let named = labs_on(entry.page);
        for id in named.iter().filter(|id| !labs.iter().any(|lab| lab.id == **id)) {
            wrong.push(format!("causes/{}.md names {id}, which is no lab", entry.code));
        }
        for lab in labs
            .iter()
            .filter(|lab| lab.expect.cause.as_deref() == Some(entry.code) && !named.contains(&lab.id.as_str()))
        {
            wrong.push(format!("causes/{}.md does not name its lab {}", entry.code, lab.id));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The words in back-ticks below a page's heading "Lab".
fn labs_on(page: &str) -> Vec<&str> {
    let section = page.split_once("\n## Lab").map_or("", |(_, section)| section);
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    section.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_lab_file_is_embedded() {
    let files = std::fs::read_dir(root().join("vnet-trace/labs")).expect("labs/").count();
    assert_eq!(embedded::texts().len(), files);
}

/// The library's dependencies, as code names them.
fn dependencies() -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join("vnet-trace/Cargo.toml")).expect("the library's manifest");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let names = manifest["dependencies"].as_table().expect("a table").keys();
    names.map(|name| name.replace('-', "_")).collect()
}

fn library() -> Vec<Source> {
    below("vnet-trace/src")
}

/// Every Rust file below a folder of the workspace, in order.
fn below(folder: &str) -> Vec<Source> {
    let base = root().join(folder);
    let mut folders = vec![base.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                sources.push(Source::new(path.strip_prefix(&base).expect("below"), text));
            }
        }
    }
    assert!(!sources.is_empty(), "no sources below {folder}");
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}
