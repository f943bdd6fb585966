//! The only thing that leaves `collect`: everything that is known about one question, ready to be
//! judged here and now, or on another machine years later.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::event::Event;
use super::frame::Frame;
use super::id::{Device, IfIndex, Nanos, NetnsId};
use super::question::Question;
use super::sight::Sight;
use super::snapshot::Snapshot;

/// Everything known about one question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// Who wrote it: `vnet-trace 0.1.0`.
    pub tool: String,
    /// `uname -r` of the machine, for people only: no decision is made on it.
    pub kernel: String,
    /// What was asked.
    pub question: Question,
    /// The machine before the question.
    pub before: Snapshot,
    /// The machine afterwards: counters, neighbours, learned entries.
    pub after: Option<Snapshot>,
    /// What the probes saw, by time.
    pub events: Vec<Event>,
    /// What the captures saw, by time.
    pub frames: Vec<Frame>,
    /// What the asker saw.
    pub ping: PingOutcome,
    /// The kernel's own answers to route look-ups.
    pub answers: Vec<RouteAnswer>,
    /// What we could see.
    pub sight: Sight,
    /// How long things took.
    pub timing: Timing,
}

/// What is known of a watch before its packets: a recording of other people's traffic has no question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchHead {
    /// Who wrote it: `vnet-trace 0.1.0`.
    pub tool: String,
    /// `uname -r` of the machine, for people only.
    pub kernel: String,
    /// The filter expression; empty for all packets.
    pub expression: String,
    /// When it began.
    pub began: Nanos,
    /// What to add to a time on the clock of the events to get nanoseconds since 1970.
    pub realtime_offset_ns: u64,
}

/// The network and what could be seen of it, from some time of a watch on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// The network.
    pub snapshot: Snapshot,
    /// What could be seen.
    pub sight: Sight,
}

/// A moment of a watch: everything that was seen before it has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub time: Nanos,
    /// Frames that had found no room until then.
    pub frames_lost: u64,
    /// Events that had found no room until then.
    pub events_lost: u64,
}

/// What the sender of the requests saw.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PingOutcome {
    /// Requests that the kernel took.
    pub sent: u32,
    /// Echo replies that reached the socket.
    pub received: u32,
    /// Round-trip times in microseconds, by sequence number.
    pub rtt_us: Vec<(u16, u64)>,
    /// Errors of sendto(2) and connect(2), and ICMP errors that reached the socket.
    pub errors: Vec<PingError>,
    /// The source address that the kernel chose.
    pub source: Option<IpAddr>,
    /// When the first request was handed to the kernel.
    pub started: Nanos,
    /// When we stopped waiting.
    pub ended: Nanos,
    /// We stopped before ping would have: the loss was decided.
    pub cut_short: bool,
    /// Replies that came again.
    #[serde(default)]
    pub duplicates: u32,
    /// Sequence numbers of replies with another payload than was sent, or with a wrong checksum (these do not count as received).
    #[serde(default)]
    pub corrupted: Vec<u16>,
}

/// One error that the asker saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PingError {
    /// Sequence number, if the error belongs to one request.
    pub seq: Option<u16>,
    /// The system call, or `icmp` for an error message that was received.
    pub call: String,
    /// errno, if the kernel gave one.
    pub errno: Option<i32>,
    /// ICMP type and code, if it was an ICMP error.
    pub icmp: Option<(u8, u8)>,
    /// Who sent the ICMP error.
    pub offender: Option<IpAddr>,
    /// In ping's words.
    pub text: String,
}

impl PingError {
    /// Whether it is a refusal of the connection: ECONNREFUSED without an ICMP error behind it.
    pub fn is_refusal(&self) -> bool {
        const ECONNREFUSED: i32 = 111;
        self.errno == Some(ECONNREFUSED) && self.icmp.is_none()
    }
}

/// The kernel's answer to one RTM_GETROUTE (`ip route get DST from SRC iif DEV`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteAnswer {
    /// Where it was asked.
    pub netns: NetnsId,
    /// Destination asked for.
    pub dst: IpAddr,
    /// Source, if one was given.
    pub src: Option<IpAddr>,
    /// Input interface, for the input path; None for the output path.
    pub iif: Option<IfIndex>,
    /// Output interface demanded.
    pub oif: Option<IfIndex>,
    /// fwmark.
    pub mark: u32,
    /// What it said.
    pub answer: RouteResult,
}

/// A route or an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteResult {
    /// A route.
    Route {
        /// RTN_*: unicast, local, …
        kind: u8,
        /// Table.
        table: u32,
        /// Output device.
        oif: Option<IfIndex>,
        /// Next hop; None for on-link.
        gateway: Option<IpAddr>,
        /// Preferred source.
        prefsrc: Option<IpAddr>,
    },
    /// A negative errno, as a positive number.
    Errno(i32),
}

/// How long things took, in microseconds from the start of the command.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Timing {
    /// Snapshot taken, probes and captures running.
    pub ready_us: u64,
    /// The verdict was certain.
    pub verdict_us: u64,
    /// All done, everything detached.
    pub total_us: u64,
    /// What to add to a time on the clock of the events to get nanoseconds since 1970.
    #[serde(default)]
    pub realtime_offset_ns: u64,
}

impl Recording {
    /// A question in a network, of which nothing has been seen yet. Who wrote it and on which kernel is left empty.
    pub fn of(question: Question, before: Snapshot) -> Self {
        Self {
            tool: String::new(),
            kernel: String::new(),
            question,
            before,
            after: None,
            events: Vec::new(),
            frames: Vec::new(),
            ping: PingOutcome::default(),
            answers: Vec::new(),
            sight: Sight::default(),
            timing: Timing::default(),
        }
    }

    /// Whether at least one echo reply came back to the asker.
    pub fn is_delivered(&self) -> bool {
        self.ping.received > 0
    }

    /// Whether nothing was sent and nobody listened: all that is known is the configuration.
    pub fn is_foretold(&self) -> bool {
        let PingOutcome { sent, received, errors, started, .. } = &self.ping;
        *started == Nanos(0)
            && *sent == 0
            && *received == 0
            && errors.is_empty()
            && self.events.is_empty()
            && self.frames.is_empty()
    }

    /// The devices on which something was captured or could have been.
    pub fn captured(&self) -> &[Device] {
        &self.sight.captured
    }
}
