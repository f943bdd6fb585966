//! How `ping` and `connect` ask, and what becomes of their answer: printed, written to files, kept as the last recording.

use crate::ask::{self, Answer, Patience, PingOptions};
use crate::cli::asking::Asking;
use crate::cli::output::{self, File, Output};
use crate::cli::{Exit, Failure, last, terminal};
use crate::model::diagnosis::Verdict;
use crate::model::sight::Tier;
use crate::present::json::{self, Asked};
use crate::present::text;
use crate::prove;

/// Arguments of the commands that send.
#[derive(Debug, clap::Args)]
pub struct How {
    /// Wait as long as ping does, even when the loss is decided
    #[arg(long, help_heading = "How")]
    patient: bool,
    /// Rebuild the packet's way in throw-away namespaces and show that the fix works
    #[arg(long, help_heading = "How")]
    prove: bool,
    /// The best way to attach probes that may be used
    #[arg(long, hide = true, env = "VNET_TRACE_TIER", value_parser = tier)]
    tier: Option<Tier>,

    /// Write a file as well: .vtr recording, .pcapng packets, .json answer
    #[arg(short, value_name = "FILE", value_parser = output::file, help_heading = "Output")]
    output: Vec<File>,
    /// Other names, addresses and payload in all that is printed and written, for bug reports
    #[arg(long, conflicts_with = "prove", help_heading = "Output")]
    redact: bool,
    #[command(flatten)]
    look: Output,
}

impl How {
    /// The options with how they are to be asked. From now on it is told what the probes say about themselves, if that was
    /// asked for.
    pub fn apply(&self, options: PingOptions) -> PingOptions {
        if self.look.verbose > 1 {
            terminal::listen();
        }
        let patience = if self.patient { Patience::AsPing } else { Patience::Decisive };
        PingOptions { patience, tier: self.tier, ..options }
    }

    /// Tells the answer in every form that was asked for.
    pub fn tell(&self, mut answer: Answer, asked: Asked, asking: &Asking) -> Result<Exit, Failure> {
        if self.prove {
            prove::add(&mut answer, &std::env::current_exe()?);
        }
        // A recording that cannot be kept costs a later `explain`, not this answer.
        if let Err(failure) = last::keep(&answer.recording)
            && self.look.verbose > 0
        {
            terminal::warn(&failure);
        }
        let answer = if self.redact { ask::redacted(answer)? } else { answer };
        for file in &self.output {
            output::write(file, &answer, asked, self.look.layout())?;
        }
        let text = if self.look.json {
            json::document(answer.report(), asked).to_text(self.look.layout())?
        } else {
            text::ping(answer.report(), self.look.style(), self.look.detail())
        };
        terminal::print(&text)?;
        Ok(exit(&answer, asking))
    }
}

/// As ping(8): lost also when a deadline and a count were given and fewer than that came back.
fn exit(answer: &Answer, asking: &Asking) -> Exit {
    let short = asking.deadline.is_some() && asking.count.is_some_and(|count| answer.recording.ping.received < count);
    match answer.diagnosis.verdict {
        Verdict::Delivered if !short => Exit::Good,
        _ => Exit::Lost,
    }
}

/// Reads the argument of the hidden `--tier`.
pub fn tier(text: &str) -> Result<Tier, String> {
    Ok(match text {
        "fentry" => Tier::Fentry,
        "kprobe" => Tier::Kprobe,
        "tracepoint" => Tier::Tracepoint,
        "capture" => Tier::Capture,
        _ => return Err("fentry, kprobe, tracepoint or capture".to_owned()),
    })
}
