//! What `ping` prints: the verdict in one sentence, the figures as ping gives them, the way, why, what to do, and what
//! could not be seen. In this order, because that is the order in which people stop reading.

use super::Report;
use super::names::Names;
use super::sheet::{Sheet, Span};
use super::style::{Detail, Style, Tone};
use super::{detail, proof, way, words};
use crate::diagnose::registry;
use crate::model::diagnosis::{Evidence, Finding, Fix, Source, Verdict};
use crate::model::exchange::{Fate, Journey, Leg, Role};
use crate::model::question::{Iface, Protocol, Question};
use crate::model::recording::{PingOutcome, Recording};

/// The whole text.
pub fn ping(report: Report<'_>, style: Style, level: Detail) -> String {
    let mut sheet = Sheet::new(style);
    verdict(&mut sheet, report);
    if level == Detail::Verdict {
        return sheet.finish();
    }
    sheet.blank();
    figures(&mut sheet, report.recording);
    the_way(&mut sheet, report, level);
    if let Some(finding) = &report.diagnosis.primary {
        why(&mut sheet, report, finding, level);
        fixes(&mut sheet, finding, level);
    }
    proof::write(&mut sheet, report, level);
    leads(&mut sheet, report);
    // Where a cause is named, the parting adds nothing to it that people have to read.
    if report.diagnosis.primary.is_none() || level == Detail::Full {
        parting(&mut sheet, report);
    }
    also(&mut sheet, report);
    notes(&mut sheet, report);
    not_seen(&mut sheet, report, level);
    if level == Detail::Full {
        detail::sight(&mut sheet, report.recording);
    }
    more(&mut sheet, report);
    sheet.finish()
}

/// The verdict in one sentence.
pub fn verdict(sheet: &mut Sheet, report: Report<'_>) {
    let (tone, word) = match report.diagnosis.verdict {
        Verdict::Delivered => (Tone::Good, "delivered"),
        Verdict::Lost => (Tone::Bad, "lost"),
        Verdict::Undecided => (Tone::Warn, "undecided"),
    };
    sheet.prose(0, 0, &[Span::new(tone, word), format!(": {}", sentence(report)).into()]);
}

/// What the verdict says, without the word itself.
pub fn sentence(report: Report<'_>) -> String {
    let recording = report.recording;
    let ping = &recording.ping;
    let dst = destination(&recording.question);
    match (&report.diagnosis.verdict, &report.diagnosis.primary) {
        (Verdict::Delivered, _) => delivered(report),
        (_, Some(finding)) => finding.summary.clone(),
        (_, None) if recording.is_foretold() => {
            format!("whether a packet to {dst} would be answered can't be foretold")
        }
        (_, None) if ping.sent == 0 => {
            format!("no packet to {dst} was ever sent, and the cause cannot be named honestly")
        }
        (_, None) => format!("{dst} did not answer, and the cause cannot be named honestly"),
    }
}

fn delivered(report: Report<'_>) -> String {
    let recording = report.recording;
    let names = Names::of(recording);
    let ping = &recording.ping;
    let verb = if recording.is_foretold() { "would answer" } else { "answers" };
    if ping.received == 0 && !recording.is_foretold() {
        return format!("{} takes the datagrams; nothing is answered", destination(&recording.question));
    }
    let mut text = format!("{} {verb}", destination(&recording.question));
    let (_, journeys) = report.journeys();
    let arrived = journeys.iter().find_map(|journey| match (journey.role, journey.leg, &journey.fate) {
        (Role::Request, Leg::Forward, Fate::Delivered { netns, device }) => Some((*netns, *device)),
        _ => None,
    });
    if let Some((netns, device)) = arrived
        && !names.is_single()
    {
        text.push_str(&format!(" from {}", names.netns_spoken(netns)));
        if let Some(device) = device {
            text.push_str(&format!(" ({})", names.device(netns, device)));
        }
    }
    if let Some((_, average, _)) = rtt(ping) {
        text.push_str(&format!(" in {average:.3} ms"));
    }
    if ping.received < ping.sent {
        text.push_str(&format!(", but only {} of {} came back", ping.received, ping.sent));
    }
    text
}

/// What was asked for: an address, with the port if there is one.
fn destination(question: &Question) -> String {
    match question.protocol {
        Protocol::Echo => question.dst.to_string(),
        Protocol::Tcp { port, .. } => format!("{} port {port} (TCP)", question.dst),
        Protocol::Udp { port, .. } => format!("{} port {port} (UDP)", question.dst),
    }
}

/// Least, mean and greatest round-trip time in milliseconds.
pub fn rtt(ping: &PingOutcome) -> Option<(f64, f64, f64)> {
    let times: Vec<f64> = ping.rtt_us.iter().map(|(_, us)| *us as f64 / 1000.0).collect();
    if times.is_empty() {
        return None;
    }
    let least = times.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = times.iter().copied().fold(0.0, f64::max);
    Some((least, times.iter().sum::<f64>() / times.len() as f64, greatest))
}

/// What ping says at its start and end.
fn figures(sheet: &mut Sheet, recording: &Recording) {
    let ping = &recording.ping;
    sheet.paragraph(0, &asked(recording));
    if recording.is_foretold() {
        sheet.paragraph(0, "Nothing was sent: this is what the configuration says would happen.");
        return;
    }
    let mut errors: Vec<&str> = Vec::new();
    for error in &ping.errors {
        if !errors.contains(&error.text.as_str()) {
            errors.push(&error.text);
        }
    }
    for error in errors.iter().take(3) {
        sheet.paragraph(0, error);
    }
    let lost = match ping.sent {
        0 => 100,
        sent => 100 - u64::from(ping.received.min(sent)) * 100 / u64::from(sent),
    };
    let count = if ping.errors.is_empty() { String::new() } else { format!(" +{} errors,", ping.errors.len()) };
    let (sent, received, loss) = match recording.question.protocol {
        Protocol::Echo => ("packets transmitted", "received", "packet loss"),
        Protocol::Tcp { .. } => ("connections tried", "accepted", "failed"),
        Protocol::Udp { .. } => ("datagrams sent", "answered", "unanswered"),
    };
    let mut text = format!(
        "{} {sent}, {} {received},{count} {lost}% {loss}, time {}ms",
        ping.sent,
        ping.received,
        ping.ended.0.saturating_sub(ping.started.0) / 1_000_000
    );
    if ping.cut_short {
        text.push_str(" (stopped early: the loss was decided)");
    }
    sheet.paragraph(0, &text);
    if let Some((least, average, greatest)) = rtt(ping) {
        sheet.paragraph(0, &format!("rtt min/avg/max = {least:.3}/{average:.3}/{greatest:.3} ms"));
    }
}

/// The first line of ping: `PING 10.1.1.12 from 10.1.1.11 veth0: 56(84) bytes of data, asked in ns1`.
pub fn asked(recording: &Recording) -> String {
    let Question { dst, iface, zone, size, netns, protocol, .. } = &recording.question;
    let mut text = match protocol {
        Protocol::Echo => format!("PING {dst}"),
        Protocol::Tcp { port, .. } => format!("TCP {dst} port {port}"),
        Protocol::Udp { port, .. } => format!("UDP {dst} port {port}"),
    };
    if let Some(zone) = zone {
        text.push_str(&format!("%{zone}"));
    }
    let source = match iface {
        Some(Iface::Address(address)) => Some(*address),
        _ => recording.ping.source,
    };
    if let Some(source) = source {
        text.push_str(&format!(" from {source}"));
    }
    if let Some(Iface::Device(device)) = iface {
        if source.is_none() {
            text.push_str(" from");
        }
        text.push_str(&format!(" {device}"));
    }
    if *protocol == Protocol::Echo {
        let header = if dst.is_ipv6() { 48 } else { 28 };
        text.push_str(&format!(": {size}({}) bytes of data", u32::from(*size) + header));
    }
    match Names::of(recording).netns(*netns) {
        "." | "?" => text.push('.'),
        name => text.push_str(&format!(", asked in {name}.")),
    }
    text
}

/// The journeys: the one that matters as a table, the others in a line each.
fn the_way(sheet: &mut Sheet, report: Report<'_>, level: Detail) {
    let names = Names::of(report.recording);
    let (told_all, all) = report.journeys();
    let journeys = way::distinct(all);
    let finding = report.diagnosis.primary.as_ref();
    let lost = finding.and_then(|finding| {
        way::lost_journey(report.observed, report.predicted, finding).map(|found| (finding, found))
    });
    let Some((finding, (told, at, journey))) = lost else {
        if let Some(finding) = finding {
            sheet.blank();
            sheet.prose(0, 2, &[Span::new(Tone::Bad, "✗"), format!(" {}", names.place(&finding.place)).into()]);
        }
        let unanswered = journeys.iter().rposition(|journey| !way::is_resolution(journey)).map_or(0, |at| at + 1);
        sheet.blank();
        if told_all == way::Told::Predicted && !journeys.is_empty() {
            sheet.paragraph(0, "The way, worked out from the configuration:");
        }
        for (at, journey) in journeys.iter().enumerate() {
            let table = matches!(journey.role, Role::Request | Role::Reply) || at >= unanswered;
            one(sheet, report, journey, table || level == Detail::Full, level);
        }
        return;
    };
    let exchange = match (told, report.predicted) {
        (way::Told::Predicted, Some(predicted)) => predicted,
        _ => report.observed,
    };
    sheet.blank();
    if told == way::Told::Predicted {
        sheet.paragraph(0, "The way, worked out from the configuration:");
    }
    for earlier in way::distinct(&exchange.journeys[..at]) {
        let same_packet = earlier.role == journey.role && earlier.headers == journey.headers;
        if !same_packet {
            let table = level == Detail::Full || !way::is_resolution(earlier);
            one(sheet, report, earlier, table, level);
        }
    }
    sheet.blank().prose(0, 2, &[Span::new(Tone::Strong, words::packet(report.recording, journey))]);
    way::write(sheet, 0, report.recording, journey, Some(&finding.place));
    if level == Detail::Full {
        detail::steps(sheet, report.recording, journey);
    }
}

fn one(sheet: &mut Sheet, report: Report<'_>, journey: &Journey, table: bool, level: Detail) {
    if table {
        sheet.blank().prose(0, 2, &[Span::new(Tone::Strong, words::packet(report.recording, journey))]);
        let lost = journey.loss().map(|loss| &loss.place);
        way::write(sheet, 0, report.recording, journey, lost);
        if level == Detail::Full {
            detail::steps(sheet, report.recording, journey);
        }
    } else {
        sheet.prose(0, 2, &[way::line(report.recording, journey).into()]);
    }
}

/// The cause with its evidence.
fn why(sheet: &mut Sheet, report: Report<'_>, finding: &Finding, level: Detail) {
    sheet.blank().prose(
        0,
        5,
        &[
            Span::new(Tone::Strong, "Why:"),
            " ".into(),
            Span::new(Tone::Code, finding.code.as_str()),
            Span::new(Tone::Faint, format!(" ({})", words::grade(finding.grade))),
        ],
    );
    for evidence in &finding.evidence {
        evidence_item(sheet, report.recording, evidence, level);
    }
    for origin in &finding.origins {
        sheet.item(2, &[words::origin(origin).into()]);
    }
    if let Some(owner) = finding.owner.as_ref().filter(|_| finding.origins.is_empty()) {
        sheet.item(2, &[format!("set by {owner}").into()]);
    }
}

fn evidence_item(sheet: &mut Sheet, recording: &Recording, evidence: &Evidence, level: Detail) {
    let mut spans = vec![Span::from(evidence.text.clone())];
    spans.push(Span::new(Tone::Faint, format!(" [{}]", source_word(&evidence.source))));
    sheet.item(2, &spans);
    if level == Detail::Full {
        let text = detail::source(recording, &evidence.source);
        if !text.is_empty() && text != evidence.text {
            sheet.prose(4, 4, &[Span::new(Tone::Faint, text)]);
        }
    }
}

/// What kind of thing the evidence is, in a word.
pub fn source_word(source: &Source) -> &'static str {
    match source {
        Source::Event(_) => "seen in the kernel",
        Source::Frame(_) => "captured",
        Source::State { .. } => "configuration",
        Source::Answer(_) => "the kernel's answer",
        Source::PingError(_) => "told to the asker",
        Source::Counter { .. } => "counter",
        Source::Absence(_) => "not seen where it would have been",
    }
}

/// What to do.
fn fixes(sheet: &mut Sheet, finding: &Finding, level: Detail) {
    let shown = if level == Detail::Full { finding.fixes.len() } else { 1 };
    for (at, fix) in finding.fixes.iter().take(shown).enumerate() {
        self::fix(sheet, if at == 0 { "Fix:" } else { "Or:" }, fix);
    }
    let left = finding.fixes.len().saturating_sub(shown);
    if left > 0 {
        let ways = if left == 1 { "1 other way".to_owned() } else { format!("{left} other ways") };
        sheet.paragraph(2, &format!("({ways} to fix it: -v)"));
    }
}

/// One fix, ready to be copied.
pub fn fix(sheet: &mut Sheet, label: &str, fix: &Fix) {
    sheet.blank().prose(
        0,
        5,
        &[
            Span::new(Tone::Strong, label),
            " ".into(),
            fix.title.clone().into(),
            Span::new(Tone::Faint, format!(" ({})", words::risk(fix.risk))),
        ],
    );
    for command in &fix.commands {
        sheet.command(4, command);
    }
    if !fix.undo.is_empty() {
        sheet.paragraph(2, "to undo it:");
        for command in &fix.undo {
            sheet.command(4, command);
        }
    }
    if !fix.persist.is_empty() {
        sheet.prose(2, 4, &["to keep it: ".into(), fix.persist.clone().into()]);
    }
}

fn leads(sheet: &mut Sheet, report: Report<'_>) {
    if report.diagnosis.leads.is_empty() {
        return;
    }
    sheet.heading("What is known, and where to look next");
    for lead in &report.diagnosis.leads {
        sheet.item(2, &[lead.clone().into()]);
    }
}

/// Where what was seen is not what was foretold.
pub fn parting(sheet: &mut Sheet, report: Report<'_>) {
    if let Some(parting) = &report.diagnosis.parting {
        sheet.heading("Not as foretold");
        sheet.item(2, &[parting.text.clone().into()]);
    }
}

fn also(sheet: &mut Sheet, report: Report<'_>) {
    if report.diagnosis.also.is_empty() {
        return;
    }
    sheet.heading("Also");
    for finding in &report.diagnosis.also {
        let later = report
            .diagnosis
            .primary
            .as_ref()
            .is_some_and(|primary| primary.role != finding.role || primary.place != finding.place);
        let mut spans = vec![Span::new(Tone::Code, finding.code.as_str()), ": ".into()];
        if later {
            spans.push("after this fix: ".into());
        }
        spans.push(finding.summary.clone().into());
        sheet.item(2, &spans);
        if later && let Some(fix) = finding.fixes.first() {
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
    }
}

fn not_seen(sheet: &mut Sheet, report: Report<'_>, level: Detail) {
    let gaps = report.gaps();
    // Where every packet was delivered there is no question that a gap could leave open.
    let ping = &report.recording.ping;
    let all = report.diagnosis.verdict == Verdict::Delivered && ping.received >= ping.sent && ping.errors.is_empty();
    if gaps.is_empty() || all && level == Detail::Normal {
        return;
    }
    sheet.heading("Not seen");
    for gap in gaps {
        let mut text = format!("{}: {}", gap.what, gap.why);
        if !gap.help.is_empty() {
            text.push_str(&format!(" ({})", gap.help));
        }
        sheet.item(2, &[text.into()]);
    }
}

fn more(sheet: &mut Sheet, report: Report<'_>) {
    let whole = "vnet-trace explain".to_owned();
    let cause = report
        .diagnosis
        .primary
        .as_ref()
        .filter(|finding| registry::entry(&finding.code).is_some())
        .map(|finding| format!("{whole} {}", finding.code));
    let width = cause.as_deref().unwrap_or(&whole).len();
    sheet.blank().verbatim(0, Tone::Faint, &format!("{whole:width$}  the whole way, step by step"));
    if let Some(cause) = cause {
        sheet.verbatim(0, Tone::Faint, &format!("{cause}  what this cause means"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::present::sample;
    use crate::present::style::{Glyphs, Paint};

    #[test]
    fn answers_read_well() {
        for sample in sample::all() {
            insta::assert_snapshot!(
                format!("text-{}", sample.name),
                ping(sample.report(), Style::default(), Detail::Normal)
            );
        }
    }

    #[test]
    fn all_there_is_to_know_reads_well() {
        let sample = sample::martian();
        insta::assert_snapshot!("text-full", ping(sample.report(), Style::default(), Detail::Full));
    }

    #[test]
    fn quiet_is_one_sentence() {
        let text = ping(sample::martian().report(), Style::default(), Detail::Verdict);
        assert!(text.starts_with("lost: veth1 refuses the ARP request"), "{text}");
        assert_eq!(text.matches("\n\n").count(), 0);
    }

    #[test]
    fn without_a_terminal_prose_fits_eighty_columns() {
        for sample in sample::all() {
            for line in ping(sample.report(), Style::default(), Detail::Full).lines() {
                assert!(line.chars().count() <= 80 || line.starts_with("    "), "{line}");
            }
        }
    }

    #[test]
    fn nothing_from_outside_reaches_the_terminal_raw() {
        for sample in sample::all() {
            let ansi = Style { paint: Paint::Ansi, ..Style::default() };
            let text = ping(sample.report(), ansi, Detail::Full);
            assert!(!text.contains("\u{1b}[2J"), "{}", sample.name);
            let plain = ping(sample.report(), Style { glyphs: Glyphs::Ascii, ..Style::default() }, Detail::Full);
            assert!(plain.chars().all(|c| c == '\n' || c.is_ascii_graphic() || c == ' '), "{plain}");
        }
    }
}
