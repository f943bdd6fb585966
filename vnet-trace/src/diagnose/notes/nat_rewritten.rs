//! `nat-rewritten`: addresses or ports were rewritten on the way.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Note;
use crate::model::exchange::{Action, Place};

/// The note, if it applies.
pub fn check(case: &Case<'_>) -> Option<Note> {
    let step = case
        .predicted
        .journeys
        .iter()
        .flat_map(|journey| &journey.steps)
        .find(|step| matches!(step.action, Action::Rewritten { .. }))?;
    let Action::Rewritten { from, to, .. } = &step.action else { return None };
    let what = if from.0 == to.0 {
        format!("the destination {} becomes {}", from.1, to.1)
    } else if from.1 == to.1 {
        format!("the source {} becomes {}", from.0, to.0)
    } else {
        format!("{} → {} becomes {} → {}", from.0, from.1, to.0, to.1)
    };
    Some(Note {
        code: "nat-rewritten".to_owned(),
        place: Some(Place { netns: step.netns, device: step.device, function: None }),
        summary: format!("in {} {what}", case.netns_name(step.netns)),
    })
}
