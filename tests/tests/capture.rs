//! The asker, the captures and what is written of them, on real devices in private namespaces.
//!
//! Needs root. Without it every test says so and is not run: a test that cannot do its work must not pass for done.

#[path = "capture/asker.rs"]
mod asker;
#[path = "capture/devices.rs"]
mod devices;
#[path = "capture/files.rs"]
mod files;
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
    let has_wireshark = files::has_wireshark();
    let network = [asker::CASES, devices::CASES].concat().into_iter().map(|case| (case, None));
    let wireshark = files::CASES.iter().map(|case| (*case, (!has_wireshark).then_some("needs tshark")));
    let trials = network
        .chain(wireshark)
        .map(|((name, case), needs)| {
            let trial = Trial::test(name, move || net::in_private_network(case));
            match if is_root { needs } else { Some("needs root") } {
                Some(needs) => trial.with_kind(needs).with_ignored_flag(true),
                None => trial,
            }
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
