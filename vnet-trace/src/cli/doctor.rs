//! `vnet-trace doctor`: what this machine lets us see.

use crate::cli::output::Output;
use crate::cli::{Exit, Failure, terminal};
use crate::collect::machine;
use crate::present::doctor;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    look: Output,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let machine = machine::look();
    let text = if args.look.json {
        args.look.json_text(&doctor::json(&machine))?
    } else {
        doctor::text(&machine, args.look.style(), args.look.detail())
    };
    terminal::print(&text)?;
    Ok(Exit::Good)
}
