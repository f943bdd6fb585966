//! The answer for scripts: one JSON document, stable from the first release.
//!
//! These types are the interface, and they are its own: the model may change, these may only grow. A field is added,
//! never renamed and never given another meaning. `schema/ping.schema.json` describes them; a test holds every sample
//! against it. [`document`] makes the document.

mod build;

pub use build::document;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::model::diagnosis::{Grade, Risk, Verdict};
use crate::model::exchange::Role;
use crate::model::question::Protocol;
use crate::model::recording::Recording;
use crate::model::sight::Tier;

/// The JSON Schema (draft 2020-12) of [`Document`].
pub const SCHEMA: &str = include_str!("../../schema/ping.schema.json");

/// What was done to get the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// Packets were sent.
    Ping,
    /// Connections or datagrams were sent.
    Connect,
    /// Nothing was sent.
    Predict,
}

impl Asked {
    /// What was done to get this recording.
    pub fn of(recording: &Recording) -> Self {
        match recording.question.protocol {
            _ if recording.is_foretold() => Self::Predict,
            Protocol::Echo => Self::Ping,
            Protocol::Tcp { .. } | Protocol::Udp { .. } => Self::Connect,
        }
    }
}

/// The whole document.
#[derive(Debug, Clone, Serialize)]
pub struct Document {
    /// Version of this form: 1.
    pub schema: u32,
    /// Who wrote it.
    pub tool: Tool,
    /// What was asked.
    pub question: Question,
    /// `delivered`, `lost` or `undecided`.
    pub verdict: Verdict,
    /// The verdict in one sentence.
    pub summary: String,
    /// The cause; absent when delivered or undecided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<Finding>,
    /// Other names of the same loss, and what will bite after the first fix.
    pub also: Vec<Finding>,
    /// What `--prove` showed; absent if it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Value>,
    /// What a person may wonder about.
    pub notes: Vec<Note>,
    /// What is known and where to look next, when undecided.
    pub leads: Vec<String>,
    /// Where what was seen is not what the configuration gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parting: Option<Parting>,
    /// What could not be seen.
    pub gaps: Vec<Gap>,
    /// The packets' ways.
    pub journeys: Vec<Journey>,
    /// What the asker saw.
    pub ping: Ping,
    /// The eyes we had.
    pub sight: Sight,
    /// Milliseconds since the start of the command.
    pub timing_ms: Timing,
}

/// Where reality leaves the plan.
#[derive(Debug, Clone, Serialize)]
pub struct Parting {
    /// Which packet.
    pub role: Role,
    /// Where.
    pub place: Place,
    /// What the configuration says, and what was seen.
    pub summary: String,
    /// What stands in between and is not modelled.
    pub suspects: Vec<String>,
}

/// The program that recorded.
#[derive(Debug, Clone, Serialize)]
pub struct Tool {
    /// `vnet-trace`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What was asked.
#[derive(Debug, Clone, Serialize)]
pub struct Question {
    /// `ping`, `connect` or `predict`.
    pub kind: Asked,
    /// Namespace; `.` for the unnamed one where the command was started.
    pub netns: String,
    /// Destination address.
    pub dst: String,
    /// `-I` as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iface: Option<String>,
    /// The source that the kernel chose or that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<String>,
    /// `-c`.
    pub count: u32,
    /// `-s`.
    pub size: u16,
    /// `-t`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// `-m`, if not 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// `echo`, `tcp/PORT` or `udp/PORT`.
    pub protocol: String,
    /// `tcp` or `udp`; absent for an echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto: Option<&'static str>,
    /// Destination port; absent for an echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// A cause that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Its code.
    pub code: String,
    /// How sure.
    pub grade: Grade,
    /// Which packet was lost.
    pub role: Role,
    /// Where.
    pub place: Place,
    /// One sentence.
    pub summary: String,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// What to do, best first.
    pub fixes: Vec<Fix>,
    /// Who made the setting, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Where the decisive settings come from, and what will set them again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub provenance: Vec<Origin>,
}

/// Where one setting comes from.
#[derive(Debug, Clone, Serialize)]
pub struct Origin {
    /// The setting.
    pub setting: String,
    /// Who set it; `unknown` where nothing tells.
    pub set_by: String,
    /// The file that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What will set it again; absent where nothing is known that would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returns: Option<String>,
}

/// A place in the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// Its index in that namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<u32>,
    /// Kernel function or hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

/// What kind of thing evidence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// The kernel did it before our eyes.
    Event,
    /// Configuration or a counter.
    State,
    /// A captured frame.
    Frame,
    /// What the kernel answered when it was asked: a route look-up, a system call.
    KernelAnswer,
    /// It was not seen where it would have been.
    Absence,
}

/// One piece of evidence.
#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    /// What it is.
    pub kind: EvidenceKind,
    /// What it says, in one line.
    pub text: String,
    /// What it points to, by kind.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

/// A change that mends it.
#[derive(Debug, Clone, Serialize)]
pub struct Fix {
    /// What it does.
    pub title: String,
    /// What it risks.
    pub risk: Risk,
    /// Each runs as it is with `sh -c` where the question was asked.
    pub commands: Vec<String>,
    /// Takes it back.
    pub undo: Vec<String>,
    /// How to make it last; empty if it does by itself.
    pub persist: String,
}

/// A note.
#[derive(Debug, Clone, Serialize)]
pub struct Note {
    /// Its code.
    pub code: String,
    /// Where; empty if it is about no place.
    pub place: Place,
    /// One sentence.
    pub summary: String,
}

/// Something that could not be seen.
#[derive(Debug, Clone, Serialize)]
pub struct Gap {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
    /// What can be done about it; empty if nothing.
    pub help: String,
}

/// One packet's way.
#[derive(Debug, Clone, Serialize)]
pub struct Journey {
    /// What the packet is for.
    pub role: Role,
    /// Whether it was seen or is what the configuration says.
    pub told: crate::present::way::Told,
    /// Whether it helps the request or the reply along.
    pub leg: crate::model::exchange::Leg,
    /// Echo sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u16>,
    /// Addresses as it set out.
    pub headers: Map<String, Value>,
    /// How it ended.
    pub fate: Fate,
    /// Stretches between namespaces.
    pub hops: Vec<Hop>,
    /// Copies that took another way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<Journey>,
}

/// How a packet ended.
#[derive(Debug, Clone, Serialize)]
pub struct Fate {
    /// `delivered`, `lost`, `out-of-sight` or `cut`.
    pub kind: &'static str,
    /// Where.
    pub place: Place,
}

/// A stretch inside one namespace.
#[derive(Debug, Clone, Serialize)]
pub struct Hop {
    /// Namespace.
    pub netns: String,
    /// The device it came in by; null where it was made.
    pub ingress: Option<String>,
    /// The device it left by; null where it ended.
    pub egress: Option<String>,
    /// What happened.
    pub steps: Vec<Step>,
}

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Nanoseconds since the first request was handed to the kernel; null in a prediction.
    pub t_ns: Option<i64>,
    /// Where in the kernel: a function, a tracepoint, a hook.
    pub site: String,
    /// What happened, as a word.
    pub action: &'static str,
    /// The device, where it happened at one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// More of it, for people; absent if the action says all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What the asker saw.
#[derive(Debug, Clone, Serialize)]
pub struct Ping {
    /// Requests that the kernel took.
    pub sent: u32,
    /// Replies that reached the socket.
    pub received: u32,
    /// Round-trip times; null if nothing came back.
    pub rtt_ms: Option<Rtt>,
    /// Errors of system calls, and ICMP errors.
    pub errors: Vec<PingError>,
    /// We stopped waiting before ping would have.
    pub cut_short: bool,
}

/// Round-trip times in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Rtt {
    /// Least.
    pub min: f64,
    /// Mean.
    pub avg: f64,
    /// Greatest.
    pub max: f64,
}

/// One error that the asker saw.
#[derive(Debug, Clone, Serialize)]
pub struct PingError {
    /// Sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u16>,
    /// The system call, or `icmp`.
    pub call: String,
    /// errno.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// ICMP type and code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// Who sent the ICMP error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offender: Option<String>,
    /// In ping's words.
    pub text: String,
}

/// Type and code of an ICMP message.
#[derive(Debug, Clone, Serialize)]
pub struct Icmp {
    /// Type.
    #[serde(rename = "type")]
    pub kind: u8,
    /// Code.
    pub code: u8,
}

/// The eyes we had.
#[derive(Debug, Clone, Serialize)]
pub struct Sight {
    /// The best tier that any probe got.
    pub tier: Tier,
    /// How many probes are attached, and which are not.
    pub probes: Probes,
    /// Events read.
    pub events: u64,
    /// Events that could not be handed over.
    pub events_lost: u64,
    /// Devices with a capture.
    pub captured: Vec<String>,
    /// Captured frames that were lost.
    pub frames_lost: u64,
}

/// The probes.
#[derive(Debug, Clone, Serialize)]
pub struct Probes {
    /// How many run.
    pub attached: usize,
    /// Which do not.
    pub unavailable: Vec<Probe>,
}

/// A probe that is not attached.
#[derive(Debug, Clone, Serialize)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
    /// What we are blind to without it.
    pub blind: String,
}

/// Milliseconds since the start of the command.
#[derive(Debug, Clone, Serialize)]
pub struct Timing {
    /// Probes and captures running.
    pub ready: f64,
    /// The verdict was certain.
    pub verdict: f64,
    /// Everything done.
    pub total: f64,
}

impl Document {
    /// The document as text, on one line or indented, with a newline at the end.
    pub fn to_text(&self, layout: Layout) -> Result<String, serde_json::Error> {
        let mut text = match layout {
            Layout::Line => serde_json::to_string(self)?,
            Layout::Pretty => serde_json::to_string_pretty(self)?,
        };
        text.push('\n');
        Ok(text)
    }
}

/// How JSON is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One line.
    Line,
    /// Indented (`-p`).
    Pretty,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::present::sample;

    fn schema() -> jsonschema::Validator {
        let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        jsonschema::draft202012::options().build(&schema).expect("the schema is a schema")
    }

    #[test]
    fn every_sample_is_what_the_schema_says() {
        let schema = schema();
        for sample in sample::all() {
            let value = serde_json::to_value(document(sample.report(), Asked::Ping)).expect("JSON");
            let errors: Vec<String> =
                schema.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path)).collect();
            assert!(errors.is_empty(), "{}: {errors:#?}", sample.name);
        }
    }

    #[test]
    fn the_schema_refuses_another_verdict() {
        let sample = sample::martian();
        let mut value = serde_json::to_value(document(sample.report(), Asked::Ping)).expect("JSON");
        value["verdict"] = "perhaps".into();
        assert!(!schema().is_valid(&value));
    }

    #[test]
    fn the_schema_refuses_an_answer_without_its_question() {
        let sample = sample::martian();
        let mut value = serde_json::to_value(document(sample.report(), Asked::Ping)).expect("JSON");
        value.as_object_mut().expect("an object").remove("question");
        assert!(!schema().is_valid(&value));
    }

    #[test]
    fn documents_look_as_scripts_expect() {
        for sample in sample::all() {
            insta::assert_json_snapshot!(format!("json-{}", sample.name), document(sample.report(), Asked::Ping));
        }
    }
}
