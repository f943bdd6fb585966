//! The labs asked by somebody who has not all rights: inside a container, or with some capabilities only.
//!
//! Less is seen then, and less can be read. An answer may be *undecided*, or lack a device's name; what it names must be what the
//! lab says all the same. One test per set of capabilities and lab; the asker is moved into the namespace first, as he is in a
//! container, and keeps what setpriv(1) leaves him. [`SETS`] lists the sets. Beside them `doctor` is held to what each capability
//! is said to be for.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use vnet_trace::lab::{LabReport, embedded};

/// What a container engine leaves a container by default (Docker's and Podman's lists have this one in common that matters);
/// what a network administrator has who may not load programs; what a tracer needs that may not enter other namespaces; and all
/// that is asked for.
const SETS: &[(&str, &str)] = &[
    ("container", "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot"),
    ("administrator", "net_raw,net_admin"),
    ("tracer", "net_raw,net_admin,bpf,perfmon"),
    ("full", "net_raw,net_admin,bpf,perfmon,sys_admin,syslog,dac_override,sys_ptrace"),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let program: &'static Path = Box::leak(tests::program().into_boxed_path());
    let unmet = tests::labs::unmet_needs(program);
    let mut trials = vec![Trial::test("without_net_raw_nothing_can_be_asked", move || nothing_to_ask(program))];
    for (set, capabilities) in SETS {
        trials.push(Trial::test(format!("{set}::doctor_says_what_is_there"), move || doctor(program, capabilities)));
        let restricted = match restricted(program, set, capabilities) {
            Ok(restricted) => restricted,
            Err(error) => {
                eprintln!("error: cannot write a script: {error}");
                return ExitCode::FAILURE;
            }
        };
        for (id, _) in embedded::texts() {
            let restricted = restricted.clone();
            let trial = Trial::test(format!("{set}::{id}"), move || ask(program, &restricted, id));
            trials.push(match unmet.get(id) {
                Some(needs) => trial.with_kind(format!("needs {}", needs.join(", "))).with_ignored_flag(true),
                None => trial,
            });
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The program as somebody with these capabilities calls it: `-N` is where he is.
fn restricted(program: &Path, set: &str, capabilities: &str) -> std::io::Result<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("rights-{set}"));
    let mut file = std::fs::File::create(&path)?;
    let program = program.display();
    let keep = keep(capabilities);
    write!(
        file,
        r#"#!/bin/bash
enter=()
words=()
while (($#)); do
    case $1 in
        -N) enter=(nsenter "--net=/run/netns/$2"); shift 2 ;;
        *) words+=("$1"); shift ;;
    esac
done
exec "${{enter[@]}}" setpriv {keep} '{program}' "${{words[@]}}"
"#
    )?;
    file.set_permissions(std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// setpriv's words for keeping these capabilities alone.
fn keep(capabilities: &str) -> String {
    let kept = capabilities.split(',').filter(|name| !name.is_empty()).map(|name| format!(",+{name}"));
    format!("--inh-caps=-all --ambient-caps=-all --bounding-set=-all{}", kept.collect::<String>())
}

fn setpriv(capabilities: &str, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(keep(capabilities).split(' ')).arg(program);
    command
}

/// Runs a lab, and holds the answer to what it may say with less than everything seen.
fn ask(program: &Path, restricted: &Path, id: &str) -> Result<(), Failed> {
    let mut command = Command::new(program);
    command.args(["lab", "run", "--json", "--no-tool-fix", "--program"]).arg(restricted).arg(id);
    let done = command.output()?;
    let reports: Vec<LabReport> = serde_json::from_slice(&done.stdout)
        .map_err(|error| format!("no report: {error}\n{}", String::from_utf8_lossy(&done.stderr)))?;
    let [report] = reports.as_slice() else { return Err(format!("{} reports", reports.len()).into()) };
    let misses: Vec<String> = report.misses().iter().map(ToString::to_string).collect();
    let Some(given) = &report.given else { return Err(format!("no answer\n{}", misses.join("\n")).into()) };
    let is_lost = report.expected != "delivered";
    let code = given.primary.as_ref().map(|primary| primary.code.as_str());
    let is_right = match given.verdict.as_str() {
        "undecided" => code.is_none(),
        "delivered" => !is_lost && code.is_none() && given.parting.is_none(),
        "lost" => is_lost && code == Some(report.expected.as_str()),
        _ => false,
    };
    if is_right {
        return Ok(());
    }
    let code = code.unwrap_or("no cause");
    Err(format!("{}, {code}, where it is {}\n{}", given.verdict, report.expected, misses.join("\n")).into())
}

fn nothing_to_ask(program: &Path) -> Result<(), Failed> {
    let done = setpriv("", program).args(["ping", "-c", "1", "127.0.0.1"]).output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.code() == Some(2) && said.contains("CAP_NET_RAW") && said.contains("ping_group_range") {
        return Ok(());
    }
    Err(format!("{}: {said}", done.status).into())
}

/// `doctor` tells which capabilities there are, and that probes need two of them.
fn doctor(program: &Path, capabilities: &str) -> Result<(), Failed> {
    let done = setpriv(capabilities, program).args(["doctor", "--json"]).output()?;
    let said: serde_json::Value = serde_json::from_slice(&done.stdout)?;
    let has = |name: &str| capabilities.split(',').any(|kept| kept == name);
    let list = said["capabilities"].as_array().ok_or("no list of capabilities")?;
    for capability in list {
        let name = capability["name"].as_str().unwrap_or_default().trim_start_matches("CAP_").to_lowercase();
        if capability["held"].as_bool() != Some(has(&name)) {
            return Err(format!("{capability}, with {capabilities}").into());
        }
    }
    let probes = said["probes"].as_array().ok_or("no list of probes")?;
    let attached = probes.iter().filter(|probe| !probe["tier"].is_null()).count();
    if (attached > 0) == (has("bpf") && has("perfmon")) {
        return Ok(());
    }
    Err(format!("{attached} probes are attached with {capabilities}").into())
}
