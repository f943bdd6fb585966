//! `asymmetric-path`: the reply took another path than the request.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Note;
use crate::model::exchange::Place;
use crate::model::id::Device;

/// The note, if it applies: the reply goes by a device that the request did not.
pub fn check(case: &Case<'_>) -> Option<Note> {
    let lo = |device: &Device| case.link(*device).is_some_and(crate::model::snapshot::Link::is_loopback);
    let there = case.forward_path();
    let back = case.return_path();
    // A reply that stays inside its namespace takes no path.
    let other = back.iter().find(|device| !lo(device) && !there.contains(device))?;
    if there.is_empty() || case.predicted.owner.is_none() {
        return None;
    }
    Some(Note {
        code: "asymmetric-path".to_owned(),
        place: Some(Place { netns: other.netns, device: Some(other.ifindex), function: None }),
        summary: format!("the reply goes by {}, which the request did not pass", case.place_name(*other)),
    })
}
