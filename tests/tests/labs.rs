//! The labs, live: one test per lab, named by its id.
//!
//! Each test is `vnet-trace lab run --json ID`, the command that a person types: set up, ask, compare verdict, cause, place
//! and notes, carry out the tool's fix, ping; then, in a fresh network, the lab's own fix, and ping. A lab whose needs this
//! machine does not meet is reported as ignored, with the needs as its kind. Without root every lab needs root.
//! After all of them the confusion matrix and the score are printed and compared with the ones checked in
//! (`VNET_TRACE_BLESS=1` checks them in). `VNET_TRACE_LABS=quick` leaves out the labs' own fixes.
//! The runner itself is tested with labs and a tool of the test's own.

#[path = "labs/matrix.rs"]
mod matrix;
#[path = "labs/runner.rs"]
mod runner;

use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use tests::labs::{is_root, unmet_needs};
use vnet_trace::lab::{LabReport, embedded};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A lab mostly waits, and what it waits for must not come late: more than two at once only add load.
    arguments.test_threads = arguments.test_threads.or(Some(2));

    let program: &'static Path = Box::leak(tests::program().into_boxed_path());
    let unmet = unmet_needs(program);
    let trials = embedded::texts()
        .into_iter()
        .map(|(id, _)| {
            let trial = Trial::test(id, move || run(program, id));
            match unmet.get(id) {
                Some(needs) => trial.with_kind(format!("needs {}", needs.join(", "))).with_ignored_flag(true),
                None => trial,
            }
        })
        .chain(
            runner::trials(program)
                .into_iter()
                .map(|trial| if is_root() { trial } else { trial.with_kind("needs root").with_ignored_flag(true) }),
        )
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list && !arguments.ignored;
    if whole && is_root() && !matrix::agrees() {
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn run(program: &Path, id: &str) -> Result<(), Failed> {
    let mut command = Command::new(program);
    command.args(["lab", "run", "--json"]);
    if std::env::var_os("VNET_TRACE_LABS").is_none_or(|which| which != "quick") {
        command.args(["--plain-ping", "--own-fix"]);
    }
    let done = command.arg(id).output()?;
    let reports: Vec<LabReport> = serde_json::from_slice(&done.stdout)
        .map_err(|error| format!("no report: {error}\n{}", String::from_utf8_lossy(&done.stderr)))?;
    matrix::note(&reports);
    match (&reports[..], done.status.code()) {
        ([report], Some(0)) if report.misses().is_empty() => Ok(()),
        ([report], _) if !report.misses().is_empty() => {
            Err(report.misses().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").into())
        }
        (reports, code) => Err(format!("exit code {code:?} does not go with {reports:?}").into()),
    }
}
