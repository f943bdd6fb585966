//! What `explain` prints: the whole story of a recording, for somebody who wants to understand it and not only to mend
//! it. Hop by hop, step by step, with what each step of the kernel means the first time it is met.

use std::collections::BTreeSet;

use super::names::Names;
use super::sheet::{Sheet, Span};
use super::style::{Detail, Style, Tone};
use super::{Report, detail, page, proof, text, way, words};
use crate::diagnose::registry;
use crate::model::diagnosis::{Finding, Verdict};
use crate::model::exchange::{Action, Fate, Hop, Journey, Place, Role, Step};
use crate::model::id::{IfIndex, Nanos};

/// The whole story.
pub fn story(report: Report<'_>, style: Style) -> String {
    let mut sheet = Sheet::new(style);
    text::verdict(&mut sheet, report);
    question(&mut sheet, report);
    ways(&mut sheet, report);
    if let Some(finding) = &report.diagnosis.primary {
        why(&mut sheet, report, finding);
        what_to_do(&mut sheet, finding);
    }
    proof::write(&mut sheet, report, Detail::Full);
    unknown(&mut sheet, report);
    text::parting(&mut sheet, report);
    afterwards(&mut sheet, report);
    notes(&mut sheet, report);
    gaps(&mut sheet, report);
    detail::sight(&mut sheet, report.recording);
    sheet.finish()
}

fn question(sheet: &mut Sheet, report: Report<'_>) {
    let recording = report.recording;
    let ping = &recording.ping;
    sheet.heading("What was asked");
    sheet.paragraph(2, &text::asked(recording));
    if recording.is_foretold() {
        sheet.paragraph(2, "Nothing was sent: this is what the configuration says would happen.");
        return;
    }
    let mut said = format!("{} sent, {} answered.", ping.sent, ping.received);
    if let Some((least, average, greatest)) = text::rtt(ping) {
        said.push_str(&format!(" Round trip {least:.3} to {greatest:.3} ms, {average:.3} on average."));
    }
    if ping.cut_short {
        said.push_str(" We did not wait any longer, because the loss was decided and no later packet could change it.");
    }
    sheet.paragraph(2, &said);
    for error in &ping.errors {
        let from = if error.call == "icmp" { "ICMP told the asker" } else { "the kernel told the asker" };
        sheet.item(2, &[format!("{from}: {}", error.text).into()]);
    }
}

/// All journeys in causal order, each step with its meaning.
fn ways(sheet: &mut Sheet, report: Report<'_>) {
    let names = Names::of(report.recording);
    let mut told = BTreeSet::new();
    let finding = report.diagnosis.primary.as_ref();
    let lost = finding.and_then(|finding| way::lost_journey(report.observed, report.predicted, finding));
    let (told_all, all) = report.journeys();
    let seen = way::distinct(all);
    let start = report.recording.ping.started;
    let mut number = 0;
    sheet.heading("The way, step by step");
    if told_all == way::Told::Predicted && lost.is_none() {
        sheet.paragraph(2, "Worked out from the configuration:");
    } else if seen.is_empty() && lost.is_none() {
        sheet.paragraph(2, "No packet was seen on any device.");
    }
    // What is only predicted is told once, below, if it is the packet that was lost.
    let seen = if told_all == way::Told::Predicted && lost.is_some() { Vec::new() } else { seen };
    for journey in seen {
        number += 1;
        let place = match (&lost, finding) {
            (Some((way::Told::Observed, _, at)), Some(finding)) if std::ptr::eq(*at, journey) => Some(&finding.place),
            _ => journey.loss().map(|loss| &loss.place),
        };
        journey_told(sheet, report, journey, number, start, &mut told);
        ending(sheet, names, journey, place);
        for copy in &journey.copies {
            sheet.item(4, &["a copy: ".into(), way::line(report.recording, copy).into()]);
        }
    }
    if let Some((way::Told::Predicted, _, journey)) = lost {
        sheet.blank().paragraph(2, "The way of the packet that was lost, worked out from the configuration:");
        journey_told(sheet, report, journey, number + 1, start, &mut told);
        ending(sheet, names, journey, finding.map(|finding| &finding.place));
    }
}

fn journey_told(
    sheet: &mut Sheet,
    report: Report<'_>,
    journey: &Journey,
    number: usize,
    start: Nanos,
    told: &mut BTreeSet<&'static str>,
) {
    let names = Names::of(report.recording);
    sheet.blank().prose(
        2,
        5,
        &[Span::new(Tone::Strong, format!("{number}. {}", words::packet(report.recording, journey)))],
    );
    let (key, purpose) = purpose(journey.role);
    if told.insert(key) {
        sheet.paragraph(5, purpose);
    }
    for hop in journey.hops() {
        sheet.prose(5, 5, &[Span::new(Tone::Strong, hop_title(names, &hop))]);
        for step in hop.steps {
            step_told(sheet, report, step, start, told);
        }
    }
}

fn hop_title(names: Names<'_>, hop: &Hop<'_>) -> String {
    let device = |index: IfIndex| names.device(hop.netns, index);
    let place = match names.netns(hop.netns) {
        "." => "Here".to_owned(),
        name => format!("In {name}"),
    };
    match (hop.ingress, hop.egress) {
        (Some(ingress), Some(egress)) => format!("{place}, in by {}, out by {}", device(ingress), device(egress)),
        (Some(ingress), None) => format!("{place}, in by {}", device(ingress)),
        (None, Some(egress)) => format!("{place}, out by {}", device(egress)),
        (None, None) => place,
    }
}

fn step_told(sheet: &mut Sheet, report: Report<'_>, step: &Step, start: Nanos, told: &mut BTreeSet<&'static str>) {
    let names = Names::of(report.recording);
    let device = step.device.map(|index| names.device(step.netns, index));
    let what = match (&step.action, &device) {
        (Action::Queued, Some(device)) => format!("queued at {device}"),
        (Action::Transmitted, Some(device)) => format!("transmitted by {device}"),
        (Action::Received, Some(device)) => format!("received by {device}"),
        (Action::SourceChecked, _) => "source address checked and accepted".to_owned(),
        (Action::Hook { hook, rules }, _) if rules.is_empty() => format!("netfilter hook {} passed", hook.word()),
        _ => match words::phrase(names, report.recording, step) {
            Some(phrase) => phrase,
            None => return,
        },
    };
    let mut spans = vec![Span::from(what)];
    if let Some(time) = step.time {
        let us = (time.0 as f64 - start.0 as f64) / 1000.0;
        spans.push(Span::new(Tone::Faint, format!(" ({us:+.1} µs)")));
    }
    sheet.item(7, &spans);
    if let Some((key, meaning)) = meaning(&step.action)
        && told.insert(key)
    {
        sheet.paragraph(9, meaning);
    }
}

fn ending(sheet: &mut Sheet, names: Names<'_>, journey: &Journey, place: Option<&Place>) {
    let (tone, text) = match &journey.fate {
        Fate::Delivered { netns, .. } => (Tone::Good, format!("✓ delivered in {}", names.netns_spoken(*netns))),
        Fate::Lost(loss) => (Tone::Bad, format!("✗ lost at {}", names.place(&loss.place))),
        Fate::OutOfSight { last } => (Tone::Warn, format!("→ leaves our sight by {}", names.device_in(*last))),
        Fate::Cut { netns, .. } if place.is_some() => (Tone::Bad, format!("✗ ends in {}", names.netns_spoken(*netns))),
        Fate::Cut { netns, .. } => (Tone::Warn, format!("… last seen in {}", names.netns_spoken(*netns))),
    };
    sheet.prose(5, 7, &[Span::new(tone, text)]);
}

fn why(sheet: &mut Sheet, report: Report<'_>, finding: &Finding) {
    let names = Names::of(report.recording);
    sheet.heading("Why it was lost");
    sheet.prose(
        2,
        2,
        &[
            Span::new(Tone::Code, finding.code.as_str()),
            format!(" at {}: {}.", names.place(&finding.place), finding.summary.trim_end_matches('.')).into(),
        ],
    );
    if let Some(entry) = registry::entry(&finding.code) {
        sheet.blank();
        page::write_section(sheet, 2, &page::section(entry, "What happens"));
    }
    sheet.blank().paragraph(2, &format!("How we know ({}):", words::grade(finding.grade)));
    for evidence in &finding.evidence {
        sheet.item(
            2,
            &[
                evidence.text.clone().into(),
                Span::new(Tone::Faint, format!(" [{}]", text::source_word(&evidence.source))),
            ],
        );
        let at = detail::source(report.recording, &evidence.source);
        if !at.is_empty() && at != evidence.text {
            sheet.prose(4, 6, &[Span::new(Tone::Faint, at)]);
        }
    }
    for origin in &finding.origins {
        sheet.paragraph(2, &format!("{}.", words::origin(origin)));
    }
    if let Some(owner) = finding.owner.as_ref().filter(|_| finding.origins.is_empty()) {
        sheet.paragraph(2, &format!("The setting was made by {owner}."));
    }
}

fn what_to_do(sheet: &mut Sheet, finding: &Finding) {
    for (at, fix) in finding.fixes.iter().enumerate() {
        text::fix(sheet, if at == 0 { "What to do:" } else { "Or:" }, fix);
    }
}

fn unknown(sheet: &mut Sheet, report: Report<'_>) {
    if report.diagnosis.verdict != Verdict::Undecided {
        return;
    }
    sheet.heading("What is known, and where to look next");
    if report.diagnosis.leads.is_empty() {
        sheet.paragraph(2, "Nothing more than what stands above.");
    }
    for lead in &report.diagnosis.leads {
        sheet.item(2, &[lead.clone().into()]);
    }
}

fn afterwards(sheet: &mut Sheet, report: Report<'_>) {
    if report.diagnosis.also.is_empty() {
        return;
    }
    let names = Names::of(report.recording);
    sheet.heading("Also");
    for finding in &report.diagnosis.also {
        sheet.item(
            2,
            &[
                Span::new(Tone::Code, finding.code.as_str()),
                format!(" at {}: {}", names.place(&finding.place), finding.summary).into(),
            ],
        );
        if let Some(fix) = finding.fixes.first() {
            sheet.paragraph(4, &format!("{} ({})", fix.title, words::risk(fix.risk)));
            for command in &fix.commands {
                sheet.command(6, command);
            }
        }
    }
}

fn notes(sheet: &mut Sheet, report: Report<'_>) {
    if report.diagnosis.notes.is_empty() {
        return;
    }
    sheet.heading("Worth knowing");
    for note in &report.diagnosis.notes {
        sheet.item(2, &[Span::new(Tone::Code, note.code.as_str()), format!(": {}", note.summary).into()]);
        if let Some(entry) = registry::entry(&note.code) {
            page::write_section(sheet, 4, &page::section(entry, "What happens"));
        }
    }
}

fn gaps(sheet: &mut Sheet, report: Report<'_>) {
    let gaps = report.gaps();
    if gaps.is_empty() {
        return;
    }
    sheet.heading("What could not be seen");
    for gap in gaps {
        let mut text = format!("{}: {}", gap.what, gap.why);
        if !gap.help.is_empty() {
            text.push_str(&format!(" ({})", gap.help));
        }
        sheet.item(2, &[text.into()]);
    }
}

/// What a packet of this role is for, with the key under which it is told once.
fn purpose(role: Role) -> (&'static str, &'static str) {
    match role {
        Role::ArpRequest => (
            "role arp-request",
            "A frame needs the link-layer address of the station it goes to. The kernel knows the IP address of the \
             next hop only, so it asks everybody on the link who has it, and keeps the packet waiting meanwhile.",
        ),
        Role::ArpReply => (
            "role arp-reply",
            "The owner of the address answers the asker alone. With this answer the waiting packet can be sent.",
        ),
        Role::Request => ("role request", "The question itself."),
        Role::Reply => (
            "role reply",
            "The answer is a packet of its own: its way is looked up afresh by the replier, from its own routes and \
             rules, and may differ from the way there.",
        ),
        Role::IcmpError => (
            "role icmp-error",
            "A node on the way could not carry a packet on and says so to its sender, quoting the beginning of it.",
        ),
        Role::Reset => (
            "role reset",
            "A kernel that has no socket for a connection, or a rule that rejects it, refuses it with a segment whose \
             RST flag is set; the asker's connect(2) fails with \"Connection refused\".",
        ),
    }
}

/// What a step means, with the key under which it is told once. None for steps that explain themselves.
fn meaning(action: &Action) -> Option<(&'static str, &'static str)> {
    Some(match action {
        Action::Routed { local: true, .. } => (
            "routed local",
            "The local table, which is asked first, says that the address is one of this namespace's own: the packet \
             goes up to a socket or a protocol, not out.",
        ),
        Action::Routed { .. } => (
            "routed",
            "The policy rules name the tables to ask, and the longest matching prefix in them names the device and, \
             unless the destination is on the link itself, the next hop.",
        ),
        Action::SourceChecked => (
            "source checked",
            "For each packet that comes in, the kernel asks whether its source makes sense here: not one of its own \
             addresses, and, with rp_filter, a route back by the same device.",
        ),
        Action::Hook { .. } => {
            ("hook", "Rules of nftables and iptables that hang at this point were asked, and let it pass.")
        }
        Action::Rewritten { .. } => (
            "rewritten",
            "Connection tracking remembers the first packet of an exchange and rewrites all that follow in the same \
             way, the replies in reverse.",
        ),
        Action::NeighbourKnown { .. } => {
            ("neighbour known", "The neighbour table had the answer already, so nobody is asked.")
        }
        Action::NeighbourAsked { .. } => (
            "neighbour asked",
            "Up to three questions, a second apart. If nobody answers, the packet is dropped and the sender is told \
             that the host is unreachable.",
        ),
        Action::Queued => {
            ("queued", "The device's queueing discipline takes it; on a device without a carrier it drops it.")
        }
        Action::Received => (
            "received",
            "From here on the packet belongs to the namespace of this device. Captures (tcpdump) see it now, before \
             any check has been made.",
        ),
        Action::BridgeForwarded { flooded: true, .. } => (
            "flooded",
            "The bridge does not know where the destination is, or the frame is for everybody, so each port gets a \
             copy, except the one it came in by and those that may not have it.",
        ),
        Action::BridgeForwarded { flooded: false, .. } => {
            ("bridged", "The forwarding database knows the port behind which this link-layer address was last seen.")
        }
        Action::BridgeLocal { .. } => (
            "bridge local",
            "The frame is for the bridge's own address, or for everybody: the bridge device takes a copy as a host \
             would.",
        ),
        Action::Encapsulated { .. } => (
            "encapsulated",
            "The frame becomes the payload of a UDP packet between the tunnel's ends. That outer packet has a way of \
             its own, with routes, ARP and firewalls.",
        ),
        Action::Decapsulated => ("decapsulated", "The outer packet has done its work; the frame inside goes on."),
        Action::Forwarded => (
            "forwarded",
            "This node is not the destination and acts as a router: the TTL goes down by one and the packet leaves \
             towards the next hop.",
        ),
        Action::Opaque(_) => (
            "opaque",
            "A program decides here, and nobody can read from outside what it does; we can only see whether the \
             packet comes out again.",
        ),
        Action::Dropped { .. } => ("dropped", "The kernel threw it away and said so (kfree_skb)."),
        Action::Consumed { .. } => (
            "consumed",
            "The kernel is done with it and says no more (consume_skb). That is the end of every delivered packet, and \
             also of some that are refused without a word.",
        ),
        Action::Sent | Action::Transmitted | Action::Delivered | Action::Seen { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::present::sample;

    #[test]
    fn stories_read_well() {
        for sample in sample::all() {
            insta::assert_snapshot!(format!("explain-{}", sample.name), story(sample.report(), Style::default()));
        }
    }
}
