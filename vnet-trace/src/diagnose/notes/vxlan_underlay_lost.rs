//! `vxlan-underlay-lost`: the outer packet of a tunnel is lost; the primary cause is that of the outer packet.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Note;
use crate::model::exchange::Decision;

/// The note, if it applies.
pub fn check(case: &Case<'_>) -> Option<Note> {
    let fault = case.predicted.faults.first().filter(|fault| fault.underlay)?;
    // Two ends that do not fit each other are the tunnel's own fault, not the underlay's.
    if matches!(fault.loss.decision, Some(Decision::VxlanVni { .. } | Decision::VxlanPort { .. })) {
        return None;
    }
    Some(Note {
        code: "vxlan-underlay-lost".to_owned(),
        place: Some(fault.loss.place.clone()),
        summary: "what is lost is the tunnel's outer packet: the fault is in the network below the tunnel".to_owned(),
    })
}
