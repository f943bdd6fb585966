//! `cargo xtask bench`: start, verdicts and memory, measured in labs, as a person would feel them.
//!
//! Each figure is of whole processes of a release build: wall-clock time from exec to exit, the tool's own `timing_ms`, and
//! the peak of its resident memory. The best of several runs is what the program costs, the median what a busy machine makes of it.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::setup::{self, Purpose};
use crate::shell::{self, Profile};

/// Arguments of `bench`.
#[derive(clap::Args)]
#[group(id = "bench")]
pub struct Args {
    /// Runs of each measurement
    #[arg(long, default_value_t = 9)]
    runs: u32,
    /// Fail when a goal is missed
    #[arg(long)]
    strict: bool,
}

/// What is asked where.
struct Case {
    name: &'static str,
    lab: &'static str,
    ping: &'static str,
    /// What the user is promised for the whole run, in milliseconds.
    goal_ms: f64,
}

const CASES: &[Case] = &[
    Case { name: "delivered, -c 1", lab: "two-netns-direct", ping: "-c 1 -N ns1 10.1.1.3", goal_ms: 250.0 },
    Case { name: "ARP loss decided", lab: "veth-same-netns-martian", ping: "-I veth0 192.168.3.1", goal_ms: 1500.0 },
];

const READY_GOAL_MS: f64 = 100.0;
const MEMORY_GOAL_KIB: f64 = 64.0 * 1024.0;

/// One run of the tool.
#[derive(Deserialize)]
struct Run {
    wall_ms: f64,
    peak_kib: f64,
    ready_ms: f64,
    verdict_ms: f64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::install(&[Purpose::Build, Purpose::Labs])?;
    let program = shell::build_program(Profile::Release)?;
    println!("{:20} {:>18} {:>18} {:>18} {:>14}", "ms: best / median", "ready", "verdict", "whole run", "peak MiB");
    let mut missed = Vec::new();
    for case in CASES {
        let runs = measure(&program, case, args.runs)?;
        let columns = [
            figures(&runs, |run| run.ready_ms),
            figures(&runs, |run| run.verdict_ms),
            figures(&runs, |run| run.wall_ms),
            figures(&runs, |run| run.peak_kib),
        ];
        let [ready, verdict, wall, peak] = columns;
        let ms = |(best, median): (f64, f64)| format!("{best:.1} / {median:.1}");
        println!("{:20} {:>18} {:>18} {:>18} {:>14.1}", case.name, ms(ready), ms(verdict), ms(wall), peak.1 / 1024.0);
        for (what, got, goal) in [
            ("ready", ready.1, READY_GOAL_MS),
            ("whole run", wall.1, case.goal_ms),
            ("peak KiB", peak.1, MEMORY_GOAL_KIB),
        ] {
            if got > goal {
                missed.push(format!("{}: {what} is {got:.1}, the goal is {goal:.1}", case.name));
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
    let script = format!(
        r#"out=$(mktemp); trap 'rm -f "$out"' EXIT
exec {{idle}}<> <(:)
'{program}' ping --json {ping} >"$out" 2>/dev/null & pid=$!
peak=0
while hwm=; do
  while read -r key value _; do [ "$key" = VmHWM: ] && hwm=$value; done 2>/dev/null </proc/$pid/status
  [ -n "$hwm" ] || break
  peak=$hwm; read -t 0.003 -u $idle
done
wait $pid
for run in $(seq {runs}); do
  began=$EPOCHREALTIME
  '{program}' ping --json {ping} >"$out" 2>/dev/null
  ended=$EPOCHREALTIME
  echo "$(( ${{ended/./}} - ${{began/./}} )) $peak $(tr -d '\n' <"$out")"
done
"#,
        program = program.display(),
        ping = case.ping,
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
    let mut words = line.splitn(3, ' ');
    let mut number = || words.next().and_then(|word| word.parse::<f64>().ok()).context("no figure");
    let (wall_us, peak_kib) = (number()?, number()?);
    let answer: serde_json::Value =
        serde_json::from_str(words.next().unwrap_or("")).context("the tool gave no JSON")?;
    let timing = |key: &str| answer["timing_ms"][key].as_f64().with_context(|| format!("no timing_ms.{key}"));
    Ok(Run { wall_ms: wall_us / 1000.0, peak_kib, ready_ms: timing("ready")?, verdict_ms: timing("verdict")? })
}

/// Best and median.
fn figures(runs: &[Run], of: impl Fn(&Run) -> f64) -> (f64, f64) {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2])
}
