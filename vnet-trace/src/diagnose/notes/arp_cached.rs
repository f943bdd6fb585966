//! `arp-cached`: no ARP request was seen because the neighbour entry was already resolved.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Note;
use crate::model::exchange::{Action, Leg, Place, Role};

/// The note, if it applies: the asker's own first hop was known before the question.
pub fn check(case: &Case<'_>) -> Option<Note> {
    let asker = case.recording.question.netns;
    let request = case.predicted.with_role(Role::Request, Leg::Forward).next()?;
    let out = request.steps.iter().find_map(|step| match step.action {
        Action::Routed { oif, local: false, .. } if step.netns == asker => Some(oif),
        _ => None,
    })?;
    let (step, address) = request.steps.iter().find_map(|step| match step.action {
        Action::NeighbourKnown { address, .. } if step.netns == asker && step.device == out => Some((step, address)),
        _ => None,
    })?;
    let ifindex = step.device?;
    let entry =
        case.netns(asker).neighbours.iter().find(|entry| {
            entry.ifindex == ifindex && entry.address == address && entry.is_valid() && !entry.is_noarp()
        })?;
    let lladdr = entry.lladdr?;
    let how = if entry.is_permanent() { "set by hand" } else { "from earlier traffic" };
    Some(Note {
        code: "arp-cached".to_owned(),
        place: Some(Place { netns: asker, device: Some(ifindex), function: None }),
        summary: format!(
            "nobody had to be asked for {address}: the neighbour entry {lladdr} was there already ({how})"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_entry_was_there() {
        let world = World::cable();
        let mac = world.mac("b/veth2");
        assert!(world.neighbour("a/veth1", "10.0.0.2", mac).note(check).is_some_and(|said| said.contains("by hand")));
    }

    #[test]
    fn silent_when_somebody_had_to_be_asked() {
        assert_eq!(World::cable().note(check), None);
    }
}
