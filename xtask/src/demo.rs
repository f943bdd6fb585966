//! `cargo xtask demo`: one lab, asked and explained, on a machine that has nothing but Rust.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Purpose};
use crate::shell::{self, Profile};

/// Both ends of a veth pair in one namespace, with the kernel's defaults: the ping that puzzles most.
const LAB: &str = "veth-same-netns-martian";

/// Runs the command.
pub fn run() -> Result<()> {
    setup::install(&[Purpose::Build, Purpose::Labs])?;
    let program = shell::build_program(Profile::Dev)?;
    shell::run(shell::as_root(&program)?.args(["lab", "show", LAB]))?;

    // The lab's shell reads this script as if it were typed there.
    let script = format!(
        "vnet-trace() {{ echo; echo \"# vnet-trace $*\"; '{}' \"$@\"; }}\n\
         vnet-trace ping -I veth0 192.168.3.1; asked=$?\n\
         vnet-trace explain\n\
         [ $asked = 1 ]\n",
        program.display()
    );
    let mut command = shell::as_root(&program)?;
    command.args(["lab", "shell", LAB]).stdin(Stdio::piped());
    shell::say(&command);
    let mut lab = command.spawn().context("cannot start the lab")?;
    lab.stdin.take().context("the lab has no standard input")?.write_all(script.as_bytes())?;
    let status = lab.wait()?;
    if !status.success() {
        bail!("the ping of the lab {LAB} was not found lost ({status})");
    }
    Ok(())
}
