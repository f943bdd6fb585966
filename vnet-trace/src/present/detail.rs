//! What `-v` adds: every step with its time, where a piece of evidence stands in the recording, the eyes we had.

use super::names::Names;
use super::sheet::{Sheet, Span, TableRow};
use super::style::Tone;
use super::words;
use crate::model::diagnosis::Source;
use crate::model::event::EventKind;
use crate::model::exchange::{Action, Journey};
use crate::model::frame::Direction;
use crate::model::id::{Nanos, NetnsId};
use crate::model::recording::{Recording, RouteAnswer, RouteResult};
use crate::model::sight::Tier;

/// Every step of a journey with the time since the first, in microseconds.
pub fn steps(sheet: &mut Sheet, recording: &Recording, journey: &Journey) {
    let names = Names::of(recording);
    let start = journey.steps.iter().find_map(|step| step.time);
    let rows: Vec<TableRow> = journey
        .steps
        .iter()
        .map(|step| {
            let time = match (step.time, start) {
                (Some(time), Some(start)) => format!("+{}", micros(time, start)),
                _ => String::new(),
            };
            let device = step.device.map(|index| names.device(step.netns, index)).unwrap_or_default();
            let what = match &step.action {
                Action::Queued => "queued at the device".to_owned(),
                Action::Transmitted => "transmitted".to_owned(),
                Action::Received => "received".to_owned(),
                Action::SourceChecked => "source check passed".to_owned(),
                Action::Hook { hook, rules } if rules.is_empty() => format!("hook {} passed", hook.word()),
                _ => words::phrase(names, recording, step).unwrap_or_else(|| "next hop known".to_owned()),
            };
            TableRow { tone: Tone::Faint, cells: vec![time, names.netns_spoken(step.netns).to_owned(), device, what] }
        })
        .collect();
    if !rows.is_empty() {
        sheet.table(4, &["µs", "netns", "device", "step"], &rows);
    }
}

/// Microseconds with one decimal from one time to another.
fn micros(time: Nanos, start: Nanos) -> String {
    let ns = time.0.saturating_sub(start.0);
    format!("{}.{}", ns / 1000, ns % 1000 / 100)
}

/// Where the evidence stands in the recording; empty if its text says it all.
pub fn source(recording: &Recording, source: &Source) -> String {
    let names = Names::of(recording);
    let since = |time: Nanos| {
        let ms = (time.0 as f64 - recording.ping.started.0 as f64) / 1e6;
        format!("{ms:+.3} ms")
    };
    match source {
        Source::Event(at) => match recording.events.get(*at) {
            Some(event) => {
                let place = event.device.map(|device| format!(", {}", names.device_in(device))).unwrap_or_default();
                format!("event {at} at {}, CPU {}{place}: {}", since(event.time), event.cpu, kind(&event.kind))
            }
            None => format!("event {at}"),
        },
        Source::Frame(at) => match recording.frames.get(*at) {
            Some(frame) => {
                let way = match frame.direction {
                    Direction::In => "in",
                    Direction::Out => "out",
                    Direction::Unknown => "seen",
                };
                format!(
                    "frame {at} at {}, {way} at {}, {} bytes",
                    since(frame.time),
                    names.device_in(frame.device),
                    frame.len
                )
            }
            None => format!("frame {at}"),
        },
        Source::State { netns, what, value } => format!("{what} = {value}{}", in_netns(names, *netns)),
        Source::Answer(at) => match recording.answers.get(*at) {
            Some(asked) => format!("{}: {}", question(names, asked), answer(names, asked)),
            None => format!("answer {at}"),
        },
        Source::PingError(at) => match recording.ping.errors.get(*at) {
            Some(error) if error.text.starts_with(&error.call) => error.text.clone(),
            Some(error) => format!("{}: {}", error.call, error.text),
            None => String::new(),
        },
        Source::Counter { netns, what, by } => format!("{what} rose by {by}{}", in_netns(names, *netns)),
        Source::Absence(absence) => format!(
            "{} was not seen at {}, which was watched without loss",
            words::role(recording, absence.role()),
            names.device_in(absence.device())
        ),
    }
}

/// ` in ns1`; nothing for the namespace where the command was started.
fn in_netns(names: Names<'_>, netns: NetnsId) -> String {
    match names.netns(netns) {
        "." => String::new(),
        name => format!(" in {name}"),
    }
}

/// A look-up as a person would ask it: `ip route get 10.0.0.1 from 10.0.0.2 iif veth1`.
pub fn question(names: Names<'_>, asked: &RouteAnswer) -> String {
    let netns = names.netns(asked.netns);
    let mut text = if netns == "." { "ip".to_owned() } else { format!("ip -n {netns}") };
    text.push_str(&format!(" route get {}", asked.dst));
    if let Some(src) = asked.src {
        text.push_str(&format!(" from {src}"));
    }
    if let Some(iif) = asked.iif {
        text.push_str(&format!(" iif {}", names.device(asked.netns, iif)));
    }
    if let Some(oif) = asked.oif {
        text.push_str(&format!(" oif {}", names.device(asked.netns, oif)));
    }
    if asked.mark != 0 {
        text.push_str(&format!(" mark {:#x}", asked.mark));
    }
    text
}

/// What the kernel said to it.
pub fn answer(names: Names<'_>, asked: &RouteAnswer) -> String {
    match &asked.answer {
        RouteResult::Errno(errno) => format!("error {}", errno_name(*errno)),
        RouteResult::Route { kind, table, oif, gateway, prefsrc } => {
            let kind = match kind {
                1 => "unicast",
                2 => "local",
                3 => "broadcast",
                4 => "anycast",
                5 => "multicast",
                6 => "blackhole",
                7 => "unreachable",
                8 => "prohibit",
                _ => "route",
            };
            let mut text = kind.to_owned();
            if let Some(gateway) = gateway {
                text.push_str(&format!(" via {gateway}"));
            }
            if let Some(oif) = oif {
                text.push_str(&format!(" dev {}", names.device(asked.netns, *oif)));
            }
            if let Some(src) = prefsrc {
                text.push_str(&format!(" src {src}"));
            }
            text.push_str(&format!(" ({})", words::table(*table)));
            text
        }
    }
}

/// An error number by its name, as far as route look-ups and sockets use it.
pub fn errno_name(errno: i32) -> String {
    let name = match errno {
        1 => "EPERM",
        11 => "EAGAIN",
        13 => "EACCES",
        18 => "EXDEV",
        19 => "ENODEV",
        22 => "EINVAL",
        90 => "EMSGSIZE",
        97 => "EAFNOSUPPORT",
        99 => "EADDRNOTAVAIL",
        100 => "ENETDOWN",
        101 => "ENETUNREACH",
        105 => "ENOBUFS",
        111 => "ECONNREFUSED",
        113 => "EHOSTUNREACH",
        other => return other.to_string(),
    };
    format!("{errno} ({name})")
}

fn kind(kind: &EventKind) -> String {
    match kind {
        EventKind::Queue => "net_dev_queue".to_owned(),
        EventKind::Xmit => "net_dev_start_xmit".to_owned(),
        EventKind::NetifRx => "netif_rx".to_owned(),
        EventKind::Receive => "netif_receive_skb".to_owned(),
        EventKind::Drop { reason, location } => format!(
            "kfree_skb {} in {}",
            reason.as_deref().unwrap_or("without a reason"),
            location.as_deref().unwrap_or("an unnamed function")
        ),
        EventKind::Consume { location } => {
            format!("consume_skb in {}", location.as_deref().unwrap_or("an unnamed function"))
        }
        EventKind::FibLookup { table, src, dst, error, .. } => {
            format!("fib_table_lookup {src} → {dst} in {}: {error}", words::table(*table))
        }
        EventKind::Return { function, value, meaning } => match meaning {
            Some(meaning) => format!("{function} returned {value} ({meaning})"),
            None => format!("{function} returned {value}"),
        },
        EventKind::Enter { function } => format!("entered {function}"),
        EventKind::Netfilter { hook, verdict, .. } => format!("nf_hook_slow at hook {hook}: {verdict}"),
        EventKind::Neigh { address, lladdr, state } => match lladdr {
            Some(mac) => format!("neigh_update {address} is at {mac}, state {state:#x}"),
            None => format!("neigh_update {address}, state {state:#x}"),
        },
        EventKind::IcmpSend { kind, code } => format!("icmp_send type {kind} code {code}"),
        EventKind::Clone { .. } => "skb_clone".to_owned(),
    }
}

/// The eyes we had.
pub fn sight(sheet: &mut Sheet, recording: &Recording) {
    let sight = &recording.sight;
    sheet.heading("How it was watched");
    let attached = sight.probes.iter().filter(|probe| probe.tier.is_some()).count();
    let mut text = match sight.tier {
        Tier::Capture => "No kernel probe: captures and configuration only.".to_owned(),
        tier => format!(
            "{attached} of {} kernel probes, best tier {}; {} events, {} lost.",
            sight.probes.len(),
            tier_name(tier),
            sight.events,
            sight.events_lost
        ),
    };
    text.push_str(&format!(
        " {} devices captured, {} frames, {} lost. Ready after {:.0} ms, decided after {:.0} ms, done after {:.0} ms. Linux {}.",
        sight.captured.len(),
        recording.frames.len(),
        sight.frames_lost,
        recording.timing.ready_us as f64 / 1000.0,
        recording.timing.verdict_us as f64 / 1000.0,
        recording.timing.total_us as f64 / 1000.0,
        recording.kernel
    ));
    sheet.paragraph(2, &text);
    for probe in sight.probes.iter().filter(|probe| probe.tier.is_none()) {
        let why = probe.why.as_deref().unwrap_or("not attached");
        sheet.item(
            2,
            &[Span::new(Tone::Code, probe.name.as_str()), format!(": {why}; without it: {}", probe.blind).into()],
        );
    }
}

/// A tier as the JSON spells it.
pub fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Fentry => "fentry",
        Tier::Kprobe => "kprobe",
        Tier::Tracepoint => "tracepoint",
        Tier::Capture => "capture",
    }
}
