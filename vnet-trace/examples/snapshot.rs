//! Prints the snapshot of a namespace and of all that are connected with it, as JSON.
//!
//! `cargo run --example snapshot -- [NAME|PATH|PID]`; without an argument that of the caller. `--everything` does not ask
//! what is connected. The time that it took goes to standard error. For people who work on vnet-trace.

use std::io::Write;
use std::time::Instant;

use vnet_trace::collect::netns::Asked;
use vnet_trace::collect::snapshot::{Reach, Request, take};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut request = Request::default();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--everything" => request.reach = Reach::Everything,
            netns => request.asked = Asked::parse(netns),
        }
    }
    let start = Instant::now();
    let taken = take(&request)?;
    let first = start.elapsed();
    let start = Instant::now();
    let again = taken.again()?;
    writeln!(
        std::io::stderr(),
        "{} namespaces, {} devices in {first:.1?}, again in {:.1?}",
        again.namespaces.len(),
        again.devices().count(),
        start.elapsed()
    )?;
    serde_json::to_writer_pretty(std::io::stdout().lock(), &taken.snapshot)?;
    writeln!(std::io::stdout())?;
    Ok(())
}
