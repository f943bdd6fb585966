//! `remote-silent`: it left this machine correctly, and nothing came back.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    if fault.loss.decision != Some(Decision::RemoteSilent) {
        return None;
    }
    let place = &fault.loss.place;
    let summary = format!(
        "{} leaves by {} correctly, and nothing comes back: what happens beyond can't be seen from here",
        case.packet_name(fault.role),
        case.at(place)
    );
    let mut finding = case.finding(fault, "remote-silent", summary);
    finding.fixes.push(fix(
        "look at the other side: does the packet arrive there, and where does its reply go?",
        Risk::NeedsChoice,
        Vec::new(),
        Vec::new(),
        "",
    ));
    Some(finding)
}
