//! What `watch` prints: a line for each packet's way, its hops at length, and the summary at the end.
//!
//! A line is `TIME PACKET  WHERE IT WENT  HOW IT ENDED`: the packet in tcpdump's words, each device that it passed with its
//! namespace, what NAT made of it in brackets. [`json`] has the same for scripts, one object per line.

use std::fmt::Write;

use super::names::Names;
use super::style::{Style, Tone};
use super::words;
use crate::follow::way::{Ends, Outcome, Told, Way};
use crate::model::diagnosis::{Finding, Grade};
use crate::model::exchange::{Action, Place};
use crate::model::id::{Device, IfIndex, Nanos, NetnsId};
use crate::model::snapshot::Snapshot;

pub mod headline;
pub mod json;
pub mod summary;

pub use headline::headline;

/// How times are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    /// What to add to a time to get nanoseconds since 1970.
    pub realtime_offset: u64,
    /// Seconds that local time is ahead of UTC.
    pub ahead: i64,
}

impl Clock {
    /// The time of day, as tcpdump writes it.
    pub fn time_of_day(self, time: Nanos) -> String {
        let since = i128::from(time.0) + i128::from(self.realtime_offset) + i128::from(self.ahead) * 1_000_000_000;
        let day = since.rem_euclid(86_400_000_000_000);
        let (seconds, micros) = (day / 1_000_000_000, day % 1_000_000_000 / 1000);
        format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

/// One packet's way in one line.
pub fn line(told: &Told, snapshot: &Snapshot, clock: Clock, style: Style) -> String {
    let names = Names::in_snapshot(snapshot);
    let way = &told.way;
    let mut text = String::with_capacity(256);
    text.push_str(&style.tone(Tone::Faint, &clock.time_of_day(way.first)));
    text.push(' ');
    text.push_str(&style.clean(&headline(&way.followed)));
    let path = path(names, way);
    if !path.is_empty() {
        text.push_str("  ");
        text.push_str(&style.clean(&path));
    }
    text.push_str("  ");
    let (tone, end) = end(names, told);
    text.push_str(&style.tone(tone, &style.clean(&end)));
    if way.last > way.first {
        text.push_str(&style.clean(&format!("  {}", duration(Nanos(way.last.0 - way.first.0)))));
    }
    text.push('\n');
    text
}

/// The devices that it passed, in order, and what became of its addresses there.
fn path(names: Names<'_>, way: &Way) -> String {
    let mut text = String::new();
    let mut last = None;
    let mut ends = way.ends.iter().skip(1).peekable();
    for (device, _) in way.journey.path() {
        if last == Some(device) {
            continue;
        }
        if last.is_some() {
            text.push_str(" → ");
        }
        last = Some(device);
        text.push_str(&names.qualified(device));
        while let Some(now) = ends.next_if(|now| now.device == Some(device)) {
            let _ = write!(text, " [{}]", ends_text(now));
        }
    }
    let copies = way.journey.copies.iter().filter(|copy| copy.path().len() + copy.steps.len() > 0).count();
    if copies > 0 {
        let _ = write!(text, " (+{copies})");
    }
    text
}

/// `10.0.0.1.40000 > 10.0.0.2.53`.
fn ends_text(ends: &Ends) -> String {
    let address =
        |address: Option<std::net::IpAddr>| address.map_or_else(|| "?".to_owned(), |address| address.to_string());
    match ends.ports {
        Some((src, dst)) => format!("{}.{src} > {}.{dst}", address(ends.src), address(ends.dst)),
        None => format!("{} > {}", address(ends.src), address(ends.dst)),
    }
}

fn end(names: Names<'_>, told: &Told) -> (Tone, String) {
    let finding = told.verdict.as_ref().and_then(|verdict| verdict.finding.as_ref());
    let place = |netns: NetnsId, device: Option<IfIndex>| spot(names, netns, device);
    match (&told.way.outcome, finding) {
        (Outcome::Delivered { netns, .. }, _) => (Tone::Good, format!("delivered to {}", names.netns_spoken(*netns))),
        (Outcome::Arrived { netns, .. }, _) => (Tone::Good, format!("arrived at {}", names.netns_spoken(*netns))),
        (Outcome::Left { by }, _) => (Tone::Plain, format!("left by {}", names.qualified(*by))),
        (Outcome::Unclear { netns, device }, _) => {
            (Tone::Warn, format!("last seen at {}, beyond which not all was seen", place(*netns, *device)))
        }
        (_, Some(finding)) => {
            let at = place(finding.place.netns, finding.place.device);
            let grade = grade(finding.grade);
            (Tone::Bad, format!("✗ lost at {at}: {} ({grade}): {}", finding.code, finding.summary))
        }
        (Outcome::Dropped { netns, device, reason, function }, None) => {
            let at = place(*netns, *device);
            let why = match (reason, function) {
                (Some(reason), Some(function)) => format!("{reason} in {function}"),
                (Some(reason), None) => reason.clone(),
                (None, Some(function)) => format!("dropped in {function}"),
                (None, None) => "dropped".to_owned(),
            };
            (Tone::Bad, format!("✗ lost at {at}: {why} (undecided)"))
        }
        (Outcome::Vanished { netns, device }, None) => {
            (Tone::Warn, format!("✗ last seen at {} (undecided)", place(*netns, *device)))
        }
    }
}

fn spot(names: Names<'_>, netns: NetnsId, device: Option<IfIndex>) -> String {
    match device {
        Some(ifindex) => names.qualified(Device::new(netns, ifindex)),
        None => names.netns_spoken(netns).to_owned(),
    }
}

fn grade(grade: Grade) -> &'static str {
    match grade {
        Grade::Witnessed => "witnessed",
        Grade::Deduced => "deduced",
        Grade::Suspected => "suspected",
    }
}

/// A time span as people read it: `87 µs`, `1.25 ms`, `3.1 s`.
pub fn duration(time: Nanos) -> String {
    let ns = time.0;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..10_000 => format!("{}.{} µs", ns / 1000, ns % 1000 / 100),
        10_000..1_000_000 => format!("{} µs", ns / 1000),
        1_000_000..10_000_000 => format!("{}.{:02} ms", ns / 1_000_000, ns % 1_000_000 / 10_000),
        10_000_000..1_000_000_000 => format!("{}.{} ms", ns / 1_000_000, ns % 1_000_000 / 100_000),
        _ => format!("{}.{:02} s", ns / 1_000_000_000, ns % 1_000_000_000 / 10_000_000),
    }
}

/// The way hop by hop: every step with the time since the first, how long it was at each hop, and the cause at length.
pub fn hops(told: &Told, recording: &crate::model::recording::Recording, style: Style) -> String {
    let names = Names::of(recording);
    let mut text = String::new();
    let mut write = |indent: usize, tone: Tone, line: &str| {
        let _ = writeln!(text, "{}{}", " ".repeat(indent), style.tone(tone, &style.clean(line)));
    };
    let way = &told.way;
    let start = way.first;
    for (hop, time) in way.journey.hops().iter().zip(&way.hops) {
        let device = |ifindex: IfIndex| names.device(hop.netns, ifindex);
        let through = match (hop.ingress.map(device), hop.egress.map(device)) {
            (Some(ingress), Some(egress)) => format!(": {ingress} → {egress}"),
            (Some(ingress), None) => format!(": in by {ingress}"),
            (None, Some(egress)) => format!(": out by {egress}"),
            (None, None) => String::new(),
        };
        write(4, Tone::Strong, &format!("{}{through}  {}", names.netns_spoken(hop.netns), duration(time.time)));
        for step in hop.steps {
            let what = match &step.action {
                Action::Queued => "queued".to_owned(),
                Action::Transmitted => "transmitted".to_owned(),
                Action::Received => "received".to_owned(),
                Action::SourceChecked => "source check passed".to_owned(),
                Action::Hook { hook, rules } if rules.is_empty() => format!("hook {} passed", hook.word()),
                _ => words::phrase(names, recording, step).unwrap_or_else(|| "next hop known".to_owned()),
            };
            let at = step.time.map_or_else(String::new, |time| duration(Nanos(time.0.saturating_sub(start.0))));
            let by = step.device.map(|ifindex| names.device(step.netns, ifindex)).unwrap_or_default();
            write(6, Tone::Plain, format!("+{at:<9} {by:<15} {what}").trim_end());
        }
    }
    for copy in &way.journey.copies {
        let path: Vec<String> = copy.path().iter().map(|(device, _)| names.qualified(*device)).collect();
        if !path.is_empty() {
            write(4, Tone::Faint, &format!("copy: {}: {}", path.join(" → "), words::fate(&copy.fate)));
        }
    }
    if let Some(verdict) = &told.verdict {
        for line in verdict.finding.as_ref().map(cause).unwrap_or_default() {
            write(4, Tone::Plain, &line);
        }
        for lead in &verdict.leads {
            write(4, Tone::Plain, &format!("• {lead}"));
        }
    }
    text
}

fn cause(finding: &Finding) -> Vec<String> {
    let mut lines: Vec<String> = finding.evidence.iter().map(|evidence| format!("• {}", evidence.text)).collect();
    if let Some(fix) = finding.fixes.first() {
        lines.push(format!("Fix: {} ({})", fix.title, words::risk(fix.risk)));
        lines.extend(fix.commands.iter().map(|command| format!("    {command}")));
    }
    lines
}

/// What a recording of a watch is of: who wrote it, and which packets.
pub fn begun(head: Option<&crate::model::recording::WatchHead>, style: Style) -> String {
    let Some(head) = head else { return style.tone(Tone::Strong, "A capture of another program") + "\n" };
    let which = if head.expression.is_empty() { "all packets".to_owned() } else { format!("`{}`", head.expression) };
    let text = format!("Watched by {} on Linux {}: {which}", head.tool, head.kernel);
    style.tone(Tone::Strong, &style.clean(&text)) + "\n"
}

/// A place of the kernel: `r/veth1, in ip_forward`.
fn place(names: Names<'_>, place: &Place) -> String {
    let mut text = spot(names, place.netns, place.device);
    if let Some(function) = &place.function {
        let _ = write!(text, ", in {function}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_exact_enough() {
        let said = |ns| duration(Nanos(ns));
        assert_eq!((said(999), said(1_234), said(87_600)), ("999 ns".into(), "1.2 µs".into(), "87 µs".into()));
        assert_eq!((said(1_259_000), said(87_650_000)), ("1.25 ms".into(), "87.6 ms".into()));
        assert_eq!(said(3_100_000_000), "3.10 s");
    }

    #[test]
    fn the_clock_is_that_of_the_wall() {
        let clock = Clock { realtime_offset: 1_700_000_000_000_000_000, ahead: 3600 };
        assert_eq!(clock.time_of_day(Nanos(1_234_567)), "23:13:20.001234");
    }
}
