//! The snapshot against what `ip`, `bridge`, `tc` and /proc say of the same networks, in private namespaces.
//!
//! Needs root. Without it, or where the kernel lacks what a test is about, a test says so and is not run.

#[path = "snapshot/configuration.rs"]
mod configuration;
#[path = "snapshot/containers.rs"]
mod containers;
#[path = "snapshot/kernel_answers.rs"]
mod kernel_answers;
#[path = "capture/net.rs"]
mod net;
#[path = "snapshot/reach.rs"]
mod reach;
#[path = "snapshot/routing.rs"]
mod routing;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use vnet_trace::collect::netns::Asked;
use vnet_trace::collect::snapshot::{Request, Taken, take};

/// A test: its name, what it needs of the kernel (or nothing), what it does in a fresh network namespace.
type Case = (&'static str, &'static str, fn() -> Result<(), Failed>);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let mut known = BTreeMap::new();
    let trials = [containers::CASES, configuration::CASES, routing::CASES, reach::CASES, kernel_answers::CASES]
        .concat()
        .into_iter()
        .map(|(name, need, case)| {
            let trial = Trial::test(name, move || net::in_private_network(case));
            let met = is_root && *known.entry(need).or_insert_with(|| is_met(need));
            let missing = (!met).then_some(if is_root { need } else { "root" });
            match missing {
                Some(missing) => trial.with_kind(format!("needs {missing}")).with_ignored_flag(true),
                None => trial,
            }
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Whether the kernel can do what a test is about: makes one, in a namespace of its own.
fn is_met(need: &str) -> bool {
    let try_it = match need {
        "link:vrf" => "ip link add x type vrf table 5",
        "link:vlan" => "ip link add x link p type vlan id 5",
        "link:ipvlan" => "ip link add x link p type ipvlan mode l2",
        "config:BRIDGE_VLAN_FILTERING" => "ip link add x type bridge vlan_filtering 1",
        "config:NET_SCH_NETEM" => "tc qdisc add dev p root netem loss 1%",
        "" => return true,
        _ => return false,
    };
    let script = format!("ip link add p type veth peer name q; {try_it}");
    Command::new("unshare").args(["-n", "bash", "-c", &script]).output().is_ok_and(|output| output.status.success())
}

/// A snapshot of the test's own network.
fn snapshot() -> Result<Taken, Failed> {
    Ok(take(&Request::default())?)
}

/// A snapshot as asked from another namespace.
fn snapshot_of(netns: &str) -> Result<Taken, Failed> {
    Ok(take(&Request { asked: Asked::parse(netns), ..Request::default() })?)
}

/// The JSON that a program prints.
fn json(command: &str) -> Result<Vec<Value>, Failed> {
    let output = Command::new("bash").args(["-euc", command]).output()?;
    if !output.status.success() {
        return Err(format!("{command}\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    if output.stdout.is_empty() {
        return Ok(Vec::new());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Fails with both sides if they differ.
#[expect(clippy::needless_pass_by_value, reason = "both sides are mostly made for the call")]
fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, theirs: T) -> Result<(), Failed> {
    if ours == theirs { Ok(()) } else { Err(format!("{what}\n  ours:   {ours:?}\n  theirs: {theirs:?}").into()) }
}
