//! That no command of the tool changes the machine: dumps of a lab before and after, line by line.
//!
//! Dumped are, of every namespace: devices, addresses, routes, policy rules, neighbours, forwarding databases, VLANs, queueing
//! disciplines and filters, rule sets, IPsec policies and all sysctls; and the namespaces and mounts themselves (`dump.sh`).
//!
//! | between the dumps | may differ |
//! | --- | --- |
//! | `predict`, `map`, `doctor` | nothing |
//! | `ping` or `connect`, `explain`, `lab export`, `explain --prove` | neighbours that the asked packets had to resolve |
//!
//! ping(8) leaves these neighbours as well: each entry that is new has to be of an address that stands in the answer's
//! journeys, which are those of the asked packets. Entries may also be gone, for the kernel throws unresolved ones away.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use libtest_mimic::Failed;
use serde_json::Value;
use vnet_trace::lab::Lab;
use vnet_trace::lab::spec::Proto;

const DUMP: &str = include_str!("dump.sh");

/// A script in the place of the program: every command once, dumps in between, and the answer to the question that the lab
/// asks. It leaves files in `folder`.
pub fn recorder(program: &Path, lab: &Lab, folder: &Path) -> String {
    let (program, folder) = (program.display(), folder.display());
    let probe = &lab.probe;
    let port = probe.port.map(|port| port.to_string()).unwrap_or_default();
    let mut foretold = match probe.proto {
        Some(Proto::Tcp) => format!("--tcp {port}"),
        Some(Proto::Udp) => format!("--udp {port}"),
        None => String::new(),
    };
    for word in probe.netns.iter().flat_map(|netns| ["-N", netns]).map(str::to_owned).chain(probe.shaping_args()) {
        let _ = write!(foretold, " {word}");
    }
    format!(
        r#"#!/bin/bash
dump() {{ bash "{folder}/dump.sh" > "{folder}/$1" 2>&1; }}
dump 0
{program} predict --json {foretold} {dst} > "{folder}/foretold.json" 2>> "{folder}/stderr"
{program} map > "{folder}/map" 2>> "{folder}/stderr"
{program} doctor > "{folder}/doctor" 2>> "{folder}/stderr"
dump 1
{program} "$@" -o "{folder}/recording.vtr" -o "{folder}/live.json" > "{folder}/answer.json"
code=$?
{program} explain "{folder}/recording.vtr" > "{folder}/explained" 2>> "{folder}/stderr"
{program} lab export -o "{folder}/{id}.toml" "{folder}/recording.vtr" >&2
{program} explain --json --prove "{folder}/recording.vtr" > "{folder}/proof.json" 2>> "{folder}/stderr"
dump 2
cat "{folder}/answer.json"
exit $code
"#,
        dst = probe.dst,
        id = lab.id,
    )
}

/// Puts the script for dumps beside the recorder.
pub fn prepare(folder: &Path) -> std::io::Result<()> {
    std::fs::write(folder.join("dump.sh"), DUMP)
}

/// Compares what the recorder dumped.
pub fn check(folder: &Path) -> Result<(), Failed> {
    let dump = |name: &str| -> std::io::Result<BTreeSet<String>> {
        Ok(std::fs::read_to_string(folder.join(name))?.lines().map(str::to_owned).collect())
    };
    let [before, between, after] = [dump("0")?, dump("1")?, dump("2")?];
    if before.iter().filter(|line| line.starts_with(".: net.ipv4.")).count() < 50 || before.len() < 200 {
        return Err(format!("that is no dump: {before:#?}").into());
    }
    let differing = |one: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<String> {
        let gone = one.difference(other).map(|line| format!("- {line}"));
        gone.chain(other.difference(one).map(|line| format!("+ {line}"))).collect()
    };
    let silent = differing(&before, &between);
    if !silent.is_empty() {
        return Err(format!("predict, map or doctor changed the machine: {silent:#?}").into());
    }
    let answer: Value = serde_json::from_slice(&std::fs::read(folder.join("answer.json"))?)?;
    let journeys = answer["journeys"].to_string();
    let asked_for = |line: &String| match line.split_once(": neighbour ").and_then(|(_, entry)| entry.split(' ').next())
    {
        Some(address) => line.starts_with('-') || journeys.contains(&format!("\"{address}\"")),
        None => false,
    };
    let loud: Vec<String> = differing(&between, &after).into_iter().filter(|line| !asked_for(line)).collect();
    if loud.is_empty() {
        return Ok(());
    }
    Err(format!("a command changed the machine: {loud:#?}").into())
}
