//! What was shown about a fix in a rebuilt network: that the loss is there, that the fix ends it, and what else it changes.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The outcome of `--prove`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// What was shown.
    pub outcome: ProofOutcome,
    /// Fixes that were carried out there, in this order.
    pub attempts: Vec<Attempt>,
    /// Flows between other addresses that change their verdict by the fix that worked.
    pub effects: Vec<Effect>,
    /// Ordered pairs of addresses that were compared for this.
    pub pairs: usize,
    /// There were more pairs than were compared.
    pub bounded: bool,
    /// What is not in the rebuilt network, or not as it was.
    pub limits: Vec<String>,
    /// How long all of it took.
    pub total_ms: u64,
}

/// What was shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofOutcome {
    /// The loss was reproduced, and a fix ended it: its position among the finding's fixes.
    Proven {
        /// Position.
        fix: usize,
    },
    /// The loss was reproduced, a fix ended it, and another cause stops the packet now.
    NextFault {
        /// Position of the fix.
        fix: usize,
        /// What stops it now.
        next: Shown,
    },
    /// The loss was reproduced, and no fix that could be tried ended it.
    NotHelped,
    /// The rebuilt network shows something else.
    NotReproduced {
        /// What it shows; None if the packet arrives there.
        instead: Option<Shown>,
    },
    /// It can't be tried here, and why.
    NotPossible {
        /// Why.
        why: String,
    },
}

/// A cause as the rebuilt network shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its code; None if undecided.
    pub code: Option<String>,
    /// Name of the namespace.
    pub netns: Option<String>,
    /// Name of the device.
    pub dev: Option<String>,
    /// One sentence.
    pub summary: String,
}

/// One fix that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its position among the finding's fixes.
    pub fix: usize,
    /// Its title.
    pub title: String,
    /// The commands as they were carried out in the rebuilt network.
    pub commands: Vec<String>,
    /// What stopped the packet in between, when only the commands for the faults before it had been carried out: the
    /// faults that a fix of the first one alone would lead to, in order.
    #[serde(default)]
    pub between: Vec<Shown>,
    /// What came of it.
    pub result: AttemptResult,
}

/// What came of a fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptResult {
    /// The question was answered.
    Answered,
    /// Another cause was shown.
    NextFault,
    /// The same cause was shown again.
    Same,
    /// A command failed: which, and what it said.
    Failed {
        /// The command.
        command: String,
        /// Its words.
        said: String,
    },
    /// It was not carried out: why.
    Refused {
        /// Why.
        why: String,
    },
}

/// A flow that a fix changes besides the one that was asked about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Effect {
    /// Name of the sender's namespace.
    pub netns: String,
    /// The sender's address.
    pub src: IpAddr,
    /// The destination.
    pub dst: IpAddr,
    /// Whether it arrives now, rather than being lost now.
    pub arrives: bool,
}
