//! The command line: one file per subcommand, each with its arguments and a `run` that returns an exit code.
//!
//! A subcommand reads its arguments, calls the library, writes what `present` made of it. What deserves a unit test lives
//! in the library. To add one: a file `cli/NAME.rs` with `Args` and `run(&Args) -> Result<Exit, Failure>`, a variant of
//! [`Command`], and its line in [`Command::run`].

pub mod asking;
pub mod connect;
pub mod doctor;
pub mod exit;
pub mod explain;
pub mod failure;
pub mod how;
pub mod lab;
pub mod last;
pub mod map;
pub mod output;
pub mod ping;
pub mod predict;
pub mod terminal;
pub mod watch;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub use exit::Exit;
pub use failure::Failure;

use crate::present::style::Style;

/// Follow a ping through Linux virtual networks, and say where it died, why, and how to fix it.
#[derive(Debug, Parser)]
#[command(name = "vnet-trace", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Send echo requests, follow every packet, say where it went and why it was lost
    Ping(Box<ping::Args>),
    /// Open a TCP connection to a port, or send it UDP datagrams, and follow the packets as ping does
    Connect(Box<connect::Args>),
    /// Say what would happen to such a packet, from the configuration and the kernel's own answers; nothing is sent
    Predict(Box<predict::Args>),
    /// The network as it is: namespaces, containers, devices, who is wired to whom
    Map(Box<map::Args>),
    /// Explain the last recording at length, a recording file, or a cause
    Explain(explain::Args),
    /// Follow traffic that others send, and say where it went and why it was lost; nothing is sent
    Watch(Box<watch::Args>),
    /// What this machine lets us see, and what to do about what it does not
    Doctor(doctor::Args),
    /// The fault labs: small networks with one fault each, as lessons and as tests
    Lab(lab::Args),
}

impl Command {
    fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Ping(args) => ping::run(&args),
            Self::Connect(args) => connect::run(&args),
            Self::Predict(args) => predict::run(&args),
            Self::Map(args) => map::run(&args),
            Self::Explain(args) => explain::run(&args),
            Self::Watch(args) => watch::run(&args),
            Self::Doctor(args) => doctor::run(&args),
            Self::Lab(args) => lab::run(args),
        }
    }
}

/// The whole program. Usage errors end with exit code 2, which is [`Exit::Trouble`].
pub fn main() -> ExitCode {
    let exit = match Cli::try_parse() {
        Ok(cli) => cli.command.run().unwrap_or_else(|failure| complain(&failure.to_string())),
        // Help and version are asked for; everything else is a complaint.
        Err(text) if !text.use_stderr() => match text.print() {
            Ok(()) => Exit::Good,
            Err(_) => Exit::Trouble,
        },
        Err(error) => complain(&usage(&error)),
    };
    exit.into()
}

/// Tells standard error, with nothing in it that could act on a terminal.
fn complain(text: &str) -> Exit {
    let style = Style::default();
    let text: String = text.lines().flat_map(|line| [style.clean(line), "\n".to_owned()]).collect();
    // When standard error is closed there is nobody to tell.
    let _ = write!(std::io::stderr(), "{text}");
    Exit::Trouble
}

/// A usage error in the form of all other errors: clap's own words, then where help is.
fn usage(error: &clap::Error) -> String {
    let text = error.to_string();
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return text;
    }
    let said = text.split("\nFor more information").next().unwrap_or(&text).trim_end();
    let words = std::env::args().skip(1).take_while(|word| !word.starts_with('-')).take(1);
    let known = |word: &String| Cli::command().get_subcommands().any(|command| command.get_name() == word);
    let command: String = words.filter(known).map(|word| format!(" {word}")).collect();
    format!("{said}\nhelp: `vnet-trace{command} --help` lists the options\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_arguments_are_consistent() {
        use super::CommandFactory;
        super::Cli::command().debug_assert();
    }
}
