//! `cargo xtask vm`: the labs, or any command, on other kernels.
//!
//! Takes Debian's cloud kernels with the machine's own apt ([`kernel`]), makes a small userland out of the programs that
//! are installed here ([`userland`]), boots QEMU ([`machine`]), and prints one line per kernel that a script can read:
//!
//! ```text
//! vm 6.12 tier=default release=6.12.107+deb13-cloud-amd64 result=pass right=140 undecided=2 wrong=0 skipped=14 seconds=310
//! ```
//!
//! Everything is kept under `target/vm`; deleting that folder is always safe.

pub mod kernel;
mod machine;
mod matrix;
mod userland;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Purpose};
use crate::shell::{self, Profile};
use kernel::Kernel;
use machine::{Accelerator, End, Machine};
use matrix::{Came, Cell};

/// Oldest to newest: a long-term kernel of each age, and the newest.
const ALL: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7.2"];

/// What the program chooses by itself, and then with ever fewer eyes. All five kernels allow fentry, so that it is what is
/// chosen; the page of the matrix says so for each.
const TIERS: [&str; 4] = ["default", "kprobe", "tracepoint", "capture"];

/// A lab of each kind: silent loss, reported loss, filter, bridge, tunnel, IPv6, healthy.
const SUBSET: &[&str] = &[
    "veth-same-netns-martian",
    "veth-same-netns-rp-filter",
    "veth-peer-down",
    "netfilter-nft-input-drop",
    "docker0-two-containers-nat",
    "bridge-port-isolated",
    "vxlan-vni-mismatch",
    "macvlan-private",
    "route-blackhole-at-router",
    "echo-ignored-ipv6",
    "ipv6-router-healthy",
    "two-netns-bridge",
];

/// Asks about the machine itself, with nothing else running, and says when the tool asked and how much memory it had.
const MEASURE: &str = r#"
import json, resource, subprocess, sys
asked = subprocess.run(["vnet-trace", "ping", "--json", "-c", "1", "127.0.0.1"], capture_output=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
answer = json.loads(asked.stdout)
ready = answer["timing_ms"]["ready"]
json.dump({"ready_ms": ready, "peak_kb": peak, "tier": answer["sight"]["tier"]}, open(sys.argv[1], "w"))
"#;

/// An emulated processor is ten to thirty times slower than a real one: so many times longer its labs may take.
const SLOW: u32 = 10;

/// Arguments of `vm`.
#[derive(clap::Args, Default)]
#[group(id = "vm")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Args {
    /// Kernels, such as 5.10 or 7.2; without any, the oldest and the newest
    kernels: Vec<String>,
    /// The whole matrix: all kernels (5.10, 6.1, 6.12, 6.18, 7.2) with all tiers, and nothing kept of earlier runs
    #[arg(long, conflicts_with_all = ["kernels", "labs"])]
    all: bool,
    /// Labs to run, by id; without this all
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    labs: Vec<String>,
    /// The eyes to use: default (what the program chooses), fentry, kprobe, tracepoint, capture
    #[arg(long, value_delimiter = ',', value_name = "TIER,…")]
    tiers: Vec<String>,
    /// Try each lab's own fix as well
    #[arg(long)]
    own_fix: bool,
    /// Only judge the answers: do not carry out the fixes
    #[arg(long, conflicts_with = "own_fix")]
    no_fix: bool,
    /// Only write tests/kernels.md from the runs so far
    #[arg(long)]
    table: bool,
    /// Labs at a time in each machine: they mostly wait
    #[arg(long, value_name = "N", default_value_t = 4)]
    jobs: u16,
    /// Machines at a time; without this one for each processor
    #[arg(long, value_name = "N")]
    machines: Option<NonZeroUsize>,
    /// Use the quickly built program: slower there
    #[arg(long)]
    dev: bool,
    /// A built program to take instead of building one
    #[arg(long, value_name = "FILE", conflicts_with = "dev")]
    program: Option<PathBuf>,
    /// A file of this machine to have there under the same path, with its libraries
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    /// End the machine after this many seconds
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    timeout: u64,
    /// Show the machine's console
    #[arg(short, long)]
    verbose: bool,
    /// A command for bash to run there instead of labs; `vnet-trace` is on PATH, files in /out come back
    #[arg(last = true)]
    command: Vec<String>,
}

impl Args {
    fn tiers(&self) -> Vec<String> {
        let owned = |tiers: &[&str]| tiers.iter().map(|tier| (*tier).to_owned()).collect();
        match (self.tiers.is_empty(), self.all) {
            (false, _) => self.tiers.clone(),
            (true, true) => owned(&TIERS),
            (true, false) => owned(&TIERS[..1]),
        }
    }

    /// An emulated machine keeps one processor busy.
    fn machines(&self) -> Result<NonZeroUsize> {
        self.machines.map_or_else(|| std::thread::available_parallelism().context("how many processors are there?"), Ok)
    }

    /// What CI has time for.
    pub fn oldest_and_newest() -> Self {
        let labs = SUBSET.iter().map(|lab| (*lab).to_owned()).collect();
        Self { labs, dev: true, jobs: 4, timeout: 1200, ..Self::default() }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    if args.table {
        return matrix::write(&folder());
    }
    setup::install(&[Purpose::Build, Purpose::Labs, Purpose::Vm])?;
    let kernels: Vec<&str> = match (args.all, args.kernels.is_empty()) {
        (true, _) => ALL.to_vec(),
        (false, true) => vec![ALL[0], ALL[ALL.len() - 1]],
        (false, false) => args.kernels.iter().map(String::as_str).collect(),
    };
    let folder = folder();
    let program = match &args.program {
        Some(program) => program.clone(),
        None => shell::build_program(if args.dev { Profile::Dev } else { Profile::Release })?,
    };
    // Of this run alone: others may be under way, with other programs and on other kernels.
    let own = folder.join(format!("userland-{}", std::process::id()));
    let userland = userland::archive(&own, &program, &args.with)?;

    let accelerator = Accelerator::choose(&folder, &kernel::get(&folder, kernels[0])?, &userland)?;
    let mut guests = VecDeque::new();
    for series in kernels {
        let kernel = kernel::get(&folder, series)?;
        if args.command.is_empty() {
            guests.extend(args.tiers().into_iter().map(|tier| Guest {
                kernel: kernel.clone(),
                series,
                tier: Some(tier),
            }));
        } else {
            guests.push_back(Guest { kernel, series, tier: None });
        }
    }
    // Those with the fewest eyes are the quickest: last, no processor waits long for another.
    guests
        .make_contiguous()
        .sort_by_key(|guest| TIERS.iter().position(|tier| guest.tier.as_ref().is_some_and(|own| own == tier)));
    if args.all {
        matrix::forget(&folder)?;
    }
    let count = guests.len();
    let began = Instant::now();
    let revision = shell::revision();
    let place = Place { args, folder: &folder, userland: &userland, accelerator, revision: revision.clone() };
    let failed = side_by_side(args.machines()?, guests, |guest| place.visit(&guest));
    std::fs::remove_dir_all(&own)?;
    if args.all {
        let run = matrix::Whole {
            seconds: began.elapsed().as_secs_f64(),
            machines: args.machines()?.get(),
            cells: count,
            revision,
        };
        matrix::keep_whole(&folder, &run)?;
        matrix::write(&folder)?;
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

/// Runs a command on a kernel, with more programs of this machine; gives the file of this name that it left in `/out`.
pub fn report(series: &str, program: &Path, with: &[PathBuf], command: &str, file: &str) -> Result<String> {
    let args = Args {
        kernels: vec![series.to_owned()],
        program: Some(program.to_owned()),
        with: with.to_vec(),
        command: vec![command.to_owned()],
        timeout: 3600,
        ..Args::default()
    };
    run(&args)?;
    let path = folder().join("run").join(series).join("out").join(file);
    std::fs::read_to_string(&path).with_context(|| format!("the machine left no {file}"))
}

/// Where everything is kept.
pub fn folder() -> PathBuf {
    shell::target_folder().join("vm")
}

/// One machine that is to be booted: it runs the labs with one tier, or, without a tier, a command.
struct Guest<'a> {
    kernel: Kernel,
    series: &'a str,
    tier: Option<String>,
}

/// What all guests share.
struct Place<'a> {
    args: &'a Args,
    folder: &'a Path,
    userland: &'a PathBuf,
    accelerator: Accelerator,
    revision: String,
}

/// Lets so many workers do the work; gives what failed, in the order in which it ended.
fn side_by_side<T: Send>(
    workers: NonZeroUsize,
    work: VecDeque<T>,
    visit: impl Fn(T) -> Result<Vec<String>> + Sync,
) -> Vec<String> {
    let work = Mutex::new(work);
    let failed = Mutex::new(Vec::new());
    let next = || work.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let one = || {
        while let Some(guest) = next() {
            let found = visit(guest).unwrap_or_else(|error| vec![format!("{error:#}")]);
            failed.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers.get() {
            scope.spawn(one);
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Place<'_> {
    /// Boots a guest and waits for its end; keeps and prints what came of it. Gives what is not as it should be.
    fn visit(&self, guest: &Guest<'_>) -> Result<Vec<String>> {
        let Guest { kernel, series, tier } = guest;
        let name = tier.as_ref().map_or_else(|| (*series).to_owned(), |tier| format!("{series}-{tier}"));
        let machine = Machine {
            kernel,
            userland: self.userland,
            accelerator: self.accelerator,
            folder: self.folder.join("run").join(name),
            script: script(self.args, tier.as_deref())?,
            timeout: self.args.timeout,
            verbose: self.args.verbose,
        };
        let end = machine.run()?;
        let mut failed = Vec::new();
        if let End::Bad(why) = &end.end {
            failed.push(format!("{series}: {why}"));
        }
        let Some(tier) = tier else {
            let result = if failed.is_empty() { "pass" } else { "fail" };
            println!("{}vm {series} release={} result={result} seconds={:.0}", end.output, kernel.release, end.seconds);
            return Ok(failed);
        };
        let mut cell = cell(&end.results, tier).with_context(|| format!("{series}, {tier}"))?;
        cell.release.clone_from(&kernel.release);
        cell.seconds = end.seconds;
        for run in cell.labs.values_mut() {
            run.revision.clone_from(&self.revision);
        }
        matrix::keep(self.folder, series, tier, &cell)?;
        let unexpected = matrix::judge(series, tier, &cell)?;
        failed.extend(unexpected.into_iter().map(|what| format!("{series}, {tier}: {what}")));
        let result = if failed.is_empty() { "pass" } else { "fail" };
        let mut text = line(series, tier, &cell, result, end.seconds)?;
        for (lab, run) in cell.labs.iter().filter(|(_, run)| run.came != Came::Right) {
            write!(text, "\n   {}: {lab}: {}", format!("{:?}", run.came).to_lowercase(), run.why)?;
        }
        println!("{text}");
        Ok(failed)
    }
}

/// The line for scripts.
fn line(series: &str, tier: &str, cell: &Cell, result: &str, seconds: f64) -> Result<String> {
    let mut line = format!("vm {series} tier={tier} release={} result={result}", cell.release);
    for came in [Came::Right, Came::Undecided, Came::Wrong, Came::Unfit, Came::Skipped] {
        let count = cell.labs.values().filter(|run| run.came == came).count();
        write!(line, " {}={count}", format!("{came:?}").to_lowercase())?;
    }
    if let Some(ready) = cell.measure.ready_ms {
        write!(line, " ready_ms={ready:.0}")?;
    }
    if let Some(peak) = cell.measure.peak_kb {
        write!(line, " peak_kb={peak}")?;
    }
    write!(line, " seconds={seconds:.0}")?;
    Ok(line)
}

/// What the guest's bash does. Its exit code is the verdict of the run; /out comes back.
fn script(args: &Args, tier: Option<&str>) -> Result<String> {
    let Some(tier) = tier else { return Ok(args.command.join(" ")) };
    let labs = if args.labs.is_empty() { "--all".to_owned() } else { args.labs.join(" ") };
    let fix = if args.own_fix {
        "--own-fix"
    } else if args.no_fix {
        "--no-tool-fix"
    } else {
        ""
    };
    let mut script = String::from("failed=0\n");
    let environment = if tier == "default" { String::new() } else { format!("VNET_TRACE_TIER={tier} ") };
    let jobs = args.jobs;
    let run = format!("{environment}vnet-trace lab run {fix} --slow {SLOW} --jobs {jobs} -o /out/{tier}.json {labs}");
    // The labs' own failures are in the report; only a run that came to nothing is the script's.
    writeln!(script, "{run}\ncase $? in 0|1|77) ;; *) failed=1;; esac")?;
    // One question on an otherwise idle machine: when it asks, and its peak memory.
    writeln!(script, "{environment}python3 -c '{MEASURE}' /out/{tier}.measure")?;
    script += "exit $failed\n";
    Ok(script)
}

/// What the labs came to with one tier, from the reports that came back.
fn cell(results: &Path, tier: &str) -> Result<Cell> {
    let path = results.join(tier).with_extension("json");
    let text = std::fs::read(&path).context("the machine gave no reports")?;
    let reports: Vec<serde_json::Value> =
        serde_json::from_slice(&text).with_context(|| format!("{} is no report", path.display()))?;
    // Without Python there, nothing was measured.
    let measure = std::fs::read(path.with_extension("measure"))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let labs = reports.iter().map(matrix::read).collect();
    Ok(Cell { measure, labs, ..Cell::default() })
}
