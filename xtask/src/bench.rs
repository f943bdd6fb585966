//! `cargo xtask bench`: start, verdicts and memory, measured in labs, as a person would feel them; and what large rule sets,
//! routing tables and worlds cost.
//!
//! Each figure is of whole processes of a release build: wall-clock time from exec to exit, the tool's own `timing_ms`, and
//! the peak of its resident memory. The best of several runs is what the program costs, the median what a busy machine makes of it.

pub mod dumps;
pub mod flood;
mod tool;
mod watch;

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::setup::{self, Purpose};
use crate::shell::{self, Profile};

/// Arguments of `bench`.
#[derive(clap::Args)]
#[group(id = "bench")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Args {
    /// Runs of each measurement
    #[arg(long, default_value_t = 9)]
    runs: u32,
    /// Fail when a goal is missed
    #[arg(long)]
    strict: bool,
    /// Measure what watching costs the traffic instead, beside other tools
    #[arg(long)]
    watch: bool,
    /// The same on Linux 6.12 in a virtual machine, beside pwru, which needs kprobes
    #[arg(long, conflicts_with = "watch")]
    pwru: bool,
    /// With --watch or --pwru: put the table into BENCHMARKS.md as well
    #[arg(long)]
    write: bool,
    /// The measurement is in an emulated machine
    #[arg(long, hide = true)]
    emulated: bool,
    /// The measurement itself, in namespaces of its own, of this program
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

/// What is asked where.
struct Case {
    name: &'static str,
    lab: &'static str,
    /// Shell lines that make the lab larger first.
    prepare: &'static str,
    /// The command, without the program.
    command: &'static str,
    goals: Goals,
}

/// What the user is promised, in milliseconds and KiB.
struct Goals {
    ready: Option<f64>,
    /// Of the snapshot, besides what netlink's dumps of the same take by themselves (see [`dumps`]).
    beyond_dumps: Option<f64>,
    /// From the snapshot's end to the verdict.
    judged: Option<f64>,
    whole: Option<f64>,
    memory: Option<f64>,
}

const NONE: Goals = Goals { ready: None, beyond_dumps: None, judged: None, whole: None, memory: None };
const ASKED: Goals = Goals { ready: Some(100.0), memory: Some(64.0 * 1024.0), ..NONE };
const FORETOLD: Goals = Goals { whole: Some(1000.0), ..NONE };

const CASES: &[Case] = &[
    Case {
        name: "delivered, -c 1",
        lab: "two-netns-direct",
        prepare: "",
        command: "ping -c 1 -N ns1 10.1.1.3",
        goals: Goals { whole: Some(250.0), ..ASKED },
    },
    Case {
        name: "ARP loss decided",
        lab: "veth-same-netns-martian",
        prepare: "",
        command: "ping -I veth0 192.168.3.1",
        goals: Goals { whole: Some(1500.0), ..ASKED },
    },
    Case {
        name: "10,000 nft rules",
        lab: "two-netns-direct",
        prepare: r#"{ echo 'table inet big { chain input { type filter hook input priority 0;'
for i in $(seq 10000); do echo "ip saddr 10.$((i / 65536)).$((i / 256 % 256)).$((i % 256)) tcp dport $i drop"; done
printf '}\n}\n'; } | ip netns exec ns2 nft -f -"#,
        command: "predict -N ns1 10.1.1.3",
        goals: FORETOLD,
    },
    Case {
        name: "5,000 routes",
        lab: "two-netns-direct",
        prepare: r#"for i in $(seq 5000); do echo "route add 10.$((i / 256 + 100)).$((i % 256)).0/24 via 10.1.1.3"; done | ip -n ns1 -batch -"#,
        command: "predict -N ns1 10.1.1.3",
        goals: FORETOLD,
    },
    Case {
        name: "map, 200 containers",
        lab: "two-netns-direct",
        prepare: r#"for b in 0 1 2; do ip link add big$b type bridge; ip link set big$b up; ip addr add 172.30.$b.1/24 dev big$b; done
for i in $(seq 200); do ip netns add w$i; done
for i in $(seq 200); do echo link add v$i type veth peer name eth0 netns w$i; echo link set v$i master big$((i % 3)) up; done | ip -batch -
for i in $(seq 200); do
  printf 'link set lo up\nlink set eth0 up\naddr add 172.30.%d.%d/24 dev eth0\nroute add default via 172.30.%d.1\n' $((i % 3)) $((i + 1)) $((i % 3)) | ip -n w$i -batch -
done
nft 'table ip nat { chain out { type nat hook postrouting priority 100; oifname != "big*" masquerade; }; }'"#,
        command: "map",
        goals: FORETOLD,
    },
    Case {
        name: "1,000 namespaces",
        lab: "two-netns-direct",
        prepare: r"ip link add big type bridge; ip link set big up; ip addr add 10.9.0.1/16 dev big
for i in $(seq 1000); do ip netns add w$i; done
for i in $(seq 1000); do echo link add v$i type veth peer name eth0 netns w$i; echo link set v$i master big up; done | ip -batch -
for i in $(seq 1000); do
  printf 'link set lo up\nlink set eth0 up\naddr add 10.9.%d.%d/16 dev eth0\n' $((i / 250 + 1)) $((i % 250 + 1)) | ip -n w$i -batch -
done",
        command: "predict -N w1 10.9.4.200",
        goals: Goals { beyond_dumps: Some(500.0), judged: Some(300.0), ..NONE },
    },
];

/// One run of the tool.
#[derive(Deserialize)]
struct Run {
    wall_ms: f64,
    peak_kib: f64,
    /// Netlink's dumps by themselves, taken just before; None where no goal is about them.
    dumps_ms: Option<f64>,
    /// None of both for a command that answers no question.
    ready_ms: Option<f64>,
    verdict_ms: Option<f64>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    if let Some(program) = &args.inside {
        return watch::inside(program, args.runs, args.emulated);
    }
    if args.watch {
        return watch::run(args.runs, args.write);
    }
    if args.pwru {
        return watch::emulated(args.runs, args.write);
    }
    setup::install(&[Purpose::Build, Purpose::Labs])?;
    let program = shell::build_program(Profile::Release)?;
    println!(
        "{:20} {:>18} {:>18} {:>18} {:>18} {:>18} {:>10}",
        "ms: best / median", "dumps alone", "ready", "judged", "verdict", "whole run", "peak MiB"
    );
    let mut missed = Vec::new();
    for case in CASES {
        let runs = measure(&program, case, args.runs)?;
        let dumps = figures(&runs, |run| run.dumps_ms);
        let ready = figures(&runs, |run| run.ready_ms);
        let beyond = figures(&runs, |run| Some(run.ready_ms? - run.dumps_ms?));
        let judged = figures(&runs, |run| Some(run.verdict_ms? - run.ready_ms?));
        let verdict = figures(&runs, |run| run.verdict_ms);
        let wall = figures(&runs, |run| Some(run.wall_ms));
        let peak = figures(&runs, |run| Some(run.peak_kib));
        let ms = |figures: Option<(f64, f64)>| {
            figures.map_or_else(|| "-".to_owned(), |(best, median)| format!("{best:.1} / {median:.1}"))
        };
        let mib = peak.map_or_else(|| "-".to_owned(), |(_, median)| format!("{:.1}", median / 1024.0));
        println!(
            "{:20} {:>18} {:>18} {:>18} {:>18} {:>18} {mib:>10}",
            case.name,
            ms(dumps),
            ms(ready),
            ms(judged),
            ms(verdict),
            ms(wall),
        );
        let Goals { ready: to_ready, beyond_dumps, judged: to_judge, whole, memory } = case.goals;
        for (what, got, goal) in [
            ("ready", ready, to_ready),
            ("ready without netlink's dumps", beyond, beyond_dumps),
            ("judged", judged, to_judge),
            ("whole run", wall, whole),
            ("peak KiB", peak, memory),
        ] {
            let Some(goal) = goal else { continue };
            match got {
                Some((_, median)) if median <= goal => {}
                Some((_, median)) => {
                    missed.push(format!("{}: {what} is {median:.1}, the goal is {goal:.1}", case.name));
                }
                None => missed.push(format!("{}: {what} was not measured", case.name)),
            }
        }
    }
    for miss in &missed {
        println!("missed: {miss}");
    }
    if args.strict && !missed.is_empty() {
        bail!("{} goals missed", missed.len());
    }
    Ok(())
}

/// Asks once for the memory and then `runs` times for the time, in one lab. The first run also fills the page cache and
/// the neighbour table.
fn measure(program: &std::path::Path, case: &Case, runs: u32) -> Result<Vec<Run>> {
    // The kernel keeps the peak (VmHWM) until the process is gone. It only grows, so the last value read is the peak, but
    // for what the last few milliseconds added. Nothing else runs while time is measured.
    let own = std::env::current_exe()?;
    let script = format!(
        r#"{prepare}
out=$(mktemp); trap 'rm -f "$out"' EXIT
exec {{idle}}<> <(:)
'{program}' {command} --json >"$out" 2>/dev/null & pid=$!
peak=0
while hwm=; do
  while read -r key value _; do [ "$key" = VmHWM: ] && hwm=$value; done 2>/dev/null </proc/$pid/status
  [ -n "$hwm" ] || break
  peak=$hwm; read -t 0.003 -u $idle
done
wait $pid
for run in $(seq {runs}); do
  dumps=-
  {dumps}
  began=$EPOCHREALTIME
  '{program}' {command} --json >"$out" 2>/dev/null
  ended=$EPOCHREALTIME
  echo "$(( ${{ended/./}} - ${{began/./}} )) $peak $dumps $(tr -d '\n' <"$out")"
done
"#,
        program = program.display(),
        prepare = case.prepare,
        command = case.command,
        dumps = if case.goals.beyond_dumps.is_some() {
            format!("dumps=$('{}' dumps)", own.display())
        } else {
            String::new()
        },
    );
    let mut command = shell::as_root(program)?;
    command.args(["lab", "shell", case.lab]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut lab = command.spawn().context("cannot start the lab")?;
    lab.stdin.take().context("the lab has no standard input")?.write_all(script.as_bytes())?;
    let done = lab.wait_with_output()?;
    let text = String::from_utf8_lossy(&done.stdout);
    let runs: Vec<Run> =
        text.lines().map(read_run).collect::<Result<_>>().with_context(|| format!("in the lab {}", case.lab))?;
    if runs.is_empty() {
        bail!("the lab {} gave no figures ({})", case.lab, done.status);
    }
    Ok(runs)
}

fn read_run(line: &str) -> Result<Run> {
    let mut words = line.splitn(4, ' ');
    let mut number = || words.next().and_then(|word| word.parse::<f64>().ok());
    let (wall_us, peak_kib, dumps_us) = (number().context("no time")?, number().context("no peak")?, number());
    let answer: serde_json::Value =
        serde_json::from_str(words.next().unwrap_or("")).context("the tool gave no JSON")?;
    let timing = |key: &str| answer["timing_ms"][key].as_f64();
    let dumps_ms = dumps_us.map(|dumps_us| dumps_us / 1000.0);
    Ok(Run { wall_ms: wall_us / 1000.0, peak_kib, dumps_ms, ready_ms: timing("ready"), verdict_ms: timing("verdict") })
}

/// Best and median; None if it was not measured in each run.
fn figures(runs: &[Run], of: impl Fn(&Run) -> Option<f64>) -> Option<(f64, f64)> {
    let mut values: Vec<f64> = runs.iter().map(of).collect::<Option<_>>()?;
    values.sort_by(f64::total_cmp);
    Some((*values.first()?, *values.get(values.len() / 2)?))
}
