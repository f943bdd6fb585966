//! `cargo xtask labs`: every lab here, and the confusion matrix (expected × given cause) compared with the one checked in.

use std::process::Command;

use anyhow::{Context, Result};

use crate::inherit::{Inherited, PROFILES};
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
    #[arg(long, conflicts_with = "bless")]
    source: bool,
    /// Once more for each of several settings of this machine's first network namespace, which new namespaces inherit;
    /// they are put back afterwards
    #[arg(long, conflicts_with_all = ["source", "bless"])]
    inherit: bool,
    /// Labs at a time
    #[arg(long, default_value_t = 2)]
    jobs: u16,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::install(&[Purpose::Build, Purpose::Labs])?;
    let program = shell::build_program(Profile::Dev)?;
    let jobs = args.jobs.to_string();
    if args.source {
        let mut command = shell::as_root(&program)?;
        return shell::run(command.args(["lab", "run", "--all", "--own-fix", "--source", "--jobs", &jobs]));
    }
    let mut command = shell::cargo();
    command.args(["test", "--package", "tests", "--test", "labs"]).env("VNET_TRACE_PROGRAM", &program);
    if args.bless {
        command.env("VNET_TRACE_BLESS", "1");
    }
    as_root(&mut command)?;
    command.args(["--", "--test-threads", &jobs]);
    if !args.inherit {
        return shell::run(&mut command);
    }
    // What the lab's own fix does is the lab's affair, and was seen without this.
    command.env("VNET_TRACE_LABS", "quick");
    for profile in PROFILES {
        let _set = Inherited::set(profile)?;
        shell::run(&mut command).with_context(|| format!("with {}", profile.name))?;
    }
    Ok(())
}

/// Compiling is the user's, running is root's: labs and sockets need it.
pub fn as_root(cargo_test: &mut Command) -> Result<()> {
    if !shell::is_root() {
        shell::as_root("true").context("labs make network namespaces")?;
        let keep = "--preserve-env=VNET_TRACE_PROGRAM,VNET_TRACE_BLESS,VNET_TRACE_LABS,VNET_TRACE_SEED,DOCKER_HOST";
        cargo_test.arg("--config").arg(format!("target.'cfg(unix)'.runner = ['sudo', '{keep}', '--']"));
    }
    Ok(())
}
