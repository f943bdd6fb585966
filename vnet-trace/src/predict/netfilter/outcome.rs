//! What the rules make of a packet, and why.

use crate::model::netfilter::RuleRef;
use crate::model::netfilter::expression::{Field, Match, Value};
use crate::model::netfilter::statement::{Counter, NatKind, Reject, Verdict};

use super::packet::Tuple;

/// The answer of the evaluator for one packet at one hook.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// What becomes of the packet.
    pub outcome: Outcome,
    /// Rules that matched or may have matched, in order; the first few hundred.
    pub trace: Vec<Passed>,
    /// What was changed on the packet, in order.
    pub effects: Vec<Effect>,
    /// Rules that would have rewritten or accepted the packet and did not match, with the condition that failed.
    pub near_misses: Vec<NearMiss>,
    /// Answers that hold only if something holds that we could not check: a limit that is not exhausted.
    pub assumptions: Vec<RuleRef>,
}

impl Evaluation {
    /// The loss, if the packet is lost for certain.
    pub fn loss(&self) -> Option<&Loss> {
        match &self.outcome {
            Outcome::Drop { loss, .. } => Some(loss),
            _ => None,
        }
    }

    /// Whether the packet passes for certain.
    pub fn accepted(&self) -> bool {
        self.outcome == Outcome::Accept
    }
}

/// What becomes of the packet at this hook.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It goes on.
    Accept,
    /// It is lost.
    Drop {
        /// Where, or where at the latest.
        loss: Loss,
        /// Rules before that one which may have dropped it already.
        or_earlier: Vec<Loss>,
    },
    /// A rule takes it over: queued to a program, answered by an ARP rule, sent out by another device.
    Taken {
        /// By which rule.
        by: RuleRef,
        /// How.
        how: Taken,
    },
    /// It may be lost and may not: some rule cannot be answered.
    Undecided {
        /// Where it would be lost.
        candidates: Vec<Loss>,
        /// What could not be answered.
        because: Vec<Doubt>,
    },
}

/// How a rule takes a packet over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A program decides; without one the packet is lost unless `bypass`.
    Queued {
        /// Accepted when nobody listens.
        bypass: bool,
    },
    /// Answered on the owner's behalf, and consumed.
    ArpAnswered,
    /// Sent out by another device.
    Forwarded,
}

/// A loss by rule or policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// The deciding rule or policy.
    pub at: RuleRef,
    /// What the sender is told. None: nothing.
    pub reject: Option<Reject>,
    /// Whether the rule matched because conntrack finds the packet invalid.
    pub conntrack_invalid: bool,
    /// Why a statement that does not say drop loses it: masquerading without an address to use.
    pub no_address: bool,
}

/// Something that could not be answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Doubt {
    /// The rule that asks.
    pub at: RuleRef,
    /// The part of it that we cannot answer.
    pub what: DoubtKind,
}

/// Why a condition cannot be answered.
#[derive(Clone, Debug, PartialEq)]
pub enum DoubtKind {
    /// The expression is not understood.
    Expression(String),
    /// We do not know this about the packet or the host.
    Field(Field),
    /// The set is not in the listing, or only its beginning.
    Set(String),
    /// It depends on chance or on earlier packets.
    Chance(String),
    /// The rules are too many or nested too deep to follow.
    TooLong,
}

/// A rule that matched or may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Passed {
    /// Which.
    pub rule: RuleRef,
    /// Whether it matched for certain.
    pub certain: bool,
    /// How it ended. None: it acted and went on. Reject is shown as drop.
    pub verdict: Option<Verdict>,
    /// Its counter at the time of the snapshot.
    pub counter: Option<Counter>,
}

/// A change on the packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// By which rule.
    pub rule: RuleRef,
    /// Whether it happens for certain.
    pub certain: bool,
    /// What.
    pub change: Change,
}

/// What a rule changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Addresses or ports of the connection.
    Nat {
        /// How.
        kind: NatKind,
        /// The packet before.
        before: Tuple,
        /// The packet after. None: the kernel chooses, and we cannot tell what.
        after: Option<Tuple>,
    },
    /// A header field or a mark.
    Field {
        /// Which.
        field: Field,
        /// New value. None: not known.
        value: Option<Value>,
        /// Whether the checksum over it is left stale (raw rewriting does not mend it).
        stale_checksum: bool,
    },
    /// No longer tracked.
    Untracked,
}

/// A rule that would have helped and did not match.
#[derive(Clone, Debug, PartialEq)]
pub struct NearMiss {
    /// Which.
    pub rule: RuleRef,
    /// What it would have done.
    pub would: Would,
    /// The conditions that failed.
    pub failed: Vec<Failed>,
}

/// What a rule would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Would {
    /// Accepted the packet.
    Accept,
    /// Rewritten it.
    Nat(NatKind),
}

/// A condition that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// The condition.
    pub condition: Match,
    /// What the packet has instead. None: nothing of that sort (no such header, no such device at this hook).
    pub actual: Option<Value>,
}
