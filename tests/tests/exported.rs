//! Every lab as an incident: it is recorded, the recording is exported as a lab, and that lab has to pass on its own.
//! Replayed, it has to give the answer of the live run. Redacted, nothing of the old names and addresses may be left. And the
//! recording's fix has to be proven, within seconds.
//!
//! All commands are started where the lab is, and nothing there may be another thing afterwards: see [`unchanged`].
//! And the recording is a world of its own: see [`offline`].
//!
//! One test per lab. What can't be rebuilt may say so, and is counted: see [`NOT_PROVEN`].

#[path = "exported/offline.rs"]
mod offline;
#[path = "exported/unchanged.rs"]
mod unchanged;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use tests::labs::{is_root, unmet_needs};
use vnet_trace::collect::recording_file;
use vnet_trace::lab::{Lab, LabReport, embedded};
use vnet_trace::rebuild::redact::Redaction;

/// Labs whose fix can't be proven, and why.
const NOT_PROVEN: &[(&str, &str)] = &[
    ("xdp-drop", "the program's code is not recorded"),
    ("cgroup-bpf-egress-drop", "the program's code is not recorded"),
    ("remote-silent-tun", "what lies outside can't be mended from here"),
    ("routing-loop-ipv6", "the right gateway has to be chosen"),
    ("connect-queue-full", "the service has to be mended"),
    ("veth-deleted-from-the-other-side", "a gateway has to be chosen"),
    ("veth-nobody-owns-address", "an owner has to be chosen"),
    ("veth-same-netns-as-typed", "an owner has to be chosen"),
    ("veth-peer-down", "behind the first fault nobody owns the address"),
];

/// Labs in which a BPF program decides.
const JUDGED_BY_PROGRAMS: &[&str] = &["xdp-drop", "tc-ingress-bpf-drop", "cgroup-bpf-egress-drop"];

/// A proof may take so long, by the program as it is shipped.
const PROOF_MS: u64 = if cfg!(debug_assertions) { 10_000 } else { 3000 };

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let program: &'static Path = Box::leak(tests::program().into_boxed_path());
    let unmet = unmet_needs(program);
    let trials = embedded::texts()
        .into_iter()
        .map(|(id, _)| {
            let trial = Trial::test(format!("exported::{id}"), move || run(program, id));
            match unmet.get(id) {
                Some(needs) => trial.with_kind(format!("needs {}", needs.join(", "))).with_ignored_flag(true),
                None => trial,
            }
        })
        .chain([Trial::test("the_unproven_are_labs", the_unproven_are_labs)])
        .collect();
    if !is_root() {
        eprintln!("labs need root");
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(program: &Path, id: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let recording = folder.path().join("recording.vtr");
    let recorder = folder.path().join("recorder");
    let original = embedded::find(id).ok_or("no such lab")??;
    // It stands in for the program while the lab runs: it lets the program do everything, and keeps what it says.
    std::fs::write(&recorder, unchanged::recorder(program, &original, folder.path()))?;
    unchanged::prepare(folder.path())?;
    std::fs::set_permissions(&recorder, std::fs::Permissions::from_mode(0o755))?;
    lab(Command::new(program).args(["lab", "run", "--json", "--no-tool-fix", "--program"]).arg(&recorder).arg(id))?;
    unchanged::check(folder.path())?;
    parts(&folder.path().join("answer.json"), id)?;
    offline::by_nobody(program, &recording, &folder.path().join("foretold.json"))?;
    offline::with_gaps(&recording, &original)?;

    replayed(program, &recording, &folder.path().join("live.json"))?;
    let exported = folder.path().join(format!("{id}.toml"));
    lab(Command::new(program).args(["lab", "run", "--json", "--own-fix"]).arg(&exported))?;
    redacted(program, &recording, folder.path())?;
    redacted_recording(program, &recording, folder.path())?;
    proven(&folder.path().join("proof.json"), id)
}

/// Runs a lab and wants it right.
fn lab(command: &mut Command) -> Result<(), Failed> {
    let done = command.output()?;
    let reports: Vec<LabReport> = serde_json::from_slice(&done.stdout)
        .map_err(|error| format!("no report: {error}\n{}", String::from_utf8_lossy(&done.stderr)))?;
    let misses: Vec<String> = reports.iter().flat_map(LabReport::misses).map(ToString::to_string).collect();
    if misses.is_empty() && done.status.code() == Some(0) {
        return Ok(());
    }
    Err(format!("{command:?}: {}: {}", done.status, misses.join("\n")).into())
}

fn succeed(command: &mut Command) -> Result<(), Failed> {
    let done = command.output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr)).into())
}

/// The redacted lab is a lab, and has none of the addresses and names that people gave.
fn redacted(program: &Path, recording: &Path, folder: &Path) -> Result<(), Failed> {
    let path = folder.join("redacted.toml");
    succeed(Command::new(program).args(["lab", "export", "--redact", "-o"]).arg(&path).arg(recording))?;
    let text = std::fs::read_to_string(&path)?;
    Lab::parse("redacted.toml", &text)?;
    let snapshot = recording_file::load(recording)?.before;
    let addresses = snapshot.namespaces.iter().flat_map(|netns| &netns.addresses).map(|entry| entry.address);
    let plain = addresses.filter(|address| match address {
        std::net::IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        std::net::IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    });
    let words: BTreeSet<&str> = text.split(|c: char| !(c.is_ascii_alphanumeric() || ".:".contains(c))).collect();
    for address in plain {
        if words.contains(address.to_string().as_str()) {
            return Err(format!("{address} is left in the redacted lab:\n{text}").into());
        }
    }
    Ok(())
}

/// The recording gives the answer of the live run, byte for byte.
fn replayed(program: &Path, recording: &Path, live: &Path) -> Result<(), Failed> {
    let done = Command::new(program).args(["explain", "--json"]).arg(recording).output()?;
    let live = std::fs::read(live)?;
    if done.stdout == live {
        return Ok(());
    }
    let differs = done.stdout.iter().zip(&live).position(|(one, other)| one != other).unwrap_or(live.len());
    let near = |bytes: &[u8]| {
        let from = differs.saturating_sub(80);
        String::from_utf8_lossy(&bytes[from.min(bytes.len())..(differs + 80).min(bytes.len())]).into_owned()
    };
    Err(format!("replayed, the answer differs at byte {differs}:\n{}\n{}", near(&live), near(&done.stdout)).into())
}

/// The redacted recording comes to the same verdict, and has nothing of the addresses and names that people gave.
fn redacted_recording(program: &Path, recording: &Path, folder: &Path) -> Result<(), Failed> {
    let path = folder.join("redacted.vtr");
    let explain = |more: &[&str]| -> Result<Value, Failed> {
        let done = Command::new(program).args(["explain", "--json"]).args(more).arg(recording).output()?;
        serde_json::from_slice(&done.stdout)
            .map_err(|error| format!("no answer: {error}\n{}", String::from_utf8_lossy(&done.stderr)).into())
    };
    let plain = explain(&[])?;
    let redacted = explain(&["--redact", "-o", &path.display().to_string()])?;
    for what in ["/verdict", "/primary/code", "/primary/role", "/primary/grade", "/ping/received"] {
        if plain.pointer(what) != redacted.pointer(what) {
            return Err(format!(
                "{what}: {:?} is {:?} once it is redacted",
                plain.pointer(what),
                redacted.pointer(what)
            )
            .into());
        }
    }
    let before = recording_file::load(recording)?.before;
    let redaction = Redaction::of(&before);
    let names = before.namespaces.iter().flat_map(|netns| {
        let links = netns.links.iter().map(|link| link.name.clone());
        let addresses = netns.addresses.iter().map(|entry| entry.address.to_string());
        let macs = netns.links.iter().filter_map(|link| link.mac).map(|mac| mac.to_string());
        links.chain(addresses).chain(macs).chain([netns.name.clone()])
    });
    let renamed: Vec<String> = names.filter(|name| redaction.text(name) != *name).collect();
    let text = serde_json::to_string(&recording_file::load(&path)?)?;
    let words: BTreeSet<&str> = text.split(|c: char| !(c.is_ascii_alphanumeric() || ".:-_".contains(c))).collect();
    match renamed.iter().find(|name| words.contains(name.as_str())) {
        Some(name) => Err(format!("{name} is left in the redacted recording").into()),
        None => Ok(()),
    }
}

/// Reality leaves the plan where a program judged that no model covers, which is named, and nowhere else.
fn parts(said: &Path, id: &str) -> Result<(), Failed> {
    let answer: Value = serde_json::from_slice(&std::fs::read(said)?)?;
    let parting = &answer["parting"];
    let suspects = parting["suspects"].as_array().map(Vec::len);
    match (suspects, JUDGED_BY_PROGRAMS.contains(&id)) {
        (Some(1), true) | (None, false) => Ok(()),
        _ => Err(format!("it parts: {parting:#}").into()),
    }
}

fn proven(said: &Path, id: &str) -> Result<(), Failed> {
    let answer: Value = serde_json::from_slice(&std::fs::read(said)?).map_err(|error| format!("no answer: {error}"))?;
    if answer["verdict"] == "delivered" {
        return Ok(());
    }
    let proof = &answer["proof"];
    let excused = NOT_PROVEN.iter().any(|(lab, _)| *lab == id);
    match (proof["outcome"].as_str(), excused) {
        (Some("proven"), false) | (Some("not-possible" | "not-helped" | "next-fault"), true) => {}
        (Some("proven"), true) => return Err(format!("{id} is proven, and is listed as not to be proven").into()),
        _ => return Err(format!("{proof:#}").into()),
    }
    match proof["total_ms"].as_u64() {
        Some(time) if time <= PROOF_MS => Ok(()),
        time => Err(format!("the proof took {time:?} ms").into()),
    }
}

fn the_unproven_are_labs() -> Result<(), Failed> {
    let labs = embedded::all()?;
    let lost: Vec<&str> = labs.iter().filter(|lab| lab.expect.cause.is_some()).map(|lab| lab.id.as_str()).collect();
    match NOT_PROVEN.iter().find(|(id, _)| !lost.contains(id)) {
        Some((id, _)) => Err(format!("there is no lab {id} with a cause").into()),
        None if NOT_PROVEN.len() * 10 > lost.len() => Err("more than a tenth of the labs is not proven".into()),
        None => Ok(()),
    }
}
