//! `vnet-trace watch`: tcpdump's filter language and flags, one line for each packet's way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cli::output::Output;
use crate::cli::terminal::{self};
use crate::cli::{Exit, Failure};
use crate::collect::{clock, netns};
use crate::follow::Limits;
use crate::follow::way::Told;
use crate::model::id::Nanos;
use crate::model::snapshot::Snapshot;
use crate::present::style::Style;
use crate::present::watch::summary::{self, Course};
use crate::present::watch::{self as words, Clock};
use crate::watch::Watcher;
use crate::watch::live::{Live, Options, WatchError};

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "Nothing is sent and nothing is changed. Ctrl-C ends it. Exit code: 0 watched, 2 anything else."
)]
pub struct Args {
    /// Which packets: a filter expression as tcpdump takes it (pcap-filter(7)); without one, all
    #[arg(value_name = "EXPR", trailing_var_arg = true, allow_hyphen_values = false)]
    expression: Vec<String>,

    /// A packet must match in this network namespace; it is followed from there on wherever it goes
    #[arg(short = 'N', long, value_name = "NAME|PATH|PID|container:NAME", help_heading = "Which packets")]
    netns: Option<String>,
    /// A packet must match in this container
    #[arg(long, value_name = "NAME", conflicts_with = "netns", help_heading = "Which packets")]
    container: Option<String>,
    /// A packet must match at this device
    #[arg(short = 'i', long = "dev", value_name = "DEV", help_heading = "Which packets")]
    devices: Vec<String>,
    /// Only packets that were lost
    #[arg(long, help_heading = "Which packets")]
    drops: bool,
    /// Only packets that took at least so long; with --drops, these and the lost ones
    #[arg(long, value_name = "MS", value_parser = milliseconds, help_heading = "Which packets")]
    slower_than: Option<Duration>,

    /// End after so many packets
    #[arg(short, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..), help_heading = "How long")]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "How long")]
    duration: Option<Duration>,

    /// Bytes of each packet that are captured
    #[arg(short, long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(64..=65535), help_heading = "Output")]
    snaplen: Option<u32>,
    /// At the end: losses by cause and place, who talked most, times at each hop
    #[arg(long, help_heading = "Output")]
    summary: bool,
    #[command(flatten)]
    look: Output,
}

/// How long one round waits for packets: signals and deadlines are looked at in between.
const ROUND: Duration = Duration::from_millis(50);

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let stop = interrupted()?;
    let mut live = Live::start(args.options()).map_err(|error| failure(&error))?;
    let (began, realtime_offset) = live.began();
    let clock = Clock { realtime_offset, ahead: clock::ahead_of_utc(clock::realtime()) };
    let mut printer = Printer { args, clock, style: args.look.style(), left: args.count };
    let snapshot = live.watcher.ground().snapshot();
    terminal::note(&format!(
        "watching {} devices in {} namespaces, ready after {} ms",
        live.devices(),
        snapshot.namespaces.len(),
        live.ready.as_millis()
    ));
    let end = args.duration.map(|duration| Instant::now() + duration);
    while !stop.load(Ordering::Relaxed) && printer.wants_more() {
        let now = Instant::now();
        let left = end.map_or(ROUND, |end| end.saturating_duration_since(now).min(ROUND));
        if end.is_some_and(|end| end <= now) {
            break;
        }
        live.round(left, |_| {}).map_err(|error| failure(&error))?;
        while printer.wants_more()
            && let Some(told) = live.tell()
        {
            printer.print(&mut live.watcher, told)?;
        }
    }
    let ready = live.ready;
    let (mut watcher, ended) = live.stop(|_| {});
    while printer.wants_more()
        && let Some(told) = watcher.tell(&mut |_| None)
    {
        printer.print(&mut watcher, told)?;
    }
    let course = Course {
        time: Nanos(clock::monotonic().0.saturating_sub(began.0)),
        received: ended.received,
        frames_lost: ended.frames_lost,
        events_lost: ended.events_lost,
        ready: Nanos(ready.as_nanos() as u64),
        stopped: Nanos(ended.stopped_in.as_nanos() as u64),
        gaps: ended.gaps,
    };
    printer.finish(&watcher, &course)?;
    Ok(Exit::Good)
}

/// Prints ways until enough were printed.
struct Printer<'a> {
    args: &'a Args,
    clock: Clock,
    style: Style,
    /// How many are still wanted; None for any number.
    left: Option<u64>,
}

impl Printer<'_> {
    fn wants_more(&self) -> bool {
        self.left != Some(0)
    }

    fn print(&mut self, watcher: &mut Watcher, mut told: Told) -> Result<(), Failure> {
        self.left = self.left.map(|left| left - 1);
        let look = &self.args.look;
        let snapshot: &Snapshot = watcher.ground().snapshot();
        let text = if look.quiet {
            String::new()
        } else if look.json {
            look.json_text(&words::json::way(&told, snapshot, self.clock))?
        } else {
            let mut text = words::line(&told, snapshot, self.clock, self.style);
            if look.verbose > 0 {
                let style = self.style;
                text.push_str(&watcher.with(&mut told, |recording, told| words::hops(told, recording, style)));
            }
            text
        };
        watcher.remember(told);
        if text.is_empty() { Ok(()) } else { terminal::print(&text) }
    }

    fn finish(&self, watcher: &Watcher, course: &Course) -> Result<(), Failure> {
        let snapshot = watcher.ground().snapshot();
        let (totals, counts) = (watcher.totals(), watcher.counts());
        if self.args.look.json {
            if self.args.summary {
                let value = summary::json(totals, counts, course, snapshot);
                terminal::print(&self.args.look.json_text(&value)?)?;
            }
        } else if self.args.summary {
            terminal::print(&summary::text(totals, counts, course, snapshot, self.style))?;
        }
        let what = format!("{} packets told, {} lost", totals.packets, totals.lost);
        let unseen = summary::losses_of_sight(course, counts).map(|unseen| format!("; {unseen}")).unwrap_or_default();
        terminal::note(&format!("{what}{unseen}"));
        Ok(())
    }
}

impl Args {
    fn options(&self) -> Options {
        let place = match (&self.container, &self.netns) {
            (Some(name), _) => Some(netns::Asked::Container(name.clone())),
            (None, Some(text)) => Some(netns::Asked::parse(text)),
            (None, None) => None,
        };
        Options {
            expression: self.expression.join(" "),
            place,
            devices: self.devices.clone(),
            drops: self.drops,
            slower_than: self.slower_than,
            snaplen: self.snaplen,
            limits: Limits::default(),
        }
    }
}

fn failure(error: &WatchError) -> Failure {
    // The place in the expression comes with its words.
    let help = error.help();
    let text = match error {
        WatchError::Expression { source, .. } => match source.caret() {
            Some(caret) => format!("{error}\n{caret}\ncaused by: {source}"),
            None => format!("{error}\ncaused by: {source}"),
        },
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(error) = cause {
                text.push_str(&format!("\ncaused by: {error}"));
                cause = error.source();
            }
            text
        }
    };
    Failure::new(text, help)
}

/// Becomes true when the user wants it to end.
fn interrupted() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| "not a number of milliseconds".to_owned())?;
    Duration::try_from_secs_f64(value / 1000.0).map_err(|_| "not a number of milliseconds".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(value) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("has to be more than zero".to_owned()),
    }
}
