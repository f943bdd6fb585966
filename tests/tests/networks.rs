//! Networks modelled on incidents, live: one test per file of tests/networks, named by its id.
//!
//! They are lab files like the embedded ones (see labs.rs) and run the same way, but they are no lessons: each has the shape of
//! something that people build (a CNI plugin's wiring, a firewall's rules, a chain of routers), healthy or with a fault, and
//! says what the right answer is. A healthy one is asked without anything having been sent before, so that its notes are
//! exactly those that belong to it.

use std::process::ExitCode;

fn main() -> ExitCode {
    // As for the labs: they mostly wait, and more than two at once only add load.
    tests::files::run_all("networks", 2)
}
