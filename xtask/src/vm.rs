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

mod kernel;
mod machine;
mod matrix;
mod userland;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::setup::{self, Purpose};
use crate::shell::{self, Profile};
use machine::{Accelerator, End, Machine};
use matrix::{Came, Cell, Measure};

/// Oldest to newest: a long-term kernel of each age, and the newest.
const ALL: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7.2"];

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
ready = json.loads(asked.stdout)["timing_ms"]["ready"]
json.dump({"ready_ms": ready, "peak_kb": peak}, open(sys.argv[1], "w"))
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
    /// All kernels: 5.10, 6.1, 6.12, 6.18, 7.2
    #[arg(long, conflicts_with = "kernels")]
    all: bool,
    /// Labs to run, by id; without this all
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    labs: Vec<String>,
    /// The eyes to use: fentry, kprobe, tracepoint, capture; without this what the program chooses
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
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: u16,
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
    /// What CI has time for.
    pub fn oldest_and_newest() -> Self {
        let labs = SUBSET.iter().map(|lab| (*lab).to_owned()).collect();
        Self { labs, dev: true, jobs: 2, timeout: 1200, ..Self::default() }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    if args.table {
        return matrix::write(&shell::target_folder().join("vm"));
    }
    setup::install(&[Purpose::Build, Purpose::Labs, Purpose::Vm])?;
    let kernels: Vec<&str> = match (args.all, args.kernels.is_empty()) {
        (true, _) => ALL.to_vec(),
        (false, true) => vec![ALL[0], ALL[ALL.len() - 1]],
        (false, false) => args.kernels.iter().map(String::as_str).collect(),
    };
    let folder = shell::target_folder().join("vm");
    let program = match &args.program {
        Some(program) => program.clone(),
        None => shell::build_program(if args.dev { Profile::Dev } else { Profile::Release })?,
    };
    // Of this run alone: others may be under way, with other programs and on other kernels.
    let own = folder.join(format!("userland-{}", std::process::id()));
    let userland = userland::archive(&own, &program, &args.with)?;

    let mut failed = Vec::new();
    for series in kernels {
        let kernel = kernel::get(&folder, series)?;
        let machine = Machine {
            kernel: &kernel,
            userland: &userland,
            accelerator: Accelerator::choose(&folder, &kernel, &userland)?,
            folder: folder.join("run").join(series),
            script: script(args)?,
            timeout: args.timeout,
            verbose: args.verbose,
        };
        let end = machine.run()?;
        let good = matches!(end.end, End::Good);
        if let End::Bad(why) = &end.end {
            failed.push(format!("{series}: {why}"));
        }
        if !args.command.is_empty() {
            print!("{}", end.output);
            let result = if good { "pass" } else { "fail" };
            println!("vm {series} release={} result={result} seconds={:.0}", kernel.release, end.seconds);
            continue;
        }
        for (tier, mut cell) in cells(&end.results)? {
            cell.release.clone_from(&kernel.release);
            matrix::keep(&folder, series, &tier, &cell)?;
            let unexpected = matrix::judge(series, &tier, &cell)?;
            let result = if good && unexpected.is_empty() { "pass" } else { "fail" };
            println!("{}", line(series, &tier, &cell, result, end.seconds)?);
            for (lab, run) in cell.labs.iter().filter(|(_, run)| run.came != Came::Right) {
                println!("   {}: {lab}: {}", format!("{:?}", run.came).to_lowercase(), run.why);
            }
            failed.extend(unexpected.into_iter().map(|what| format!("{series}, {tier}: {what}")));
        }
    }
    std::fs::remove_dir_all(&own)?;
    if args.all {
        matrix::write(&folder)?;
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
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
fn script(args: &Args) -> Result<String> {
    if !args.command.is_empty() {
        return Ok(args.command.join(" "));
    }
    let tiers = if args.tiers.is_empty() { vec!["default".to_owned()] } else { args.tiers.clone() };
    let labs = if args.labs.is_empty() { "--all".to_owned() } else { args.labs.join(" ") };
    let fix = if args.own_fix {
        "--own-fix"
    } else if args.no_fix {
        "--no-tool-fix"
    } else {
        ""
    };
    let mut script = String::from("failed=0\n");
    for tier in tiers {
        let environment = if tier == "default" { String::new() } else { format!("VNET_TRACE_TIER={tier} ") };
        let jobs = args.jobs;
        let run =
            format!("{environment}vnet-trace lab run {fix} --slow {SLOW} --jobs {jobs} -o /out/{tier}.json {labs}");
        // The labs' own failures are in the report; only a run that came to nothing is the script's.
        writeln!(script, "{run}\ncase $? in 0|1|77) ;; *) failed=1;; esac")?;
        // One question on an otherwise idle machine: when it asks, and its peak memory.
        writeln!(script, "{environment}python3 -c '{MEASURE}' /out/{tier}.measure")?;
    }
    script += "exit $failed\n";
    Ok(script)
}

/// tier → what its labs came to, from the reports that came back.
fn cells(results: &Path) -> Result<BTreeMap<String, Cell>> {
    let mut cells = BTreeMap::new();
    for entry in std::fs::read_dir(results).context("nothing came back")? {
        let path = entry?.path();
        let (Some(tier), true) = (path.file_stem(), path.extension().is_some_and(|ending| ending == "json")) else {
            continue;
        };
        let reports: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(&path)?)
            .with_context(|| format!("{} is no report", path.display()))?;
        // Without Python there, nothing was measured.
        let measure = std::fs::read(path.with_extension("measure"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_else(Measure::default);
        let labs = reports.iter().map(matrix::read).collect();
        cells.insert(tier.to_string_lossy().into_owned(), Cell { release: String::new(), measure, labs });
    }
    if cells.is_empty() {
        bail!("the machine gave no reports");
    }
    Ok(cells)
}
