//! Labs with two or three independent faults: the first on the way is the primary cause, the next ones are foretold in
//! `also`, and after each fix the next one is primary, until the ping succeeds.
//!
//! `combined/*.toml` is a lab file whose `fix` and `expect` are a list `[[fault]]`, in causal order:
//!
//! ```toml
//! [[fault]]
//! cause = "forwarding-disabled"     # with also, direction, netns, dev as in a lab's [expect]
//! fix = "…"                         # mends this fault alone
//! unknowable = "why"                # optional: the next fault can't be foretold while this one is there
//! same = "why"                      # optional: the tool's commands for it mend the next one as well
//! ```
//!
//! Each step is a lab of its own: the setup, with the fixes so far behind it, and the fault that is now first. Two chains are
//! run, one with the tool's commands for that fault alone and one with the file's own. At each step the tool's first fix, which
//! carries what is known to bite next, must heal the whole network. And `--prove`, asked at the first step, says which fault is
//! next. A step that fails is left as a lab file.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;
use toml::{Table, Value};
use vnet_trace::diagnose::registry;
use vnet_trace::lab::answer::Answer;
use vnet_trace::lab::{LabReport, Outcome};

/// A file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Combined {
    id: String,
    title: String,
    story: String,
    #[serde(default)]
    needs: Vec<String>,
    setup: String,
    probe: Table,
    fault: Vec<Fault>,
}

/// One of its faults.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    cause: String,
    #[serde(default)]
    also: Vec<String>,
    direction: Option<String>,
    netns: Option<String>,
    dev: Option<String>,
    fix: String,
    unknowable: Option<String>,
    same: Option<String>,
}

/// What is done with an answer besides judging it.
#[derive(Clone, Copy)]
enum Then {
    /// Nothing.
    Nothing,
    /// Carry out the tool's fix and ping.
    ToolFix,
    /// Carry out the file's fix in a fresh network and ping.
    OwnFix,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let program: &'static Path = Box::leak(tests::program().into_boxed_path());
    let root = tests::labs::is_root();
    let trials = files()
        .into_iter()
        .map(|file| {
            let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let trial = Trial::test(format!("combined::{name}"), move || Chain::of(program, &file)?.run());
            if root { trial } else { trial.with_kind("needs root").with_ignored_flag(true) }
        })
        .chain([Trial::test("every_combined_lab_is_well_formed", well_formed)])
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The commands of the first fix that mend the primary cause alone; none where a person has to choose.
fn own_commands(answer: &Answer) -> Vec<String> {
    let of_later: Vec<&String> =
        answer.also.iter().flat_map(|also| also.fixes.iter().take(1)).flat_map(|fix| &fix.commands).collect();
    let first = answer.primary.as_ref().and_then(|primary| primary.fixes.first());
    first
        .filter(|fix| fix.risk != "needs-choice")
        .map(|fix| fix.commands.iter().filter(|command| !of_later.contains(command)).cloned().collect())
        .unwrap_or_default()
}

/// One file's steps.
struct Chain<'a> {
    program: &'a Path,
    file: Combined,
}

impl<'a> Chain<'a> {
    fn of(program: &'a Path, file: &Path) -> Result<Self, Failed> {
        Ok(Self { program, file: toml::from_str(&std::fs::read_to_string(file)?)? })
    }

    fn run(&self) -> Result<(), Failed> {
        let faults = &self.file.fault;
        let (mut by_tool, mut by_hand) = (Some(self.file.setup.clone()), self.file.setup.clone());
        for (at, fault) in faults.iter().enumerate() {
            let last = at + 1 == faults.len();
            if at > 0 {
                let then = if last { Then::OwnFix } else { Then::Nothing };
                let answer = self.step(&format!("{at}-by-hand"), &by_hand, fault, then, None)?;
                self.foretells(&answer, at)?;
            }
            if let Some(setup) = &mut by_tool {
                // The first fix carries what is known to bite next, so it heals the whole network.
                let then = if fault.unknowable.is_some() { Then::Nothing } else { Then::ToolFix };
                let folder = tempfile::tempdir()?;
                let proof = folder.path().join("answer.json");
                let with_proof = (at == 0).then_some(proof.as_path());
                let answer = self.step(&format!("{at}-by-tool"), setup, fault, then, with_proof)?;
                self.foretells(&answer, at)?;
                if at == 0 {
                    let text = std::fs::read_to_string(&proof)?;
                    self.proves(&answer, &serde_json::from_str(&text)?)?;
                }
                match own_commands(&answer) {
                    commands if commands.is_empty() => *setup += &fault.fix,
                    commands => *setup += &format!("\n{}\n", commands.join("\n")),
                }
                if fault.same.is_some() {
                    by_tool = None;
                }
            }
            by_hand += &fault.fix;
        }
        Ok(())
    }

    /// Builds a network, asks, and judges the answer; which is proven as well if its JSON is wanted.
    fn step(&self, name: &str, setup: &str, fault: &Fault, then: Then, proof: Option<&Path>) -> Result<Answer, Failed> {
        let path = folder()?.join(format!("{}-{name}.toml", self.file.id));
        std::fs::write(&path, self.lab(setup, fault)?)?;
        let mut command = Command::new(self.program);
        command.args(["lab", "run", "--json"]);
        match then {
            Then::Nothing => drop(command.arg("--no-tool-fix")),
            Then::ToolFix => {}
            Then::OwnFix => drop(command.args(["--no-tool-fix", "--own-fix"])),
        }
        let asker = proof.map(|proof| proof.with_extension("sh"));
        if let (Some(proof), Some(asker)) = (proof, &asker) {
            let script = format!("#!/bin/sh\nexec {} \"$@\" --prove -o {}\n", self.program.display(), proof.display());
            std::fs::write(asker, script)?;
            std::fs::set_permissions(asker, std::fs::Permissions::from_mode(0o755))?;
            command.arg("--program").arg(asker);
        }
        let done = command.arg(&path).output()?;
        let mut reports: Vec<LabReport> = serde_json::from_slice(&done.stdout)
            .map_err(|error| format!("no report: {error}\n{}", String::from_utf8_lossy(&done.stderr)))?;
        let report = reports.pop().ok_or("no report")?;
        if let Outcome::Skipped { unmet } = &report.outcome {
            return Err(format!("this machine lacks {}", unmet.join(", ")).into());
        }
        let misses: Vec<String> = report.misses().iter().map(ToString::to_string).collect();
        if !misses.is_empty() {
            return Err(format!("{name}: {}\nthe lab is {}", misses.join("\n"), path.display()).into());
        }
        std::fs::remove_file(&path)?;
        report.given.ok_or_else(|| "no answer".into())
    }

    fn lab(&self, setup: &str, fault: &Fault) -> Result<String, Failed> {
        let Combined { id, title, story, needs, probe, .. } = &self.file;
        let text = |text: &str| Value::String(text.to_owned());
        let mut expect = Table::new();
        expect.insert("verdict".into(), text("lost"));
        expect.insert("cause".into(), text(&fault.cause));
        expect.insert("also".into(), fault.also.clone().into());
        for (key, value) in [("direction", &fault.direction), ("netns", &fault.netns), ("dev", &fault.dev)] {
            if let Some(value) = value {
                expect.insert(key.into(), text(value));
            }
        }
        let mut lab = Table::new();
        for (key, value) in [("id", id.as_str()), ("title", title), ("story", story), ("setup", setup)] {
            lab.insert(key.into(), text(value));
        }
        lab.insert("needs".into(), needs.clone().into());
        lab.insert("fix".into(), text(&fault.fix));
        lab.insert("probe".into(), probe.clone().into());
        lab.insert("expect".into(), expect.into());
        Ok(toml::to_string(&lab)?)
    }

    /// The proof says which fault is next, also where nobody could foretell it.
    fn proves(&self, answer: &Answer, proven: &serde_json::Value) -> Result<(), Failed> {
        let faults = &self.file.fault;
        let (Some(first), Some(next)) = (faults.first(), faults.get(1)) else { return Ok(()) };
        let proof = &proven["proof"];
        if first.same.is_some() {
            return if proof["outcome"] == "proven" { Ok(()) } else { Err(format!("{proof:#}").into()) };
        }
        let to_choose = answer.primary.iter().flat_map(|primary| &primary.fixes).all(|fix| fix.risk == "needs-choice");
        let between = proof["attempts"].as_array().into_iter().flatten().find_map(|tried| tried["between"].get(0));
        let said = between.unwrap_or(&proof["next"])["code"].as_str();
        match said {
            Some(code) if code == next.cause || next.also.iter().any(|also| also == code) => Ok(()),
            None if to_choose && proof["outcome"] == "not-helped" => Ok(()),
            _ => Err(format!("the next fault is {}, and the proof says\n{proof:#}", next.cause).into()),
        }
    }

    /// Every later fault stands in `also`, up to one that cannot be known yet.
    fn foretells(&self, answer: &Answer, at: usize) -> Result<(), Failed> {
        let faults = &self.file.fault;
        for (before, next) in faults[at..].iter().zip(&faults[at + 1..]) {
            if before.unknowable.is_some() || before.same.is_some() {
                break;
            }
            let is_next = |code: &str| code == next.cause || next.also.iter().any(|also| also == code);
            let foretold = answer.also.iter().any(|also| {
                is_next(&also.code) && next.netns.as_ref().is_none_or(|netns| also.place.netns.as_ref() == Some(netns))
            });
            if !foretold {
                let given: Vec<_> =
                    answer.also.iter().map(|also| format!("{} at {:?}", also.code, also.place)).collect();
                return Err(
                    format!("with {} the tool foretells {given:?}, not {}", faults[at].cause, next.cause).into()
                );
            }
        }
        Ok(())
    }
}

fn well_formed() -> Result<(), Failed> {
    let files = files();
    if files.len() < 20 {
        return Err(format!("{} combined labs", files.len()).into());
    }
    for path in files {
        let file: Combined =
            toml::from_str(&std::fs::read_to_string(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let codes = file.fault.iter().flat_map(|fault| fault.also.iter().chain([&fault.cause]));
        let unknown: Vec<_> = codes.filter(|code| registry::entry(code).is_none()).collect();
        if stem.as_deref() != Some(&file.id) || file.fault.len() < 2 || !unknown.is_empty() {
            return Err(format!("{}: {unknown:?}", path.display()).into());
        }
    }
    Ok(())
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("combined");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Where labs are written, below cargo's target folder.
fn folder() -> std::io::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("combined");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
