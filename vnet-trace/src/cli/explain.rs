//! `vnet-trace explain`: the last recording or a recording file at length, or the page of a cause.

use std::path::{Path, PathBuf};

use crate::ask;
use crate::cli::output::{self, File, Output};
use crate::cli::watch::unreadable;
use crate::cli::{Exit, Failure, last, terminal};
use crate::collect::clock;
use crate::diagnose::registry;
use crate::follow::totals::LossKey;
use crate::follow::way::Told;
use crate::model::diagnosis::Verdict;
use crate::model::id::Nanos;
use crate::present::json::{self, Asked};
use crate::present::style::{Detail, Style};
use crate::present::watch::summary::{self, Course};
use crate::present::watch::{self, Clock};
use crate::present::{explain, page, text};
use crate::prove;
use crate::watch::replay::{self, Audience, Replay};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code of a recording: 0 delivered, 1 lost, 2 anything else; of other people's traffic: 1 if a packet was lost."
)]
pub struct Args {
    /// A recording (.vtr), another program's capture (pcap, pcapng), or the code of a cause; without it, the last recording
    #[arg(value_name = "FILE|CODE")]
    what: Option<PathBuf>,
    /// List the codes of all causes and notes
    #[arg(long, conflicts_with = "what")]
    list: bool,
    /// Rebuild the packet's way in throw-away namespaces and show that the fix works
    #[arg(long)]
    prove: bool,
    /// Write a file as well: .vtr recording, .pcapng packets, .json answer
    #[arg(short, value_name = "FILE", value_parser = output::file, help_heading = "Output")]
    output: Vec<File>,
    /// Other names, addresses and payload in all that is printed and written, for bug reports
    #[arg(long, conflicts_with = "prove", help_heading = "Output")]
    redact: bool,
    #[command(flatten)]
    look: Output,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    if args.list {
        let text =
            if args.look.json { args.look.json_text(&page::list_json())? } else { page::list(args.look.style()) };
        terminal::print(&text)?;
        return Ok(Exit::Good);
    }
    if let Some(what) = &args.what
        && let Some(code) = what.to_str()
        && let Some(entry) = registry::entry(code)
    {
        let text = if args.look.json {
            args.look.json_text(&page::json(entry))?
        } else {
            page::page(entry, args.look.style())
        };
        terminal::print(&text)?;
        return Ok(Exit::Good);
    }
    recording(args)
}

fn recording(args: &Args) -> Result<Exit, Failure> {
    let path = match &args.what {
        Some(what) if !what.exists() && looks_like_a_code(what) => return Err(unknown_code(what)),
        Some(what) => what.clone(),
        None => last::path().filter(|path| path.exists()).ok_or_else(|| {
            Failure::with_help(
                "there is no last recording",
                "`vnet-trace ping DST` makes one; `vnet-trace explain --list` lists the causes",
            )
        })?,
    };
    if replay::is_traffic(&path) == Some(true) {
        return traffic(args, &path);
    }
    let mut answer = ask::judge(last::read(&path)?);
    if args.prove {
        prove::add(&mut answer, &std::env::current_exe()?);
    }
    if args.redact {
        answer = ask::redacted(answer)?;
    }
    let style = args.look.style();
    let asked = Asked::of(&answer.recording);
    for file in &args.output {
        output::write(file, &answer, asked, args.look.layout())?;
    }
    let text = match args.look.detail() {
        _ if args.look.json => json::document(answer.report(), asked).to_text(args.look.layout())?,
        Detail::Verdict => text::ping(answer.report(), style, Detail::Verdict),
        Detail::Normal | Detail::Full => explain::story(answer.report(), style),
    };
    terminal::print(&text)?;
    Ok(match answer.diagnosis.verdict {
        Verdict::Delivered => Exit::Good,
        Verdict::Lost | Verdict::Undecided => Exit::Lost,
    })
}

/// Other people's traffic: the summary, and an example of each kind of loss hop by hop.
fn traffic(args: &Args, path: &Path) -> Result<Exit, Failure> {
    let style = args.look.style();
    let clock = Clock { realtime_offset: 0, ahead: clock::ahead_of_utc(clock::realtime()) };
    if let Some(file) = args.output.first() {
        return Err(Failure::with_help(
            format!("{} cannot be written by explain", file.path.display()),
            format!("`vnet-trace watch -q -r {} -o FILE` writes other people's traffic", path.display()),
        ));
    }
    let mut replay = Replay::new(replay::Options { redact: args.redact, ..replay::Options::default() });
    let mut story = Story { style, clock, examples: Vec::new() };
    let done = replay.read(path, &mut story);
    let examples = story.examples;
    let time = Nanos(replay.last.0.saturating_sub(replay.began.0));
    let (head, gaps) = (replay.is_watch.then(|| replay.head.clone()), replay.gaps().to_vec());
    if let Some(watcher) = replay.watcher() {
        let sight = watcher.ground().sight();
        let (frames_lost, events_lost) = (sight.frames_lost, sight.events_lost);
        let course = Course { time, frames_lost, events_lost, gaps, ..Course::default() };
        let (totals, counts) = (watcher.totals(), watcher.counts());
        let snapshot = watcher.ground().snapshot();
        let text = if args.look.json {
            let mut value = summary::json(totals, counts, &course, snapshot);
            value["examples"] = examples.into_iter().map(|(.., value)| value).collect();
            args.look.json_text(&value)?
        } else {
            let mut text = watch::begun(head.as_ref(), style);
            text.push_str(&summary::text(totals, counts, &course, snapshot, style));
            if args.look.detail() != Detail::Verdict {
                for (_, example, _) in &examples {
                    text.push_str(&format!("\n{example}"));
                }
            }
            text
        };
        terminal::print(&text)?;
    }
    done.map_err(|error| unreadable(path, error))?;
    let lost = replay.watcher().is_some_and(|watcher| watcher.totals().lost > 0);
    Ok(if lost { Exit::Lost } else { Exit::Good })
}

/// Collects an example of each kind of loss.
struct Story {
    style: Style,
    clock: Clock,
    examples: Vec<(LossKey, String, serde_json::Value)>,
}

impl Audience for Story {
    fn told(&mut self, replay: &mut Replay, mut told: Told) -> bool {
        let clock = Clock { realtime_offset: replay.realtime_offset, ..self.clock };
        let Some(watcher) = replay.watcher() else { return false };
        if let Some(key) = told.loss()
            && self.examples.len() < MOST_EXAMPLES
            && !self.examples.iter().any(|(other, ..)| *other == key)
        {
            let snapshot = watcher.ground().snapshot();
            let mut text = watch::line(&told, snapshot, clock, self.style);
            let value = watch::json::way(&told, snapshot, clock);
            let style = self.style;
            text.push_str(&watcher.with(&mut told, |recording, told| watch::hops(told, recording, style)));
            self.examples.push((key, text, value));
        }
        watcher.remember(told);
        true
    }
}

/// Kinds of loss of which an example is shown.
const MOST_EXAMPLES: usize = 20;

/// Neither a path with folders nor a file with an ending.
fn looks_like_a_code(what: &Path) -> bool {
    what.extension().is_none() && what.components().count() == 1
}

fn unknown_code(what: &Path) -> Failure {
    let typed = what.display().to_string();
    let similar = registry::similar(&typed);
    let help = if similar.is_empty() {
        "`vnet-trace explain --list` lists the codes".to_owned()
    } else {
        format!("did you mean {}? `vnet-trace explain --list` lists the codes", similar.join(" or "))
    };
    Failure::with_help(format!("`{}` is neither a cause nor a file", typed.escape_debug()), help)
}
