//! What became of each probe: how it is attached, or why not.

use vnet_trace_ebpf::ProbeId;

use super::attach::{Needs, TABLE, Tier};

/// What became of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    /// The probe.
    pub probe: ProbeId,
    /// How it is attached; [`Tier::Capture`] if it is not.
    pub tier: Tier,
    /// The function or tracepoint where it is attached, or would best be.
    pub place: &'static str,
    /// Which part of the kernel it belongs to.
    pub needs: Needs,
    /// What cannot be seen without it.
    pub blind: &'static str,
    /// The better ways that failed, best first.
    pub failures: Vec<Failure>,
}

/// A way to attach that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The way.
    pub tier: Tier,
    /// The function or tracepoint.
    pub place: &'static str,
    /// Why not.
    pub why: WhyNot,
}

/// Why a way to attach failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// Another tier was asked for.
    OtherTier,
    /// The kernel has no such function or tracepoint, or its module is not loaded.
    Absent,
    /// The function has another number of arguments than the probe expects.
    Arguments {
        /// How many it has.
        found: usize,
        /// How many were expected.
        expected: usize,
    },
    /// The kernel does not support this way at all.
    Unsupported,
    /// The rights are missing.
    Denied,
    /// It is attached when a packet was lost.
    Waits,
    /// The kernel has no BTF, or it lacks what is needed.
    NoBtf {
        /// What is missing.
        what: String,
    },
    /// The kernel refused.
    Refused {
        /// What it said.
        what: String,
    },
}

/// Reports of all probes when none can be attached.
pub fn without(why: &WhyNot) -> Vec<ProbeReport> {
    TABLE
        .iter()
        .map(|row| ProbeReport {
            probe: row.probe,
            tier: Tier::Capture,
            place: row.targets[0].place(),
            needs: row.needs,
            blind: row.blind,
            failures: row
                .targets
                .iter()
                .map(|target| Failure { tier: target.tier(), place: target.place(), why: why.clone() })
                .collect(),
        })
        .collect()
}

/// Puts reports in the order of the table.
pub fn sort(reports: &mut [ProbeReport]) {
    let position = |probe: ProbeId| TABLE.iter().position(|row| row.probe == probe);
    reports.sort_by_key(|report| position(report.probe));
}

/// An error with everything that caused it, in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
