//! `cargo xtask labs`: every lab here, and the confusion matrix (expected × given cause) compared with the one checked in.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Purpose};
use crate::shell::{self, Profile};

/// Arguments of `labs`.
#[derive(clap::Args)]
#[group(id = "labs")]
pub struct Args {
    /// Check in what came out
    #[arg(long)]
    bless: bool,
    /// Only the labs that come from a published case; nothing is compared
    #[arg(long)]
    source: bool,
    /// Labs at a time
    #[arg(long, default_value_t = 2)]
    jobs: u16,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::install(&[Purpose::Build, Purpose::Labs])?;
    let program = shell::build_program(Profile::Dev)?;
    let mut command = shell::as_root(&program)?;
    command.args(["lab", "run", "--all", "--own-fix", "--jobs", &args.jobs.to_string()]);
    if args.source {
        return shell::run(command.arg("--source"));
    }
    shell::say(&command);
    let done = command.stderr(Stdio::inherit()).output().context("cannot start the program")?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    print!("{text}");
    // The matrix and the score stand after the empty line; times and reasons stand before it.
    let (_, matrix) = text.split_once("\n\n").context("the labs did not run to their end")?;
    let file: PathBuf = shell::workspace().join("tests/snapshots/labs.txt");
    if args.bless {
        return std::fs::write(&file, matrix).with_context(|| format!("cannot write {}", file.display()));
    }
    let checked_in = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    if checked_in != matrix {
        bail!(
            "the matrix is not the one in tests/snapshots/labs.txt; `cargo xtask labs --bless` after judging the difference"
        );
    }
    Ok(())
}
