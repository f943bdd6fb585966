//! The summary of a watch: how much there was, what was lost where and why, who talked most, how long it took at each hop.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{duration, place};
use crate::follow::Counts;
use crate::follow::totals::{HopKey, LossKey, Spread, Totals};
use crate::model::exchange::Place;
use crate::model::id::Nanos;
use crate::model::sight::{Gap, ProbeCount};
use crate::model::snapshot::Snapshot;
use crate::present::names::Names;
use crate::present::style::{Style, Tone};

/// Lines of each list.
const TOP: usize = 10;

/// How a watch went, apart from its packets.
#[derive(Debug, Clone, Default)]
pub struct Course {
    /// How long it was watched.
    pub time: Nanos,
    /// Frames that passed the kernel's filters.
    pub received: u64,
    /// Frames that found no room.
    pub frames_lost: u64,
    /// Events that found no room.
    pub events_lost: u64,
    /// Events by probe; empty for a recording.
    pub probes: Vec<ProbeCount>,
    /// How long it took until all was listened to, and to stop.
    pub ready: Nanos,
    /// The same for stopping.
    pub stopped: Nanos,
    /// What could not be seen.
    pub gaps: Vec<Gap>,
}

/// What was not seen, in one line for standard error, as tcpdump ends; None without a loss.
pub fn losses_of_sight(course: &Course, counts: Counts) -> Option<String> {
    let parts: Vec<String> = [
        (course.frames_lost, "frames were captured and lost for want of room"),
        (course.events_lost, "events were lost for want of room"),
        (counts.cut_short, "packets were told before their end, because there were too many at a time"),
        (counts.too_many, "sightings of packets that were seen too often were left out"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    let places: Vec<String> = course
        .probes
        .iter()
        .filter(|probe| probe.lost > 0)
        .map(|probe| format!("{} of {} at {}", probe.lost, probe.seen + probe.lost, probe.name))
        .collect();
    let places = if places.is_empty() { String::new() } else { format!(" ({})", places.join(", ")) };
    (!parts.is_empty()).then(|| format!("{}{places}", parts.join("; ")))
}

/// The summary as text.
pub fn text(totals: &Totals, counts: Counts, course: &Course, snapshot: &Snapshot, style: Style) -> String {
    let names = Names::in_snapshot(snapshot);
    let mut text = String::from("\n");
    let mut line = |indent: usize, tone: Tone, line: &str| {
        let _ = writeln!(text, "{}{}", " ".repeat(indent), style.tone(tone, &style.clean(line)));
    };
    let Totals { packets, bytes, arrived, left, lost, unclear, .. } = totals;
    let unclear = if *unclear > 0 { format!(", {unclear} unclear") } else { String::new() };
    line(
        0,
        Tone::Strong,
        &format!(
            "{packets} packets ({bytes} bytes) in {}: {arrived} arrived, {left} left by a device whose other end is not in sight, {lost} lost{unclear}",
            duration(course.time)
        ),
    );
    if let Some(unseen) = losses_of_sight(course, counts) {
        line(0, Tone::Warn, &format!("not all was seen: {unseen}"));
    }
    if !totals.losses.is_empty() {
        line(0, Tone::Strong, "Losses");
        for (key, count) in totals.top_losses().into_iter().take(TOP) {
            line(2, Tone::Bad, &format!("{count:>8}  {:<24} {}", cause(key), place(names, &at(key))));
        }
    }
    if !totals.talkers.is_empty() {
        line(0, Tone::Strong, "Who talked most");
        for ((src, dst), talk) in totals.top_talkers(TOP) {
            let lost = if talk.lost > 0 { format!(", {} lost", talk.lost) } else { String::new() };
            line(2, Tone::Plain, &format!("{:>8} packets {:>10} bytes  {src} > {dst}{lost}", talk.packets, talk.bytes));
        }
    }
    let mut hops: Vec<(&HopKey, &Spread)> =
        totals.hops.iter().filter(|(_, spread)| spread.longest() > Nanos(0)).collect();
    if !hops.is_empty() {
        hops.sort_by_key(|(_, spread)| std::cmp::Reverse(spread.count()));
        line(0, Tone::Strong, "Time at each hop        packets        p50        p90        p99        max");
        for (key, spread) in hops.into_iter().take(2 * TOP) {
            line(2, Tone::Plain, &format!("{:<22} {}", hop(names, key), row(spread)));
        }
        line(2, Tone::Plain, &format!("{:<22} {}", "whole way", row(&totals.whole)));
    }
    text
}

fn row(spread: &Spread) -> String {
    let at = |hundredths| spread.percentile(hundredths).map(duration).unwrap_or_default();
    format!(
        "{:>7} {:>10} {:>10} {:>10} {:>10}",
        spread.count(),
        at(50.0),
        at(90.0),
        at(99.0),
        duration(spread.longest())
    )
}

fn hop(names: Names<'_>, key: &HopKey) -> String {
    let netns = names.netns_spoken(key.netns);
    let device = |ifindex| names.device(key.netns, ifindex);
    match (key.ingress.map(device), key.egress.map(device)) {
        (Some(ingress), Some(egress)) => format!("{netns}: {ingress} → {egress}"),
        (Some(ingress), None) => format!("{netns}: in by {ingress}"),
        (None, Some(egress)) => format!("{netns}: out by {egress}"),
        (None, None) => netns.to_owned(),
    }
}

fn cause(key: &LossKey) -> String {
    match (&key.cause, key.known) {
        (Some(code), true) => code.clone(),
        (Some(reason), false) => format!("{reason} (undecided)"),
        (None, _) => "undecided".to_owned(),
    }
}

fn at(key: &LossKey) -> Place {
    Place { netns: key.netns, device: key.device, function: key.function.clone() }
}

/// The summary for scripts.
pub fn json(totals: &Totals, counts: Counts, course: &Course, snapshot: &Snapshot) -> Value {
    let names = Names::in_snapshot(snapshot);
    let device =
        |netns, ifindex: Option<crate::model::id::IfIndex>| ifindex.map(|ifindex| names.device(netns, ifindex));
    let micros = |time: Option<Nanos>| time.map(|time| time.0 as f64 / 1000.0);
    let spread = |spread: &Spread| {
        json!({
            "packets": spread.count(),
            "p50_us": micros(spread.percentile(50.0)),
            "p90_us": micros(spread.percentile(90.0)),
            "p99_us": micros(spread.percentile(99.0)),
            "max_us": micros(Some(spread.longest())),
        })
    };
    let losses: Vec<Value> = totals
        .top_losses()
        .into_iter()
        .map(|(key, count)| {
            json!({
                "packets": count,
                "cause": key.cause.as_ref().filter(|_| key.known),
                "reason": key.cause.as_ref().filter(|_| !key.known),
                "place": {"netns": names.netns(key.netns), "dev": device(key.netns, key.device), "function": key.function},
            })
        })
        .collect();
    let talkers: Vec<Value> = totals
        .top_talkers(TOP)
        .into_iter()
        .map(|((src, dst), talk)| json!({"src": src, "dst": dst, "packets": talk.packets, "bytes": talk.bytes, "lost": talk.lost}))
        .collect();
    let hops: Vec<Value> = totals
        .hops
        .iter()
        .map(|(key, times)| {
            let mut hop = spread(times);
            hop["netns"] = json!(names.netns(key.netns));
            hop["in"] = json!(device(key.netns, key.ingress));
            hop["out"] = json!(device(key.netns, key.egress));
            hop
        })
        .collect();
    let probes: Vec<Value> = course
        .probes
        .iter()
        .map(|probe| json!({"probe": probe.name, "seen": probe.seen, "lost": probe.lost}))
        .collect();
    let gaps: Vec<Value> =
        course.gaps.iter().map(|gap| json!({"what": gap.what, "why": gap.why, "help": gap.help})).collect();
    json!({
        "v": 1,
        "type": "summary",
        "packets": totals.packets,
        "bytes": totals.bytes,
        "arrived": totals.arrived,
        "left": totals.left,
        "lost": totals.lost,
        "unclear": totals.unclear,
        "losses": losses,
        "talkers": talkers,
        "hops": hops,
        "whole_way": spread(&totals.whole),
        "sight": {
            "sightings": counts.sightings,
            "frames": course.received,
            "frames_lost": course.frames_lost,
            "events_lost": course.events_lost,
            "probes": probes,
            "cut_short": counts.cut_short,
            "left_out": counts.too_many,
            "nameless": counts.nameless,
        },
        "gaps": gaps,
        "timing_ms": {
            "watched": course.time.0 as f64 / 1e6,
            "ready": course.ready.0 as f64 / 1e6,
            "stopped": course.stopped.0 as f64 / 1e6,
        },
    })
}
