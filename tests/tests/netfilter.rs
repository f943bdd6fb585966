//! The evaluator of netfilter rules against the kernel: the same rule sets, the same packets, the same answers.
//!
//! Two hosts and a router between them, in private network namespaces. Each case of `netfilter/cases.rs` loads its rules
//! into the router, reads them back as a snapshot does, predicts what becomes of a handful of pings, TCP connections and UDP
//! exchanges, and then has the kernel do them. Where a rule is said to lose a packet, its counter must have gone up.
//!
//! Needs root. Without it every case says so and is not run.

#[path = "netfilter/bridged.rs"]
mod bridged;
#[path = "netfilter/cases.rs"]
mod cases;
#[path = "netfilter/fixes.rs"]
mod fixes;
#[path = "netfilter/network.rs"]
mod network;
#[path = "netfilter/predicted.rs"]
mod predicted;

use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use vnet_trace::collect::netfilter::{DEADLINE, read_ruleset};
use vnet_trace::model::netfilter::statement::Statement;
use vnet_trace::predict::netfilter::counters_increased;

use cases::{CASES, Case};
use network::{PROBES, WAIT, in_network, in_private_network, probe, sh};
use predicted::{Expected, predict};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let trial = |name: String, run: Box<dyn FnOnce() -> Result<(), Failed> + Send>| {
        let trial = Trial::test(name, run);
        if is_root { trial } else { trial.with_kind("needs root").with_ignored_flag(true) }
    };
    let on_bridge = |case: &'static bridged::BridgeCase, test: fn(&bridged::BridgeCase) -> Result<(), Failed>| {
        move || {
            in_private_network(|| {
                sh(&format!("{WAIT}{}", bridged::SETUP))?;
                test(case)
            })
        }
    };
    let mut trials = Vec::new();
    for case in CASES {
        trials.push(trial(format!("rules: {}", case.name), Box::new(|| in_network(|| compare(case)))));
    }
    for fix in fixes::FIXES {
        trials.push(trial(format!("fix: {}", fix.name), Box::new(|| in_network(|| fixes::heals(fix)))));
    }
    for case in bridged::CASES {
        trials.push(trial(format!("bridge: {}", case.name), Box::new(on_bridge(case, bridged::compare))));
    }
    for case in bridged::FIXES {
        trials.push(trial(format!("bridge fix: {}", case.name), Box::new(on_bridge(case, bridged::heals))));
    }
    trials.push(trial("listing: checksums that are mended".to_owned(), Box::new(|| in_private_network(header_writes))));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn compare(case: &Case) -> Result<(), Failed> {
    sh(case.script)?;
    let before = read_ruleset(DEADLINE);
    let mut wrong = Vec::new();
    let mut undecided = 0;
    let expected: Vec<Expected> = PROBES.iter().map(|probe| predict(&before, probe)).collect();
    for (what, expected) in PROBES.iter().zip(&expected) {
        // What passes is not waited for, however busy the machine is; what is lost has to be.
        let seconds = match expected {
            Expected::Lost(_) => "0.3",
            Expected::Undecided => "2",
            Expected::Passes => "10",
        };
        let passed = probe(what, seconds);
        let agrees = match expected {
            Expected::Passes => passed,
            Expected::Lost(_) => !passed,
            Expected::Undecided => {
                undecided += 1;
                true
            }
        };
        if !agrees {
            wrong.push(format!(
                "{what:?}: predicted {expected:?}, but it {}",
                if passed { "passed" } else { "was lost" }
            ));
        }
    }
    let after = read_ruleset(DEADLINE);
    for (what, expected) in PROBES.iter().zip(&expected) {
        if let Expected::Lost(rule) = expected
            && counters_increased(&before, &after, rule) == Some(0)
        {
            wrong.push(format!("{what:?}: {} is said to lose it, and its counter stands still", rule.text));
        }
    }
    if undecided > 0 && !case.undecided {
        wrong.push(format!("{undecided} probes undecided"));
    }
    if undecided == 0 && case.undecided {
        wrong.push("everything was decided, against what the case says".to_owned());
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}\ngaps: {:?}", wrong.join("\n"), before.gaps).into()) }
}

/// nft lists `@nh,64,8 set 63` and `ip ttl set 63` alike; only the kernel says which of them mends the checksum.
fn header_writes() -> Result<(), Failed> {
    sh("nft 'add table ip m; add chain ip m c { type filter hook postrouting priority 0; }; \
        add rule ip m c ip protocol icmp @nh,64,8 set 63; add rule ip m c ip ttl set 63; \
        add rule ip m c ip protocol icmp @th,16,16 set 0x1234; add rule ip m c meta mark set 5; \
        add rule ip m c udp dport set 5 ip dscp set cs1; add rule ip m c ip saddr set 10.0.0.1'")?;
    let ruleset = read_ruleset(DEADLINE);
    let mended: Vec<Option<bool>> = ruleset
        .tables
        .iter()
        .flat_map(|table| &table.chains)
        .flat_map(|chain| &chain.rules)
        .flat_map(|rule| &rule.statements)
        .filter_map(|statement| match statement {
            Statement::Mangle { mends_checksum, .. } => Some(*mends_checksum),
            _ => None,
        })
        .collect();
    let expected = [Some(false), Some(true), Some(false), None, Some(true), Some(true), Some(true)];
    if mended == expected { Ok(()) } else { Err(format!("{mended:?}\n{ruleset:?}").into()) }
}
