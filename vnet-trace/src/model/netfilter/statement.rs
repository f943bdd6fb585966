//! What a rule does: the statements of a rule, in the order in which they run.
//!
//! A statement either asks (and may end the rule by not matching), acts and goes on, or ends the chain. nftables lets a
//! rule mix these freely (`counter ip saddr 10.0.0.1 drop` counts everything), so the order is kept rather than sorted apart.

use serde::{Deserialize, Serialize};

use super::expression::{Expression, Field, MapRef, Match};

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Statement {
    /// Goes on only if the condition holds.
    Match(Match),
    /// Ends the rule with a verdict.
    Verdict(Verdict),
    /// Ends the rule with the verdict that a map holds for the key; goes on if it holds none.
    VerdictMap {
        /// What is looked up.
        key: Expression,
        /// Where.
        map: MapRef,
    },
    /// Drops the packet and tells its sender.
    Reject(Reject),
    /// Counts and goes on.
    Counter(Counter),
    /// Goes on only while the rate is below (or, inverted, above) a limit.
    Limit {
        /// `over`: matches only what exceeds the limit.
        over: bool,
        /// As written.
        text: String,
    },
    /// Goes on only below (or above) a number of bytes.
    Quota {
        /// Matches only when the quota is used up.
        over: bool,
        /// Whether it is used up now, where the listing says.
        used_up: Option<bool>,
    },
    /// Goes on only for some packets, by chance or by count.
    Chance {
        /// As written.
        text: String,
    },
    /// Changes a field of the packet or what the kernel remembers about it, and goes on.
    Mangle {
        /// Which field.
        field: Field,
        /// Its new value.
        value: Expression,
        /// For a header field, whether the checksum over it is mended. None: not a header field, or not known.
        mends_checksum: Option<bool>,
    },
    /// Rewrites addresses or ports of the connection, and accepts.
    Nat(Nat),
    /// Takes the packet out of connection tracking, and goes on.
    Notrack,
    /// Puts the packet into a zone of connection tracking (`ct zone set`, `CT --zone`): which connections are known there
    /// is not in sight.
    Zone,
    /// Adds to, updates or deletes from a set; goes on.
    SetUpdate {
        /// The set.
        set: String,
        /// Conditions that the entry carries, such as a limit. Not matching them ends the rule.
        statements: Vec<Statement>,
    },
    /// Sends the frame out by another device; the packet leaves the ordinary way.
    Forward {
        /// The device's name, where it is a constant.
        device: Option<String>,
    },
    /// Hands the packet to a program, which decides.
    Queue {
        /// Whether the packet is accepted when no program listens.
        bypass: bool,
    },
    /// Answers the ARP request itself and consumes it (ebtables arpreply).
    ArpReply,
    /// Logs, sets a priority, clamps a segment size …: changes nothing that decides the packet's way. Goes on.
    Inert {
        /// As written.
        text: String,
    },
    /// An action that is not understood: it may drop, accept, or do something else and go on. (A condition that is not
    /// understood is a match with an unknown expression.)
    Unknown {
        /// As written.
        text: String,
    },
}

/// How a rule ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// This base chain is done with the packet; later ones still see it.
    Accept,
    /// The packet is gone.
    Drop,
    /// On with the next rule.
    Continue,
    /// Back to the calling chain; in a base chain, its policy.
    Return,
    /// To that chain, and back here at its end.
    Jump(String),
    /// To that chain; at its end, back to where this chain was called.
    Goto(String),
}

/// What the sender of a rejected packet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reject {
    /// An ICMP destination-unreachable with this code.
    Icmp(u8),
    /// An ICMPv6 destination-unreachable with this code.
    Icmp6(u8),
    /// Whichever of the two fits, with nftables' common code: 0 no route, 1 port, 2 host, 3 prohibited.
    Icmpx(u8),
    /// A TCP reset.
    TcpReset,
}

/// A rule's or policy's counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Packets seen.
    pub packets: u64,
    /// Their network-layer bytes.
    pub bytes: u64,
}

/// A rewriting of addresses or ports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nat {
    /// What is rewritten, and to what sort of address.
    pub kind: NatKind,
    /// The new address. None: unchanged, or chosen by the kernel (masquerade, redirect).
    pub address: Option<Expression>,
    /// The new port. None: unchanged unless it collides.
    pub port: Option<Expression>,
    /// Whether only the network part is replaced (NETMAP, `prefix`).
    pub prefix: bool,
}

/// What a NAT statement rewrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NatKind {
    /// Source address.
    Snat,
    /// Destination address.
    Dnat,
    /// Source address, to the output device's own.
    Masquerade,
    /// Destination address, to this host's own.
    Redirect,
}

impl NatKind {
    /// Whether the source is rewritten, rather than the destination.
    pub fn rewrites_source(self) -> bool {
        matches!(self, NatKind::Snat | NatKind::Masquerade)
    }
}
