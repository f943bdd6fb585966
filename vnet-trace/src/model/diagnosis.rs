//! What a recording means: the verdict, the cause with its evidence, what else will bite, what a person
//! may wonder about, and what could not be seen.

use serde::{Deserialize, Serialize};

use super::exchange::{Place, Role};
use super::id::NetnsId;
use super::provenance::Origin;
use super::sight::Gap;

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Did it come back?
    pub verdict: Verdict,
    /// The cause of the loss; None if delivered or undecided.
    pub primary: Option<Finding>,
    /// Other right names of the same loss, and faults that will bite after the first is mended.
    pub also: Vec<Finding>,
    /// Nothing is lost by these, a person may wonder all the same.
    pub notes: Vec<Note>,
    /// What lowered our certainty.
    pub gaps: Vec<Gap>,
    /// What was excluded and what to look at next, for an undecided verdict.
    pub leads: Vec<String>,
    /// Where what was seen is not what the configuration gives.
    #[serde(default)]
    pub parting: Option<Parting>,
}

/// Where reality leaves the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parting {
    /// Which packet.
    pub role: Role,
    /// Where it was seen last, or where it should not have been seen.
    pub place: Place,
    /// What the configuration says, and what was seen.
    pub text: String,
    /// What stands in between and is not modelled.
    pub suspects: Vec<String>,
}

/// The outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// At least one reply came back.
    Delivered,
    /// Lost, and a cause is named.
    Lost,
    /// Lost, and no cause can be named honestly.
    Undecided,
}

/// How sure we are of a finding, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// The kernel reported it there.
    Witnessed,
    /// Configuration plus the last sighting leave no other explanation.
    Deduced,
    /// It fits.
    Suspected,
}

/// A cause that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Code from the registry.
    pub code: String,
    /// How sure.
    pub grade: Grade,
    /// Which packet was lost.
    pub role: Role,
    /// Where.
    pub place: Place,
    /// One sentence: who does what to the packet, and why.
    pub summary: String,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// What to do, best (narrowest) first.
    pub fixes: Vec<Fix>,
    /// Who made the setting, where it is known.
    #[serde(default)]
    pub owner: Option<String>,
    /// Where the decisive settings come from, and what will set them again.
    #[serde(default)]
    pub origins: Vec<Origin>,
}

/// A pointer into the recording, with what it says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What kind of thing it points to.
    pub source: Source,
    /// What it says, in one line.
    pub text: String,
}

/// Where in the recording evidence is found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// By position in [`super::recording::Recording::events`].
    Event(usize),
    /// By position in [`super::recording::Recording::frames`].
    Frame(usize),
    /// Configuration of this namespace: what (`sysctl net.ipv4.ip_forward`, `link eth0`, `route …`) and its value.
    State {
        /// Namespace.
        netns: NetnsId,
        /// The setting.
        what: String,
        /// Its value.
        value: String,
    },
    /// By position in [`super::recording::Recording::answers`].
    Answer(usize),
    /// What the asker's socket was told, by position in `ping.errors`.
    PingError(usize),
    /// A counter that rose between the snapshots.
    Counter {
        /// Namespace.
        netns: NetnsId,
        /// Its name.
        what: String,
        /// By how much.
        by: u64,
    },
    /// Nothing was seen at a place that was watched without loss.
    Absence(super::evidence::Absence),
}

/// A change that mends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fix {
    /// What it does.
    pub title: String,
    /// What it risks.
    pub risk: Risk,
    /// Each runs as it is with `sh -c` where the question was asked.
    pub commands: Vec<String>,
    /// Takes it back.
    pub undo: Vec<String>,
    /// How to make it last over a reboot; empty if it does by itself or can't.
    pub persist: String,
}

/// What a fix risks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// Changes nothing but the broken thing.
    Safe,
    /// Allows what somebody may have forbidden on purpose.
    ChangesPolicy,
    /// A person must choose a value or decide between ways.
    NeedsChoice,
}

/// A note.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// Code from the registry.
    pub code: String,
    /// Where.
    pub place: Option<Place>,
    /// One sentence.
    pub summary: String,
}
