//! `vnet-trace watch`: tcpdump's filter language and flags, one line for each packet's way.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cli::output::Output;
use crate::cli::{Exit, Failure, how, last, terminal};
use crate::collect::kernel::Begin;
use crate::collect::{clock, netns};
use crate::follow::Limits;
use crate::follow::way::Told;
use crate::model::event::Event;
use crate::model::frame::Frame;
use crate::model::id::Nanos;
use crate::model::recording::{Moment, Picture, WatchHead};
use crate::model::sight::Tier;
use crate::present::watch::summary::{self, Course};
use crate::present::watch::{self as words, Clock};
use crate::watch::Watcher;
use crate::watch::live::{self, Live, WatchError};
use crate::watch::record::{Bounds, Captured};
use crate::watch::replay::{self, Audience, Replay, ReplayError};

mod sinks;

use sinks::{Beginning, Sinks, Target};

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "Nothing is sent and nothing is changed. Ctrl-C ends it. Exit code: 0 watched, 2 anything else."
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Args {
    /// Which packets: a filter expression as tcpdump takes it (pcap-filter(7)); without one, all
    #[arg(value_name = "EXPR")]
    expression: Vec<String>,

    /// A packet must match in this network namespace; it is followed from there on wherever it goes
    #[arg(short = 'N', long, value_name = "NAME|PATH|PID|container:NAME|pod:NS/NAME", help_heading = "Which packets")]
    netns: Option<String>,
    /// A packet must match in this container
    #[arg(long, value_name = "NAME", conflicts_with = "netns", help_heading = "Which packets")]
    container: Option<String>,
    /// A packet must match in this Kubernetes pod, if it runs on this node
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with_all = ["netns", "container"], help_heading = "Which packets")]
    pod: Option<String>,
    /// A packet must match at this device; may be given again
    #[arg(short = 'i', long = "dev", value_name = "DEV", help_heading = "Which packets")]
    devices: Vec<String>,
    /// Only packets that were lost
    #[arg(long, help_heading = "Which packets")]
    drops: bool,
    /// Only packets that took at least so long; with --drops, these and the lost ones
    #[arg(long, value_name = "MS", value_parser = milliseconds, help_heading = "Which packets")]
    slower_than: Option<Duration>,
    /// Packets inside tunnels are matched as well
    #[arg(long, help_heading = "Which packets")]
    inner: bool,
    /// From a recording (.vtr) or another program's capture (pcap, pcapng) instead of this machine
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["duration", "snaplen"], help_heading = "Which packets")]
    read: Option<PathBuf>,

    /// The best way to attach probes that may be used
    #[arg(long, hide = true, env = "VNET_TRACE_TIER", value_parser = how::tier)]
    tier: Option<Tier>,

    /// End after so many packets
    #[arg(short, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..), help_heading = "How long")]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "How long")]
    duration: Option<Duration>,

    /// Write a file as well: .pcapng packets, .json one object per line, anything else a recording; may be given again
    #[arg(short, short_alias = 'w', value_name = "FILE", value_parser = sinks::target, help_heading = "Files")]
    output: Vec<Target>,
    /// Begin another recording after so many millions of bytes: FILE, FILE1, FILE2 …
    #[arg(short = 'C', value_name = "SIZE", value_parser = megabytes, requires = "output", help_heading = "Files")]
    file_size: Option<u64>,
    /// With -C: so many files, then the first again
    #[arg(short = 'W', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..), requires = "file_size", help_heading = "Files")]
    files: Option<u32>,
    /// End when the recordings have so many millions of bytes together
    #[arg(long, value_name = "SIZE", value_parser = megabytes, default_value = "1000", help_heading = "Files")]
    max_size: u64,
    /// Bytes of each packet that are captured [default: 256]
    #[arg(short, long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(64..=65535), help_heading = "Files")]
    snaplen: Option<u32>,

    /// Other names, addresses and payload in all that is printed and written, for bug reports
    #[arg(long, help_heading = "Output")]
    redact: bool,
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
    match &args.read {
        Some(file) => replayed(args, file),
        None => watched(args),
    }
}

fn watched(args: &Args) -> Result<Exit, Failure> {
    let stop = interrupted()?;
    let mut live = Live::start(args.live()).map_err(|error| failure(&error))?;
    let (began, realtime_offset) = live.began();
    let mut printer = Printer::new(args, realtime_offset);
    let (head, picture) = (live.head(), live.picture());
    let beginning = Beginning { captured: live.captured(), head: &head, picture: &picture };
    let mut sinks = Sinks::open(&args.output, args.bounds(), beginning, printer.clock)?;
    terminal::note(&format!(
        "watching with {} in {} namespaces, ready after {} ms",
        live.eyes(),
        live.watcher.ground().snapshot().namespaces.len(),
        live.ready.as_millis()
    ));
    let end = args.duration.map(|duration| Instant::now() + duration);
    while !stop.load(Ordering::Relaxed) && printer.wants_more() {
        let now = Instant::now();
        if end.is_some_and(|end| end <= now) {
            break;
        }
        let left = end.map_or(ROUND, |end| end.saturating_duration_since(now).min(ROUND));
        live.round(left, &mut |shown, asked| sinks.sighting(shown, asked)).map_err(|error| failure(&error))?;
        if live.looks_closer() {
            terminal::note(&format!("a packet was lost: watching with {} from now on", live.eyes()));
        }
        while printer.wants_more()
            && let Some(told) = live.tell()
        {
            if let Some(picture) = live.renewed() {
                sinks.picture(&picture);
            }
            printer.print(&mut live.watcher, told, &mut sinks)?;
        }
        if !sinks.moment(live.moment()) {
            terminal::note("the recordings have reached their bound (--max-size)");
            break;
        }
    }
    let (ready, moment) = (live.ready, live.moment());
    let (mut watcher, mut pending, ended) = live.stop(&mut |shown, asked| sinks.sighting(shown, asked));
    while printer.wants_more()
        && let Some(told) = pending.pop_front().or_else(|| watcher.tell(&mut |_| None))
    {
        printer.print(&mut watcher, told, &mut sinks)?;
    }
    sinks.close(moment)?;
    let course = Course {
        time: Nanos(clock::monotonic().0.saturating_sub(began.0)),
        received: ended.received,
        frames_lost: ended.frames_lost,
        events_lost: ended.events_lost,
        probes: ended.probes,
        ready: nanos(ready),
        stopped: nanos(ended.stopped_in),
        gaps: ended.gaps,
    };
    printer.finish(&watcher, &course)?;
    Ok(Exit::Good)
}

fn replayed(args: &Args, file: &Path) -> Result<Exit, Failure> {
    let mut replay = Replay::new(args.replay()?);
    let mut retelling = Retelling { printer: Printer::new(args, 0), sinks: None, failed: None };
    let done = replay.read(file, &mut retelling);
    let Retelling { printer, sinks, failed } = retelling;
    if let Some(failure) = failed {
        return Err(failure);
    }
    let sight = replay.watcher().map(|watcher| watcher.ground().sight());
    let (frames_lost, events_lost) = sight.map_or((0, 0), |sight| (sight.frames_lost, sight.events_lost));
    if let Some(sinks) = sinks {
        sinks.close(Moment { time: replay.last, frames_lost, events_lost })?;
    }
    let course = Course {
        time: Nanos(replay.last.0.saturating_sub(replay.began.0)),
        frames_lost,
        events_lost,
        gaps: replay.gaps().to_vec(),
        ..Course::default()
    };
    if let Some(watcher) = replay.watcher() {
        printer.finish(watcher, &course)?;
    }
    done.map_err(|error| unreadable(file, error))?;
    Ok(Exit::Good)
}

/// A recording that is printed and written again.
struct Retelling<'a> {
    printer: Printer<'a>,
    sinks: Option<Sinks>,
    failed: Option<Failure>,
}

impl Audience for Retelling<'_> {
    fn begins(&mut self, head: &WatchHead, picture: &Picture, captured: Captured) -> bool {
        self.printer.clock.realtime_offset = head.realtime_offset_ns;
        let args = self.printer.args;
        let beginning = Beginning { captured, head, picture };
        match Sinks::open(&args.output, args.bounds(), beginning, self.printer.clock) {
            Ok(sinks) => self.sinks = Some(sinks),
            Err(failure) => self.failed = Some(failure),
        }
        self.failed.is_none()
    }

    fn frame(&mut self, frame: &Frame, asked: bool) {
        if let Some(sinks) = &mut self.sinks {
            sinks.frame(frame, asked);
            sinks.moment(Moment { time: frame.time, frames_lost: 0, events_lost: 0 });
        }
    }

    fn event(&mut self, event: &Event, asked: bool) {
        if let Some(sinks) = &mut self.sinks {
            sinks.event(event, asked);
            sinks.moment(Moment { time: event.time, frames_lost: 0, events_lost: 0 });
        }
    }

    fn picture(&mut self, picture: &Picture) {
        if let Some(sinks) = &mut self.sinks {
            sinks.picture(picture);
        }
    }

    fn told(&mut self, replay: &mut Replay, told: Told) -> bool {
        if let (Some(watcher), Some(sinks)) = (replay.watcher(), &mut self.sinks) {
            self.failed = self.printer.print(watcher, told, sinks).err();
        }
        self.failed.is_none() && self.printer.wants_more()
    }
}

/// An error of a file, with what the user can do about it.
pub fn unreadable(file: &Path, error: ReplayError) -> Failure {
    match error {
        ReplayError::Recording(error) => last::unreadable(file, error),
        ReplayError::Watch(error) => failure(&error),
        ReplayError::NoNetns { ref known, .. } => {
            let help = format!("namespaces there: {}", known.join(", "));
            Failure::new(error, Some(help))
        }
        error @ ReplayError::Foreign(_) => Failure::new(error, None),
    }
}

/// Prints ways until enough were printed.
struct Printer<'a> {
    args: &'a Args,
    clock: Clock,
    /// How many are still wanted; None for any number.
    left: Option<u64>,
}

impl<'a> Printer<'a> {
    fn new(args: &'a Args, realtime_offset: u64) -> Self {
        let clock = Clock { realtime_offset, ahead: clock::ahead_of_utc(clock::realtime()) };
        Self { args, clock, left: args.count }
    }

    fn wants_more(&self) -> bool {
        self.left != Some(0)
    }

    fn print(&mut self, watcher: &mut Watcher, mut told: Told, sinks: &mut Sinks) -> Result<(), Failure> {
        self.left = self.left.map(|left| left - 1);
        let look = &self.args.look;
        let snapshot = watcher.ground().snapshot();
        sinks.way(&told, snapshot);
        let text = if look.quiet {
            String::new()
        } else if look.json {
            look.json_text(&words::json::way(&told, snapshot, self.clock))?
        } else {
            let style = look.style();
            let mut text = words::line(&told, snapshot, self.clock, style);
            if look.verbose > 0 {
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
        if self.args.summary && self.args.look.json {
            let value = summary::json(totals, counts, course, snapshot);
            terminal::print(&self.args.look.json_text(&value)?)?;
        } else if self.args.summary {
            terminal::print(&summary::text(totals, counts, course, snapshot, self.args.look.style()))?;
        }
        let what = format!("{} packets told, {} lost", totals.packets, totals.lost);
        let unseen = summary::losses_of_sight(course, counts).map(|unseen| format!("; {unseen}")).unwrap_or_default();
        terminal::note(&format!("{what}{unseen}"));
        Ok(())
    }
}

impl Args {
    /// Where a packet must match; None for anywhere.
    fn place(&self) -> Option<netns::Asked> {
        match (&self.container, &self.pod, &self.netns) {
            (Some(name), ..) => Some(netns::Asked::Container(name.clone())),
            (None, Some(name), _) => Some(netns::Asked::Pod(name.clone())),
            (None, None, text) => text.as_deref().map(netns::Asked::parse),
        }
    }

    fn live(&self) -> live::Options {
        live::Options {
            expression: self.expression.join(" "),
            place: self.place(),
            devices: self.devices.clone(),
            drops: self.drops,
            slower_than: self.slower_than,
            snaplen: self.snaplen,
            inner: self.inner,
            tier: self.tier,
            begin: self.begin(),
            limits: Limits::default(),
            redact: self.redact,
        }
    }

    /// What every packet pays for, and only its steps inside of hosts are told by, is left out until there is a loss to explain,
    /// unless these steps, or how long a packet waited in a queue, are asked for.
    fn begin(&self) -> Begin {
        let plain = self.look.verbose == 0 && self.output.is_empty() && self.slower_than.is_none();
        if plain { Begin::Lean } else { Begin::Whole }
    }

    fn replay(&self) -> Result<replay::Options, Failure> {
        Ok(replay::Options {
            expression: live::expression(&self.expression.join(" ")).map_err(|error| failure(&error))?,
            netns: self.place(),
            devices: self.devices.clone(),
            drops: self.drops,
            slower_than: self.slower_than.map(nanos),
            redact: self.redact,
        })
    }

    fn bounds(&self) -> Bounds {
        Bounds { file: self.file_size, files: self.files, total: Some(self.max_size) }
    }
}

fn failure(error: &WatchError) -> Failure {
    let help = error.help();
    let text = match error {
        // The place in the expression comes with its words.
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

fn nanos(time: Duration) -> Nanos {
    Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
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

/// Millions of bytes, as tcpdump counts file sizes.
fn megabytes(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1e9 => Ok((value * 1e6) as u64),
        _ => Err("not a number of millions of bytes".to_owned()),
    }
}
