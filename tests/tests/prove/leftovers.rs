//! Nothing is left of a proof: no process, no namespace, no mount, no BPF program, no file; also when somebody is killed.
//!
//! A proof has three processes of the program, one inside the other: the one that was started, the one that makes the sandbox,
//! and the sandbox's first. Each is killed while the network is being built and while it is being asked.
//!
//! Namespaces have no list, but processes, mounts and open files of processes hold them, and nothing else does: so those are
//! what is looked at. Programs are known by the ids in the processes' open files.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use vnet_trace::collect::bpf::Names;

/// All tests.
pub fn trials(program: &'static Path) -> Vec<Trial> {
    let mut trials = vec![Trial::test("nothing_is_left_of_a_proof", move || undisturbed(program))];
    for (whom, name) in ["the_program", "the_maker_of_the_sandbox", "the_first_process"].iter().enumerate() {
        for (stage, when) in [(Stage::Building, "building"), (Stage::Asking, "asking")] {
            for signal in [Signal::SIGKILL, Signal::SIGINT] {
                // The first process of a PID namespace takes no such signal from anybody.
                if signal == Signal::SIGINT && whom > 0 {
                    continue;
                }
                let title = format!("nothing_is_left_when_{name}_gets_{}_while_{when}", signal.as_str());
                trials.push(Trial::test(title.to_lowercase(), move || killed(program, whom, stage, signal)));
            }
        }
    }
    trials
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A shell builds the network.
    Building,
    /// Probes are loaded.
    Asking,
}

/// What a proof has on the machine, seen while it runs.
#[derive(Debug, Default)]
struct Seen {
    /// With their start times, for ids are used again.
    processes: BTreeSet<(i32, String)>,
    namespaces: BTreeSet<String>,
    programs: BTreeSet<u32>,
}

fn undisturbed(program: &Path) -> Result<(), Failed> {
    let machine = Machine::now()?;
    let (mut proof, folder) = start(program)?;
    let mut seen = Seen::default();
    while proof.try_wait()?.is_none() {
        seen.look(proof.id() as i32);
    }
    if seen.processes.len() < 5 || seen.namespaces.len() < 4 || seen.programs.is_empty() {
        return Err(format!("that is not all of a proof: {seen:?}").into());
    }
    let mut text = String::new();
    proof.stdout.take().ok_or("no output")?.read_to_string(&mut text)?;
    let answer: Value = serde_json::from_str(&text)?;
    if answer["proof"]["outcome"] != "proven" {
        return Err(format!("{:#}", answer["proof"]).into());
    }
    seen.gone()?;
    machine.unchanged(folder.path())
}

fn killed(program: &Path, whom: usize, stage: Stage, signal: Signal) -> Result<(), Failed> {
    let machine = Machine::now()?;
    let (mut proof, folder) = start(program)?;
    let mut seen = Seen::default();
    let over = Instant::now() + Duration::from_secs(30);
    let victim = loop {
        let chain = chain(proof.id() as i32);
        seen.look(proof.id() as i32);
        let reached = match stage {
            Stage::Building => seen.processes.len() > 3,
            Stage::Asking => !seen.programs.is_empty(),
        };
        if let (true, Some(victim)) = (reached, chain.get(whom)) {
            break *victim;
        }
        if proof.try_wait()?.is_some() || Instant::now() > over {
            return Err(format!("the proof did not come to {stage:?}: {seen:?}").into());
        }
    };
    kill(Pid::from_raw(victim), signal)?;
    let mut text = String::new();
    proof.stdout.take().ok_or("no output")?.read_to_string(&mut text)?;
    proof.wait()?;
    if whom > 0 {
        let answer: Value = serde_json::from_str(&text)?;
        if answer["proof"]["outcome"] != "not-possible" {
            return Err(format!("{:#}", answer["proof"]).into());
        }
    }
    seen.gone()?;
    machine.unchanged(folder.path())
}

/// Starts a proof whose temporary files go to a folder of its own.
fn start(program: &Path) -> Result<(Child, tempfile::TempDir), Failed> {
    let recording = super::recording(program)?;
    let folder = tempfile::tempdir()?;
    let child = Command::new(program)
        .args(["explain", "--json", "--prove"])
        .arg(recording)
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    Ok((child, folder))
}

impl Seen {
    /// Notes the process and everything that it started.
    fn look(&mut self, pid: i32) {
        let own: BTreeSet<String> = namespaces_of(std::process::id() as i32).collect();
        for pid in descendants(pid) {
            let Some(started) = start_time(pid) else { continue };
            self.processes.insert((pid, started));
            self.namespaces.extend(namespaces_of(pid).filter(|namespace| !own.contains(namespace)));
            for info in std::fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten() {
                let text = std::fs::read_to_string(info.path()).unwrap_or_default();
                let ids = text.lines().filter_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok());
                self.programs.extend(ids);
            }
        }
    }

    /// Waits until all of it has gone: the kernel takes namespaces apart in its own time.
    fn gone(&self) -> Result<(), Failed> {
        let over = Instant::now() + Duration::from_secs(20);
        loop {
            let left = self.left();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > over {
                return Err(format!("left behind: {left:?}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = self
            .processes
            .iter()
            .filter(|(pid, started)| start_time(*pid).as_ref() == Some(started))
            .map(|(pid, _)| format!("process {pid}"))
            .collect();
        for pid in all_processes() {
            left.extend(
                namespaces_of(pid)
                    .filter(|namespace| self.namespaces.contains(namespace))
                    .map(|namespace| format!("{namespace} of process {pid}")),
            );
        }
        let mut names = Names::default();
        left.extend(self.programs.iter().filter_map(|id| Some(format!("program {id} {}", names.of(*id)?))));
        left
    }
}

/// What stays the same while nothing else happens on the machine.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    mounts: String,
    run: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl Machine {
    fn now() -> std::io::Result<Self> {
        let list = |path: &str| -> BTreeSet<String> {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        Ok(Self {
            mounts: std::fs::read_to_string("/proc/self/mountinfo")?,
            run: list("/run"),
            names: list("/run/netns"),
        })
    }

    fn unchanged(&self, temporary: &Path) -> Result<(), Failed> {
        let files: Vec<_> = std::fs::read_dir(temporary)?.flatten().map(|entry| entry.path()).collect();
        let now = Self::now()?;
        if !files.is_empty() || now != *self {
            return Err(format!("{files:?}\nbefore {self:?}\nafter {now:?}").into());
        }
        Ok(())
    }
}

/// The process, its only child, that one's only child: the three that may be killed, as far as they are there.
fn chain(pid: i32) -> Vec<i32> {
    let mut chain = vec![pid];
    while let [only] = children(chain[chain.len() - 1]).as_slice()
        && chain.len() < 3
    {
        chain.push(*only);
    }
    chain
}

fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

fn descendants(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        all.extend(children(*pid));
        next += 1;
    }
    all
}

/// The 22nd field of stat, behind a name in parentheses that may contain anything; None when it has ended.
fn start_time(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.get(stat.rfind(')')? + 1..)?.split_whitespace().nth(19).map(str::to_owned)
}

fn namespaces_of(pid: i32) -> impl Iterator<Item = String> {
    ["net", "mnt", "pid_for_children"]
        .into_iter()
        .filter_map(move |kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok())
        .map(|link| link.to_string_lossy().into_owned())
}

fn all_processes() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
