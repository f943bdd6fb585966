//! Networks modelled on incidents, live: one test per file of tests/networks, named by its id; and tests/docker, where a
//! real dockerd in the lab's own namespaces builds the network, with a /run, an image store and a bridge that end with it.
//!
//! They are lab files like the embedded ones (see labs.rs) and run the same way, but they are no lessons: each has the shape of
//! something that people build (a CNI plugin's wiring, a firewall's rules, a chain of routers), healthy or with a fault, and
//! says what the right answer is. A healthy one is asked without anything having been sent before, so that its notes are
//! exactly those that belong to it.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use vnet_trace::lab::LabReport;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // As for the labs: they mostly wait, and more than two at once only add load.
    arguments.test_threads = arguments.test_threads.or(Some(2));

    let program: &'static Path = Box::leak(tests::program().into_boxed_path());
    let files = match files() {
        Ok(files) => files,
        Err(error) => {
            eprintln!("cannot read tests/networks and tests/docker: {error}");
            return ExitCode::FAILURE;
        }
    };
    let unmet = unmet_needs(program, &files);
    let trials = files
        .into_iter()
        .map(|file| {
            let id = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let needs = unmet.get(&id).map(|needs| format!("needs {}", needs.join(", ")));
            let trial = Trial::test(id, move || run(program, &file));
            match needs {
                Some(needs) => trial.with_kind(needs).with_ignored_flag(true),
                None => trial,
            }
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The lab files, by name.
fn files() -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in ["networks", "docker"] {
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn run(program: &Path, file: &Path) -> Result<(), Failed> {
    let mut command = Command::new(program);
    command.args(["lab", "run", "--json"]);
    // A ping before the question would leave neighbour entries behind, which a healthy network's notes would have to mention.
    if std::fs::read_to_string(file)?.contains("verdict = \"lost\"") {
        command.args(["--plain-ping", "--own-fix"]);
    }
    let done = command.arg(file).output()?;
    let reports: Vec<LabReport> = serde_json::from_slice(&done.stdout)
        .map_err(|error| format!("no report: {error}\n{}", String::from_utf8_lossy(&done.stderr)))?;
    match (&reports[..], done.status.code()) {
        ([report], Some(0)) if report.misses().is_empty() => Ok(()),
        ([report], _) if !report.misses().is_empty() => {
            Err(report.misses().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").into())
        }
        (reports, code) => Err(format!("exit code {code:?} does not go with {reports:?}").into()),
    }
}

/// id → needs that this machine does not meet.
fn unmet_needs(program: &Path, files: &[PathBuf]) -> HashMap<String, Vec<String>> {
    if !std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
        let id = |file: &PathBuf| file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return files.iter().map(|file| (id(file), vec!["root".to_owned()])).collect();
    }
    let listed = Command::new(program).args(["lab", "list", "--unmet", "--json"]).args(files).output();
    // Not being able to tell is no reason to skip: then each file says itself what is wrong.
    listed.ok().and_then(|listed| serde_json::from_slice(&listed.stdout).ok()).unwrap_or_default()
}
