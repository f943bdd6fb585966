//! `mac-mismatch`: the frame carries another link-layer address than the receiver's.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault, Leg};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::OtherHost { frame, own } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let name = case.place_name(device);
    let own = own.map_or_else(String::new, |own| format!(", which is {own}"));
    let summary = format!(
        "{} carries {frame}, and {name}{own}, ignores it: the sender's neighbour entry is wrong",
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "mac-mismatch", summary);
    // Whose entry it is: the neighbour entry with that address, on the way.
    for netns in &case.snapshot().namespaces {
        for entry in netns.neighbours.iter().filter(|entry| entry.lladdr == Some(*frame) && entry.is_valid()) {
            let Some(link) = netns.link(entry.ifindex) else { continue };
            let how = if entry.is_permanent() { "PERMANENT, set by hand" } else { "stale" };
            finding.evidence.push(case.state(
                netns.id,
                &format!("neigh {} dev {}", entry.address, link.name),
                &format!("lladdr {frame} ({how})"),
            ));
            let undo = format!(
                "neigh replace {} lladdr {frame} dev {}{}",
                entry.address,
                link.name,
                if entry.is_permanent() { " nud permanent" } else { "" }
            );
            finding.fixes.push(fix(
                &format!("remove the neighbour entry, so that {} is asked for again", entry.address),
                Risk::Safe,
                vec![case.ip(netns.id, &format!("neigh del {} dev {}", entry.address, link.name))],
                vec![case.ip(netns.id, &undo)],
                "remove it where it is configured, or it comes back",
            ));
        }
    }
    let _ = Leg::Forward;
    Some(finding)
}
