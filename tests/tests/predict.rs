//! `predict` in every lab: the right verdict and cause, or none, and not a packet sent.
//!
//! The lab's process listens on every device while the tool foretells; what it hears is a failure. An answer that is
//! *undecided* is no error as long as there are few: programs and what lies outside can't be foretold.

#![expect(clippy::print_stdout, reason = "the score is part of what the tests print")]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use vnet_trace::lab::report::Miss;
use vnet_trace::lab::{LabReport, Outcome};

/// Of a hundred labs, at least so many have to be right.
const RIGHT: usize = 95;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let program: &'static Path = Box::leak(tests::program().into_boxed_path());
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let trials = vec![
        Trial::test("labs_are_foretold", move || labs(program)),
        Trial::test("a_packet_would_be_heard", move || heard(program)),
    ];
    let trials = trials
        .into_iter()
        .map(|trial| if root { trial } else { trial.with_kind("needs root").with_ignored_flag(true) })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn labs(program: &Path) -> Result<(), Failed> {
    let done = Command::new(program)
        .args(["lab", "run", "--all", "--predict", "--no-tool-fix", "--json", "--jobs", "2"])
        .output()?;
    let reports: Vec<LabReport> = serde_json::from_slice(&done.stdout)
        .map_err(|error| format!("no reports: {error}\n{}", String::from_utf8_lossy(&done.stderr)))?;
    let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut run, mut right, mut undecided) = (0, 0, Vec::new());
    for report in reports.iter().filter(|report| !matches!(report.outcome, Outcome::Skipped { .. })) {
        run += 1;
        let is_undecided =
            report.given.as_ref().is_some_and(|given| given.verdict == "undecided" && given.primary.is_none());
        let answered_wrongly = |miss: &&Miss| match miss {
            Miss::Differs { what, .. } => !is_undecided && matches!(what.as_str(), "verdict" | "cause"),
            _ => true,
        };
        let misses: Vec<String> = report.misses().iter().filter(answered_wrongly).map(ToString::to_string).collect();
        if !misses.is_empty() {
            wrong.insert(report.id.clone(), misses);
        } else if is_undecided {
            undecided.push(report.id.clone());
        } else {
            right += 1;
        }
    }
    if run == 0 {
        return Err("no lab could be run".into());
    }
    println!("{right} of {run} right, wrong {}, undecided {undecided:?}", wrong.len());
    if !wrong.is_empty() || right * 100 < run * RIGHT {
        return Err(format!("{right} of {run} right, undecided {undecided:?}, wrong {wrong:#?}").into());
    }
    Ok(())
}

/// A program that pings instead of foretelling is caught.
fn heard(program: &Path) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let stand_in = folder.path().join("stand-in");
    std::fs::write(
        &stand_in,
        format!("#!/bin/sh\nip netns exec ns1 ping -c 1 -W 1 10.1.1.3 >&2\nexec {} \"$@\"\n", program.display()),
    )?;
    std::fs::set_permissions(&stand_in, std::fs::Permissions::from_mode(0o755))?;
    let done = Command::new(program)
        .args(["lab", "run", "--predict", "--no-tool-fix", "--json", "--program"])
        .arg(&stand_in)
        .arg("two-netns-direct")
        .output()?;
    let reports: Vec<LabReport> = serde_json::from_slice(&done.stdout)?;
    let heard = reports.iter().flat_map(LabReport::misses).any(|miss| matches!(miss, Miss::Heard { .. }));
    if heard { Ok(()) } else { Err(format!("{reports:?}").into()) }
}
