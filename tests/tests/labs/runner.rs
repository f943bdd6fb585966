//! The lab runner itself, with a script in the place of the program: what it takes for right, and that nothing stays.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use vnet_trace::lab::{LabReport, Outcome};

/// All tests, with what each needs besides root.
pub fn trials(program: &'static Path) -> Vec<Trial> {
    let trial = |name: &str, test: fn(&Path) -> Result<(), Failed>| {
        Trial::test(format!("runner::{name}"), move || test(program))
    };
    vec![
        trial("accepts_a_right_answer_whose_fix_helps", accepts_a_right_answer),
        trial("refuses_a_fix_that_does_not_help", refuses_a_useless_fix),
        trial("refuses_an_answer_that_is_no_json", refuses_no_json),
        trial("refuses_an_exit_code_that_contradicts", refuses_exit_code),
        trial("skips_a_lab_by_the_name_of_its_need", skips_by_name),
        trial("names_what_a_broken_setup_said", names_broken_setup),
        trial("leaves_nothing_when_killed", leaves_nothing_when_killed),
        trial("leaves_nothing_when_its_lab_is_killed", leaves_nothing_when_lab_is_killed),
        trial("gives_a_shell_in_the_lab", gives_a_shell),
    ]
}

const LAB: &str = r#"
id = "runner"
title = "A dead end"
story = "The far end is down."
setup = """
ip netns add far
ip link add va type veth peer name vb netns far
ip link set va up
ip addr add 10.9.9.1/24 dev va
ip -n far addr add 10.9.9.2/24 dev vb
sleep 4321 &
"""
fix = "ip -n far link set vb up"
[probe]
dst = "10.9.9.2"
[expect]
verdict = "lost"
cause = "peer-down"
netns = "."
dev = "va"
"#;

const ANSWER: &str = r#"{"verdict":"lost","primary":{"code":"peer-down","role":"request","place":{"netns":".","dev":"va"},
"fixes":[{"risk":"safe","commands":["ip -n far link set vb up"]}]}}"#;

fn accepts_a_right_answer(program: &Path) -> Result<(), Failed> {
    let report = run(program, LAB, &format!("echo '{ANSWER}'; exit 1"), &["--plain-ping", "--own-fix"])?;
    check(report.outcome == Outcome::Pass, &report)?;
    let phases: Vec<&str> = report.phases.iter().map(|phase| phase.name.as_str()).collect();
    check(
        phases == ["needs", "setup", "tool", "plain ping", "tool fix", "end", "needs", "setup", "own fix", "end"],
        &report,
    )
}

fn refuses_a_useless_fix(program: &Path) -> Result<(), Failed> {
    let useless = ANSWER.replace("link set vb up", "link set lo up");
    let report = run(program, LAB, &format!("echo '{useless}'; exit 1"), &["--reply-within", "1"])?;
    check(report.misses().iter().any(|miss| miss.to_string().contains("after the tool's fix")), &report)
}

fn refuses_no_json(program: &Path) -> Result<(), Failed> {
    let report = run(program, LAB, "echo oops >&2; echo '{'; exit 7", &[])?;
    let said: Vec<String> = report.misses().iter().map(ToString::to_string).collect();
    check(said.len() == 1 && said[0].contains("no answer: exit code 7: oops"), &report)
}

fn refuses_exit_code(program: &Path) -> Result<(), Failed> {
    let report = run(program, LAB, &format!("echo '{ANSWER}'"), &["--no-tool-fix"])?;
    let said: Vec<String> = report.misses().iter().map(ToString::to_string).collect();
    check(said == ["exit code is exit code 0, not exit code 1"], &report)
}

fn skips_by_name(program: &Path) -> Result<(), Failed> {
    let lab = LAB.replace(
        "setup =",
        "needs = [\"cmd:no-such-program\", \"link:veth\", \"link:nosuchkind\"]\nkernel = \">=999.1\"\nsetup =",
    );
    let report = run(program, &lab, "exit 9", &[])?;
    check(
        matches!(&report.outcome, Outcome::Skipped { unmet } if *unmet == ["cmd:no-such-program", "link:nosuchkind", "kernel>=999.1"]),
        &report,
    )
}

fn names_broken_setup(program: &Path) -> Result<(), Failed> {
    let report = run(program, &LAB.replace("ip link set va up", "ip link set nope up"), "exit 9", &[])?;
    let said: Vec<String> = report.misses().iter().map(ToString::to_string).collect();
    check(said.len() == 1 && said[0].contains("setup failed: exit code") && said[0].contains("nope"), &report)
}

fn leaves_nothing_when_killed(program: &Path) -> Result<(), Failed> {
    kill_and_look(program, |outer, _| outer)
}

fn leaves_nothing_when_lab_is_killed(program: &Path) -> Result<(), Failed> {
    kill_and_look(program, |_, inner| inner)
}

/// Runs a lab whose question never ends, kills one of its two processes, and waits until all that it started is gone.
fn kill_and_look(program: &Path, whom: fn(u32, u32) -> u32) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let mark = folder.path().join("asked");
    let (lab, stub) = files(folder.path(), LAB, &format!("touch {}; exec sleep 4321", mark.display()))?;
    let mut outer = Command::new(program)
        .args(["lab", "run", "--json", "--program"])
        .arg(stub)
        .arg(lab)
        .stdout(Stdio::null())
        .spawn()?;
    until("the question is asked", || mark.exists())?;
    let started = descendants(outer.id());
    let inner = *started.first().ok_or("the lab has no process")?;
    if started.len() < 3 {
        return Err(format!("the lab, its daemon and the question are processes, not {started:?}").into());
    }
    Command::new("kill").args(["-9", &whom(outer.id(), inner).to_string()]).status()?;
    let gone = until("everything has ended", || started.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
    outer.wait()?;
    gone
}

fn gives_a_shell(program: &Path) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (lab, _) = files(folder.path(), LAB, "")?;
    let mut shell =
        Command::new(program).args(["lab", "shell"]).arg(lab).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    shell.stdin.take().ok_or("no stdin")?.write_all(b"ip -br addr show va; ip netns; exit 42\n")?;
    let done = shell.wait_with_output()?;
    let said = String::from_utf8_lossy(&done.stdout);
    if done.status.code() != Some(42) || !said.contains("10.9.9.1/24") || !said.contains("far") {
        return Err(format!("{}: {said}", done.status).into());
    }
    Ok(())
}

fn run(program: &Path, lab: &str, stub: &str, flags: &[&str]) -> Result<LabReport, Failed> {
    let folder = tempfile::tempdir()?;
    let (lab, stub) = files(folder.path(), lab, stub)?;
    let done =
        Command::new(program).args(["lab", "run", "--json", "--program"]).arg(stub).args(flags).arg(lab).output()?;
    let mut reports: Vec<LabReport> = serde_json::from_slice(&done.stdout).map_err(|error| {
        format!("{error}: {}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
    })?;
    let report = reports.pop().ok_or("no report")?;
    let code = match report.outcome {
        Outcome::Pass => 0,
        Outcome::Fail { .. } => 1,
        Outcome::Skipped { .. } => 77,
    };
    check(done.status.code() == Some(code), &report)?;
    Ok(report)
}

fn files(folder: &Path, lab: &str, stub: &str) -> std::io::Result<(PathBuf, PathBuf)> {
    let (lab_file, stub_file) = (folder.join("runner.toml"), folder.join("stub"));
    std::fs::write(&lab_file, lab)?;
    std::fs::write(&stub_file, format!("#!/bin/sh\n{stub}\n"))?;
    std::fs::set_permissions(&stub_file, std::fs::Permissions::from_mode(0o755))?;
    Ok((lab_file, stub_file))
}

fn check(right: bool, report: &LabReport) -> Result<(), Failed> {
    if right { Ok(()) } else { Err(format!("{report:#?}").into()) }
}

fn until(what: &str, happened: impl Fn() -> bool) -> Result<(), Failed> {
    let over = Instant::now() + Duration::from_secs(20);
    while !happened() {
        if Instant::now() > over {
            return Err(format!("waited in vain until {what}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn descendants(pid: u32) -> Vec<u32> {
    let listed =
        Command::new("pgrep").args(["-P", &pid.to_string()]).output().map(|done| done.stdout).unwrap_or_default();
    let children: Vec<u32> = String::from_utf8_lossy(&listed).lines().filter_map(|pid| pid.parse().ok()).collect();
    children.iter().copied().chain(children.iter().flat_map(|child| descendants(*child))).collect()
}
