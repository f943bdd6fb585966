//! The snapshot against what `ip`, `bridge`, `tc` and /proc say of the same networks, in private namespaces.
//!
//! Needs root. Without it, or without a kind of device that a test is about, a test says so and is not run.

#[path = "snapshot/configuration.rs"]
mod configuration;
#[path = "snapshot/kernel_answers.rs"]
mod kernel_answers;
#[path = "capture/net.rs"]
mod net;
#[path = "snapshot/reach.rs"]
mod reach;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use vnet_trace::collect::netns::Asked;
use vnet_trace::collect::snapshot::{Request, Taken, take};

/// A test: its name, the kinds of devices that it needs (or nothing), what it does in a fresh network namespace.
type Case = (&'static str, &'static str, fn() -> Result<(), Failed>);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let mut kinds = BTreeMap::new();
    let trials = [configuration::CASES, reach::CASES, kernel_answers::CASES]
        .concat()
        .into_iter()
        .map(|(name, kind, case)| {
            let trial = Trial::test(name, move || net::in_private_network(case));
            let missing = match (is_root, kind) {
                (false, _) => Some("needs root".to_owned()),
                (true, "") => None,
                (true, kind) => {
                    let known = *kinds.entry(kind).or_insert_with(|| has_kind(kind));
                    (!known).then(|| format!("needs link:{kind}"))
                }
            };
            match missing {
                Some(missing) => trial.with_kind(missing).with_ignored_flag(true),
                None => trial,
            }
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Whether the kernel can make such a device.
fn has_kind(kind: &str) -> bool {
    let arguments = match kind {
        "vrf" => "table 5",
        "vlan" => "link p type vlan id 5",
        "ipvlan" => "link p type ipvlan mode l2",
        _ => "",
    };
    let arguments = if arguments.contains("type") { arguments.to_owned() } else { format!("type {kind} {arguments}") };
    let script = format!("ip link add p type veth peer name q; ip link add x {arguments}");
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
