//! One question from beginning to end: look at the machine, attach the probes, ask, look again, judge.
//!
//! [`run`] does it all on this machine. [`judge`] does the second half for a recording, from this machine or another.
//! What to ask comes as [`PingOptions`], which `cli::ping` fills from the command line; what comes out is an [`Answer`],
//! which `present` prints.

use crate::collect::netns;
use crate::collect::ping::{Family, Manner};
use crate::model::diagnosis::{Diagnosis, Verdict};
use crate::model::exchange::Exchange;
use crate::model::question::{Iface, PmtuDiscovery};
use crate::model::recording::Recording;
use crate::model::sight::Tier;
use crate::present::Report;

/// What to ask and how. The words and meanings are those of ping(8).
#[derive(Debug, Clone, PartialEq)]
pub struct PingOptions {
    /// `-N`, `--netns`: where it is asked.
    pub netns: netns::Asked,
    /// An address, an address with a zone, or a name, as typed.
    pub destination: String,
    /// `-4`, `-6`.
    pub family: Family,
    /// `-I`.
    pub iface: Option<Iface>,
    /// `-c`: echo requests to send, at least 1.
    pub count: u32,
    /// `-i`: milliseconds between requests.
    pub interval_ms: u64,
    /// `-W`: milliseconds to wait for a reply.
    pub timeout_ms: u64,
    /// `-s`: bytes of payload.
    pub size: u16,
    /// `-t`: TTL or hop limit.
    pub ttl: Option<u8>,
    /// `-Q`: type of service or traffic class.
    pub tos: u8,
    /// `-m`: fwmark.
    pub mark: u32,
    /// `-M`: path MTU discovery.
    pub pmtu: PmtuDiscovery,
    /// `-w`, `-B`, `-b`.
    pub manner: Manner,
    /// `--patient`.
    pub patience: Patience,
    /// Hidden `--tier`: the best tier that may be used, for tests.
    pub tier: Option<Tier>,
}

/// When to stop waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Patience {
    /// As soon as the evidence is decisive.
    #[default]
    Decisive,
    /// As ping does (`--patient`).
    AsPing,
}

/// A question with all that is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What was recorded.
    pub recording: Recording,
    /// The packets' way as it was seen.
    pub observed: Exchange,
    /// The packets' way as the configuration has it.
    pub predicted: Option<Exchange>,
    /// What it means.
    pub diagnosis: Diagnosis,
}

impl Answer {
    /// What `present` prints.
    pub fn report(&self) -> Report<'_> {
        Report {
            recording: &self.recording,
            observed: &self.observed,
            predicted: self.predicted.as_ref(),
            diagnosis: &self.diagnosis,
        }
    }
}

/// Why a question could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// A part of the program is missing.
    #[error("{what} is not implemented yet")]
    NotYet {
        /// Which.
        what: &'static str,
    },
}

impl AskError {
    /// What the user can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NotYet { .. } => None,
        }
    }
}

/// Asks on this machine.
pub fn run(options: &PingOptions) -> Result<Answer, AskError> {
    let _ = options;
    Err(AskError::NotYet { what: "asking" })
}

/// Judges a recording.
pub fn judge(recording: Recording) -> Answer {
    let verdict = if recording.is_delivered() { Verdict::Delivered } else { Verdict::Undecided };
    Answer {
        recording,
        observed: Exchange::default(),
        predicted: None,
        diagnosis: Diagnosis {
            verdict,
            primary: None,
            also: Vec::new(),
            notes: Vec::new(),
            gaps: Vec::new(),
            leads: Vec::new(),
        },
    }
}
