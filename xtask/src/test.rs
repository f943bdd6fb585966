//! `cargo xtask test`: every test of the workspace, the labs among them, as one count.
//!
//! Nothing is skipped silently: a test that cannot run here is named with what it lacks, counted, and must be on the list
//! of allowed skips (tests/skips.toml), or the run fails. The last line is `N passed, N failed, N skipped`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::docker::Engine;
use crate::inherit::{Inherited, PROFILES};
use crate::labs;
use crate::setup::{self, Purpose};
use crate::shell::{self, Profile};

/// Arguments of `test`.
#[derive(clap::Args)]
#[group(id = "test")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Args {
    /// Only the labs
    #[arg(long)]
    labs: bool,
    /// Only the labs with real containers, each with an engine of its own
    #[arg(long, conflicts_with_all = ["labs", "quick", "inherit"])]
    docker: bool,
    /// Only what is quick to run: all but the suites that take the same networks through further variations
    #[arg(long)]
    quick: bool,
    /// One network at a time, so that no answer depends on what else is being tested
    #[arg(long)]
    serial: bool,
    /// Then the labs once more for each of several settings of this machine's first network namespace, which new
    /// namespaces inherit; they are put back afterwards
    #[arg(long)]
    inherit: bool,
    /// Words for the test programs: filters and libtest's options
    #[arg(last = true)]
    words: Vec<String>,
}

/// The suites of `--quick`, besides the tests inside the crates.
const QUICK: &[&str] = &["tidy", "cli", "labs", "networks", "combined", "netfilter", "snapshot", "capture", "prove"];

impl Args {
    /// The same, one network at a time.
    pub fn serially(&self) -> Self {
        Self { serial: true, words: self.words.clone(), ..*self }
    }
}

/// tests/skips.toml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Skips {
    allowed: Vec<Allowed>,
}

/// A test that may be skipped for this reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    /// The reason as the test gives it.
    needs: String,
    /// Why it is all right to lack it.
    #[serde(rename = "because")]
    _because: String,
}

/// What the test programs said.
#[derive(Default)]
struct Count {
    passed: u32,
    failed: u32,
    /// name → the need that is not met; for a plain `#[ignore]`, "ignored".
    skipped: BTreeMap<String, String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::install(&[Purpose::Build, Purpose::Labs, Purpose::Read])?;
    let program = shell::build_program(Profile::Dev)?;

    let mut count = Count::default();
    let mut command = shell::cargo();
    command.args(["test", "--no-fail-fast", "--color", "never"]).env("VNET_TRACE_PROGRAM", &program);
    if args.docker {
        setup::install(&[Purpose::Containers])?;
    }
    // The labs with real containers bring their own.
    let engine = if args.docker { None } else { Engine::start_if_useful()? };
    if let Some(engine) = &engine {
        command.env("DOCKER_HOST", engine.host());
    }
    if args.docker {
        command.args(["--package", "tests", "--test", "containers"]);
    } else if args.labs {
        command.args(["--package", "tests", "--test", "labs"]);
    } else if args.quick {
        command.args(["--workspace", "--lib", "--bins"]);
        for suite in QUICK {
            command.args(["--test", suite]);
        }
    } else {
        command.arg("--workspace");
    }
    labs::as_root(&mut command)?;
    command.arg("--").args(&args.words);
    if args.serial {
        command.arg("--test-threads=1");
    }
    let mut succeeded = count.watch(&mut command)?;
    if args.inherit {
        let mut labs = shell::cargo();
        labs.args(["test", "--package", "tests", "--test", "labs", "--color", "never"])
            .env("VNET_TRACE_PROGRAM", &program)
            .env("VNET_TRACE_LABS", "quick");
        labs::as_root(&mut labs)?;
        for profile in PROFILES {
            let _set = Inherited::set(profile)?;
            succeeded &= count.watch(&mut labs)?;
        }
    }

    let list = shell::workspace().join("tests/skips.toml");
    let skips: Skips = toml::from_str(&std::fs::read_to_string(&list).context("cannot read tests/skips.toml")?)
        .context("tests/skips.toml")?;
    let mut forbidden = 0;
    println!();
    for (name, needs) in &count.skipped {
        let allowed = needs.split(", ").all(|need| skips.allowed.iter().any(|allowed| allowed.needs == need));
        println!("skipped: {name}: {needs}{}", if allowed { "" } else { " (NOT on the list of allowed skips)" });
        forbidden += u32::from(!allowed);
    }
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped.len());
    if forbidden > 0 {
        bail!("{forbidden} tests were skipped for reasons that tests/skips.toml does not allow");
    }
    if !succeeded || count.failed > 0 {
        bail!("tests failed");
    }
    if count.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

impl Count {
    /// Runs a test command, showing and reading its output. Returns whether it succeeded.
    fn watch(&mut self, command: &mut Command) -> Result<bool> {
        shell::say(command);
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
        for line in BufReader::new(child.stdout.take().context("cargo has no output")?).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            self.read(&line);
        }
        Ok(child.wait()?.success())
    }

    /// Lines as libtest writes them: `test NAME ... ignored, REASON`, `test [KIND] NAME ... ignored`,
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn read(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test ") else { return };
        if let Some(result) = rest.strip_prefix("result: ") {
            let number = |what: &str| {
                let before = result.split(what).next().unwrap_or("");
                before.split_whitespace().next_back().and_then(|number| number.parse().ok()).unwrap_or(0)
            };
            self.passed += number(" passed");
            self.failed += number(" failed");
        } else if let Some((name, reason)) = rest.split_once(" ... ignored").map(|(name, reason)| (name.trim(), reason))
        {
            let (name, kind) = match name.strip_prefix('[').and_then(|name| name.split_once("] ")) {
                Some((kind, name)) => (name.trim(), kind.strip_prefix("needs ").unwrap_or(kind)),
                None => (name, reason.strip_prefix(", ").unwrap_or("ignored")),
            };
            self.skipped.insert(name.to_owned(), kind.trim().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_libtest_writes() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test a::b ... ok",
            "test a::slow ... ignored, needs a VM",
            "test a::off ... ignored",
            "test [needs service:docker, ipv6] docker-real ... ignored",
            "test result: ok. 17 passed; 1 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.21s",
            "test result: FAILED. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.21s",
        ] {
            count.read(line);
        }
        assert_eq!((count.passed, count.failed), (19, 1));
        let skipped: Vec<_> = count.skipped.iter().map(|(name, needs)| (name.as_str(), needs.as_str())).collect();
        assert_eq!(
            skipped,
            [("a::off", "ignored"), ("a::slow", "needs a VM"), ("docker-real", "service:docker, ipv6")]
        );
    }
}
