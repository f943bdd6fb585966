//! Real containers: one test per file of tests/docker, named by its id.
//!
//! A real engine in the lab's own namespaces builds the network, with a /run, an image store and a bridge that end with the lab;
//! one that runs on the machine is left alone. They are lab files (see networks.rs); each says what is lost, where by the
//! container's name, and mostly who made the setting. `cargo xtask test --docker` runs exactly these.

use std::process::ExitCode;

fn main() -> ExitCode {
    // An engine starts a dozen programs: two at once only make both late.
    tests::files::run_all("docker", 1)
}
