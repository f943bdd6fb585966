//! `cargo xtask bench --watch`: what it costs the traffic that somebody watches, beside tcpdump and bpftrace.
//!
//! Two network namespaces are joined by a veth pair. A sender in the one floods a socket in the other with datagrams, and
//! its own processor time per packet, which contains the packet's whole way, is compared with that of the same
//! flood without a tool. In each round every tool has its turn between two without, so that what else the machine does falls
//! on all of them; the ratio is made within a round, and the median of the rounds is told. A turn's cost is that of its median
//! thousand of packets: an interrupt falls on one thousand, and what a tool costs falls on all of them. See [`crate::bench::flood`] for the two ends.
//!
//! Where the expression matches nothing the flood is as fast as it can be. Where it matches all of it, it has a fixed
//! rate, because a flood that outruns the reader loses sightings, and a lost one is cheaper than a told one.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::tool::{Ended, Tool};
use crate::setup::{self, Purpose};
use crate::shell::{self, Profile};
use crate::vm;

/// One row of the table.
struct Case {
    name: &'static str,
    tool: Tool,
    load: Load,
}

/// How much is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// As much as can be.
    Flood,
    /// At [`RATE`].
    Paced,
    /// Less, as much as can be.
    Emulated,
}

/// Datagrams in a second where they are paced, and for how many seconds.
const RATE: u64 = 100_000;
const SECONDS: u64 = 2;

/// Datagrams in a flood.
const FLOOD: u64 = 150_000;

/// The same where the processor is emulated.
const EMULATED_FLOOD: u64 = 20_000;

const MATCHES: &str = "udp port 9009";
/// Nothing matches, and that cannot be told before the ports have been looked at.
const MATCHES_NOT: &str = "udp port 9010";

const CASES: &[Case] = &[
    Case { name: "no tool", tool: Tool::Nothing, load: Load::Flood },
    Case { name: "`vnet-trace watch`, nothing matches", tool: Tool::Watch(MATCHES_NOT), load: Load::Flood },
    Case { name: "`tcpdump -i any`, nothing matches", tool: Tool::Tcpdump(MATCHES_NOT), load: Load::Flood },
    Case { name: "bpftrace, three tracepoints counted", tool: Tool::Bpftrace, load: Load::Flood },
    Case { name: "no tool, 100,000 packets/s", tool: Tool::Nothing, load: Load::Paced },
    Case { name: "`vnet-trace watch`, all match, 100,000 packets/s", tool: Tool::Watch(MATCHES), load: Load::Paced },
    Case { name: "`tcpdump -i any -w`, all match, 100,000 packets/s", tool: Tool::Tcpdump(MATCHES), load: Load::Paced },
];

/// The same on an emulated processor, beside a tool that attaches to every function that gets a packet.
const EMULATED: &[Case] = &[
    Case { name: "no tool", tool: Tool::Nothing, load: Load::Emulated },
    Case { name: "`vnet-trace watch`, nothing matches", tool: Tool::Watch(MATCHES_NOT), load: Load::Emulated },
    Case { name: "`tcpdump -i any`, nothing matches", tool: Tool::Tcpdump(MATCHES_NOT), load: Load::Emulated },
    Case { name: "pwru, nothing matches", tool: Tool::Pwru(MATCHES_NOT), load: Load::Emulated },
];

/// What one turn gave.
struct Turn {
    /// Nanoseconds of the sender's processor time for each packet, in the median thousand.
    cost: f64,
    /// The same as a multiple of the round's turn without a tool.
    ratio: f64,
    sent: u64,
    received: u64,
    ready_ms: f64,
    ended: Option<Ended>,
}

/// Builds, and measures in namespaces of its own.
pub fn run(rounds: u32, write: bool) -> Result<()> {
    setup::install(&[Purpose::Build, Purpose::Labs, Purpose::Bench])?;
    let program = shell::build_program(Profile::Release)?;
    let mut command = shell::as_root("unshare")?;
    command.args(["--net", "--mount", "--propagation", "private", "--"]).arg(std::env::current_exe()?);
    command.args(["bench", "--runs", &rounds.to_string(), "--inside"]).arg(program);
    let table = shell::output(&mut command)?;
    print!("{table}");
    if write { put("watch", &table) } else { Ok(()) }
}

/// Measures on Linux 6.12, beside pwru, in a virtual machine.
pub fn emulated(rounds: u32, write: bool) -> Result<()> {
    setup::install(&[Purpose::Build, Purpose::Labs, Purpose::Vm])?;
    let program = shell::build_program(Profile::Release)?;
    let own = std::env::current_exe()?;
    let pwru = vm::kernel::program(&vm::folder(), "pwru", "usr/bin/pwru")?;
    let folder = pwru.parent().context("a folder")?.display();
    let command = format!(
        "export PATH=$PATH:{folder}; {} bench --runs {rounds} --emulated --inside /usr/local/bin/vnet-trace >/out/table",
        own.display()
    );
    let table = vm::report("6.12", &program, &[own, pwru.clone()], &command, "table")?;
    print!("{table}");
    if write { put("pwru", &table) } else { Ok(()) }
}

/// Where a table ends in BENCHMARKS.md; it begins with the command.
const END: &str = "<!-- end -->\n";

fn put(option: &str, table: &str) -> Result<()> {
    let begin = format!("<!-- cargo xtask bench --{option} -->\n");
    let path = shell::workspace().join("BENCHMARKS.md");
    let text = std::fs::read_to_string(&path).context("cannot read BENCHMARKS.md")?;
    let (before, rest) = text.split_once(&begin).context("BENCHMARKS.md has no place for the table")?;
    let (_, after) = rest.split_once(END).context("BENCHMARKS.md has no end of the table")?;
    std::fs::write(&path, format!("{before}{begin}{table}{END}{after}")).context("cannot write BENCHMARKS.md")
}

/// The namespaces, and the measurement in them.
const NETWORK: &str = "mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns
# bpftrace looks for tracepoints there.
mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug || true
mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing || true
ip netns add far
ip link set lo up
ip link add near type veth peer name far netns far
ip addr add 10.99.0.1/24 dev near
ip -n far addr add 10.99.0.2/24 dev far
ip link set near up
ip -n far link set far up
ip neigh replace 10.99.0.2 lladdr $(ip netns exec far cat /sys/class/net/far/address) dev near";
const FAR: &str = "10.99.0.2:9009";

/// Measures; this process has namespaces of its own.
pub fn inside(program: &Path, rounds: u32, emulated: bool) -> Result<()> {
    shell::output(Command::new("sh").args(["-e", "-c", NETWORK]))?;
    let cases = if emulated { EMULATED } else { CASES };
    let cases: Vec<&Case> = cases.iter().filter(|case| case.tool.is_there()).collect();
    let mut turns: Vec<Vec<Turn>> = cases.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for load in [Load::Flood, Load::Paced, Load::Emulated] {
            let of_load = |turn: &(usize, &&Case)| turn.1.load == load;
            let mut taken = Vec::new();
            for (index, case) in cases.iter().enumerate().filter(of_load) {
                taken.push((index, turn(case, program).with_context(|| format!("with {}", case.name))?));
            }
            // Once more without a tool, because what else the machine does changes while the others have their turns.
            for (index, case) in cases.iter().enumerate().filter(of_load).filter(|(_, case)| case.tool == Tool::Nothing)
            {
                taken.push((index, turn(case, program)?));
            }
            if taken.is_empty() {
                continue;
            }
            let without: Vec<f64> = taken
                .iter()
                .filter(|(index, _)| cases[*index].tool == Tool::Nothing)
                .map(|(_, turn)| turn.cost)
                .collect();
            let baseline = without.iter().sum::<f64>() / without.len() as f64;
            for (index, mut turn) in taken {
                turn.ratio = turn.cost / baseline;
                eprintln!("round {}: {:50} {:7.0} ns {:6.3}", round + 1, cases[index].name, turn.cost, turn.ratio);
                turns[index].push(turn);
            }
        }
    }
    print!("{}", table(&cases, &turns, rounds)?);
    Ok(())
}

fn turn(case: &Case, program: &Path) -> Result<Turn> {
    let mut reader = Command::new("ip");
    reader.args(["netns", "exec", "far"]).arg(std::env::current_exe()?).args(["flood", "read", FAR]);
    let mut reader = reader.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = BufReader::new(reader.stdout.take().context("the reader has no output")?).lines();
    let mut word = || said.next().context("the reader has ended")?.context("the reader cannot be heard");
    word()?;
    let running = case.tool.start(program)?;
    let ready_ms = running.as_ref().map_or(0.0, |running| running.ready.as_secs_f64() * 1e3);
    let (count, rate) = match case.load {
        Load::Flood => (FLOOD, 0),
        Load::Emulated => (EMULATED_FLOOD, 0),
        Load::Paced => (RATE * SECONDS, RATE),
    };
    let mut sender = Command::new(std::env::current_exe()?);
    sender.args(["flood", "send", FAR, "--count", &count.to_string(), "--rate", &rate.to_string()]);
    let figures = shell::output(&mut sender)?;
    let figures: Vec<u64> = figures.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
    let [sent, _, _, median] = figures[..] else { bail!("the sender gave no figures") };
    end(&mut reader)?;
    let received = word()?.parse()?;
    let ended = running.map(super::tool::Running::stop).transpose()?;
    Ok(Turn { cost: median as f64, ratio: 1.0, sent, received, ready_ms, ended })
}

/// Ends the reader, which says then how many came.
fn end(reader: &mut Child) -> Result<()> {
    drop(reader.stdin.take());
    reader.wait().context("cannot wait for the reader")?;
    Ok(())
}

fn table(cases: &[&Case], turns: &[Vec<Turn>], rounds: u32) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "{}", machine()?)?;
    writeln!(text, "Medians of {rounds} alternating rounds; in brackets the lowest and the highest.\n")?;
    writeln!(text, "| while packets are sent | ns per packet | of no tool | ready, ms | stop, ms | peak, MiB |")?;
    writeln!(text, "| --- | --- | --- | --- | --- | --- |")?;
    for (case, turns) in cases.iter().zip(turns) {
        let ended = |of: fn(&Ended) -> f64| move |turn: &Turn| turn.ended.as_ref().map_or(0.0, of);
        let cell = |of: &dyn Fn(&Turn) -> f64| {
            if case.tool == Tool::Nothing { String::new() } else { format!("{:.0}", spread(turns, of).1) }
        };
        // The two turns without a tool say how much chance there is in all of this.
        let (least, median, most) = spread(turns, |turn| turn.ratio);
        writeln!(
            text,
            "| {} | {:.0} | {median:.3} ({least:.3}–{most:.3}) | {} | {} | {} |",
            case.name,
            spread(turns, |turn| turn.cost).1,
            cell(&|turn| turn.ready_ms),
            cell(&ended(|ended| ended.stop.as_secs_f64() * 1e3)),
            cell(&ended(|ended| ended.peak_kib / 1024.0)),
        )?;
    }
    for (case, turns) in cases.iter().zip(turns) {
        if matches!(case.tool, Tool::Watch(_)) && case.load == Load::Paced {
            let sum = |of: &dyn Fn(&Turn) -> u64| turns.iter().map(of).sum::<u64>();
            let told = |key: &'static str| {
                sum(&|turn| turn.ended.as_ref().and_then(|ended| number(&ended.summary, key)).unwrap_or(0))
            };
            writeln!(
                text,
                "\nAt 100,000 packets/s: {} packets sent in all rounds, {} received, {} told, {} sightings, {} sightings that found no room.",
                sum(&|turn| turn.sent),
                sum(&|turn| turn.received),
                told("/packets"),
                told("/sight/sightings"),
                told("/sight/events_lost"),
            )?;
        }
    }
    Ok(text)
}

fn number(summary: &Value, key: &str) -> Option<u64> {
    summary.pointer(key)?.as_u64()
}

/// Lowest, median and highest.
fn spread(turns: &[Turn], of: impl Fn(&Turn) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = turns.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}

/// What was measured on, without a name.
fn machine() -> Result<String> {
    let first = |path: &str, key: &str| -> Option<String> {
        let text = std::fs::read_to_string(path).ok()?;
        text.lines().find_map(|line| Some(line.strip_prefix(key)?.trim_start_matches([' ', '\t', ':']).to_owned()))
    };
    let version = |program: &str| {
        let text = Command::new(program).arg("--version").output().ok()?;
        let all = [text.stdout, text.stderr].concat();
        Some(String::from_utf8_lossy(&all).lines().next()?.to_owned())
    };
    let processor = first("/proc/cpuinfo", "model name").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("?");
    let others: Vec<String> = ["tcpdump", "bpftrace", "pwru"].into_iter().filter_map(version).collect();
    Ok(format!(
        "{processors} processors ({processor}), Linux {}, {}; load at the end {load}.",
        kernel.trim(),
        others.join(", ")
    ))
}
