//! The labs under other names: every namespace, device, MAC and address range of a lab is renamed at random, and the answer
//! must be the same one at the renamed places. What the tool says may follow from how the network is built, never from what
//! somebody called it.
//!
//! One test per lab. The names follow from a seed: `VNET_TRACE_SEED=7 cargo test -p tests --test renamed` tries others; the
//! default is fixed, so that two runs are the same. A lab that fails is left as a file, to be run by hand with
//! `vnet-trace lab run FILE`. Every lab can be renamed: one that cannot fails with the reason.
//! Read [`unroll`] first, then [`names`] and [`addresses`].

#[path = "renamed/addresses.rs"]
mod addresses;
#[path = "renamed/names.rs"]
mod names;
#[path = "renamed/random.rs"]
mod random;
#[path = "renamed/unroll.rs"]
mod unroll;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use addresses::Addresses;
use libtest_mimic::{Arguments, Failed, Trial};
use names::Names;
use random::Random;
use toml::{Table, Value};
use vnet_trace::lab::{Lab, LabReport, embedded};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let seed = match std::env::var("VNET_TRACE_SEED").map(|seed| seed.parse()) {
        Ok(Ok(seed)) => seed,
        Ok(Err(_)) => {
            eprintln!("error: VNET_TRACE_SEED is not a number");
            return ExitCode::from(2);
        }
        Err(_) => 1,
    };
    eprintln!("names from VNET_TRACE_SEED={seed}");

    let program: &'static Path = Box::leak(tests::program().into_boxed_path());
    let unmet = tests::labs::unmet_needs(program);
    let trials = embedded::texts()
        .into_iter()
        .map(|(id, text)| {
            let trial = Trial::test(format!("renamed::{id}"), move || run(program, id, text, seed));
            match unmet.get(id) {
                Some(needs) => trial.with_kind(format!("needs {}", needs.join(", "))).with_ignored_flag(true),
                None => trial,
            }
        })
        .chain([Trial::test("nothing_of_the_old_names_is_left", nothing_is_left)])
        .chain(unroll::trials())
        .chain(addresses::trials())
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(program: &Path, id: &str, text: &str, seed: u64) -> Result<(), Failed> {
    let (text, legend) = rename(id, text, seed)?;
    let file = folder()?.join(format!("{id}.toml"));
    std::fs::write(&file, text)?;
    let done = Command::new(program).args(["lab", "run", "--json"]).arg(&file).output()?;
    let reports: Vec<LabReport> = serde_json::from_slice(&done.stdout)
        .map_err(|error| format!("no report: {error}\n{}", String::from_utf8_lossy(&done.stderr)))?;
    let misses: Vec<String> = reports.iter().flat_map(LabReport::misses).map(ToString::to_string).collect();
    if reports.len() == 1 && misses.is_empty() && done.status.code() == Some(0) {
        std::fs::remove_file(&file)?;
        return Ok(());
    }
    Err(format!("{}\nVNET_TRACE_SEED={seed}, the lab is {}\n{legend}", misses.join("\n"), file.display()).into())
}

/// The lab file with other names, and which stands for which.
fn rename(id: &str, text: &str, seed: u64) -> Result<(String, String), Failed> {
    let mut file: Table = text.parse()?;
    for key in ["setup", "fix"] {
        if let Some(script) = file.get(key).and_then(Value::as_str) {
            let unrolled = unroll::unroll(script);
            if let Some(line) = unrolled.lines().find(|line| made_by_the_shell(line)) {
                return Err(format!("{key}: an address is made by the shell: {line}").into());
            }
            file.insert(key.to_owned(), unrolled.into());
        }
    }
    let mut random = Random::new(seed, id);
    let whole = texts(&file).collect::<Vec<_>>().join("\n");
    let names = Names::of(&whole, &mut random)?;
    let addresses = Addresses::of(&whole, &mut random)?;
    for value in values(&mut file) {
        if let Value::String(text) = value {
            *text = addresses.apply(&names.apply(text));
        }
    }
    Ok((toml::to_string(&file)?, format!("{names}{addresses}")))
}

/// An address of which a part is a variable that [`unroll`] could not resolve.
fn made_by_the_shell(line: &str) -> bool {
    let bytes = line.as_bytes();
    (1..bytes.len()).any(|at| bytes[at] == b'$' && matches!(bytes[at - 1], b'.' | b':'))
}

/// Scripts, question and expectation: everything of a lab file that names a place. The story is for people.
fn values(file: &mut Table) -> impl Iterator<Item = &mut Value> {
    file.iter_mut().flat_map(|(key, value)| match (key.as_str(), value) {
        ("setup" | "fix", value) => vec![value],
        ("probe", Value::Table(probe)) => probe.iter_mut().map(|(_, value)| value).collect(),
        ("expect", Value::Table(expect)) => expect
            .iter_mut()
            .filter(|(key, _)| matches!(key.as_str(), "netns" | "dev"))
            .map(|(_, value)| value)
            .collect(),
        _ => Vec::new(),
    })
}

fn texts(file: &Table) -> impl Iterator<Item = String> {
    let mut file = file.clone();
    values(&mut file).filter_map(|value| value.as_str().map(str::to_owned)).collect::<Vec<_>>().into_iter()
}

/// Where labs are written, below cargo's target folder.
fn folder() -> std::io::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("renamed");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Every lab becomes another well-formed lab in which none of its names and addresses is left.
fn nothing_is_left() -> Result<(), Failed> {
    for (id, text) in embedded::texts() {
        for seed in 1..=5 {
            let (renamed, legend) = rename(id, text, seed).map_err(|why| format!("{id}: {why:?}"))?;
            let (old, new) = (Lab::parse(id, text)?, Lab::parse(id, &renamed)?);
            let stayed = [
                (&old.probe.netns, &new.probe.netns),
                (&old.expect.netns, &new.expect.netns),
                (&old.expect.dev, &new.expect.dev),
                (&Some(old.probe.dst), &Some(new.probe.dst)),
            ]
            .into_iter()
            .any(|(old, new)| {
                old.as_deref().is_some_and(|old| old != "." && old != "lo" && Some(old) == new.as_deref())
            });
            if stayed || old.expect.cause != new.expect.cause {
                return Err(format!("{id}, seed {seed}: a place kept its name\n{legend}").into());
            }
        }
    }
    Ok(())
}
