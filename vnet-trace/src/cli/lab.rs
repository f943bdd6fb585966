//! `vnet-trace lab`: list, show, run and enter the fault labs.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ask;
use crate::cli::output::Unwritable;
use crate::cli::{Exit, Failure, last, terminal};
use crate::lab;
use crate::lab::export::{ExportError, Naming};
use crate::lab::matrix::{Matrix, Score};
use crate::lab::needs::Machine;
use crate::lab::run::{Manner, Options, Part};
use crate::lab::sandbox::Sandbox;
use crate::lab::supervise::{self, Named, Plan};
use crate::lab::{Lab, LabReport, Outcome, embedded, run as runner};
use crate::present;
use crate::prove;

/// Arguments of `lab`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the labs
    List {
        /// Labs' ids, or lab files; all embedded labs if none is named
        labs: Vec<OsString>,
        /// Only the labs that come from a published case
        #[arg(long)]
        source: bool,
        /// Only the labs that this machine cannot run, with what it lacks
        #[arg(long)]
        unmet: bool,
        /// One JSON document
        #[arg(short, long)]
        json: bool,
    },
    /// Show a lab: story, setup, question, expectation
    Show {
        /// A lab's id, or a lab file
        lab: OsString,
    },
    /// Run labs: build the network, ask, compare the answer, carry out the fix, ping again
    #[command(after_help = "Exit code: 0 as the labs say, 1 not, 77 all skipped for an unmet need, 2 anything else.")]
    Run(RunArgs),
    /// Internal: one try at a proof, in the process that is its sandbox; the job comes on standard input
    #[command(hide = true)]
    Prove {
        /// Internal: make the sandbox
        #[arg(long, required_unless_present = "first")]
        inside: bool,
        /// Internal: this is the first process in the sandbox
        #[arg(long)]
        first: bool,
    },
    /// Make a lab of a recording: the network that it shows, the question, the answer, the fix
    Export(ExportArgs),
    /// Build a lab and open a shell in it; everything ends with the shell
    Shell {
        /// A lab's id, or a lab file
        lab: OsString,
        /// Internal: this is the lab's own process
        #[arg(long, hide = true)]
        inside: bool,
    },
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    /// A recording (.vtr)
    #[arg(value_name = "FILE.vtr")]
    recording: PathBuf,
    /// Where the lab goes; its name is the lab's id [default: standard output]
    #[arg(short, long, value_name = "FILE.toml")]
    output: Option<PathBuf>,
    /// Other names and addresses, the same one for the same one everywhere
    #[arg(long)]
    redact: bool,
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct RunArgs {
    /// Labs' ids, or lab files
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    labs: Vec<OsString>,
    /// All embedded labs
    #[arg(long)]
    all: bool,
    /// With --all: only the labs that come from a published case
    #[arg(long, requires = "all")]
    source: bool,
    /// One JSON document
    #[arg(short, long)]
    json: bool,
    /// Write the reports as JSON to a file as well
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Say what is done, and show the tool's own messages
    #[arg(short, long)]
    verbose: bool,
    /// Check as well that a plain ping does what the lab says
    #[arg(long)]
    plain_ping: bool,
    /// Then try the lab's own fix as well, in a fresh network
    #[arg(long)]
    own_fix: bool,
    /// Do not carry out the answer's fix
    #[arg(long)]
    no_tool_fix: bool,
    /// Let the tool predict instead of ping, and check that nothing is sent
    #[arg(long)]
    predict: bool,
    /// Labs at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// The program that is asked instead of this one
    #[arg(long, hide = true)]
    program: Option<PathBuf>,
    /// How long a mended network may take to carry the first reply
    #[arg(long, hide = true, value_name = "SECONDS", default_value_t = 35)]
    reply_within: u32,
    /// How many times longer than usual everything may take, on an emulated machine
    #[arg(long, hide = true, value_name = "TIMES", default_value_t = 1)]
    slow: u32,
    /// Internal: this is the lab's own process
    #[arg(long, hide = true)]
    inside: bool,
    /// Internal: as --inside, for the lab's own fix
    #[arg(long, hide = true, requires = "inside")]
    inside_own_fix: bool,
}

/// Runs the subcommand.
pub fn run(args: Args) -> Result<Exit, Failure> {
    match args.action {
        Action::List { labs, source, unmet, json } => list(&labs, source, unmet, json),
        Action::Show { lab } => {
            let lab = find(&lab)?.lab;
            write!(std::io::stdout(), "{}", present::lab::page(&lab))?;
            Ok(Exit::Good)
        }
        Action::Run(args) if args.inside => run_inside(&args),
        Action::Run(args) => run_labs(&args),
        Action::Prove { first, .. } => prove_inside(first),
        Action::Export(args) => export(&args),
        Action::Shell { lab, inside } => shell(&lab, inside),
    }
}

fn list(named: &[OsString], source: bool, unmet: bool, json: bool) -> Result<Exit, Failure> {
    let labs = if named.is_empty() {
        embedded::all()?
    } else {
        named.iter().map(|argument| Ok(find(argument)?.lab)).collect::<Result<_, Failure>>()?
    };
    let labs: Vec<Lab> = labs.into_iter().filter(|lab| !source || lab.source.is_some()).collect();
    if unmet {
        require_root()?;
        let sandbox = Sandbox::enter()?;
        let machine = Machine::seen_from(&sandbox);
        let unmet: Vec<_> =
            labs.iter().map(|lab| (lab, machine.unmet(lab))).filter(|(_, needs)| !needs.is_empty()).collect();
        let text = if json { present::lab::unmet_json(&unmet) } else { present::lab::unmet(&unmet) };
        write!(std::io::stdout(), "{text}")?;
        return Ok(Exit::Good);
    }
    let text = if json { present::lab::list_json(&labs) } else { present::lab::list(&labs) };
    write!(std::io::stdout(), "{text}")?;
    Ok(Exit::Good)
}

fn prove_inside(first: bool) -> Result<Exit, Failure> {
    if !first {
        let good = prove::inside::enter()?;
        return Ok(if good { Exit::Good } else { Exit::Trouble });
    }
    let outcome = prove::inside::first()?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&outcome)?)?;
    Ok(Exit::Good)
}

fn export(args: &ExportArgs) -> Result<Exit, Failure> {
    let answer = ask::judge(last::read(&args.recording)?);
    let named = args.output.as_deref().unwrap_or(&args.recording);
    let stem = named.file_stem().map(|stem| stem.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let id: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let id = id.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    let id = if id.is_empty() { "recording" } else { &id };
    let naming = if args.redact { Naming::Redacted } else { Naming::Kept };
    let text = lab::export::export(id, &answer.recording, &answer.diagnosis, naming).map_err(|error| {
        let help = match error {
            ExportError::Undecided => Some("`vnet-trace explain FILE.vtr` shows what is known".to_owned()),
            _ => None,
        };
        Failure::new(error, help)
    })?;
    match &args.output {
        Some(path) => std::fs::write(path, text).map_err(|source| Failure::new(Unwritable::at(path, source), None))?,
        None => terminal::print(&text)?,
    }
    Ok(Exit::Good)
}

fn run_labs(args: &RunArgs) -> Result<Exit, Failure> {
    let labs = if args.all {
        embedded::all()?
            .into_iter()
            .filter(|lab| !args.source || lab.source.is_some())
            .map(|lab| Named { argument: lab.id.clone().into(), lab })
            .collect()
    } else {
        args.labs.iter().map(find).collect::<Result<Vec<_>, _>>()?
    };
    require_root()?;
    let executable = std::env::current_exe()?;
    let plan =
        Plan { own_fix: args.own_fix, jobs: usize::from(args.jobs), options: options(args, &executable), executable };
    let total = labs.len();
    let progress = |report: &LabReport| {
        if !args.json {
            let mut out = std::io::stdout().lock();
            let _ = write!(out, "{}", present::lab::outcome(report)).and_then(|()| out.flush());
        }
    };
    let reports = supervise::run_all(&labs, &plan, &progress)?;
    if let Some(file) = &args.output {
        std::fs::write(file, present::lab::reports_json(&reports))?;
    }
    if args.json {
        writeln!(std::io::stdout(), "{}", present::lab::reports_json(&reports))?;
    } else if total > 1 {
        writeln!(std::io::stdout(), "\n{}\n{}", Matrix::of(&reports), Score::of(&reports))?;
    }
    if crate::lab::process::interrupted() {
        return Err("interrupted".into());
    }
    Ok(if reports.len() < total || reports.iter().any(|report| !report.misses().is_empty()) {
        Exit::Lost
    } else if !reports.is_empty() && reports.iter().all(|report| matches!(report.outcome, Outcome::Skipped { .. })) {
        Exit::Skipped
    } else {
        Exit::Good
    })
}

fn run_inside(args: &RunArgs) -> Result<Exit, Failure> {
    if !supervise::bind_to_parent()? {
        return Ok(Exit::Trouble);
    }
    let lab = find(args.labs.first().ok_or("no lab is named")?)?.lab;
    let options = options(args, &std::env::current_exe()?);
    let part = if args.inside_own_fix { Part::OwnFix } else { Part::Question };
    let report = runner::run(&lab, part, &options)?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?;
    Ok(Exit::Good)
}

fn options(args: &RunArgs, executable: &Path) -> Options {
    Options {
        program: args.program.clone().unwrap_or_else(|| executable.to_owned()),
        plain_ping: args.plain_ping,
        tool_fix: !args.no_tool_fix,
        manner: if args.predict { Manner::Foretell } else { Manner::Ask },
        verbose: args.verbose,
        reply_within: Duration::from_secs(u64::from(args.reply_within)),
        slow: args.slow,
    }
}

fn shell(argument: &OsString, inside: bool) -> Result<Exit, Failure> {
    let lab = find(argument)?.lab;
    require_root()?;
    if inside {
        if !supervise::bind_to_parent()? {
            return Ok(Exit::Trouble);
        }
        let code = runner::shell(&lab, Path::new("bash"))?;
        return Ok(Exit::Shell(u8::try_from(code).unwrap_or(1)));
    }
    if std::io::stdin().is_terminal() {
        write!(std::io::stderr(), "{}", present::lab::greeting(&lab))?;
    }
    let code = supervise::run_shell(&std::env::current_exe()?, argument)?;
    Ok(Exit::Shell(u8::try_from(code).unwrap_or(1)))
}

/// An embedded id, or, when it looks like a path or is one, a file.
fn find(argument: &OsString) -> Result<Named, Failure> {
    let path = Path::new(argument);
    let text = argument.to_string_lossy();
    if text.contains('/') || text.ends_with(".toml") || path.exists() {
        let lab = Lab::read(path).map_err(|error| {
            Failure::with_help(error, "`vnet-trace lab show two-netns-direct` shows a lab that works")
        })?;
        return Ok(Named { lab, argument: std::path::absolute(path)?.into() });
    }
    if let Some(lab) = embedded::find(&text) {
        return Ok(Named { lab: lab?, argument: argument.clone() });
    }
    let resembling = embedded::resembling(&text);
    let help = if resembling.is_empty() {
        "`vnet-trace lab list` lists them".to_owned()
    } else {
        format!("did you mean {}?", resembling.join(", "))
    };
    Err(Failure::with_help(format!("there is no lab {text}"), help))
}

fn require_root() -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::with_help(
        "a lab needs root: it makes network namespaces and devices in them",
        "sudo vnet-trace lab …",
    ))
}
