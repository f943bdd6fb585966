//! What we were able to see, and what not. An absence is evidence only where this says that the place
//! was watched without loss.

use serde::{Deserialize, Serialize};

use super::id::Device;

/// The eyes we had during a recording.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sight {
    /// The best tier that any probe got.
    pub tier: Tier,
    /// Every probe, with the tier it got.
    pub probes: Vec<ProbeSight>,
    /// Events taken from the ring buffer.
    pub events: u64,
    /// Events that the probes could not hand over (ring buffer full).
    pub events_lost: u64,
    /// Devices with a running capture.
    pub captured: Vec<Device>,
    /// Frames that libpcap says the kernel dropped before we read them.
    pub frames_lost: u64,
    /// What could not be seen, for a person.
    pub gaps: Vec<Gap>,
}

/// How a probe is attached, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// fentry/fexit: arguments and return values, cheapest.
    Fentry,
    /// kprobe/kretprobe.
    Kprobe,
    /// BTF or raw tracepoints.
    Tracepoint,
    /// No probe at all: libpcap and configuration only.
    #[default]
    Capture,
}

impl Tier {
    /// The name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
            Self::Capture => "capture",
        }
    }

    /// The tier of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Fentry, Self::Kprobe, Self::Tracepoint, Self::Capture].into_iter().find(|tier| tier.name() == name)
    }
}

/// One probe of the table of attach points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeSight {
    /// Its name in the table.
    pub name: String,
    /// The tier it got; None if it is not attached.
    pub tier: Option<Tier>,
    /// What it is attached to, as the kernel names it.
    pub target: Option<String>,
    /// Why it is not attached.
    pub why: Option<String>,
    /// What we are blind to without it.
    pub blind: String,
}

/// How much one probe had to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeCount {
    /// Its name in the table.
    pub name: &'static str,
    /// Events that were taken.
    pub seen: u64,
    /// Events that found no room.
    pub lost: u64,
}

/// Something that we could not see or do not understand: data that lowers the grade, never an error.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// What was not seen.
    pub what: String,
    /// Why.
    pub why: String,
    /// What the user can do about it; empty if nothing.
    pub help: String,
}

impl Sight {
    /// Whether a probe of this name is attached.
    pub fn has(&self, name: &str) -> bool {
        self.probes.iter().any(|probe| probe.name == name && probe.tier.is_some())
    }

    /// Whether kernel probes saw everything they were asked to see: at least one is attached and none lost an event.
    pub fn is_lossless(&self) -> bool {
        self.tier != Tier::Capture && self.events_lost == 0
    }

    /// Whether frames on this device were captured without loss.
    pub fn watched(&self, device: Device) -> bool {
        self.frames_lost == 0 && self.captured.contains(&device)
    }
}
