//! `--prove` beyond the labs one by one: that nothing is left of it, whoever is killed; that a hostile recording gets nothing
//! done; that the flows which it says a fix changes are those that pings find changed; and that the next fix is tried.

#[path = "prove/effects.rs"]
mod effects;
#[path = "prove/hostile.rs"]
mod hostile;
#[path = "prove/leftovers.rs"]
mod leftovers;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

use libtest_mimic::{Arguments, Failed};
use serde_json::Value;
use tempfile::TempDir;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // What is left on the machine is looked for by one test at a time.
    arguments.test_threads = Some(1);
    let program: &'static Path = Box::leak(tests::program().into_boxed_path());
    let root = tests::labs::is_root();
    let trials = leftovers::trials(program)
        .into_iter()
        .chain(hostile::trials(program))
        .chain(effects::trials(program))
        .map(|trial| if root { trial } else { trial.with_kind("needs root").with_ignored_flag(true) })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A recording of a lab whose packets a rule of a router refuses; made once.
fn recording(program: &Path) -> Result<PathBuf, Failed> {
    static MADE: OnceLock<Result<(TempDir, PathBuf), String>> = OnceLock::new();
    let made = MADE.get_or_init(|| record(program, "netfilter-router-reject").map_err(|failed| format!("{failed:?}")));
    made.as_ref().map(|(_, path)| path.clone()).map_err(Into::into)
}

fn record(program: &Path, lab: &str) -> Result<(TempDir, PathBuf), Failed> {
    let folder = tempfile::tempdir()?;
    let recording = folder.path().join("recording.vtr");
    let script = format!("exec {} \"$@\" -o {}", program.display(), recording.display());
    run_with(program, folder.path(), &script, lab.as_ref())?;
    Ok((folder, recording))
}

/// Runs a lab with a script in the place of the program.
fn run_with(program: &Path, folder: &Path, script: &str, lab: &Path) -> Result<(), Failed> {
    let stand_in = folder.join("stand-in");
    std::fs::write(&stand_in, format!("#!/bin/bash\n{script}\n"))?;
    std::fs::set_permissions(&stand_in, std::fs::Permissions::from_mode(0o755))?;
    let done = Command::new(program)
        .args(["lab", "run", "--json", "--no-tool-fix", "--program"])
        .arg(&stand_in)
        .arg(lab)
        .output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)).into())
}

/// `explain --prove` of a recording.
fn prove(program: &Path, recording: &Path) -> Result<Value, Failed> {
    let done = Command::new(program).args(["explain", "--json", "--prove"]).arg(recording).output()?;
    let answer: Value = serde_json::from_slice(&done.stdout)
        .map_err(|error| format!("no answer: {error}\n{}", String::from_utf8_lossy(&done.stderr)))?;
    Ok(answer["proof"].clone())
}
