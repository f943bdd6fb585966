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
mod userland;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::setup::{self, Purpose};
use crate::shell::{self, Profile};
use machine::{Accelerator, End, Machine};

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

/// Arguments of `vm`.
#[derive(clap::Args, Default)]
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
    /// Labs at a time in each machine: they mostly wait
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: u16,
    /// Use the quickly built program: slower there
    #[arg(long)]
    dev: bool,
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

/// Which answers one kernel and tier gave.
#[derive(Default)]
struct Score {
    right: Vec<String>,
    undecided: Vec<String>,
    wrong: Vec<String>,
    skipped: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::install(&[Purpose::Build, Purpose::Labs, Purpose::Vm])?;
    let kernels: Vec<&str> = match (args.all, args.kernels.is_empty()) {
        (true, _) => ALL.to_vec(),
        (false, true) => vec![ALL[0], ALL[ALL.len() - 1]],
        (false, false) => args.kernels.iter().map(String::as_str).collect(),
    };
    let folder = shell::target_folder().join("vm");
    let program = shell::build_program(if args.dev { Profile::Dev } else { Profile::Release })?;
    let userland = userland::archive(&folder, &program, &args.with)?;

    let mut failed = Vec::new();
    let mut table: BTreeMap<String, Score> = BTreeMap::new();
    for series in kernels {
        let kernel = kernel::get(&folder, series)?;
        let machine = Machine {
            kernel: &kernel,
            userland: &userland,
            accelerator: Accelerator::choose(&folder, &kernel, &userland)?,
            folder: folder.join("run").join(series),
            script: script(args),
            timeout: args.timeout,
            verbose: args.verbose,
        };
        let end = machine.run()?;
        if let End::Bad(why) = &end.end {
            failed.push(format!("{series}: {why}"));
        }
        if args.command.is_empty() {
            for (tier, score) in scores(&end.results)? {
                let result = if matches!(end.end, End::Good) && score.wrong.is_empty() { "pass" } else { "fail" };
                println!(
                    "vm {series} tier={tier} release={} result={result} right={} undecided={} wrong={} skipped={} seconds={:.0}",
                    kernel.release,
                    score.right.len(),
                    score.undecided.len(),
                    score.wrong.len(),
                    score.skipped.len(),
                    end.seconds,
                );
                for (what, labs) in
                    [("undecided", &score.undecided), ("wrong", &score.wrong), ("skipped", &score.skipped)]
                {
                    for lab in labs {
                        println!("   {what}: {lab}");
                    }
                }
                if !score.wrong.is_empty() {
                    failed.push(format!("{series}, {tier}: {} labs are wrong", score.wrong.len()));
                }
                table.insert(format!("{series} {tier}"), score);
            }
        } else {
            print!("{}", end.output);
            let result = if matches!(end.end, End::Good) { "pass" } else { "fail" };
            println!("vm {series} release={} result={result} seconds={:.0}", kernel.release, end.seconds);
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

/// What the guest's bash does. Its exit code is the verdict of the run; /out comes back.
fn script(args: &Args) -> String {
    if !args.command.is_empty() {
        return args.command.join(" ");
    }
    let tiers = if args.tiers.is_empty() { vec!["default".to_owned()] } else { args.tiers.clone() };
    let labs = if args.labs.is_empty() { "--all".to_owned() } else { args.labs.join(" ") };
    let own_fix = if args.own_fix { "--own-fix" } else { "" };
    let mut script = String::from("failed=0\n");
    for tier in tiers {
        let environment = if tier == "default" { String::new() } else { format!("VNET_TRACE_TIER={tier} ") };
        let jobs = args.jobs;
        let run = format!("{environment}vnet-trace lab run {own_fix} --jobs {jobs} -o /out/{tier}.json {labs}");
        // The labs' own failures are in the report; only a run that came to nothing is the script's.
        script += &run;
        script += "\ncase $? in 0|1|77) ;; *) failed=1;; esac\n";
    }
    script + "exit $failed\n"
}

/// tier → score, from the reports that came back.
fn scores(results: &Path) -> Result<BTreeMap<String, Score>> {
    let mut scores = BTreeMap::new();
    for entry in std::fs::read_dir(results).context("nothing came back")? {
        let path = entry?.path();
        let (Some(tier), true) = (path.file_stem(), path.extension().is_some_and(|ending| ending == "json")) else {
            continue;
        };
        let reports: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(&path)?)
            .with_context(|| format!("{} is no report", path.display()))?;
        let mut score = Score::default();
        for report in &reports {
            let id = report["id"].as_str().unwrap_or("?");
            match report["result"].as_str() {
                Some("pass") => score.right.push(id.to_owned()),
                Some("skipped") => score.skipped.push(format!("{id}: {}", words(&report["unmet"]))),
                _ if report["given"]["verdict"] == "undecided" => {
                    score.undecided.push(format!("{id}: {}", words(&report["misses"])));
                }
                _ => score.wrong.push(format!("{id}: {}", words(&report["misses"]))),
            }
        }
        scores.insert(tier.to_string_lossy().into_owned(), score);
    }
    if scores.is_empty() {
        bail!("the machine gave no reports");
    }
    Ok(scores)
}

/// A list of strings or of objects, in one line.
fn words(list: &serde_json::Value) -> String {
    let word = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Object(fields) if fields.contains_key("what") => {
            let field = |name: &str| fields.get(name).and_then(|value| value.as_str()).unwrap_or("");
            format!("{} is {}, not {}", field("what"), field("got"), field("want"))
        }
        other => other.to_string(),
    };
    list.as_array().into_iter().flatten().map(word).collect::<Vec<_>>().join("; ")
}
