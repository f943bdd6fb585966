//! `vnet-trace predict`: what would happen to such a packet. Nothing is sent.

use std::path::PathBuf;

use crate::ask::{self, Answer, Foretelling};
use crate::cli::asking::Asking;
use crate::cli::output::{self, File, Form, Output};
use crate::cli::{Exit, Failure, last, terminal};
use crate::model::diagnosis::Verdict;
use crate::model::question::Protocol;
use crate::present::json::{self, Asked};
use crate::present::text;

/// Arguments of `predict`.
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "Exit code: 0 would be delivered, 1 would be lost or can't be told, 2 anything else."
)]
pub struct Args {
    /// An address, fe80::1%dev, or a host name; with -r it may be left out, and the recorded question is meant
    #[arg(value_name = "DST", required_unless_present = "recording")]
    destination: Option<String>,
    /// A TCP connection to this port instead of an echo
    #[arg(long, value_name = "PORT", conflicts_with = "udp")]
    tcp: Option<u16>,
    /// A UDP datagram to this port instead of an echo
    #[arg(long, value_name = "PORT")]
    udp: Option<u16>,
    #[command(flatten)]
    asking: Asking,
    /// In the world of this recording (.vtr) instead of on this machine
    #[arg(short, long, value_name = "FILE", help_heading = "Where")]
    recording: Option<PathBuf>,
    /// Write a file as well: .vtr recording, .json answer
    #[arg(short, value_name = "FILE", value_parser = output::file, help_heading = "Output")]
    output: Vec<File>,
    #[command(flatten)]
    look: Output,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let answer = foretell(args)?;
    for file in &args.output {
        match file.form {
            Form::Json => {
                let text = json::document(answer.report(), Asked::Predict).to_text(args.look.layout())?;
                std::fs::write(&file.path, text)
                    .map_err(|source| Failure::new(output::Unwritable::at(&file.path, source), None))?;
            }
            Form::Recording => last::write(&file.path, &answer.recording)?,
            Form::Pcapng => output::pcapng(&file.path, &answer)?,
        }
    }
    let text = if args.look.json {
        json::document(answer.report(), Asked::Predict).to_text(args.look.layout())?
    } else {
        text::ping(answer.report(), args.look.style(), args.look.detail())
    };
    terminal::print(&text)?;
    Ok(match answer.diagnosis.verdict {
        Verdict::Delivered => Exit::Good,
        Verdict::Lost | Verdict::Undecided => Exit::Lost,
    })
}

fn foretell(args: &Args) -> Result<Answer, Failure> {
    let protocol = match (args.tcp, args.udp) {
        (Some(port), _) => Protocol::Tcp { port, sport: 0 },
        (_, Some(port)) => Protocol::Udp { port, sport: 0 },
        _ => Protocol::Echo,
    };
    let asked = match &args.destination {
        Some(destination) => Some(Foretelling { options: args.asking.options(destination)?, protocol }),
        None => None,
    };
    let answer = match (&args.recording, asked) {
        (Some(file), asked) => ask::foretell_recorded(last::read(file)?, asked.as_ref()),
        (None, Some(asked)) => ask::foretell(&asked),
        (None, None) => return Err("nothing is asked".into()),
    };
    answer.map_err(|error| {
        let help = error.help();
        Failure::new(error, help)
    })
}
