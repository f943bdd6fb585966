//! What came of a lab: passed, failed with each reason, or skipped with each unmet need.
//!
//! Data with one `Display` per reason; it travels as JSON from the lab's process to the one that started it and to scripts.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::process::last_lines;
use super::spec::Lab;

/// One lab's run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabReport {
    /// The lab's id.
    pub id: String,
    /// The cause that the lab expects, or "delivered".
    pub expected: String,
    /// What the tool answered; None when it gave no answer or was not asked.
    pub given: Option<Answer>,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long each phase took, in the order in which they ran.
    pub phases: Vec<Phase>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub enum Outcome {
    /// Everything is as the lab says.
    Pass,
    /// Something is not.
    Fail {
        /// All of it, in the order of the run.
        misses: Vec<Miss>,
    },
    /// The machine lacks something that the lab needs.
    Skipped {
        /// The unmet needs as the lab file spells them.
        unmet: Vec<String>,
    },
}

/// One thing that is not as the lab says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Miss {
    /// A script of the lab failed.
    Script {
        /// `setup` or `fix`.
        script: String,
        /// How it ended and the last lines of what it said.
        detail: String,
    },
    /// A plain ping did not do what the lab's verdict says.
    PlainPing {
        /// When: `before`, `after the tool's fix`, `after the lab's fix`.
        when: String,
        /// The last lines of what ping said.
        detail: String,
    },
    /// The tool gave no answer.
    NoAnswer {
        /// How it ended and the last lines of what it said.
        detail: String,
    },
    /// A part of the answer is wrong.
    Differs {
        /// verdict, cause, role, netns, dev, note or exit code.
        what: String,
        /// The lab's.
        want: String,
        /// The tool's.
        got: String,
    },
    /// The answer is right and has no fix, or one whose command failed.
    ToolFix {
        /// The command or what is missing.
        detail: String,
    },
    /// A packet was seen while nothing may be sent.
    Heard {
        /// Where, and its first bytes.
        frame: String,
    },
    /// The lab's own process failed.
    Runner {
        /// Why.
        detail: String,
    },
}

/// A phase of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// needs, setup, plain ping, tool, tool fix, own fix, end.
    pub name: String,
    /// Wall-clock time.
    pub ms: f64,
}

impl LabReport {
    /// A report of `lab` with nothing in it yet.
    pub fn new(lab: &Lab) -> Self {
        let expected = lab.expect.cause.clone().unwrap_or_else(|| "delivered".to_owned());
        Self { id: lab.id.clone(), expected, given: None, outcome: Outcome::Pass, phases: Vec::new() }
    }

    /// Adds a reason to fail.
    pub fn miss(&mut self, miss: Miss) {
        match &mut self.outcome {
            Outcome::Fail { misses } => misses.push(miss),
            outcome => *outcome = Outcome::Fail { misses: vec![miss] },
        }
    }

    /// Adds what another run of the same lab gave.
    pub fn merge(&mut self, other: Self) {
        self.phases.extend(other.phases);
        if let Outcome::Fail { misses } = other.outcome {
            for miss in misses {
                self.miss(miss);
            }
        }
    }

    /// The reasons to fail.
    pub fn misses(&self) -> &[Miss] {
        match &self.outcome {
            Outcome::Fail { misses } => misses,
            Outcome::Pass | Outcome::Skipped { .. } => &[],
        }
    }

    /// All phases together.
    pub fn total_ms(&self) -> f64 {
        self.phases.iter().fold(0.0, |total, phase| total + phase.ms)
    }

    /// What the tool named, as the matrix's column: a cause, "delivered", "undecided" or "no answer".
    pub fn given_name(&self) -> &str {
        match &self.given {
            None => "no answer",
            Some(Answer { primary: Some(primary), .. }) => &primary.code,
            Some(answer) => &answer.verdict,
        }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script { script, detail } => write!(f, "the lab's {script} failed: {detail}"),
            Self::PlainPing { when, detail } => write!(f, "plain ping {when}{}", last_lines(detail)),
            Self::NoAnswer { detail } => write!(f, "the tool gave no answer: {detail}"),
            Self::Differs { what, want, got } => write!(f, "{what} is {got}, not {want}"),
            Self::ToolFix { detail } => write!(f, "the tool's fix: {detail}"),
            Self::Heard { frame } => write!(f, "something was sent while nothing may be: {frame}"),
            Self::Runner { detail } => write!(f, "the lab could not be run: {detail}"),
        }
    }
}
