//! The asker, the captures and what is written of them, on real devices in private namespaces.
//!
//! Needs root. Without it every test says so and is not run: a test that cannot do its work must not pass for done.

#[path = "capture/asker.rs"]
mod asker;
#[path = "capture/devices.rs"]
mod devices;
#[path = "capture/net.rs"]
mod net;

use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test: its name, and what it does in a fresh network namespace of its own.
type Case = (&'static str, fn() -> Result<(), Failed>);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let trials = [asker::CASES, devices::CASES]
        .concat()
        .into_iter()
        .map(|(name, case)| {
            let trial = Trial::test(name, move || net::in_private_network(case));
            if is_root { trial } else { trial.with_kind("needs root").with_ignored_flag(true) }
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
