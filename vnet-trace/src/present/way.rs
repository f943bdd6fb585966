//! A journey as rows: one hop each, with the devices, what happened, and where it ended.

use super::names::Names;
use super::sheet::{Sheet, TableRow};
use super::style::Tone;
use super::words;
use crate::model::diagnosis::Finding;
use crate::model::exchange::{Action, Exchange, Fate, Hop, Journey, Place, Role};
use crate::model::id::IfIndex;
use crate::model::recording::Recording;

/// Where the journey shown comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// It was seen.
    Observed,
    /// Nothing of it was seen: this is what the configuration says.
    Predicted,
}

/// The journey of the packet that a finding is about: as it was seen, else as the configuration says it would go.
pub fn lost_journey<'a>(
    observed: &'a Exchange,
    predicted: Option<&'a Exchange>,
    finding: &Finding,
) -> Option<(Told, usize, &'a Journey)> {
    pick(observed, finding)
        .map(|(at, journey)| (Told::Observed, at, journey))
        .or_else(|| pick(predicted?, finding).map(|(at, journey)| (Told::Predicted, at, journey)))
}

fn pick<'a>(exchange: &'a Exchange, finding: &Finding) -> Option<(usize, &'a Journey)> {
    let fitting = || exchange.journeys.iter().enumerate().filter(|(_, journey)| journey.role == finding.role);
    let at_place = |journey: &Journey| {
        journey
            .loss()
            .is_some_and(|loss| loss.place.netns == finding.place.netns && loss.place.device == finding.place.device)
    };
    fitting()
        .find(|(_, journey)| at_place(journey))
        .or_else(|| fitting().find(|(_, journey)| journey.loss().is_some()))
        .or_else(|| fitting().find(|(_, journey)| !matches!(journey.fate, Fate::Delivered { .. })))
}

/// Journeys that tell something new: retries and later sequence numbers of the same packet are left out.
pub fn distinct(journeys: &[Journey]) -> Vec<&Journey> {
    let mut told: Vec<&Journey> = Vec::new();
    for journey in journeys {
        let again = told.iter().any(|other| {
            other.role == journey.role
                && other.leg == journey.leg
                && other.headers.src == journey.headers.src
                && other.headers.dst == journey.headers.dst
                && other.steps.first().map(|step| step.netns) == journey.steps.first().map(|step| step.netns)
                && std::mem::discriminant(&other.fate) == std::mem::discriminant(&journey.fate)
        });
        if !again {
            told.push(journey);
        }
    }
    told
}

/// Writes the journey as a table, with the place of its loss marked.
pub fn write(sheet: &mut Sheet, indent: usize, recording: &Recording, journey: &Journey, lost_at: Option<&Place>) {
    let names = Names::of(recording);
    let hops = journey.hops();
    let marked = lost_at.and_then(|place| hop_of(&hops, place));
    let mut rows: Vec<TableRow> = hops
        .iter()
        .enumerate()
        .map(|(at, hop)| row(names, recording, at, hop, (marked == Some(at)).then_some(lost_at).flatten()))
        .collect();
    if let Some(place) = lost_at.filter(|_| marked.is_none())
        && let (Some(hop), Some(row)) = (hops.last(), rows.last_mut())
        && hop.netns == place.netns
        && hop.egress.is_none()
    {
        // It came into this namespace and was refused at the device that it should have left by.
        row.tone = Tone::Bad;
        "✗".clone_into(&mut row.cells[0]);
        row.cells[3] = place.device.map(|index| names.device(place.netns, index)).unwrap_or_default();
        end(&mut row.cells[4], &lost_here(place));
    } else if let Some(place) = lost_at.filter(|_| marked.is_none()) {
        let device = place.device.map(|index| names.device(place.netns, index)).unwrap_or_default();
        rows.push(TableRow {
            tone: Tone::Bad,
            cells: vec![
                "✗".to_owned(),
                names.netns_spoken(place.netns).to_owned(),
                device,
                String::new(),
                lost_here(place),
            ],
        });
    } else if lost_at.is_none()
        && let Some(last) = rows.last_mut()
        && let Some(what) = last.cells.last_mut()
    {
        end(what, words::fate(&journey.fate));
        last.tone = match journey.fate {
            Fate::Delivered { .. } => Tone::Plain,
            _ => Tone::Warn,
        };
    }
    let mut head = vec!["", "netns", "in", "out", "what happens"];
    if rows.iter().all(|row| row.cells[1] == "here") {
        head.remove(1);
        for row in &mut rows {
            row.cells.remove(1);
        }
    }
    sheet.table(indent, &head, &rows);
}

/// A journey in one line, for those that are not the point: `ARP request: who has 10.0.0.2? tell 10.0.0.1 → delivered to ns2`.
pub fn line(recording: &Recording, journey: &Journey) -> String {
    let names = Names::of(recording);
    let end = match &journey.fate {
        Fate::Delivered { netns, device } => match device {
            Some(device) => format!("reaches {} at {}", names.netns_spoken(*netns), names.device(*netns, *device)),
            None => format!("reaches {}", names.netns_spoken(*netns)),
        },
        Fate::Lost(loss) => format!("lost at {}", names.place(&loss.place)),
        Fate::OutOfSight { last } => format!("leaves our sight by {}", names.device_in(*last)),
        Fate::Cut { netns, device } => match device {
            Some(device) => format!("last seen at {} in {}", names.device(*netns, *device), names.netns_spoken(*netns)),
            None => format!("last seen in {}", names.netns_spoken(*netns)),
        },
    };
    format!("{} → {end}", words::packet(recording, journey))
}

/// Whether address resolution is all that this journey is for.
pub fn is_resolution(journey: &Journey) -> bool {
    matches!(journey.role, Role::ArpRequest | Role::ArpReply)
}

fn row(names: Names<'_>, recording: &Recording, at: usize, hop: &Hop<'_>, lost: Option<&Place>) -> TableRow {
    let device = |index: Option<IfIndex>| index.map(|index| names.device(hop.netns, index)).unwrap_or_default();
    let mut what = String::new();
    for step in hop.steps {
        let passing = match step.action {
            Action::Transmitted if step.device != hop.egress => {
                step.device.map(|dev| format!("through {}", device(Some(dev))))
            }
            Action::Received if step.device != hop.ingress => {
                step.device.map(|dev| format!("up to {}", device(Some(dev))))
            }
            _ => None,
        };
        if let Some(phrase) =
            passing.or_else(|| words::phrase(names, recording, step).filter(|_| !words::is_detail(step)))
        {
            end(&mut what, &phrase);
        }
    }
    if let Some(place) = lost {
        end(&mut what, &lost_here(place));
    }
    if what.is_empty() && hop.egress.is_some() {
        what.push_str(if hop.ingress.is_some() { "passes" } else { "sets out" });
    }
    TableRow {
        tone: if lost.is_some() { Tone::Bad } else { Tone::Plain },
        cells: vec![
            if lost.is_some() { "✗".to_owned() } else { (at + 1).to_string() },
            names.netns_spoken(hop.netns).to_owned(),
            device(hop.ingress),
            device(hop.egress),
            what,
        ],
    }
}

/// Adds a phrase, unless the text ends with it already.
fn end(text: &mut String, phrase: &str) {
    if text.ends_with(phrase) {
        return;
    }
    if !text.is_empty() {
        text.push_str(", ");
    }
    text.push_str(phrase);
}

fn lost_here(place: &Place) -> String {
    match &place.function {
        Some(function) => format!("LOST HERE in {function}"),
        None => "LOST HERE".to_owned(),
    }
}

/// The last hop that touches the place.
fn hop_of(hops: &[Hop<'_>], place: &Place) -> Option<usize> {
    let touches = |hop: &Hop<'_>| {
        hop.netns == place.netns
            && match place.device {
                None => true,
                Some(device) => {
                    hop.ingress == Some(device)
                        || hop.egress == Some(device)
                        || hop.steps.iter().any(|step| step.device == Some(device))
                }
            }
    };
    hops.iter().rposition(touches)
}
