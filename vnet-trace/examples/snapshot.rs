//! Prints the snapshot of a namespace and of all that are connected with it, as JSON.
//!
//! `cargo run --example snapshot -- [NAME|PATH|PID]`; without an argument that of the caller. `--everything` does not ask
//! what is connected; `--wiring` reads less; `--concerning ADDRESS` adds the connection-tracking entries of an address;
//! `--quiet` prints nothing. The time that it took goes to standard error. For people who work on vnet-trace.

use std::io::Write;
use std::time::Instant;

use vnet_trace::collect::netns::Asked;
use vnet_trace::collect::snapshot::{Depth, Reach, Request, take};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut request = Request::default();
    let mut quiet = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--wiring" => request.depth = Depth::Wiring,
            "--quiet" => quiet = true,
            "--concerning" => request.addresses.push(arguments.next().unwrap_or_default().parse()?),
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
    if quiet {
        return Ok(());
    }
    serde_json::to_writer_pretty(std::io::stdout().lock(), &taken.snapshot)?;
    writeln!(std::io::stdout())?;
    Ok(())
}
