//! Lab files that are not embedded: a test for each file of a folder, named by its id, run as a person runs it.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use vnet_trace::lab::LabReport;

/// Runs all lab files of a folder of this crate, so many at once unless the command line says otherwise.
#[must_use]
pub fn run_all(folder: &str, at_once: usize) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(at_once));

    let program: &'static Path = Box::leak(crate::program().into_boxed_path());
    let files = match files(folder) {
        Ok(files) => files,
        Err(error) => {
            eprintln!("cannot read tests/{folder}: {error}");
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
fn files(folder: &str) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn run(program: &Path, file: &Path) -> Result<(), Failed> {
    let mut command = Command::new(program);
    // Containers are asked for in the lab's own engine, never in one that runs outside.
    command.env_remove("DOCKER_HOST");
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
