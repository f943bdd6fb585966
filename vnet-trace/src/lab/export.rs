//! A recording as a lab file: the network that it shows, the question, the answer and its fix.
//!
//! Takes a recording with its judgement, gives the text of a lab. Whoever runs it gets the same verdict, cause and place, on
//! a machine that has never seen the original. Nothing is run here. Read [`crate::rebuild`] for what is rebuilt and how.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::diagnose::case::Case;
use crate::model::diagnosis::{Diagnosis, Fix, Risk, Verdict};
use crate::model::exchange::{Exchange, Role};
use crate::model::id::NetnsId;
use crate::model::question::{Iface, PmtuDiscovery, Protocol, Question};
use crate::model::recording::Recording;
use crate::predict::predict;
use crate::rebuild::plain::Unwritable;
use crate::rebuild::redact::Redaction;
use crate::rebuild::scope::Scope;
use crate::rebuild::translate::Translator;
use crate::rebuild::{Missing, Rebuilt, rebuild};

use super::spec::Proto;

/// Whether names and addresses are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// As recorded.
    Kept,
    /// Others, the same one for the same one.
    Redacted,
}

/// Why a recording makes no lab.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A lab states an answer.
    #[error("the recording has no answer that a lab could expect: its cause is undecided")]
    Undecided,
    /// What loses the packet is not there.
    #[error("{} can't be rebuilt: {}", missing.what, missing.why)]
    Missing {
        /// What decides.
        missing: Box<Missing>,
    },
    /// It has words that are no plain words.
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
    /// The lab file can't be written as TOML.
    #[error("the lab can't be written as TOML")]
    Toml(#[from] toml::ser::Error),
}

#[derive(Serialize)]
struct File {
    id: String,
    title: String,
    story: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    needs: Vec<String>,
    setup: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    fix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_fix: Option<&'static str>,
    probe: Probe,
    expect: Expect,
}

#[derive(Serialize)]
struct Probe {
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<String>,
    dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    iface: Option<String>,
    count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    df: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tos: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proto: Option<Proto>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

#[derive(Serialize)]
struct Expect {
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<String>,
}

/// A lab file's text for a judged recording.
pub fn export(id: &str, recording: &Recording, diagnosis: &Diagnosis, naming: Naming) -> Result<String, ExportError> {
    let question = &recording.question;
    if diagnosis.verdict == Verdict::Undecided {
        return Err(ExportError::Undecided);
    }
    let scope = scope(recording);
    let rebuilt = rebuild(recording, &scope, diagnosis.primary.as_ref())?;
    if let Some(missing) = decisive(&rebuilt, diagnosis) {
        return Err(ExportError::Missing { missing: Box::new(missing.clone()) });
    }
    let fix = fix(recording, diagnosis, &rebuilt);
    let unmended = diagnosis.primary.is_some() && fix.is_empty();
    let file = File {
        no_fix: unmended.then_some("somebody has to choose what it should be like"),
        id: id.to_owned(),
        title: title(recording, diagnosis),
        story: story(recording, &rebuilt),
        needs: rebuilt.needs.iter().cloned().collect(),
        setup: rebuilt.script.clone(),
        fix,
        probe: probe(question, &rebuilt),
        expect: expect(recording, diagnosis, &rebuilt),
    };
    let text = toml::to_string_pretty(&file)?;
    Ok(match naming {
        Naming::Kept => text,
        Naming::Redacted => Redaction::of(&recording.before).text(&text),
    })
}

/// What the exchange touches, or everything if the answer changes without the rest.
pub fn scope(recording: &Recording) -> Scope {
    let snapshot = &recording.before;
    let question = &recording.question;
    let whole = predict(question, snapshot);
    let scope = Scope::of(snapshot, question, &whole.exchange);
    let cut = Recording { before: scope.cut(snapshot), ..recording.clone() };
    let codes = |recording: &Recording| -> Vec<String> {
        let prediction = predict(&recording.question, &recording.before);
        let observed = Exchange::default();
        let case =
            Case { recording, observed: &observed, predicted: &prediction.exchange, refusals: &prediction.refused };
        let diagnosis = crate::diagnose::foretell::foretell(&case);
        diagnosis.primary.iter().chain(&diagnosis.also).map(|finding| finding.code.clone()).collect()
    };
    if codes(&cut) == codes(recording) { scope } else { Scope::everything(snapshot) }
}

/// Something that is not there and would have decided.
pub fn decisive<'a>(rebuilt: &'a Rebuilt, diagnosis: &Diagnosis) -> Option<&'a Missing> {
    let primary = diagnosis.primary.as_ref()?;
    let program = ["xdp-drop", "tc-drop", "cgroup-bpf-drop", "qdisc-drop"].contains(&primary.code.as_str());
    let mut there = rebuilt.missing.iter().filter(|missing| !missing.stand_in);
    there.find(|missing| match missing.device {
        Some(device) => program && primary.place.device() == Some(device),
        None => primary.code == "cgroup-bpf-drop" && missing.what.contains("cgroup"),
    })
}

fn title(recording: &Recording, diagnosis: &Diagnosis) -> String {
    match &diagnosis.primary {
        Some(primary) => primary.summary.clone(),
        None => format!("{} answers", recording.question.dst),
    }
}

fn story(recording: &Recording, rebuilt: &Rebuilt) -> String {
    let mut story = format!("Made from a recording on kernel {} by {}.", recording.kernel, recording.tool);
    let missing: BTreeSet<&Missing> = rebuilt.missing.iter().collect();
    for missing in missing {
        let how = if missing.stand_in { "a stand-in is there that does what was observed" } else { "it is left out" };
        story.push_str(&format!("\n{} can't be rebuilt ({}): {how}.", missing.what, missing.why));
    }
    story
}

fn probe(question: &Question, rebuilt: &Rebuilt) -> Probe {
    let netns = (question.netns != NetnsId(0)).then(|| rebuilt.names.name(question.netns).to_owned());
    let dst = match &question.zone {
        Some(zone) => format!("{}%{zone}", question.dst),
        None => question.dst.to_string(),
    };
    let iface = question.iface.as_ref().map(|iface| match iface {
        Iface::Device(name) => name.clone(),
        Iface::Address(address) => address.to_string(),
    });
    Probe {
        netns,
        dst,
        iface,
        count: question.count.clamp(1, 3),
        size: (question.size != 56).then(|| u32::from(question.size)),
        df: matches!(question.pmtu, PmtuDiscovery::Do | PmtuDiscovery::Probe),
        ttl: question.ttl,
        mark: (question.mark != 0).then_some(question.mark),
        tos: (question.tos != 0).then_some(question.tos),
        proto: match question.protocol {
            Protocol::Echo => None,
            Protocol::Tcp { .. } => Some(Proto::Tcp),
            Protocol::Udp { .. } => Some(Proto::Udp),
        },
        port: question.port(),
    }
}

fn expect(recording: &Recording, diagnosis: &Diagnosis, rebuilt: &Rebuilt) -> Expect {
    let Some(primary) = &diagnosis.primary else {
        return Expect { verdict: "delivered", cause: None, also: Vec::new(), direction: None, netns: None, dev: None };
    };
    // Other names of the same loss; what bites later is no right name of it.
    let same =
        |finding: &&crate::model::diagnosis::Finding| finding.role == primary.role && finding.place == primary.place;
    let direction = match primary.role {
        Role::ArpRequest => Some("arp-request"),
        Role::ArpReply => Some("arp-reply"),
        Role::Request => Some("request"),
        Role::Reply => Some("reply"),
        Role::IcmpError | Role::Reset => None,
    };
    Expect {
        verdict: "lost",
        cause: Some(primary.code.clone()),
        also: diagnosis.also.iter().filter(same).map(|finding| finding.code.clone()).collect(),
        direction,
        netns: Some(rebuilt.names.name(primary.place.netns).to_owned()),
        dev: primary.place.device().map(|device| recording.before.device_name(device)),
    }
}

/// The best fix that needs no choice and can be carried out.
fn fix(recording: &Recording, diagnosis: &Diagnosis, rebuilt: &Rebuilt) -> String {
    let said = |fix: &Fix| Translator::new(&recording.before, &rebuilt.names).all(&fix.commands).ok();
    let fixes = diagnosis.primary.iter().flat_map(|primary| &primary.fixes);
    let lines = fixes.filter(|fix| fix.risk != Risk::NeedsChoice && !fix.commands.is_empty()).find_map(said);
    lines.map(|lines| lines.join("\n") + "\n").unwrap_or_default()
}
