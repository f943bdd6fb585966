//! A lab's process, seen from outside: started, waited for, and cleaned up after whatever becomes of it.
//!
//! Who may be killed, and what then ends what the lab started:
//!
//! | killed -9 | ended by |
//! | --- | --- |
//! | the lab's process | this process, its subreaper, adopts and kills the rest |
//! | this process | the lab's process gets SIGTERM from the kernel (parent-death signal), kills the rest, and ends |
//! | a terminal's ^C to all | each process notices; the lab's process kills the rest, this one waits for it |
//!
//! Namespaces go with the last process in them. Limit: both killed -9 in the same instant leave a lab's daemons running.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::process::{self, Ended};
use super::report::{LabReport, Miss};
use super::run::{Manner, Options, Part};
use super::spec::Lab;

/// More than all the deadlines within a lab's process together would be reached only by a hang of that process itself.
const PROCESS_DEADLINE: Duration = Duration::from_mins(5);

/// The environment variable by which a lab's process knows its parent: it is gone already if the parent's id differs.
pub const PARENT: &str = "VNET_TRACE_LAB_PARENT";

/// A lab and how its own process names it: an embedded id or a file.
#[derive(Debug, Clone)]
pub struct Named {
    /// The lab.
    pub lab: Lab,
    /// The id or path for the command line.
    pub argument: OsString,
}

/// What to run of each lab, and with what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program that has `lab run --inside`; usually this one.
    pub executable: PathBuf,
    /// How each lab is run.
    pub options: Options,
    /// Run the lab's own fix as well, in a second, fresh network.
    pub own_fix: bool,
    /// How many labs at a time.
    pub jobs: usize,
}

/// Runs the labs, calling `done` for each as it ends, and returns the reports in the order of `labs`.
pub fn run_all(labs: &[Named], plan: &Plan, done: &(dyn Fn(&LabReport) + Sync)) -> std::io::Result<Vec<LabReport>> {
    nix::sys::prctl::set_child_subreaper(true)?;
    process::catch_interrupts()?;
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs.clamp(1, labs.len().max(1)) {
            scope.spawn(|| {
                while let Some((index, named)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|index| Some((index, labs.get(index)?)))
                {
                    if process::interrupted() {
                        break;
                    }
                    let report = run_one(named, plan);
                    done(&report);
                    if let Ok(mut reports) = reports.lock() {
                        reports.push((index, report));
                    }
                }
            });
        }
    });
    // Only now: with labs side by side, an adopted process of one that was killed is not told apart from a lab's process.
    process::end_descendants(&[]);
    let mut reports = reports.into_inner().unwrap_or_default();
    reports.sort_by_key(|(index, _)| *index);
    Ok(reports.into_iter().map(|(_, report)| report).collect())
}

fn run_one(named: &Named, plan: &Plan) -> LabReport {
    let mut report = run_part(named, Part::Question, plan);
    let skipped = matches!(report.outcome, super::Outcome::Skipped { .. });
    if plan.own_fix && !skipped && !named.lab.fix.trim().is_empty() && !process::interrupted() {
        report.merge(run_part(named, Part::OwnFix, plan));
    }
    report
}

fn run_part(named: &Named, part: Part, plan: &Plan) -> LabReport {
    let Options { program, plain_ping, tool_fix, manner, verbose, reply_within, slow } = &plan.options;
    let mut command = Command::new(&plan.executable);
    command.args(["lab", "run", "--inside", "--json"]).arg("--program").arg(program);
    command.arg("--reply-within").arg(reply_within.as_secs().to_string());
    command.arg("--slow").arg(slow.to_string());
    for (flag, given) in [
        ("--inside-own-fix", part == Part::OwnFix),
        ("--plain-ping", *plain_ping),
        ("--no-tool-fix", !*tool_fix),
        ("--predict", *manner == Manner::Foretell),
        ("-v", *verbose),
    ] {
        if given {
            command.arg(flag);
        }
    }
    command.arg("--").arg(&named.argument);

    let failed = |detail: String| {
        let mut report = LabReport::new(&named.lab);
        report.miss(Miss::Runner { detail });
        report
    };
    match start_and_wait(&mut command, PROCESS_DEADLINE * *slow) {
        Ok((Ended::ByItself(status), text)) => {
            serde_json::from_str(&text).unwrap_or_else(|_| failed(format!("its process ended with {status}")))
        }
        Ok((Ended::AtDeadline, _)) => {
            failed(format!("its process did not end within {} s", (PROCESS_DEADLINE * *slow).as_secs()))
        }
        Ok((Ended::Interrupted, _)) => failed("interrupted".to_owned()),
        Err(error) => failed(format!("cannot start {}: {error}", Path::new(command.get_program()).display())),
    }
}

fn start_and_wait(command: &mut Command, deadline: Duration) -> std::io::Result<(Ended, String)> {
    let mut output: File = tempfile::tempfile()?;
    let child =
        command.env(PARENT, std::process::id().to_string()).stdin(Stdio::null()).stdout(output.try_clone()?).spawn()?;
    let ended = process::wait_gently(child, deadline)?;
    let mut text = String::new();
    output.rewind()?;
    output.read_to_string(&mut text)?;
    Ok((ended, text))
}

/// Starts an interactive `lab shell --inside` and waits for it; returns its exit code.
pub fn run_shell(executable: &Path, argument: &OsString) -> std::io::Result<i32> {
    nix::sys::prctl::set_child_subreaper(true)?;
    process::catch_interrupts()?;
    let mut command = Command::new(executable);
    command.args(["lab", "shell", "--inside", "--"]).arg(argument).env(PARENT, std::process::id().to_string());
    let status = command.spawn()?.wait();
    process::end_descendants(&[]);
    Ok(status?.code().unwrap_or(1))
}

/// To be called first in the lab's own process: it must not outlive the process that started it.
/// False means that it has already.
pub fn bind_to_parent() -> std::io::Result<bool> {
    process::catch_interrupts()?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
    let parent = std::env::var(PARENT).ok();
    Ok(parent.is_none_or(|parent| parent == parent_id().to_string()))
}
