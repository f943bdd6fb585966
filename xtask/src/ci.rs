//! `cargo xtask ci`: what must be right before anything is merged. The tests come last, so that their count is the last line.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::{ebpf, shell, test, vm};

/// Arguments of `ci`.
#[derive(clap::Args)]
#[group(id = "ci")]
pub struct Args {
    /// Then boot the oldest and the newest kernel with a few labs of each kind
    #[arg(long)]
    kernels: bool,
    #[command(flatten)]
    test: test::Args,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::install(&[Purpose::Build, Purpose::Labs, Purpose::Read])?;
    if has_cargo_command("fmt") {
        shell::run(shell::cargo().args(["fmt", "--all", "--check"]))?;
    }
    if has_cargo_command("clippy") {
        shell::run(shell::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    }
    if shell::has("bpf-linker") {
        ebpf::ebpf(true)?;
    } else {
        eprintln!(
            "bpf-linker is not installed here; that the compiled probes are what their source gives is not checked"
        );
    }
    if args.kernels {
        vm::run(&vm::Args::oldest_and_newest())?;
    }
    test::run(&args.test.serially())
}

/// rustfmt and clippy are components that a minimal toolchain lacks; what they check is checked where they are.
fn has_cargo_command(name: &str) -> bool {
    let mut command: Command = shell::cargo();
    let there = command
        .args([name, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        eprintln!("cargo {name} is not installed here; left out");
    }
    there
}
